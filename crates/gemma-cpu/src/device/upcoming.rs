//! Which product comes next: told to the pool, whose threads ask memory for its weights while they wait.

use gemma_hal::{Op, Plan, WeightId};

use crate::pool::Pool;
use crate::simd;

/// Most tokens of a run in which it pays: with more, products wait for arithmetic, not for memory.
const MAX_ROWS: usize = 4;

/// By step, the weights of the first product behind it.
#[derive(Debug)]
pub(super) struct Upcoming(Vec<Vec<WeightId>>);

impl Upcoming {
    pub(super) fn of(plan: &Plan, sparse: bool) -> Self {
        let mut steps = vec![Vec::new(); plan.steps().len()];
        let mut next = Vec::new();
        for (step, upcoming) in plan.steps().iter().zip(&mut steps).rev() {
            upcoming.clone_from(&next);
            let first = first_product(&step.op, sparse);
            if !first.is_empty() {
                next = first;
            }
        }
        Self(steps)
    }

    pub(super) fn after(&self, step: usize) -> &[WeightId] {
        &self.0[step]
    }
}

/// The weights that an operation multiplies first; none for operations without a matrix.
fn first_product(op: &Op, sparse: bool) -> Vec<WeightId> {
    match op {
        Op::Linear { parts, .. } => parts.iter().map(|part| part.weight).collect(),
        Op::FeedForward { gate, cutoff: Some(_), .. } if sparse => vec![*gate],
        Op::FeedForward { gate, up, .. } => vec![*gate, *up],
        Op::PerLayerInput { gate, .. } => vec![*gate],
        Op::Unembed { table, .. } => vec![*table],
        Op::PerLayerEmbed { projection, .. } => vec![*projection],
        Op::AltUpInit { projections, .. } | Op::AltUpMerge { projections, .. } => {
            projections.first().copied().into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// What an operation says of products to come.
#[derive(Clone, Copy)]
pub(super) struct Foresee<'a> {
    pub(super) plan: &'a Plan,
    pub(super) pool: &'a Pool,
    pub(super) tokens: usize,
    /// What is multiplied first behind the operation.
    pub(super) upcoming: &'a [WeightId],
}

impl Foresee<'_> {
    /// These weights are multiplied next.
    pub(super) fn product(self, weights: &[WeightId]) {
        if self.tokens <= MAX_ROWS {
            simd::foresee(self.pool, weights.iter().map(|id| self.plan.weight(*id)));
        }
    }

    /// No further product of this operation is to come.
    pub(super) fn next(self) {
        self.product(self.upcoming);
    }
}

#[cfg(test)]
mod tests {
    use gemma_hal::{CacheLayout, DType, Outputs, PlanBuilder, Rows, Storage, Weight};

    use super::*;

    #[test]
    fn every_step_knows_the_first_product_behind_it() {
        let layout = CacheLayout { layers: Vec::new(), dtype: DType::F16 };
        let mut plan = PlanBuilder::new("network", 1, Outputs::All, 1e-6, layout);
        let storage = Storage::new("zeros", vec![0_u8; 64]);
        let mut weight = |name| plan.weight(name, Weight::new(storage.clone(), 0, 4, 4, DType::F32).unwrap());
        let [table, gate, up, down] = ["table", "gate", "up", "down"].map(&mut weight);
        let [input, gated, hidden, output] =
            ["input", "gated", "hidden", "output"].map(|name| plan.buffer(name, Rows::Tokens, 4));
        plan.push(None, Op::Embed { table, scale: 1.0, output: input });
        let cutoff = Some(1.0);
        plan.push(None, Op::FeedForward { input, gate, up, down, cutoff, gated, hidden, output });
        let plan = plan.finish(Some(output)).unwrap();
        assert_eq!(Upcoming::of(&plan, true).after(0), [gate]);
        assert_eq!(Upcoming::of(&plan, false).after(0), [gate, up]);
        assert!(Upcoming::of(&plan, true).after(1).is_empty());
    }
}
