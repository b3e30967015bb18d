//! The feed-forward network of layers with a cutoff, for a few tokens: only what the cut has left is multiplied.
//!
//! The gate is computed whole; then a row each of `up` and a column each of `down` for every unit that is not zero.
//! Columns come from a turned copy of `down`, which plans share. Every sum has the bits that the dense products give;
//! with more than [`MOST_ACTIVE`] of the units the dense products run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use gemma_hal::{Budget, Cost, Op, Plan, Reservation, Sparsity, Weight};

use crate::pool::Pool;
use crate::simd::{self, ActiveUnits, Kernels, Output, Turned};

/// Most tokens of a run whose plan gets the copies: with more, the units that any token needs are nearly all.
pub(super) const MAX_ROWS: usize = 4;

/// With more than one active unit in so many, the dense products take less time; see `docs/performance.md`.
const MOST_ACTIVE: usize = 5;

/// Copies are made as long as all that is held stays within one part in so many of the budget: caches need some too.
const BUDGET_PART: u64 = 2;

/// What layers with a cutoff have computed, over all plans of a device. Runs of more than 4 tokens do not count.
#[derive(Debug, Default)]
pub(super) struct Counters {
    active: AtomicU64,
    units: AtomicU64,
    skipped_flops: AtomicU64,
    skipped_bytes: AtomicU64,
}

impl Counters {
    pub(super) fn read(&self) -> Sparsity {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (flops, weight_bytes) = (read(&self.skipped_flops), read(&self.skipped_bytes));
        let skipped = Cost { flops, weight_bytes, cache_bytes: 0 };
        Sparsity { units: read(&self.units), active_units: read(&self.active), skipped }
    }

    fn count(&self, active: usize, units: usize) {
        self.active.fetch_add(active as u64, Ordering::Relaxed);
        self.units.fetch_add(units as u64, Ordering::Relaxed);
    }

    /// `read` bytes and `values` of the values of `weight` were enough.
    fn skip(&self, weight: &Weight, read: u64, values: u64) {
        self.skipped_bytes.fetch_add(weight.bytes().saturating_sub(read), Ordering::Relaxed);
        self.skipped_flops.fetch_add(2 * weight.values().saturating_sub(values), Ordering::Relaxed);
    }
}

/// A turned weight, and the weight, whose bytes stay where they are for as long.
#[derive(Debug)]
pub(super) struct SharedCopy {
    weight: Weight,
    turned: Turned,
    _reservation: Reservation,
}

/// The turned copies that plans of a device use.
#[derive(Debug, Default)]
pub(super) struct Copies(Mutex<Vec<Weak<SharedCopy>>>);

impl Copies {
    /// The copy of a weight, made now if no plan has one; none where the budget has no room.
    fn get(&self, pool: &Pool, budget: &Budget, weight: &Weight) -> Option<Arc<SharedCopy>> {
        // Held while the copy is made, so that no two plans make the same one.
        let mut copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        copies.retain(|copy| copy.strong_count() > 0);
        if let Some(copy) = copies.iter().filter_map(Weak::upgrade).find(|copy| same(&copy.weight, weight)) {
            return Some(copy);
        }
        let size = Turned::size(weight);
        let memory = budget.memory();
        if memory.used.checked_add(size)? > memory.limit / BUDGET_PART {
            return None;
        }
        let reservation = budget.reserve("turned weights", size).ok()?;
        let turned = Turned::new(pool, weight);
        let copy = Arc::new(SharedCopy { weight: weight.clone(), turned, _reservation: reservation });
        copies.push(Arc::downgrade(&copy));
        Some(copy)
    }
}

/// Whether both are the same view of the same bytes.
fn same(a: &Weight, b: &Weight) -> bool {
    a.storage().same_as(b.storage())
        && a.offset() == b.offset()
        && a.dtype() == b.dtype()
        && (a.rows(), a.columns(), a.row_stride()) == (b.rows(), b.columns(), b.row_stride())
}

/// What a plan for a few tokens keeps for its layers with a cutoff.
#[derive(Debug)]
pub(super) struct Sparse {
    /// By weight.
    copies: Vec<Option<Arc<SharedCopy>>>,
    active: ActiveUnits,
    counters: Arc<Counters>,
}

