//! `gemma doctor`: what this machine offers, what is missing, and the command that mends it.
//!
//! It reads what the system tells in files, asks the Vulkan loader for its adapters and measures memory bandwidth; it
//! opens no device and changes nothing.
//! Whatever is missing, the exit code is 0: to look is not to fail.

mod cpu;
mod gpu;
mod limits;
mod machine;
mod npu;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use serde::Serialize;

use crate::args::DoctorArgs;
use crate::failure::Failure;
use crate::{devices, output};
use machine::Machine;

const NOTE: &str = if cfg!(feature = "igpu") {
    "Models run on the CPU, or on a GPU where measurements say that it answers sooner; --device names one. What is said of HIP \
     is for --device hip, of the NPU for a later backend."
} else {
    "Models run on the CPU: this build has no Vulkan backend. What is said of HIP is for --device hip, of the NPU for a later backend."
};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Missing,
    Warning,
}

/// One thing that was looked for.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    topic: &'static str,
    status: Status,
    found: String,
    /// What to type, or to do where no command helps.
    remedy: Option<String>,
}

impl Finding {
    fn ok(topic: &'static str, found: impl Into<String>) -> Self {
        Self { topic, status: Status::Ok, found: found.into(), remedy: None }
    }

    fn missing(topic: &'static str, found: impl Into<String>) -> Self {
        Self { status: Status::Missing, ..Self::ok(topic, found) }
    }

    fn warning(topic: &'static str, found: impl Into<String>) -> Self {
        Self { status: Status::Warning, ..Self::ok(topic, found) }
    }

    fn mended_by(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}

#[derive(Serialize)]
struct Report {
    note: &'static str,
    findings: Vec<Finding>,
}

/// Runs the verb.
pub(crate) fn doctor(args: &DoctorArgs) -> Result<(), Failure> {
    let device = devices::cpu(args.threads, None, 0)?;
    let mut findings = findings(&Machine::this());
    // Measured last, so that it tells nothing about the temperature above.
    findings.extend(cpu::measured(device.isa(), device.pool()));
    let report = Report { note: NOTE, findings };
    if args.json { output::print_json(&report) } else { Ok(print(&report)?) }
}

/// Everything that can be read without measuring.
fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    let mut all = cpu::findings(machine);
    all.extend(gpu::findings(machine));
    all.extend(npu::findings(machine));
    all.extend(limits::findings(machine));
    all
}

fn print(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n", report.note)?;
    for Finding { topic, status, found, remedy } in &report.findings {
        let status = match status {
            Status::Ok => "ok",
            Status::Missing => "missing",
            Status::Warning => "warning",
        };
        writeln!(out, "{status:<8} {topic:<16} {found}")?;
        if let Some(remedy) = remedy {
            writeln!(out, "{:<25} -> {remedy}", "")?;
        }
    }
    Ok(())
}
