//! [`Work`]: what a phase asks of the machine by the plans' own account, and the least time that could take.
//!
//! The roofline of Williams, Waterman and Patterson (2009): a run takes at least as long as reading its bytes and at
//! least as long as its arithmetic, whichever is more. Nothing here measures.

use std::ops::Add;

use gemma_cpu::measure::Peaks;
use gemma_hal::{Cost, Op, Plan, Sparsity};
use gemma_orchestrator::{Engine, EngineError, Phase};
use serde::Serialize;

/// A phase's bytes and operations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Work {
    pub(super) cost: Cost,
    /// Those of its operations that multiply weights stored in blocks of small integers.
    pub(super) integer_flops: u64,
    /// Part of the units of layers with a cutoff that were not zero, where they were counted.
    pub(super) active_units: Option<f64>,
}

/// What keeps a phase from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Bound {
    /// Reading weights and cache.
    Memory,
    /// Multiplying.
    Arithmetic,
}

impl Bound {
    /// Name in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Arithmetic => "arithmetic",
        }
    }
}

/// The least time of some work, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Roofline {
    pub(super) memory_seconds: f64,
    pub(super) arithmetic_seconds: f64,
}

impl Roofline {
    pub(super) fn seconds(self) -> f64 {
        self.memory_seconds.max(self.arithmetic_seconds)
    }

    pub(super) fn bound(self) -> Bound {
        if self.memory_seconds >= self.arithmetic_seconds { Bound::Memory } else { Bound::Arithmetic }
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cost: self.cost + other.cost,
            integer_flops: self.integer_flops + other.integer_flops,
            active_units: self.active_units.or(other.active_units),
        }
    }
}

impl Work {
    /// A run of `tokens` tokens whose first stands at position `start`.
    pub(super) fn of(plan: &Plan, tokens: usize, start: usize) -> Self {
        let works = plan.steps().iter().map(|step| Self::of_op(plan, &step.op, tokens, start));
        works.fold(Self::default(), Self::add)
    }

    /// One of the plan's operations.
    pub(super) fn of_op(plan: &Plan, op: &Op, tokens: usize, start: usize) -> Self {
        let cost = plan.op_cost(op, tokens, start);
        let (mut all, mut integers) = (0_u64, 0_u64);
        op.weights(&mut |id| {
            let weight = plan.weight(id);
            // Norms and scales are not multiplied with; counting them would blur the share by next to nothing.
            if weight.rows() > 1 {
                all += weight.values();
                integers += if weight.dtype().block_len() > 1 { weight.values() } else { 0 };
            }
        });
        let share = if all == 0 { 0.0 } else { integers as f64 / all as f64 };
        Self { cost, integer_flops: (cost.flops as f64 * share) as u64, active_units: None }
    }

    /// This work without what each of `runs` runs left out.
    pub(super) fn without(self, sparsity: Sparsity, runs: usize) -> Self {
        let skipped = sparsity.skipped.over(runs as u64);
        let integers = self.integer_flops as f64 / self.cost.flops.max(1) as f64;
        Self {
            cost: self.cost.less(skipped),
            integer_flops: self.integer_flops.saturating_sub((skipped.flops as f64 * integers) as u64),
            active_units: sparsity.active_fraction(),
        }
    }

    /// A prompt of `tokens` tokens in an empty context, by the plans that its chunks run.
    ///
    /// # Errors
    /// As [`Engine::plan`].
    pub(super) fn of_prompt(engine: &Engine, tokens: usize) -> Result<Self, EngineError> {
        let chunk = engine.options().chunk;
        let filling = engine.plan(Phase::PrefillOnly)?;
        let (mut work, mut done) = (Self::default(), 0);
        while tokens - done > chunk {
            work = work + Self::of(&filling, chunk, done);
            done += chunk;
        }
        let last = if tokens - done == 1 { Phase::Decode } else { Phase::Prefill };
        Ok(work + Self::of(&engine.plan(last)?, tokens - done, done))
    }

    /// The least time by `peaks`. Products of integer blocks are held against the peak of bytes, where that is the
    /// higher one, all others against that of f32.
    pub(super) fn roofline(self, peaks: &Peaks) -> Roofline {
        let integers = self.integer_flops as f64 / peaks.int8.operations.max(peaks.f32_flops);
        let floats = (self.cost.flops - self.integer_flops) as f64 / peaks.f32_flops;
        Roofline {
            memory_seconds: self.cost.bytes() as f64 / peaks.read_bandwidth,
            arithmetic_seconds: integers + floats,
        }
    }
}

#[cfg(test)]
mod tests {
    use gemma_cpu::measure::Int8Peak;

    use super::*;

    /// 10 bytes, 100 f32 operations and 400 operations on bytes a second.
    fn peaks(int8: f64) -> Peaks {
        let int8 = Int8Peak { instruction: "x", operations: int8 };
        Peaks {
            read_bandwidth: 10.0,
            f32_flops: 100.0,
            f32_flops_one_thread: 50.0,
            int8,
            int8_one_thread: int8,
        }
    }

    #[test]
    fn the_longer_of_reading_and_computing_is_the_bound() {
        for (bytes, flops, integer_flops, int8, seconds, bound) in [
            (100, 100, 0, 400.0, 10.0, Bound::Memory),
            (10, 1000, 0, 400.0, 10.0, Bound::Arithmetic),
            (10, 1000, 1000, 400.0, 2.5, Bound::Arithmetic),
            (10, 1000, 800, 400.0, 4.0, Bound::Arithmetic),
            // Where bytes are slower than f32, nobody would multiply bytes.
            (10, 1000, 1000, 20.0, 10.0, Bound::Arithmetic),
        ] {
            let cost = Cost { flops, weight_bytes: bytes, cache_bytes: 0 };
            let roofline = Work { cost, integer_flops, active_units: None }.roofline(&peaks(int8));
            assert!((roofline.seconds() - seconds).abs() < 1e-9, "{roofline:?}");
            assert_eq!(roofline.bound(), bound, "{roofline:?}");
        }
    }

    #[test]
    fn only_blocks_of_integers_count_as_integers() {
        use gemma_hal::{DType, Outputs};
        use gemma_matformer::plan::{self, PlanOptions};
        use gemma_matformer::{Config, synthetic};

        let mut config = Config::e2b();
        config.layer_kinds.truncate(2);
        config.ffn_widths = vec![256; 2];
        config.sparsity = vec![0.0; 2];
        config.shared_kv_layers = 0;
        (config.hidden, config.heads, config.kv_heads, config.head_dim) = (64, 2, 1, 32);
        (config.ple_width, config.laurel_rank) = (32, 32);
        (config.vocabulary, config.ple_vocabulary, config.window) = (512, 500, 16);
        let work = |dtype| {
            let weights = synthetic::weights(&config, dtype, 1).unwrap();
            let outputs = Outputs::Last;
            let options =
                PlanOptions { name: "p".to_owned(), max_tokens: 1, outputs, cache_dtype: DType::F16 };
            let plan = plan::build(&config, &weights, &options).unwrap();
            assert_eq!(Work::of(&plan, 1, 0).cost, plan.cost(1, 0));
            Work::of(&plan, 1, 0)
        };
        assert_eq!(work(DType::BF16).integer_flops, 0);
        let quantised = work(DType::Q4_0);
        let share = quantised.integer_flops as f64 / quantised.cost.flops as f64;
        assert!((0.8..1.0).contains(&share), "attention and mixing stay f32: {share}");
    }
}