impl Sparse {
    /// None for plans of many tokens, and for those without a layer with a cutoff.
    pub(super) fn of(
        plan: &Plan,
        copies: &Copies,
        pool: &Pool,
        budget: &Budget,
        counters: &Arc<Counters>,
    ) -> Option<Self> {
        if plan.max_tokens() > MAX_ROWS {
            return None;
        }
        let mut sparse = Self {
            copies: vec![None; plan.weights().len()],
            active: ActiveUnits::default(),
            counters: Arc::clone(counters),
        };
        let mut widest = 0;
        for step in plan.steps() {
            if let Op::FeedForward { down, cutoff: Some(_), .. } = step.op {
                widest = widest.max(plan.weight(down).columns());
                if sparse.copies[down.index()].is_none() {
                    sparse.copies[down.index()] = copies.get(pool, budget, plan.weight(down));
                }
            }
        }
        sparse.active = ActiveUnits::with_capacity(widest);
        (widest > 0).then_some(sparse)
    }

    /// Bytes of lists that belong to the plan alone.
    pub(super) fn list_bytes(plan: &Plan) -> u64 {
        let widths = plan.steps().iter().filter_map(|step| match step.op {
            Op::FeedForward { down, cutoff: Some(_), .. } => Some(plan.weight(down).columns()),
            _ => None,
        });
        if plan.max_tokens() > MAX_ROWS { 0 } else { widths.max().map_or(0, ActiveUnits::size) }
    }

    /// One token's way from the cut gate to the output.
    pub(super) fn row(&mut self, kernels: Kernels, pool: &Pool, layer: &Layer<'_>, row: Row<'_>) {
        let Row { x, gated, hidden, output } = row;
        let (isa, units) = (kernels.isa, gated.len());
        let count = self.active.find(isa, gated);
        let dense = count > units / MOST_ACTIVE;
        self.counters.count(count, units);
        if dense {
            simd::linear_many(kernels, pool, &mut [Output::new(layer.up, hidden)], x, 1);
            simd::gelu_multiply(isa, gated, hidden);
            return simd::linear(kernels, pool, layer.down, gated, 1, output);
        }
        let (up, rest) = hidden.split_at_mut(count);
        let gate = &mut rest[..count];
        simd::linear_rows(kernels, pool, layer.up, self.active.units(), x, up);
        let row_bytes = layer.up.row_bytes() as u64;
        self.counters.skip(layer.up, count as u64 * row_bytes, (count * layer.up.columns()) as u64);
        for (gate, unit) in gate.iter_mut().zip(self.active.units()) {
            *gate = gated[*unit as usize];
        }
        simd::gelu_multiply(isa, gate, up);
        // Whoever looks at the gate afterwards finds the input of down in it.
        for (gate, unit) in gate.iter().zip(self.active.units()) {
            gated[*unit as usize] = *gate;
        }
        let copy = self.copies[layer.down_index].as_ref();
        if let Some(copy) = copy {
            let values = (count * layer.down.rows()) as u64;
            self.counters.skip(layer.down, copy.turned.most_bytes(count), values);
        }
        match copy {
            Some(copy) if kernels.rounds_for(layer.down.dtype()) => {
                simd::linear_columns_rounded(isa, pool, &copy.turned, gated, output);
            }
            Some(copy) => simd::linear_columns(isa, pool, &copy.turned, &self.active, gate, output),
            None => simd::linear(kernels, pool, layer.down, gated, 1, output),
        }
    }
}

/// The weights that follow the gate.
pub(super) struct Layer<'a> {
    pub(super) up: &'a Weight,
    pub(super) down: &'a Weight,
    /// The plan's number of `down`.
    pub(super) down_index: usize,
}

/// One token's activations.
pub(super) struct Row<'a> {
    pub(super) x: &'a [f32],
    /// The gate after the cut; changed.
    pub(super) gated: &'a mut [f32],
    /// Room for as many values.
    pub(super) hidden: &'a mut [f32],
    pub(super) output: &'a mut [f32],
}
