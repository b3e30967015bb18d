//! What a device promises besides right numbers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::device::{CACHE_DTYPES, Cache, Call, Deadline, Device, Executable};
use crate::{DType, DeviceError, Plan};

use super::cases;
use super::generate::VOCABULARY;

/// Checks the promises of `device`; an empty list means that it keeps them all.
pub fn contract(device: &dyn Device) -> Vec<String> {
    let attention = cases::ALL.iter().find(|case| case.name == "attention, window").expect("a case of ours");
    let mut broken = Vec::new();
    for cache in CACHE_DTYPES {
        let plan = Arc::new(attention.plan(DType::F32, cache, 1, 0).expect("it has an output"));
        for (promise, check) in PROMISES {
            if let Err(found) = check(device, &plan) {
                broken.push(format!("{promise} ({cache} cache): {found}"));
            }
        }
    }
    broken
}

type Check = fn(&dyn Device, &Arc<Plan>) -> Result<(), String>;

const PROMISES: &[(&str, Check)] = &[
    ("calls that break the contract are refused", invalid_calls),
    ("a deadline that has passed ends the run", deadlines),
    ("a failed run can be repeated", repeat_after_failure),
    ("memory is counted and given back", memory),
    ("a cache survives export and import", snapshots),
    ("a run repeated after truncation gives the same", truncation),
    ("what is chosen are the largest values of the output", shortlists),
];

struct Bench {
    executable: Box<dyn Executable>,
    cache: Box<dyn Cache>,
}

impl Bench {
    fn new(device: &dyn Device, plan: &Arc<Plan>) -> Result<Self, String> {
        let executable = device.prepare(Arc::clone(plan)).map_err(text)?;
        let cache = device.create_cache(plan.cache(), 40, plan.max_tokens()).map_err(text)?;
        Ok(Self { executable, cache })
    }

    fn run(&mut self, tokens: &[u32], deadline: Deadline) -> Result<Vec<f32>, DeviceError> {
        self.executable.run(Call { tokens, cache: self.cache.as_mut(), deadline, probe: None })?;
        Ok(self.executable.output().to_vec())
    }

