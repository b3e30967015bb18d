//! The devices that compute nothing and fail on purpose, and deadlines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gemma_hal::fault::{Fault, FaultDevice, Place};
use gemma_hal::null::NullDevice;
use gemma_hal::op::{LinearPart, Op};
use gemma_hal::{
    BufferId, Cache, CacheLayer, CacheLayout, Call, DType, Deadline, Device, DeviceError, Executable,
    Outputs, Plan, PlanBuilder, Probe, Rows, Step, Storage, Weight, conformance,
};

/// Operations of [`plan`].
const STEPS: u64 = 5;
const WIDTH: usize = 4;

/// An embedding and four products.
fn plan() -> Arc<Plan> {
    let layers = vec![CacheLayer { width: 2, window: None }];
    let cache = CacheLayout { layers, dtype: DType::F32 };
    let mut plan = PlanBuilder::new("five", 8, Outputs::All, 1e-6, cache);
    let storage = Storage::new("zeros", vec![0_u8; 256]);
    let weight = |plan: &mut PlanBuilder, name| {
        plan.weight(name, Weight::new(storage.clone(), 0, WIDTH, WIDTH, DType::F32).unwrap())
    };
    let table = weight(&mut plan, "table");
    let mut last = plan.buffer("embedded", Rows::Tokens, WIDTH);
    plan.push(None, Op::Embed { table, scale: 1.0, output: last });
    for layer in 0..4 {
        let output = plan.buffer(format!("{layer}"), Rows::Tokens, WIDTH);
        let parts = vec![LinearPart { weight: weight(&mut plan, "product"), output }];
        plan.push(Some(layer), Op::Linear { input: last, parts });
        last = output;
    }
    Arc::new(plan.finish(Some(last)).unwrap())
}

/// Operations that began and ended.
#[derive(Default)]
struct Count {
    before: u64,
    after: u64,
    cancel: Option<(u64, Arc<AtomicBool>)>,
}

impl Probe for Count {
    fn before(&mut self, _index: usize, _step: &Step) -> Result<(), DeviceError> {
        self.before += 1;
        Ok(())
    }

    fn after(&mut self, _index: usize, _step: &Step, read: &dyn Fn(BufferId) -> Vec<f32>) {
        self.after += 1;
        assert_eq!(read(plan().output().unwrap()).len(), 2 * WIDTH);
        if let Some((at, cancel)) = &self.cancel
            && *at == self.after
        {
            cancel.store(true, Ordering::Relaxed);
        }
    }
}

struct Bench {
    executable: Box<dyn Executable>,
    cache: Box<dyn Cache>,
}

impl Bench {
    fn new(device: &dyn Device) -> Self {
        let plan = plan();
        let cache = device.create_cache(plan.cache(), 16, 8).unwrap();
        Self { executable: device.prepare(plan).unwrap(), cache }
    }

    fn run(&mut self, deadline: Deadline, probe: &mut Count) -> Result<(), DeviceError> {
        let cache = self.cache.as_mut();
        self.executable.run(Call { tokens: &[1, 2], cache, deadline, probe: Some(probe) })
    }

    fn go(&mut self) -> Result<(), DeviceError> {
        self.run(Deadline::never(), &mut Count::default())
    }
}

fn null() -> NullDevice {
    NullDevice::new(1 << 20)
}

fn faulty(after: u64, error: DeviceError, forever: bool) -> FaultDevice {
    FaultDevice::new(Box::new(null()), Fault { after, error, forever })
}

fn errors() -> [DeviceError; 3] {
    let device = "test".to_owned();
    [
        DeviceError::Lost { device: device.clone(), detail: "unplugged".to_owned() },
        DeviceError::Timeout {
            device: device.clone(),
            what: "linear".to_owned(),
            waited: Duration::from_secs(1),
        },
        DeviceError::OutOfMemory { device, what: "rows".to_owned(), wanted: 2, available: 1 },
    ]
}

#[test]
fn a_fault_fires_once_at_its_operation_with_its_error() {
    for after in 0..2 * STEPS {
        for error in errors() {
            let device = faulty(after, error.clone(), false);
            let mut bench = Bench::new(&device);
            let (good, into) = (after / STEPS, after % STEPS);
            for _ in 0..good {
                bench.go().unwrap();
            }
            let mut count = Count::default();
            assert_eq!(bench.run(Deadline::never(), &mut count), Err(error), "after {after}");
            assert_eq!((count.before, count.after), (into, into), "after {after}");
            assert_eq!(device.operations(), after + 1);
            assert_eq!(bench.cache.len() as u64, 2 * good, "a failed run leaves the cache alone");
            bench.go().unwrap();
            assert_eq!(device.operations(), after + 1 + STEPS);
        }
    }
}

#[test]
fn a_fault_forever_fails_all_that_follows_in_every_plan_of_the_device() {
    let [lost, ..] = errors();
    let device = faulty(STEPS + 2, lost.clone(), true);
    let mut bench = Bench::new(&device);
    bench.go().unwrap();
    for round in 1..4 {
        assert_eq!(bench.go(), Err(lost.clone()));
        assert_eq!(Bench::new(&device).go(), Err(lost.clone()));
        assert_eq!(device.operations(), STEPS + 2 + 2 * round);
    }
    assert_eq!(bench.cache.len(), 2);
}

