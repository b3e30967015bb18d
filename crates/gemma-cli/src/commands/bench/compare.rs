//! `gemma bench --compare`: this run beside an older one, and which differences are more than noise.
//!
//! Two sets of repetitions differ when their ranges from min to max do not overlap and each has four runs or more:
//! were both from one distribution, ranges of four and four would be apart in 3 of 100 cases, of five and five in
//! fewer than 1. Reads the fixed keys of the JSON report only, so that reports of any version will do.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::input;
use super::report::{Measured, Report};
use super::stats::Spread;
use crate::failure::Failure;

/// Fewer runs than this say nothing about noise.
const FEWEST_RUNS: usize = 4;

/// What is read of an older report.
#[derive(Debug, Deserialize)]
pub(super) struct Older {
    #[serde(default)]
    shape: Option<String>,
    #[serde(default, rename = "type")]
    dtype: Option<String>,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    threads: Option<usize>,
    #[serde(default)]
    repeat: Option<usize>,
    pub(super) results: Vec<Rated>,
}

/// A rate of a phase, from a file.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Rated {
    pub(super) phase: String,
    pub(super) tokens: usize,
    #[serde(default)]
    pub(super) depth: usize,
    pub(super) tokens_per_s: Spread,
}

/// This run beside an older one.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Comparison {
    /// Name of the older report's file.
    pub(super) with: String,
    /// What is not the same besides the program: a ratio then says something else.
    pub(super) unlike: Vec<String>,
    pub(super) phases: Vec<Pair>,
    pub(super) rule: String,
}

/// A phase in both.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pair {
    pub(super) phase: String,
    pub(super) tokens: usize,
    pub(super) depth: usize,
    pub(super) old: Option<Spread>,
    pub(super) new: Option<Spread>,
    /// New median by old median: above 1 is faster.
    pub(super) ratio: Option<f64>,
    pub(super) verdict: Verdict,
}

/// What a difference is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Faster,
    Slower,
    /// Not told apart from noise.
    Same,
    /// Too few runs to tell.
    Unjudged,
    /// Only in this run.
    New,
    /// Only in the older one.
    Gone,
}

impl Verdict {
    /// Name in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "SLOWER",
            Self::Same => "within noise",
            Self::Unjudged => "too few runs to judge",
            Self::New => "new",
            Self::Gone => "not measured now",
        }
    }
}

impl Older {
    /// Reads a report that `gemma bench --json` wrote.
    ///
    /// # Errors
    /// When it cannot be read or is no such report.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let older: Self = input::json(path, "a report of `gemma bench --json`")?;
        input::check(path, &older.results)?;
        Ok(older)
    }
}

impl Comparison {
    /// `report` beside `older`, which came from `path`.
    pub(super) fn of(report: &Report, older: &Older, path: &Path) -> Self {
        let mut phases: Vec<Pair> =
            report.results.iter().map(|new| pair(new, report.repeat, older)).collect();
        let gone = older.results.iter().filter(|old| !report.results.iter().any(|new| same(new, old)));
        phases.extend(gone.map(|old| Pair {
            phase: old.phase.clone(),
            tokens: old.tokens,
            depth: old.depth,
            old: Some(old.tokens_per_s),
            new: None,
            ratio: None,
            verdict: Verdict::Gone,
        }));
        let rule = format!(
            "flagged when the ranges from min to max do not overlap and both have {FEWEST_RUNS} runs or more"
        );
        Self { with: path.display().to_string(), unlike: unlike(report, older), phases, rule }
    }

    /// Whether any phase is slower beyond noise.
    pub(super) fn has_regression(&self) -> bool {
        self.phases.iter().any(|pair| pair.verdict == Verdict::Slower)
    }
}

fn same(new: &Measured, old: &Rated) -> bool {
    (new.phase, new.tokens, new.depth) == (old.phase.as_str(), old.tokens, old.depth)
}

fn pair(new: &Measured, runs: usize, older: &Older) -> Pair {
    let old = older.results.iter().find(|old| same(new, old)).map(|old| old.tokens_per_s);
    Pair {
        phase: new.phase.to_owned(),
        tokens: new.tokens,
        depth: new.depth,
        old,
        new: Some(new.tokens_per_s),
        ratio: old.map(|old| new.tokens_per_s.median / old.median),
        verdict: old.map_or(Verdict::New, |old| judge(old, older.repeat, new.tokens_per_s, runs)),
    }
}

fn judge(old: Spread, old_runs: Option<usize>, new: Spread, new_runs: usize) -> Verdict {
    // Reports of the first version do not say how many runs they had; a range shows that there were some.
    let enough = old_runs.map_or(old.min < old.max, |runs| runs >= FEWEST_RUNS) && new_runs >= FEWEST_RUNS;
    match () {
        () if !enough => Verdict::Unjudged,
        () if new.min > old.max => Verdict::Faster,
        () if new.max < old.min => Verdict::Slower,
        () => Verdict::Same,
    }
}

fn unlike(report: &Report, older: &Older) -> Vec<String> {
    let mut unlike = Vec::new();
    let mut held = |what: &str, old: Option<String>, new: String| {
        if let Some(old) = old.filter(|old| *old != new) {
            unlike.push(format!("{what} was {old}, is {new}"));
        }
    };
    held("shape", older.shape.clone(), report.shape.clone());
    held("type", older.dtype.clone(), report.dtype.clone());
    held("device", older.device.clone(), report.device.clone());
    let threads = |threads: usize| threads.to_string();
    held("threads", older.threads.map(threads), report.threads.map_or_else(|| "none".to_owned(), threads));
    unlike
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ranges_that_are_apart_are_told_apart() {
        let spread = |min, median, max| Spread { min, median, max };
        let old = spread(10.0, 11.0, 12.0);
        for (new, old_runs, new_runs, verdict) in [
            (spread(12.1, 13.0, 14.0), Some(5), 5, Verdict::Faster),
            (spread(8.0, 9.0, 9.9), Some(5), 5, Verdict::Slower),
            (spread(8.0, 9.0, 10.0), Some(5), 5, Verdict::Same),
            (spread(12.0, 13.0, 14.0), Some(5), 5, Verdict::Same),
            (spread(8.0, 9.0, 9.9), Some(5), 3, Verdict::Unjudged),
            (spread(8.0, 9.0, 9.9), Some(3), 5, Verdict::Unjudged),
            (spread(8.0, 9.0, 9.9), None, 4, Verdict::Slower),
        ] {
            assert_eq!(judge(old, old_runs, new, new_runs), verdict, "{new:?} {old_runs:?} {new_runs}");
        }
        let one = spread(10.0, 10.0, 10.0);
        assert_eq!(judge(one, None, spread(8.0, 9.0, 9.9), 5), Verdict::Unjudged, "a single run");
    }
}