    fn go(&mut self, tokens: &[u32]) -> Result<Vec<f32>, String> {
        self.run(tokens, Deadline::never()).map_err(text)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn text(error: DeviceError) -> String {
    error.to_string()
}

fn expect(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn invalid_calls(device: &dyn Device, plan: &Arc<Plan>) -> Result<(), String> {
    let mut bench = Bench::new(device, plan)?;
    bench.go(&[1; 30])?;
    let calls: [(&str, Vec<u32>); 4] = [
        ("no tokens", vec![]),
        ("too many tokens", vec![0; plan.max_tokens() + 1]),
        ("a full context", vec![0; 11]),
        ("an unknown token", vec![VOCABULARY as u32]),
    ];
    for (what, tokens) in calls {
        let result = bench.run(&tokens, Deadline::never());
        expect(matches!(result, Err(DeviceError::InvalidCall { .. })), || format!("{what}: {result:?}"))?;
        expect(bench.cache.len() == 30, || format!("{what}: the cache has changed"))?;
    }
    bench.go(&[0; 10]).map(|_| ())
}

fn deadlines(device: &dyn Device, plan: &Arc<Plan>) -> Result<(), String> {
    let mut bench = Bench::new(device, plan)?;
    let late = bench.run(&[1, 2], Deadline::after(Duration::ZERO));
    expect(matches!(late, Err(DeviceError::Timeout { .. })), || format!("{late:?}"))?;
    let cancelled = Deadline::never().or_cancelled(Arc::new(AtomicBool::new(true)));
    let stopped = bench.run(&[1, 2], cancelled);
    expect(matches!(stopped, Err(DeviceError::Cancelled { .. })), || format!("{stopped:?}"))?;
    expect(bench.cache.is_empty(), || "the cache has changed".to_owned())
}

fn repeat_after_failure(device: &dyn Device, plan: &Arc<Plan>) -> Result<(), String> {
    struct Stop;
    impl crate::Probe for Stop {
        fn after(&mut self, _index: usize, _step: &crate::Step, _read: &dyn Fn(crate::BufferId) -> Vec<f32>) {
        }

        fn before(&mut self, _index: usize, step: &crate::Step) -> Result<(), DeviceError> {
            match step.op {
                crate::Op::Attention { .. } => {
                    Err(DeviceError::Driver { device: "probe".to_owned(), detail: "stop".to_owned() })
                }
                _ => Ok(()),
            }
        }
    }
    let mut bench = Bench::new(device, plan)?;
    let mut straight = Bench::new(device, plan)?;
    for _ in 0..2 {
        bench.go(&[3, 4, 5, 6, 7, 8])?;
        straight.go(&[3, 4, 5, 6, 7, 8])?;
    }
    let mut stop = Stop;
    let call = Call {
        tokens: &[9; 20],
        cache: bench.cache.as_mut(),
        deadline: Deadline::never(),
        probe: Some(&mut stop),
    };
    let failed = bench.executable.run(call);
    expect(matches!(failed, Err(DeviceError::Driver { .. })), || format!("{failed:?}"))?;
    expect(bench.cache.len() == 12, || "the cache has changed".to_owned())?;
    expect(bench.go(&[9; 20])? == straight.go(&[9; 20])?, || "other numbers the second time".to_owned())
}

fn memory(device: &dyn Device, plan: &Arc<Plan>) -> Result<(), String> {
    let before = device.memory();
    let bench = Bench::new(device, plan)?;
    let during = device.memory();
    expect(during.used >= before.used + bench.cache.bytes() && bench.cache.bytes() > 0, || {
        format!("{} bytes counted, {} before", during.used, before.used)
    })?;
    drop(bench);
    let after = device.memory();
    expect(after.used == before.used, || format!("{} bytes left behind", after.used - before.used))?;
    let huge = device.create_cache(plan.cache(), usize::MAX >> 16, 1).map(|_| ());
    expect(matches!(huge, Err(DeviceError::OutOfMemory { .. })), || format!("a huge cache: {huge:?}"))
}

fn snapshots(device: &dyn Device, plan: &Arc<Plan>) -> Result<(), String> {
    let mut first = Bench::new(device, plan)?;
    first.go(&[5; 20])?;
    let snapshot = first.cache.export().map_err(text)?;
    let mut second = Bench::new(device, plan)?;
    second.cache.import(&snapshot).map_err(text)?;
    expect(second.cache.len() == 20, || "another length".to_owned())?;
    expect(first.go(&[6, 7])? == second.go(&[6, 7])?, || "other numbers behind it".to_owned())
}

fn truncation(device: &dyn Device, plan: &Arc<Plan>) -> Result<(), String> {
    let mut bench = Bench::new(device, plan)?;
    bench.go(&[5; 20])?;
    let first = bench.go(&[6, 7])?;
    expect(bench.cache.truncate(20), || "two tokens cannot be taken back".to_owned())?;
    expect(bench.go(&[6, 7])? == first, || "other numbers the second time".to_owned())?;
    expect(bench.cache.truncate(0) && bench.cache.is_empty(), || "cannot be emptied".to_owned())?;
    let mut fresh = Bench::new(device, plan)?;
    expect(bench.go(&[5; 20])? == fresh.go(&[5; 20])?, || "an emptied cache remembers".to_owned())
}

/// The largest values by themselves: either the device chooses them, and they are those of the whole row, or it gives the row.
fn shortlists(device: &dyn Device, _plan: &Arc<Plan>) -> Result<(), String> {
    let plan = cases::row_of_many();
    let plan = Arc::new(plan);
    // Runs of one token may be recorded on the second and replayed from the third time on.
    for tokens in [&[3][..], &[3, 1, 4, 1, 5]] {
        for count in [1, 5, 64] {
            let (mut whole, mut chosen) = (Bench::new(device, &plan)?, Bench::new(device, &plan)?);
            for _ in 0..3 {
                chosen.executable.shortlist(count);
                check_chosen(&whole.go(tokens)?, &chosen.go(tokens)?, chosen.executable.chosen(), count)?;
            }
            chosen.executable.shortlist(0);
            let (all, again) = (whole.go(tokens)?, chosen.go(tokens)?);
            expect(all == again && chosen.executable.chosen().is_empty(), || {
                "rows did not come back".to_owned()
            })?;
        }
    }
    Ok(())
}

fn check_chosen(all: &[f32], rows: &[f32], chosen: &[(u32, f32)], count: usize) -> Result<(), String> {
    if chosen.is_empty() {
        return expect(rows == all, || "neither chosen values nor the rows".to_owned());
    }
    let width = cases::MANY;
    let mut largest: Vec<(u32, f32)> = (0..).zip(all[all.len() - width..].iter().copied()).collect();
    largest.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    largest.truncate(count);
    expect(rows.is_empty() && chosen == largest, || format!("{chosen:?} of {count}, not {largest:?}"))
}