#[test]
fn a_fault_in_another_place_fails_there_and_leaves_runs_alone() {
    for (place, forever) in [
        (Place::Prepare, false),
        (Place::Prepare, true),
        (Place::CreateCache, false),
        (Place::CreateCache, true),
    ] {
        let [.., error] = errors();
        let fault = Fault { after: 1, error: error.clone(), forever };
        let device = FaultDevice::at(place, Box::new(null()), fault);
        let mut bench = Bench::new(&device);
        let plan = plan();
        let call = |which| match which {
            Place::Prepare => device.prepare(Arc::clone(&plan)).map(|_| ()),
            _ => device.create_cache(plan.cache(), 16, 8).map(|_| ()),
        };
        assert_eq!(call(place), Err(error.clone()), "{place:?}");
        assert_eq!(call(place), if forever { Err(error) } else { Ok(()) }, "{place:?}, again");
        let other = if place == Place::Prepare { Place::CreateCache } else { Place::Prepare };
        assert_eq!(call(other), Ok(()), "{other:?} beside {place:?}");
        bench.go().unwrap();
        assert_eq!(device.operations(), 3, "{place:?}");
    }
}

#[test]
fn a_fault_that_is_never_reached_changes_nothing() {
    let [lost, ..] = errors();
    let device = faulty(u64::MAX, lost, true);
    assert_eq!(device.info(), null().info());
    assert_eq!(conformance::contract(&device), Vec::<String>::new());
    let mut count = Count::default();
    let mut bench = Bench::new(&device);
    bench.run(Deadline::never(), &mut count).unwrap();
    assert_eq!((count.before, count.after), (STEPS, STEPS));
    assert_eq!(bench.executable.output(), [0.0; 2 * WIDTH]);
    assert_eq!(device.memory().used, (8 * WIDTH * 4) as u64 + bench.cache.bytes());
}

#[test]
fn the_null_device_keeps_the_contract_and_gives_zeros() {
    let device = null();
    assert_eq!(conformance::contract(&device), Vec::<String>::new());
    let mut bench = Bench::new(&device);
    assert!(bench.executable.output().is_empty());
    bench.go().unwrap();
    assert_eq!(bench.executable.output(), [0.0; 2 * WIDTH]);
    assert_eq!(bench.executable.plan().name(), "five");
    device.supports(bench.executable.plan()).unwrap();
}

#[test]
fn the_null_device_counts_memory_and_refuses_what_does_not_fit() {
    let (outputs, cache) = ((8 * WIDTH * 4) as u64, 2 * 16 * 2 * 4);
    let device = NullDevice::new(outputs + cache);
    let bench = Bench::new(&device);
    assert_eq!(device.memory().used, outputs + cache);
    let refused = |what: &str, wanted| {
        Err(DeviceError::OutOfMemory {
            device: "null".to_owned(),
            what: what.to_owned(),
            wanted,
            available: 0,
        })
    };
    assert_eq!(device.prepare(plan()).map(|_| ()), refused("outputs", outputs));
    let layout = plan().cache().clone();
    assert_eq!(device.create_cache(&layout, 16, 8).map(|_| ()), refused("the KV cache", cache));
    assert_eq!(
        device.create_cache(&layout, usize::MAX, 8).map(|_| ()),
        refused("the KV cache", u64::MAX),
        "sizes that overflow"
    );
    drop(bench);
    assert_eq!(device.memory().used, 0);
}

#[test]
fn the_null_device_stops_between_operations_when_cancelled() {
    let device = null();
    let mut bench = Bench::new(&device);
    let cancel = Arc::new(AtomicBool::new(false));
    let mut count = Count { cancel: Some((3, Arc::clone(&cancel))), ..Count::default() };
    let stopped = bench.run(Deadline::never().or_cancelled(cancel), &mut count);
    assert_eq!(stopped, Err(DeviceError::Cancelled { device: "null".to_owned() }));
    assert_eq!((count.before, count.after), (3, 3));
    assert!(bench.cache.is_empty() && bench.executable.output().is_empty());
    bench.go().unwrap();
}

#[test]
fn deadlines_end_when_they_say() {
    let cancel = |now: bool| Arc::new(AtomicBool::new(now));
    let timeout =
        |waited| Err(DeviceError::Timeout { device: "test".to_owned(), what: "waiting".to_owned(), waited });
    let cancelled = Err(DeviceError::Cancelled { device: "test".to_owned() });
    let hour = Duration::from_hours(1);
    for (what, deadline, expected) in [
        ("never", Deadline::never(), Ok(())),
        ("default", Deadline::default(), Ok(())),
        ("no time", Deadline::after(Duration::ZERO), timeout(Duration::ZERO)),
        ("an hour", Deadline::after(hour), Ok(())),
        ("beyond the clock", Deadline::after(Duration::MAX), Ok(())),
        ("not cancelled", Deadline::never().or_cancelled(cancel(false)), Ok(())),
        ("cancelled", Deadline::after(hour).or_cancelled(cancel(true)), cancelled.clone()),
        ("late", Deadline::after(Duration::ZERO).or_cancelled(cancel(false)), timeout(Duration::ZERO)),
        ("late and cancelled", Deadline::after(Duration::ZERO).or_cancelled(cancel(true)), cancelled),
    ] {
        assert_eq!(deadline.check("test", "waiting"), expected, "{what}");
    }
}

#[test]
fn copies_of_a_deadline_are_cancelled_together() {
    let cancel = Arc::new(AtomicBool::new(false));
    let deadline = Deadline::never().or_cancelled(Arc::clone(&cancel));
    let copy = deadline.clone();
    cancel.store(true, Ordering::Relaxed);
    assert!(deadline.check("test", "").is_err() && copy.check("test", "").is_err());
}
