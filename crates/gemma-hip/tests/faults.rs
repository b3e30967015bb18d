//! What goes wrong on a GPU or in its runtime, asked of the stand-in: each becomes the error that says what to do, and nothing stays behind.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::network::{self, Network};
use common::{Machine, options};
use gemma_hal::{Deadline, Device, DeviceError};
use gemma_hip::{HipDevice, HipOptions, WeightMemory, devices_of};
use gemma_hip_standin::StandIn;

/// Opens the GPU and runs tokens, one at a time and several.
fn everything(machine: &Machine, options: &HipOptions) -> Result<Vec<f32>, DeviceError> {
    let device = HipDevice::new(&machine.adapter(), options)?;
    let mut one = Network::on(&device, 1)?;
    let mut many = Network::on(&device, 4)?;
    let mut all = many.run(&[1, 2, 3], Deadline::never())?;
    for token in [1, 2, 3] {
        all.extend(one.run(&[token], Deadline::never())?);
    }
    Ok(all)
}

#[test]
fn an_allocation_that_fails_is_out_of_memory_and_leaves_nothing() {
    let machine = Machine::new();
    for (weights, instead) in
        [(WeightMemory::Fitting, 1), (WeightMemory::Mapped, 1), (WeightMemory::Device, 0)]
    {
        let options = HipOptions { weights, ..options() };
        let expected = everything(&machine, &options).unwrap();
        let mut in_another_place = 0;
        for allocation in 1.. {
            machine.set(&format!("fail-allocation={allocation}"));
            let outcome = everything(&machine, &options);
            // Where nothing has failed, the fault is still to come.
            let is_left = machine.count("allocations") == 0 && outcome.is_ok() && allocation > 40;
            machine.set("reset");
            assert_eq!(
                (machine.count("allocations"), machine.count("bytes")),
                (0, 0),
                "allocation {allocation}"
            );
            match outcome {
                Err(DeviceError::OutOfMemory { device, wanted, .. }) => {
                    assert!(device == "hip:0" && wanted > 0, "{device}, {wanted} bytes");
                }
                Err(other) => panic!("allocation {allocation}: {other}"),
                Ok(found) => {
                    assert_eq!(found, expected, "allocation {allocation}");
                    if is_left {
                        break;
                    }
                    in_another_place += usize::from(allocation <= 20);
                }
            }
        }
        // A matrix for which one kind of memory is full goes to the other.
        assert!(in_another_place >= instead, "{weights:?}: {in_another_place}");
    }
}

#[test]
fn what_a_gpu_has_no_memory_of_its_own_for_is_mapped() {
    let machine = Machine::new();
    let expected = everything(&machine, &options()).unwrap();
    for bytes in [0, 300, 3_000, 10_000] {
        machine.set(&format!("device-memory={bytes}"));
        assert_eq!(everything(&machine, &options()).unwrap(), expected, "{bytes} bytes");
        let own = HipOptions { weights: WeightMemory::Device, ..options() };
        let error = everything(&machine, &own).map(|_| ()).unwrap_err();
        assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{bytes} bytes: {error}");
    }
}

#[test]
fn what_a_failed_preparation_took_is_given_back_at_once() {
    let machine = Machine::new();
    let device = machine.device_with(&options());
    let held = machine.count("allocations");
    let mut failed = 0;
    for allocation in 1..8 {
        machine.set(&format!("fail-allocation={allocation}:1"));
        let outcome = Network::on(&device, 1).map(|_| ());
        machine.set("reset");
        failed += usize::from(outcome.is_err());
        assert_eq!(machine.count("allocations"), held, "allocation {allocation}: {outcome:?}");
    }
    assert_eq!(failed, 7, "a preparation has more allocations");
}

#[test]
fn a_run_whose_event_is_refused_is_waited_for_before_the_next() {
    let machine = Machine::new();
    let device = machine.device_with(&options());
    let (mut network, mut other) = (Network::on(&device, 4).unwrap(), Network::on(&device, 4).unwrap());
    let expected = other.go(&[1, 2]);
    machine.set("hang=1; refuse=hipEventRecord");
    let error = network.run(&[5, 6], Deadline::never()).unwrap_err();
    assert!(matches!(error, DeviceError::Unsupported { .. }), "{error}");
    // What it has launched is still to be done, and is waited for before anything else is asked.
    let late = || Deadline::after(Duration::from_millis(20));
    let hung = network.run(&[1, 2], late()).unwrap_err();
    assert!(matches!(hung, DeviceError::Timeout { .. }), "{hung}");
    machine.set("reset");
    assert_eq!(network.go(&[1, 2]), expected);
}

#[test]
fn a_budget_is_kept() {
    let machine = Machine::new();
    let device = machine.device_with(&HipOptions { memory: 4_096, ..options() });
    let error = Network::on(&device, 1).map(|_| ()).unwrap_err();
    assert!(matches!(error, DeviceError::OutOfMemory { .. }), "{error}");
    assert_eq!((device.memory().used, machine.count("allocations")), (0, 0));
}

