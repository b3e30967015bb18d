//! Made-up machines with made-up figures: what auto takes on each, and why.

use super::*;

const CPU: Figures = Figures { read_bytes_per_s: 50e9, launch_s: 0.0, operations_per_s: 1e12 };

/// 1 GB a token, 2 Tops a prompt, 400 launches, 2 GB to hold: on [`CPU`] 20 ms a token and 2 s for the prompt, 4.56 s in all.
const WORK: Work = Work {
    decode_bytes: 1_000_000_000,
    prompt_operations: 2_000_000_000_000,
    launches: 400,
    resident_bytes: 2_000_000_000,
};

fn candidate(id: &str, memory: Option<u64>, figures: Result<Figures, &str>) -> Candidate {
    Candidate {
        id: id.to_owned(),
        name: format!("the {id}"),
        memory,
        figures: figures.map_err(str::to_owned),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as candidates have them")]
fn figures(read_gb: f64, launch_us: f64, gops: f64) -> Result<Figures, &'static str> {
    Ok(Figures { read_bytes_per_s: read_gb * 1e9, launch_s: launch_us * 1e-6, operations_per_s: gops * 1e9 })
}

#[test]
fn an_estimate_is_bytes_launches_and_operations() {
    let estimate = WORK.estimate(&figures(100.0, 5.0, 4000.0).unwrap());
    assert!((estimate.token_s - 0.012).abs() < 1e-12, "10 ms of bytes, 2 ms of launches: {estimate:?}");
    assert!((estimate.prompt_s - 0.5).abs() < 1e-12, "{estimate:?}");
    assert!((estimate.request_s - (0.5 + 128.0 * 0.012)).abs() < 1e-9, "{estimate:?}");
}

#[test]
fn the_sooner_device_is_chosen_when_it_is_clearly_sooner() {
    let large = Some(8_000_000_000);
    let (fast, slow) = (figures(2000.0, 5.0, 20_000.0), figures(20.0, 50.0, 500.0));
    for (others, device, reason) in [
        (&[][..], "cpu", "no GPU"),
        (&[("vulkan:0", large, fast)], "vulkan:0", "4.56 s on the CPU"),
        (&[("vulkan:0", large, slow)], "cpu", "on vulkan:0"),
        // The same memory, launches on top: decode is slower, the prompt four times faster.
        (&[("vulkan:0", large, figures(50.0, 2.0, 4000.0))], "vulkan:0", "on vulkan:0"),
        (&[("vulkan:0", large, figures(50.0, 20.0, 4000.0))], "cpu", "on vulkan:0"),
        // A tenth sooner is within what estimates are worth.
        (&[("vulkan:0", large, figures(55.0, 0.0, 1100.0))], "cpu", "4.15 s on vulkan:0"),
        (&[("vulkan:0", large, slow), ("vulkan:1", large, fast)], "vulkan:1", "on vulkan:1"),
        (&[("vulkan:0", large, fast), ("vulkan:1", large, slow)], "vulkan:0", "on vulkan:0"),
        (
            &[("vulkan:0", Some(1_999_999_999), fast)],
            "cpu",
            "vulkan:0: the model needs 1.86 GiB, and it has 1.86 GiB",
        ),
        (&[("vulkan:0", Some(2_000_000_000), fast)], "vulkan:0", "on vulkan:0"),
        (&[("vulkan:0", Some(1 << 20), fast), ("vulkan:1", large, fast)], "vulkan:1", "on vulkan:1"),
        (&[("vulkan:0", large, Err("driver of stone"))], "cpu", "vulkan:0: driver of stone"),
        (&[("vulkan:0", large, Err("a")), ("vulkan:1", large, Err("b"))], "cpu", "vulkan:0: a; vulkan:1: b"),
        (&[("vulkan:0", large, Err("a")), ("vulkan:1", large, fast)], "vulkan:1", "on vulkan:1"),
    ] {
        let mut candidates = vec![candidate("cpu", None, Ok(CPU))];
        candidates.extend(others.iter().map(|(id, memory, figures)| candidate(id, *memory, *figures)));
        let choice = choose(&WORK, &candidates);
        assert_eq!(choice.device, device, "{choice:?}");
        assert!(choice.reason.contains(reason), "{reason}: {choice:?}");
        assert_eq!(choice.weighed.len(), candidates.len());
        assert_eq!(choose(&WORK, &candidates), choice, "the same figures, the same choice");
        let table = choice.table();
        assert_eq!(table.lines().count(), candidates.len() + 1, "{table}");
        assert!(candidates.iter().all(|candidate| table.contains(&candidate.name)), "{table}");
    }
}

#[test]
fn a_cpu_that_cannot_be_measured_is_not_left() {
    let candidates = [
        candidate("cpu", None, Err("no memory")),
        candidate("vulkan:0", Some(u64::MAX), figures(2000.0, 5.0, 20_000.0)),
    ];
    let choice = choose(&WORK, &candidates);
    assert_eq!((choice.device.as_str(), choice.reason.as_str()), ("cpu", "the CPU could not be measured"));
}

#[test]
fn a_gpu_that_refuses_the_model_leaves_it_to_the_cpu() {
    let gpu = candidate("vulkan:0", None, figures(2000.0, 5.0, 20_000.0));
    let mut choice = choose(&WORK, &[candidate("cpu", None, Ok(CPU)), gpu]);
    assert_eq!(choice.device, "vulkan:0");
    choice.fall_back("heads of 1000 values");
    assert_eq!((choice.device.as_str(), choice.reason.as_str()), ("cpu", "heads of 1000 values"));
}
