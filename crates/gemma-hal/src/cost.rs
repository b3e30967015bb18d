//! [`Cost`]: the arithmetic and the memory traffic that an operation cannot avoid, derived from the plan alone.
//!
//! Estimates, roofline fractions and placement all read these numbers. A product of `[m, k]` by `[k, n]` counts
//! `2·m·k·n` operations. Weights count once a run, however many tokens it has; rows of a table count one by one;
//! activations are left out, because they stay in caches.

use std::iter::Sum;
use std::ops::Add;

use crate::op::Op;
use crate::plan::Plan;

/// What a run asks of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes of weights read.
    pub weight_bytes: u64,
    /// Bytes of the KV cache read and written.
    pub cache_bytes: u64,
}

impl Cost {
    /// All bytes.
    pub fn bytes(self) -> u64 {
        self.weight_bytes + self.cache_bytes
    }

    /// What is left without `other`; nothing becomes less than zero.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self {
            flops: self.flops.saturating_sub(other.flops),
            weight_bytes: self.weight_bytes.saturating_sub(other.weight_bytes),
            cache_bytes: self.cache_bytes.saturating_sub(other.cache_bytes),
        }
    }

    /// A run's share of the cost of `runs` alike.
    #[must_use]
    pub fn over(self, runs: u64) -> Self {
        let runs = runs.max(1);
        Self {
            flops: self.flops / runs,
            weight_bytes: self.weight_bytes / runs,
            cache_bytes: self.cache_bytes / runs,
        }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            weight_bytes: self.weight_bytes + other.weight_bytes,
            cache_bytes: self.cache_bytes + other.cache_bytes,
        }
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Self::add)
    }
}

impl Plan {
    /// Cost of a run of `tokens` tokens whose first stands at position `start`.
    pub fn cost(&self, tokens: usize, start: usize) -> Cost {
        self.steps.iter().map(|step| self.op_cost(&step.op, tokens, start)).sum()
    }

    /// Cost of one of the plan's operations.
    pub fn op_cost(&self, op: &Op, tokens: usize, start: usize) -> Cost {
        let rows = self.row_count(self.op_rows(op), tokens);
        if rows == 0 {
            return Cost::default();
        }
        Cost {
            flops: self.op_flops(op, rows, start + tokens),
            weight_bytes: self.op_weight_bytes(op, rows),
            cache_bytes: self.op_cache_bytes(op, rows, start + tokens),
        }
    }

    fn op_flops(&self, op: &Op, rows: usize, end: usize) -> u64 {
        let rows = rows as u64;
        let product = |id| self.weight(id).values() * 2;
        match op {
            Op::Embed { output, .. } => rows * self.buffer(*output).width as u64,
            Op::Attention { heads, cache_layer, .. } => {
                4 * heads.query_width() as u64 * self.visible(*cache_layer, rows, end)
            }
            Op::PerLayerEmbed { input, output, .. } => {
                rows * 2 * (self.buffer(*input).width * self.buffer(*output).width) as u64
            }
            Op::Linear { parts, .. } => rows * parts.iter().map(|part| product(part.weight)).sum::<u64>(),
            Op::FeedForward { gate, up, down, .. } => rows * (product(*gate) + product(*up) + product(*down)),
            Op::SelectOutputs { .. } => 0,
            Op::Rotary { .. } | Op::AttentionResidual { .. } | Op::RmsNorm { .. } | Op::AddNorm { .. } => {
                let mut values = 0;
                op.buffers(&mut |id, _| values += self.buffer(id).width as u64);
                rows * values * 4
            }
            Op::AltUpPredict { streams, .. } | Op::AltUpCorrect { streams, .. } => {
                let mut flops = 0;
                op.weights(&mut |id| flops += product(id));
                let width = self.buffer(*streams).width as u64;
                let mut other = 0;
                op.buffers(&mut |id, _| other = other.max(width / self.buffer(id).width.max(1) as u64));
                rows * (flops + 2 * width * other)
            }
            Op::AltUpInit { .. } | Op::PerLayerInput { .. } | Op::AltUpMerge { .. } | Op::Unembed { .. } => {
                let mut flops = 0;
                op.weights(&mut |id| flops += product(id));
                rows * flops
            }
        }
    }

    fn op_weight_bytes(&self, op: &Op, rows: usize) -> u64 {
        match op {
            Op::Embed { table, .. } => (self.weight(*table).row_bytes() * rows) as u64,
            Op::PerLayerEmbed { projection, table, norm, blocks, width, .. } => {
                let parent = self.weight(*projection).rows().max(1) as u64;
                let kept = (blocks.len() * width) as u64;
                let share = |bytes: u64| bytes * kept / parent;
                share(self.weight(*projection).bytes())
                    + share(self.weight(*table).row_bytes() as u64) * rows as u64
                    + self.weight(*norm).bytes()
            }
            _ => {
                let mut bytes = 0;
                op.weights(&mut |id| bytes += self.weight(id).bytes());
                bytes
            }
        }
    }

    fn op_cache_bytes(&self, op: &Op, rows: usize, end: usize) -> u64 {
        match op {
            Op::Rotary { key_value: Some(_), cache_layer, .. } => {
                self.cache.position_bytes(*cache_layer) * rows as u64
            }
            // A run's queries look at nearly the same keys: each position that any of them sees is read once.
            Op::Attention { cache_layer, .. } => {
                let window = self.cache.layers[*cache_layer].window;
                let seen = window.map_or(end, |window| end.min(window + rows - 1));
                self.cache.position_bytes(*cache_layer) * seen as u64
            }
            _ => 0,
        }
    }

    /// Pairs of a query and a position it sees, for the `rows` queries that end before position `end`.
    fn visible(&self, layer: usize, rows: u64, end: usize) -> u64 {
        let window = self.cache.layers[layer].window.unwrap_or(usize::MAX) as u64;
        let end = end as u64;
        (end - rows.min(end)..end).map(|position| (position + 1).min(window)).sum()
    }
}
