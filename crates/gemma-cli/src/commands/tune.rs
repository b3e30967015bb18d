//! `gemma tune`: measures every device anew, for `--device auto`, and how the work of GPUs is best divided.
//!
//! What was kept of earlier measurements is forgotten first, so it is also what mends figures that were taken on a busy machine.

use std::io::Write;

use crate::args::TuneArgs;
use crate::choice::Figures;
use crate::failure::Failure;
use crate::{devices, output};

/// Runs the verb.
pub(crate) fn tune(args: &TuneArgs) -> Result<(), Failure> {
    let mut tell = |trial: &str| {
        tracing::info!("{trial}");
        if output::is_watched() {
            output::tell(format_args!("gemma: {trial}"));
        }
    };
    let report = devices::tune(args.threads, args.device.as_deref(), &mut tell)?;
    if args.json {
        return output::print_json(&report);
    }
    let mut out = std::io::stdout().lock();
    for devices::Tuned { device, name, figures, tuning, problem } in &report {
        let found = match (figures, problem) {
            (Some(Figures { read_bytes_per_s, launch_s, operations_per_s }), _) => format!(
                "read {:.1} GB/s, {:.1} us a launch, {:.0} GOP/s in products of a prompt",
                read_bytes_per_s / 1e9,
                launch_s * 1e6,
                operations_per_s / 1e9
            ),
            (None, problem) => format!("not measured: {}", problem.as_deref().unwrap_or_default()),
        };
        writeln!(out, "{device:<10} {found}  ({name})")?;
        if let Some(tuning) = tuning {
            writeln!(out, "{:<10} {}", "", serde_json::to_string(tuning).map_err(anyhow::Error::from)?)?;
        }
    }
    Ok(())
}