#[test]
fn a_refused_launch_is_said_and_can_be_repeated() {
    let machine = Machine::new();
    let device = machine.device_with(&options());
    let mut network = Network::on(&device, 4).unwrap();
    let expected = network.go(&[1, 2]);
    machine.set("fail-launch=2:701");
    let error = network.run(&[1, 2], Deadline::never()).unwrap_err();
    assert!(
        matches!(&error, DeviceError::Driver { detail, .. } if detail.contains("hipModuleLaunchKernel: hipErrorLaunchOutOfResources")),
        "{error}"
    );
    assert_eq!((network.cache.len(), network.executable.output().len()), (2, 0));
    assert_eq!(network.go(&[1, 2]), expected);
}

#[test]
fn a_lost_device_is_lost_for_good_and_is_left_alone() {
    for code in [700, 719, 999] {
        let machine = Machine::new();
        let device = machine.device_with(&options());
        let mut network = Network::on(&device, 4).unwrap();
        network.go(&[1]);
        machine.set(&format!("lose-device=1:{code}"));
        for _ in 0..2 {
            let lost = network.run(&[2], Deadline::never()).unwrap_err();
            assert!(matches!(lost, DeviceError::Lost { .. }), "{lost}");
            // Though the stand-in's is there again.
            machine.set("reset");
        }
        assert_eq!(network.cache.len(), 1);
        let lost = Network::on(&device, 4).map(|_| ()).unwrap_err();
        assert!(matches!(lost, DeviceError::Lost { .. }), "{lost}");
    }
}

#[test]
fn a_launch_that_never_ends_ends_with_the_deadline() {
    let machine = Machine::new();
    let device = machine.device_with(&options());
    let mut network = Network::on(&device, 4).unwrap();
    let expected = network.go(&[1, 2]);
    machine.set("hang=1");
    let late = || Deadline::after(Duration::from_millis(20));
    // The second run waits for the first one's work.
    for _ in 0..2 {
        let error = network.run(&[1, 2], late()).unwrap_err();
        assert!(matches!(error, DeviceError::Timeout { .. }), "{error}");
    }
    assert_eq!(network.cache.len(), 2);
    machine.set("reset");
    assert_eq!(network.go(&[1, 2]), expected);
}

#[test]
fn what_a_hanging_gpu_may_use_is_not_given_back() {
    let machine = Machine::new();
    let device = machine.device_with(&options());
    let mut network = Network::on(&device, 4).unwrap();
    let held = machine.count("allocations");
    machine.set("hang=1");
    let error = network.run(&[1], Deadline::after(Duration::from_millis(20))).unwrap_err();
    assert!(matches!(error, DeviceError::Timeout { .. }), "{error}");
    drop(network);
    assert_eq!((machine.count("allocations"), device.memory().used), (held, 0));
    machine.set("reset");
    // Whoever comes next finds the stream empty.
    drop(Network::on(&device, 4).unwrap());
    drop(device);
    assert_eq!(machine.count("allocations"), 0);
}

#[test]
fn who_waits_can_be_stopped() {
    let machine = Machine::new();
    let device = machine.device_with(&options());
    let mut network = Network::on(&device, 4).unwrap();
    machine.set("hang=2");
    let kernels = machine.count("kernels");
    let cancel = Arc::new(AtomicBool::new(false));
    let deadline = Deadline::never().or_cancelled(Arc::clone(&cancel));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The inputs have been fetched when the run is waited for.
            while machine.count("kernels") == kernels {
                std::thread::yield_now();
            }
            cancel.store(true, Ordering::Relaxed);
        });
        let error = network.run(&[1], deadline).unwrap_err();
        assert!(matches!(error, DeviceError::Cancelled { .. }), "{error}");
    });
    assert!(network.cache.is_empty());
}

#[test]
fn without_mapped_or_pinned_memory_the_same_comes_out() {
    let machine = Machine::new();
    let expected = everything(&machine, &options()).unwrap();
    for refused in
        ["hipHostGetDevicePointer", "hipHostMalloc", "hipHostMalloc:1", "hipHostMalloc:2", "hipMallocManaged"]
    {
        machine.set(&format!("refuse={refused}"));
        let found = everything(&machine, &options());
        machine.set("reset");
        // Without pinned memory a full machine is a full machine.
        match refused {
            "hipHostMalloc:2" => assert!(matches!(found, Err(DeviceError::OutOfMemory { .. })), "{found:?}"),
            "hipHostMalloc:1" => assert!(matches!(found, Err(DeviceError::Driver { .. })), "{found:?}"),
            _ => assert_eq!(found.unwrap(), expected, "{refused}"),
        }
        assert_eq!(machine.count("allocations"), 0, "{refused}");
    }
}

