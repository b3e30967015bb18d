//! What `gemma bench` found: its JSON, whose first keys are fixed, and its text.

use std::io::{self, Write};

use gemma_cpu::measure::Peaks;
use serde::Serialize;

use super::compare::{Comparison, Pair};
use super::profile::Profile;
use super::stats::Spread;
use super::work::{Bound, Roofline, Work};
use crate::choice::Choice;
use crate::output;

/// Kinds of operations that the text shows of a profile.
const TOP_OPERATIONS: usize = 10;

/// Everything that one run of the verb found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) shape: String,
    #[serde(rename = "type")]
    pub(super) dtype: String,
    pub(super) slice: Option<String>,
    pub(super) context: usize,
    pub(super) chunk: usize,
    pub(super) cache_type: &'static str,
    pub(super) repeat: usize,
    pub(super) results: Vec<Measured>,
    /// To open the model and prepare it.
    pub(super) load_s: f64,
    /// From nothing to the first sampled token behind a prompt of one token, the tokenizer not included; of files
    /// only, measured once.
    pub(super) first_token_s: Option<f64>,
    /// To make the file's tokenizer ready, where it has one.
    pub(super) tokenizer_s: Option<f64>,
    pub(super) peak_rss_bytes: Option<u64>,
    pub(super) device: String,
    pub(super) features: Vec<String>,
    /// None on a device that has no threads of ours.
    pub(super) threads: Option<usize>,
    /// Read bandwidth of the device, measured in this run; none where it could not be.
    pub(super) measured_gb_per_s: Option<f64>,
    /// None where the device is not the CPU.
    pub(super) peaks: Option<PeakReport>,
    pub(super) profile: Option<Profile>,
    /// How the device was chosen, where there was a choice.
    pub(super) choice: Option<Choice>,
    pub(super) comparison: Option<Comparison>,
    pub(super) version: &'static str,
    pub(super) command: String,
}

/// One phase at one length.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) phase: &'static str,
    pub(super) tokens: usize,
    pub(super) depth: usize,
    pub(super) tokens_per_s: Spread,
    /// Part of the units of layers with a cutoff that were not zero; null where all were computed.
    pub(super) active_units: Option<f64>,
    /// By the bytes that were read, as the plan counts them, and the median time.
    pub(super) gb_per_s: f64,
    /// By the plan's operations and the median time.
    pub(super) gflop_per_s: f64,
    /// The least time that the device's peaks allow, by the median time; none, as what binds it, without peaks.
    pub(super) roofline_fraction: Option<f64>,
    /// Which peak sets that time.
    pub(super) bound: Option<Bound>,
    /// The part of the measured read bandwidth that the median run used.
    pub(super) bandwidth_fraction: Option<f64>,
    /// The part of the measured peaks of arithmetic that the median run used.
    pub(super) arithmetic_fraction: Option<f64>,
    /// Time of each repetition, sorted.
    pub(super) seconds: Vec<f64>,
}

impl Measured {
    /// The part of the roofline that the median run reached, in percent, and what binds it.
    pub(super) fn roofline(&self) -> Option<(f64, &'static str)> {
        let (fraction, bound) = self.roofline_fraction.zip(self.bound)?;
        Some((fraction * 100.0, bound.name()))
    }
}

/// The CPU's peaks, measured in the same run with the same threads and instruction set.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PeakReport {
    pub(super) read_gb_per_s: f64,
    pub(super) f32_gflop_per_s: f64,
    pub(super) f32_one_thread_gflop_per_s: f64,
    pub(super) int8_gop_per_s: f64,
    pub(super) int8_one_thread_gop_per_s: f64,
    /// The instruction that reached the int8 peak.
    pub(super) int8_instruction: &'static str,
}

impl From<&Peaks> for PeakReport {
    fn from(peaks: &Peaks) -> Self {
        Self {
            read_gb_per_s: peaks.read_bandwidth / 1e9,
            f32_gflop_per_s: peaks.f32_flops / 1e9,
            f32_one_thread_gflop_per_s: peaks.f32_flops_one_thread / 1e9,
            int8_gop_per_s: peaks.int8.operations / 1e9,
            int8_one_thread_gop_per_s: peaks.int8_one_thread.operations / 1e9,
            int8_instruction: peaks.int8.instruction,
        }
    }
}

/// Repetitions of the same work.
pub(super) struct Runs {
    pub(super) phase: &'static str,
    pub(super) tokens: usize,
    pub(super) depth: usize,
    pub(super) seconds: Vec<f64>,
    pub(super) work: Work,
}

impl Runs {
    /// These runs, held against the peaks of their device where they are known.
    /// `read` are the bytes that the device reads a second.
    pub(super) fn measured(mut self, peaks: Option<&Peaks>, read: Option<f64>) -> Measured {
        let tokens_per_s = Spread::of_rates(self.tokens as f64, &mut self.seconds);
        let median = self.tokens as f64 / tokens_per_s.median;
        let roofline = peaks.map(|peaks| self.work.roofline(peaks));
        Measured {
            phase: self.phase,
            tokens: self.tokens,
            depth: self.depth,
            tokens_per_s,
            active_units: self.work.active_units,
            gb_per_s: self.work.cost.bytes() as f64 / median / 1e9,
            gflop_per_s: self.work.cost.flops as f64 / median / 1e9,
            roofline_fraction: roofline.map(|roofline| roofline.seconds() / median),
            bound: roofline.map(Roofline::bound),
            bandwidth_fraction: read.map(|read| self.work.cost.bytes() as f64 / read / median),
            arithmetic_fraction: roofline.map(|roofline| roofline.arithmetic_seconds / median),
            seconds: self.seconds,
        }
    }
}

