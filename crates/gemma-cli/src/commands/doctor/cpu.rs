//! Processor, instruction sets, memory, and what can be measured of them.

use std::collections::BTreeSet;

use gemma_cpu::measure;
use gemma_cpu::pool::Pool;
use gemma_cpu::simd::Isa;

use super::Finding;
use super::machine::Machine;
use crate::output;

/// Features that kernels of ours use or will use, by the names of /proc/cpuinfo, and the key that they stand behind:
/// of x86-64, then of AArch64.
const FEATURES: [(&str, &[&str]); 2] = [
    (
        "flags",
        &["avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx_vnni"],
    ),
    ("Features", &["asimd", "asimddp", "i8mm"]),
];

/// What the system tells.
pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    let info = machine.text("proc/cpuinfo").unwrap_or_default();
    vec![processor(&info), features(&info), memory(machine)]
}

/// What the kernels reach: takes about a second.
pub(super) fn measured(isa: Isa, pool: &Pool) -> Vec<Finding> {
    let (read, flops) = (measure::read_bandwidth(isa, pool), measure::f32_peak(isa, pool));
    let int8 = measure::int8_peak(isa, pool);
    let threads = pool.threads();
    vec![
        Finding::ok("kernels", format!("{} on {threads} threads", isa.name())),
        Finding::ok("bandwidth", format!("{:.1} GB/s read, measured", read / 1e9)),
        Finding::ok("arithmetic", format!("{:.0} GFLOP/s in f32, measured", flops / 1e9)),
        Finding::ok(
            "bytes",
            format!("{:.0} GOP/s in int8 ({}), measured", int8.operations / 1e9, int8.instruction),
        ),
    ]
}

fn processor(info: &str) -> Finding {
    let threads = values(info, "processor").count();
    if threads == 0 {
        return Finding::warning("processor", "the system does not tell (/proc/cpuinfo)");
    }
    let name = values(info, "model name").next().unwrap_or(std::env::consts::ARCH);
    // Cores are numbered anew in every socket.
    let cores: BTreeSet<_> = values(info, "physical id").zip(values(info, "core id")).collect();
    let cores = if cores.is_empty() { String::new() } else { format!("{} cores, ", cores.len()) };
    Finding::ok("processor", format!("{name}, {cores}{threads} threads"))
}

fn features(info: &str) -> Finding {
    let listed = FEATURES.iter().find_map(|(key, names)| Some((values(info, key).next()?, *names)));
    let (flags, names) = listed.unwrap_or_default();
    let flags: BTreeSet<&str> = flags.split_ascii_whitespace().collect();
    let (has, lacks): (Vec<&str>, Vec<&str>) = names.iter().partition(|feature| flags.contains(**feature));
    match (has.is_empty(), lacks.is_empty()) {
        (true, _) => Finding::warning("features", "none that the fast kernels use; the portable ones run"),
        (_, true) => Finding::ok("features", has.join(" ")),
        _ => Finding::ok("features", format!("{} (not: {})", has.join(" "), lacks.join(" "))),
    }
}

fn memory(machine: &Machine<'_>) -> Finding {
    let info = machine.text("proc/meminfo").unwrap_or_default();
    let bytes = |key: &str| {
        let kibibytes: u64 = values(&info, key).next()?.strip_suffix("kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    };
    match (bytes("MemTotal"), bytes("MemAvailable")) {
        (Some(total), Some(free)) => {
            Finding::ok("memory", format!("{}, {} available", output::size(total), output::size(free)))
        }
        _ => Finding::warning("memory", "the system does not tell (/proc/meminfo)"),
    }
}

/// The values of a key in lines of `key : value`.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.filter(move |(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}