#[test]
fn a_step_is_recorded_the_second_time_and_replayed() {
    let machine = Machine::new();
    let device = machine.device_with(&options());
    let mut network = Network::on(&device, 1).unwrap();
    let mut two = Network::on(&device, 2).unwrap();
    let mut row = |token: u32| two.go(&[token, 0])[..network::OUTPUTS].to_vec();
    for (run, token) in [3, 1, 4, 1, 5].into_iter().enumerate() {
        let kernels = machine.count("kernels");
        assert_eq!(network.go(&[token]), row(token), "run {run}");
        assert_eq!(machine.count("graphs"), run as u64);
        assert_eq!(machine.count("kernels") - kernels, 6, "three of each");
    }
    // Another cache is another graph.
    network.cache = Network::on(&device, 1).unwrap().cache;
    network.go(&[2]);
    assert_eq!(machine.count("graphs"), 4);
    assert_eq!(network.go(&[2]), row(2));
    assert_eq!(machine.count("graphs"), 5);
}

#[test]
fn a_step_of_decode_asks_for_no_copies() {
    let machine = Machine::new();
    let device = machine.device_with(&options());
    for count in [1, 2] {
        let mut network = Network::on(&device, 1).unwrap();
        let mut rows: Vec<(u32, f32)> = (0..).zip(network.go(&[3])).collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (copied, graphs) = (machine.count("copied-bytes"), machine.count("graphs"));
        for _ in 0..4 {
            assert_eq!(network.chosen(3, count), rows[..count]);
        }
        assert_eq!(machine.count("copied-bytes"), copied, "{count}");
        assert_eq!(machine.count("graphs"), graphs + 3, "{count}");
    }
}

#[test]
fn where_graphs_are_refused_launches_do_the_same() {
    let machine = Machine::new();
    for fault in [
        "refuse=hipStreamBeginCapture",
        // The capture has ended, as documented.
        "fail-capture=1",
        // It has not, and the stream takes no work any more, as with AMD's runtime before May 2026.
        "refuse=hipStreamEndCapture",
        "refuse=hipStreamEndCapture:901",
        "refuse=hipGraphInstantiate",
        "refuse=hipGraphLaunch",
    ] {
        let device = machine.device_with(&options());
        let run = |network: &mut Network, tokens: &[u32]| {
            tokens.iter().map(|token| network.go(&[*token])).collect::<Vec<_>>()
        };
        let tokens = [3, 1, 4, 1, 5];
        let expected = run(&mut Network::on(&device, 1).unwrap(), &tokens);
        let graphs = machine.count("graphs");
        let mut network = Network::on(&device, 1).unwrap();
        machine.set(fault);
        assert_eq!(run(&mut network, &tokens), expected, "{fault}");
        assert_eq!(machine.count("graphs"), graphs, "{fault}");
        machine.set("reset");
        // The next plan is recorded again, on the same stream or another.
        assert_eq!(run(&mut Network::on(&device, 1).unwrap(), &tokens), expected, "{fault}");
        assert!(machine.count("graphs") > graphs, "{fault}");
        drop((network, device));
        assert_eq!(machine.count("allocations"), 0, "{fault}");
    }
}

#[test]
fn a_stream_that_does_not_get_out_of_a_recording_and_has_no_successor_is_a_lost_device() {
    let machine = Machine::new();
    let device = machine.device_with(&options());
    let mut network = Network::on(&device, 1).unwrap();
    network.go(&[3]);
    machine.set("refuse=hipStreamEndCapture;refuse=hipStreamCreateWithFlags");
    for _ in 0..2 {
        let lost = network.run(&[1], Deadline::never()).unwrap_err();
        assert!(
            matches!(&lost, DeviceError::Lost { detail, .. } if detail.contains("hipStreamCreateWithFlags")),
            "{lost}"
        );
        machine.set("reset");
    }
    assert_eq!(network.cache.len(), 1);
}

#[test]
fn no_runtime_or_half_of_one_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let error = devices_of(&folder.path().join("libamdhip64.so")).unwrap_err();
    assert!(
        matches!(&error, DeviceError::Driver { detail, .. } if detail.contains("no HIP runtime")),
        "{error}"
    );
    let library = StandIn::install_without(folder.path(), &["hipGraphLaunch"]).unwrap();
    let error = devices_of(library.path()).unwrap_err();
    assert!(
        matches!(&error, DeviceError::Driver { detail, .. } if detail.contains("hipGraphLaunch")),
        "{error}"
    );
    let machine = Machine::new();
    machine.set("refuse=hipGetDeviceCount:100");
    let error = devices_of(machine.library.path()).unwrap_err();
    assert!(matches!(&error, DeviceError::Driver { detail, .. } if detail.contains("/dev/kfd")), "{error}");
}

#[test]
fn a_gpu_says_what_it_is() {
    let machine = Machine::new();
    let adapter = machine.adapter();
    assert_eq!((adapter.id.as_str(), adapter.architecture.as_str()), ("hip:0", "gfx1103"));
    assert_eq!((adapter.is_integrated, adapter.compute_units), (true, 12));
    assert!(adapter.is_supported().is_ok() && adapter.memory == 4 << 30);
    let device = machine.device_with(&options());
    assert!(device.info().name.contains("emulated"), "{}", device.info().name);
    assert_eq!(device.info().kind, gemma_hal::DeviceKind::IntegratedGpu);
}