/// Writes the report as text.
pub(super) fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let loaded = report.first_token_s.map(|s| format!(", first token {s:.2} s")).unwrap_or_default();
    let rss = report.peak_rss_bytes.map(|rss| format!(", peak RSS {}", output::size(rss)));
    let threads = report.threads.map(|threads| format!("{threads} threads, ")).unwrap_or_default();
    writeln!(
        out,
        "{} {} on {}, {threads}{}: load {:.2} s{loaded}{}",
        report.shape,
        report.dtype,
        report.device,
        report.features.join(" "),
        report.load_s,
        rss.unwrap_or_default()
    )?;
    match (&report.peaks, report.measured_gb_per_s) {
        (Some(peaks), _) => print_peaks(peaks, out)?,
        (None, Some(read)) => writeln!(out, "measured: read {read:.1} GB/s")?,
        (None, None) => {}
    }
    if let Some(choice) = &report.choice {
        writeln!(out, "{} chosen: {}", choice.device, choice.reason)?;
    }
    report.results.iter().try_for_each(|result| print_phase(result, out))?;
    report.profile.iter().try_for_each(|profile| print_profile(profile, out))?;
    report.comparison.iter().try_for_each(|comparison| print_comparison(comparison, out))
}

fn print_peaks(peaks: &PeakReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "measured peaks: read {:.1} GB/s, f32 {:.0} GFLOP/s (one thread {:.0}), int8 {:.0} GOP/s (one thread {:.0}, {})",
        peaks.read_gb_per_s,
        peaks.f32_gflop_per_s,
        peaks.f32_one_thread_gflop_per_s,
        peaks.int8_gop_per_s,
        peaks.int8_one_thread_gop_per_s,
        peaks.int8_instruction
    )
}

fn print_phase(result: &Measured, out: &mut dyn Write) -> io::Result<()> {
    let rate = result.tokens_per_s;
    let roofline = result.roofline();
    let roofline = roofline.map(|(percent, bound)| format!("  {percent:>3.0} % of roofline ({bound})"));
    let read = || Some(format!("  {:>3.0} % of measured bandwidth", result.bandwidth_fraction? * 100.0));
    let roofline = roofline.or_else(read).unwrap_or_default();
    writeln!(
        out,
        "{:<8} {:>5} tokens at depth {:<5} {:>8.2} tok/s (min {:.2}, max {:.2})  {:>6.2} GB/s  {:>7.1} GFLOP/s{roofline}",
        result.phase,
        result.tokens,
        result.depth,
        rate.median,
        rate.min,
        rate.max,
        result.gb_per_s,
        result.gflop_per_s
    )?;
    if let Some(active) = result.active_units {
        writeln!(
            out,
            "         layers with a cutoff read only what {:.1} % active units need",
            active * 100.0
        )?;
    }
    Ok(())
}

fn print_profile(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let Profile { steps, depth, step_ms, other_fraction, operations } = profile;
    writeln!(
        out,
        "\na decode step at depth {depth}, median of {steps}: {step_ms:.3} ms, of which {:.1} % between operations",
        other_fraction * 100.0
    )?;
    writeln!(
        out,
        "  {:<32} {:>5} {:>9} {:>7} {:>8} {:>8} {:>9}",
        "operation", "count", "ms", "% time", "% bytes", "GB/s", "GFLOP/s"
    )?;
    for operation in operations.iter().take(TOP_OPERATIONS) {
        writeln!(
            out,
            "  {:<32} {:>5} {:>9.3} {:>7.1} {:>8.1} {:>8.2} {:>9.1}",
            operation.operation,
            operation.count,
            operation.ms,
            operation.time_fraction * 100.0,
            operation.bytes_fraction * 100.0,
            operation.gb_per_s,
            operation.gflop_per_s
        )?;
    }
    let rest = operations.iter().skip(TOP_OPERATIONS);
    let (count, ms) =
        rest.fold((0, 0.0), |(count, ms), operation| (count + operation.count, ms + operation.ms));
    if count > 0 {
        writeln!(out, "  {:<32} {count:>5} {ms:>9.3}", "others")?;
    }
    Ok(())
}

fn print_comparison(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\ncompared with {}, tok/s:", comparison.with)?;
    comparison.unlike.iter().try_for_each(|unlike| writeln!(out, "  note: {unlike}"))?;
    writeln!(
        out,
        "  {:<8} {:>6} {:>6}  {:>27}  {:>27}  {:>6}",
        "phase", "tokens", "depth", "old (min to max)", "new (min to max)", "ratio"
    )?;
    for Pair { phase, tokens, depth, old, new, ratio, verdict } in &comparison.phases {
        let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let (old, new, verdict) = (range(*old), range(*new), verdict.name());
        writeln!(out, "  {phase:<8} {tokens:>6} {depth:>6}  {old:>27}  {new:>27}  {ratio:>6}  {verdict}")?;
    }
    writeln!(out, "  {}", comparison.rule)
}

/// `21.90 (20.00 to 22.30)`
pub(super) fn range(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "-".to_owned(),
        |Spread { min, median, max }| format!("{median:.2} ({min:.2} to {max:.2})"),
    )
}
