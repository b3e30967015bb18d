//! What people see: statistics, sizes, JSON.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;

use gemma_cpu::measure;
use gemma_cpu::pool::Pool;
use gemma_cpu::simd::Isa;
use gemma_hal::{DeviceInfo, DeviceKind};
use gemma_orchestrator::{Engine, Stats, stats};
use serde::Serialize;

use crate::choice::Choice;
use crate::failure::Failure;
use crate::{devices, hardware, vulkan};

/// Whether a person sits at both ends.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Whether a person may look at standard error.
pub(crate) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// Prints a line on standard error. That nobody reads it is no reason to stop, as `eprintln!` would.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a value as indented JSON on standard output.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)
        .map_err(|error| Failure::from(std::io::Error::from(error)))?;
    Ok(writeln!(out)?)
}

/// Read bandwidth of the engine's device in bytes a second. The CPU's, with the engine's number of threads, is measured once a
/// run of the program; a GPU's is what was measured of it before, none if nothing was. The measurement takes memory of its own,
/// so the peak until then is noted first, and is not known later.
pub(crate) fn measured_bandwidth(engine: &Engine, peak_rss: &mut Option<u64>) -> Option<f64> {
    static BANDWIDTH: OnceLock<Option<f64>> = OnceLock::new();
    if engine.device().kind != DeviceKind::Cpu {
        // Once it has been measured, by a run on the CPU, the peak is the measurement's.
        let own = BANDWIDTH.get().is_none() && !devices::has_measured();
        *peak_rss = own.then(stats::peak_rss).flatten();
        return devices::known_bandwidth(engine.device());
    }
    *BANDWIDTH.get_or_init(|| {
        *peak_rss = if devices::has_measured() { None } else { stats::peak_rss() };
        let pool = Pool::new(engine.device().units.max(1)).ok()?;
        Some(measure::read_bandwidth(Isa::from_env().ok()?, &pool))
    })
}

/// The statistics line: everything measured in this run on the device named at its end.
pub(crate) fn stats_line(
    stats: &Stats,
    engine: &Engine,
    bandwidth: Option<f64>,
    peak_rss: Option<u64>,
    choice: Option<&Choice>,
) -> String {
    let mut parts = vec![match stats.reused_tokens {
        0 => format!("prompt {} tokens", stats.prompt_tokens),
        reused => format!("prompt {} tokens ({reused} reused)", stats.prompt_tokens),
    }];
    if !stats.time_to_first_token.is_zero() {
        parts.push(format!("first token {:.0} ms", stats.time_to_first_token.as_secs_f64() * 1e3));
    }
    parts.extend(stats.prefill_rate().map(|rate| format!("prefill {rate:.1} tok/s")));
    parts.extend(stats.decode_rate().map(|rate| format!("decode {rate:.1} tok/s")));
    if let Some(moved) = stats.decode_bandwidth() {
        let part =
            bandwidth.map(|all| format!(" = {:.0} % of measured {:.1}", moved / all * 100.0, all / 1e9));
        parts.push(format!("{:.2} GB/s{}", moved / 1e9, part.unwrap_or_default()));
    }
    parts.extend(peak_rss.map(|bytes| format!("peak RSS {}", size(bytes))));
    let device = engine.device();
    let features =
        if device.features.is_empty() { String::new() } else { format!(" {}", device.features.join(" ")) };
    let threads = threads(device).map(|threads| format!(", {threads} threads")).unwrap_or_default();
    let chosen = choice.map(|_| ", chosen by measurement").unwrap_or_default();
    let unused = unused_gpu(device).map(|text| format!(" | {text}")).unwrap_or_default();
    format!("[{} | {}, {}{features}{threads}{chosen}{unused}]", parts.join(", "), device.id, device.name)
}

/// What a build without the GPU backend leaves unused, and the command that would use it.
pub(crate) fn unused_gpu(device: &DeviceInfo) -> Option<String> {
    if cfg!(feature = "igpu") || device.kind != DeviceKind::Cpu {
        return None;
    }
    let gpus = hardware::gpus(Path::new("/"));
    (!gpus.is_empty()).then(|| format!("GPU not in this build: {}; {}", gpus.join(", "), vulkan::BUILD))
}

/// Whether a device is a GPU.
pub(crate) fn is_gpu(device: &DeviceInfo) -> bool {
    matches!(device.kind, DeviceKind::IntegratedGpu | DeviceKind::DiscreteGpu)
}

/// Threads at work; none on a device that has none of ours.
pub(crate) fn threads(device: &DeviceInfo) -> Option<usize> {
    (device.kind == DeviceKind::Cpu).then_some(device.units)
}

/// Bytes for people: 1.50 GiB.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.2} {}", units[unit]) }
}
