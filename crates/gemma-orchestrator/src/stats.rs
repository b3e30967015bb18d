//! [`Stats`]: what a generation took, measured; rates are derived, never stored.

use std::time::Duration;

use gemma_hal::Cost;

use crate::session::Advance;

/// Measurements of one generation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Tokens of the prompt, earlier turns included.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were still in the cache.
    pub reused_tokens: usize,
    /// Tokens of the prompt that were run.
    pub prefill_tokens: usize,
    /// Time to run them.
    pub prefill_time: Duration,
    /// What the plans say that took.
    pub prefill_cost: Cost,
    /// From the request to the first token (TTFT).
    pub time_to_first_token: Duration,
    /// Tokens that were run behind the prompt.
    pub decode_tokens: usize,
    /// Time to run them, sampling and text not included.
    pub decode_time: Duration,
    /// What the plans say that took.
    pub decode_cost: Cost,
}

impl Stats {
    pub(crate) fn prefilled(&mut self, advance: Advance, time: Duration, cost: Cost) {
        self.reused_tokens = advance.reused;
        self.prefill_tokens = advance.run;
        self.prefill_time = time;
        if advance.run > 0 {
            self.prefill_cost = cost;
        }
    }

    pub(crate) fn decoded(&mut self, time: Duration, cost: Cost) {
        self.decode_tokens += 1;
        self.decode_time += time;
        self.decode_cost = self.decode_cost + cost;
    }

    /// Prompt tokens a second; none when none was run.
    pub fn prefill_rate(&self) -> Option<f64> {
        rate(self.prefill_tokens as f64, self.prefill_time)
    }

    /// Generated tokens a second; none when none was run.
    pub fn decode_rate(&self) -> Option<f64> {
        rate(self.decode_tokens as f64, self.decode_time)
    }

    /// Bytes a second that decoding moved, by the plan's account.
    pub fn decode_bandwidth(&self) -> Option<f64> {
        rate(self.decode_cost.bytes() as f64, self.decode_time)
    }
}

fn rate(count: f64, time: Duration) -> Option<f64> {
    (count > 0.0 && !time.is_zero()).then(|| count / time.as_secs_f64())
}

/// The most memory that this process has had in RAM at once, in bytes; none where the system does not say.
pub fn peak_rss() -> Option<u64> {
    status_field("VmHWM:")
}

/// The memory that this process has in RAM now, in bytes; none where the system does not say.
pub fn current_rss() -> Option<u64> {
    status_field("VmRSS:")
}

fn status_field(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
