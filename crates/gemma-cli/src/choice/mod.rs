//! Which device `--device auto` means: the one that would answer a usual request soonest, by what was measured of each.
//!
//! [`choose`] is the decision and nothing else: it opens, measures and prints nothing. What it is given comes from the plans
//! ([`Work`]) and from [`figures`]; [`crate::devices`] brings them together.

pub(crate) mod figures;
pub(crate) mod probe;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use serde::Serialize;

pub(crate) use figures::Figures;

/// Tokens of the usual request: a question with some text, and an answer of a paragraph or two.
pub(crate) const PROMPT: usize = 512;
/// Tokens of its answer.
pub(crate) const ANSWER: usize = 128;

/// How many times sooner another device must be before the CPU is left: estimates are not better than this, and the CPU
/// leaves the GPU to the desktop and writes the same text on every machine.
const MARGIN: f64 = 1.2;

/// What a model asks of a device, by its plans' account.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Work {
    /// Bytes that the decode step of a token reads and writes, behind the usual prompt.
    pub(crate) decode_bytes: u64,
    /// Operations of the usual prompt.
    pub(crate) prompt_operations: u64,
    /// Launches of a decode step on a device that has launches.
    pub(crate) launches: usize,
    /// Bytes of weights, activations and cache on a device that takes a copy of the weights.
    pub(crate) resident_bytes: u64,
}

/// A device that could be chosen.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// What `--device` calls it.
    pub(crate) id: String,
    pub(crate) name: String,
    /// Bytes it may hold; none is without limit, as where weights stay where they are.
    pub(crate) memory: Option<u64>,
    /// What was measured of it, or why nothing was.
    pub(crate) figures: Result<Figures, String>,
}

/// What is expected of a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "the names say the units")]
pub(crate) struct Estimate {
    /// Seconds of a decode step.
    pub(crate) token_s: f64,
    /// Seconds of the usual prompt.
    pub(crate) prompt_s: f64,
    /// Seconds of both and the rest of the answer.
    pub(crate) request_s: f64,
}

/// A candidate, weighed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Weighed {
    pub(crate) device: String,
    pub(crate) name: String,
    pub(crate) figures: Option<Figures>,
    pub(crate) estimate: Option<Estimate>,
    /// Why it cannot be chosen.
    pub(crate) refused: Option<String>,
}

/// What was chosen, and from what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Choice {
    /// What `--device` calls it.
    pub(crate) device: String,
    /// One line.
    pub(crate) reason: String,
    pub(crate) weighed: Vec<Weighed>,
}

impl Work {
    /// Expected times of a device with `figures`.
    pub(crate) fn estimate(&self, figures: &Figures) -> Estimate {
        let token_s =
            self.decode_bytes as f64 / figures.read_bytes_per_s + self.launches as f64 * figures.launch_s;
        let prompt_s = self.prompt_operations as f64 / figures.operations_per_s;
        Estimate { token_s, prompt_s, request_s: prompt_s + ANSWER as f64 * token_s }
    }
}

/// Chooses among `candidates`, of which the first is the CPU.
///
/// # Panics
/// Without candidates.
pub(crate) fn choose(work: &Work, candidates: &[Candidate]) -> Choice {
    let weighed: Vec<Weighed> = candidates.iter().map(|candidate| weigh(work, candidate)).collect();
    let request = |weighed: &Weighed| weighed.estimate.map(|estimate| estimate.request_s);
    let cpu = request(&weighed[0]);
    let others = weighed.iter().enumerate().skip(1);
    let best = others
        .filter_map(|(index, weighed)| Some((index, request(weighed)?)))
        .min_by(|(_, one), (_, other)| one.total_cmp(other));
    let (picked, reason) = match (best, cpu) {
        (None, _) => (0, none_fits(&weighed)),
        // Without a figure of the CPU nothing can be said; it is what runs everywhere.
        (Some(_), None) => (0, "the CPU could not be measured".to_owned()),
        (Some((index, seconds)), Some(cpu)) => {
            let other = &weighed[index].device;
            let times = format!(
                "{cpu:.2} s on the CPU, {seconds:.2} s on {other} for {PROMPT} + {ANSWER} tokens, by measurement"
            );
            if seconds * MARGIN < cpu { (index, times) } else { (0, times) }
        }
    };
    Choice { device: weighed[picked].device.clone(), reason, weighed }
}

fn none_fits(weighed: &[Weighed]) -> String {
    let refused: Vec<String> = weighed[1..]
        .iter()
        .filter_map(|weighed| Some(format!("{}: {}", weighed.device, weighed.refused.as_ref()?)))
        .collect();
    if refused.is_empty() { "no GPU".to_owned() } else { refused.join("; ") }
}

fn weigh(work: &Work, candidate: &Candidate) -> Weighed {
    let figures = candidate.figures.as_ref().ok().copied();
    let refused = match (&candidate.figures, candidate.memory) {
        (_, Some(memory)) if work.resident_bytes > memory => Some(format!(
            "the model needs {}, and it has {}",
            crate::output::size(work.resident_bytes),
            crate::output::size(memory)
        )),
        (Err(reason), _) => Some(reason.clone()),
        _ => None,
    };
    let estimate = figures.filter(|_| refused.is_none()).map(|figures| work.estimate(&figures));
    Weighed { device: candidate.id.clone(), name: candidate.name.clone(), figures, estimate, refused }
}

impl Choice {
    /// The chosen device could not take the model: the CPU takes it.
    pub(crate) fn fall_back(&mut self, reason: &str) {
        self.device.clone_from(&self.weighed[0].device);
        reason.clone_into(&mut self.reason);
    }

    /// The candidates as a table.
    pub(crate) fn table(&self) -> String {
        let mut table = format!(
            "  {:<10} {:>10} {:>10} {:>10} {:>10} {:>10}  name",
            "device", "read GB/s", "us/launch", "GOP/s", "ms/token", "prompt s"
        );
        for Weighed { device, name, figures, estimate, refused } in &self.weighed {
            let number =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
            let [read, launch, operations] = [
                figures.map(|figures| figures.read_bytes_per_s / 1e9),
                figures.map(|figures| figures.launch_s * 1e6),
                figures.map(|figures| figures.operations_per_s / 1e9),
            ]
            .map(number);
            let (token, prompt) = (
                number(estimate.map(|estimate| estimate.token_s * 1e3)),
                number(estimate.map(|estimate| estimate.prompt_s)),
            );
            let refused = refused.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            write!(
                table,
                "\n  {device:<10} {read:>10} {launch:>10} {operations:>10} {token:>10} {prompt:>10}  {name}{refused}"
            )
            .expect("a string takes all");
        }
        table
    }
}
