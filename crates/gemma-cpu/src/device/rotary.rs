//! Rotary embedding: tables of angles for the run at hand, and the norm, rotation and caching of heads.

use gemma_hal::op::{self, Heads};
use gemma_hal::{Op, Plan};

use super::Run;
use crate::simd;

/// What angles depend on besides the position.
#[derive(Clone, Copy, PartialEq)]
struct Base {
    theta: f32,
    stretch: f32,
    dim: usize,
}

/// Cosines and sines of a run's positions, for each base that the plan uses.
pub(super) struct RotaryTables {
    tables: Vec<Table>,
}

struct Table {
    base: Base,
    frequencies: Vec<f32>,
    /// `[max_tokens, dim]`: for each token `dim / 2` cosines, then as many sines.
    values: Vec<f32>,
}

/// Values in all tables of `plan`, known before any is made.
pub(super) fn table_values(plan: &Plan) -> usize {
    bases(plan).into_iter().map(|base| plan.max_tokens() * base.dim + base.dim / 2).sum()
}

/// Each base that the plan uses, once.
fn bases(plan: &Plan) -> Vec<Base> {
    let mut bases = Vec::new();
    for step in plan.steps() {
        if let Op::Rotary { heads, theta, stretch, .. } = &step.op {
            let base = Base { theta: *theta, stretch: *stretch, dim: heads.dim };
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
    }
    bases
}

impl RotaryTables {
    pub(super) fn of(plan: &Plan) -> Self {
        let table = |base: Base| Table {
            base,
            frequencies: (0..base.dim / 2)
                .map(|i| op::rotary_frequency(base.theta, i, base.dim) / base.stretch)
                .collect(),
            values: vec![0.0; plan.max_tokens() * base.dim],
        };
        Self { tables: bases(plan).into_iter().map(table).collect() }
    }

    /// Computes the angles of `count` positions from `start` on, as products in f32 like transformers.
    pub(super) fn fill(&mut self, start: usize, count: usize) {
        for table in &mut self.tables {
            for (row, values) in table.values.chunks_exact_mut(table.base.dim).take(count).enumerate() {
                let (cosines, sines) = values.split_at_mut(table.base.dim / 2);
                for ((cos, sin), frequency) in cosines.iter_mut().zip(sines).zip(&table.frequencies) {
                    (*sin, *cos) = ((start + row) as f32 * frequency).sin_cos();
                }
            }
        }
    }

    /// Cosines and sines of the run's token `index`.
    fn row(&self, base: Base, index: usize) -> (&[f32], &[f32]) {
        let table = self.tables.iter().find(|table| table.base == base);
        let table = table.expect("every base of the plan has a table");
        table.values[index * base.dim..(index + 1) * base.dim].split_at(base.dim / 2)
    }
}

impl Run<'_> {
    pub(super) fn rotary(&mut self, op: &Op) {
        let Op::Rotary { heads, theta, stretch, cache_layer, query, key_value } = op else { return };
        let base = Base { theta: *theta, stretch: *stretch, dim: heads.dim };
        let (rows, position) = self.rows(op);
        let (isa, eps, tables) = (self.isa, self.plan.rms_eps(), self.rotary);
        let first = position - self.start;
        if let Some(q) = query {
            let norm = self.vector(q.norm);
            let width = heads.query_width();
            let [queries] = self.memory.get([(q.query, rows * width)]);
            self.pool.for_chunks_mut(queries, width, |row, queries| {
                turn(isa, queries, *heads, Some(norm), eps, Some(tables.row(base, first + row)));
                if q.scale != 1.0 {
                    queries.iter_mut().for_each(|value| *value *= q.scale);
                }
            });
        }
        if let Some(kv) = key_value {
            let norm = self.vector(kv.norm);
            let width = heads.key_value_width();
            let [keys, values] = self.memory.get([(kv.key, rows * width), (kv.value, rows * width)]);
            self.pool.for_chunks_mut(keys, width, |row, keys| {
                turn(isa, keys, *heads, Some(norm), eps, Some(tables.row(base, first + row)));
            });
            if kv.value_norm {
                self.pool
                    .for_chunks_mut(values, width, |_, values| turn(isa, values, *heads, None, eps, None));
            }
            let layer = self.cache.layer_mut(*cache_layer);
            for (row, (key, value)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
                layer.write(position + row, key, value);
            }
        }
    }
}

/// Norms every head of a row and rotates it.
fn turn(
    isa: simd::Isa,
    row: &mut [f32],
    heads: Heads,
    norm: Option<&[f32]>,
    eps: f32,
    angles: Option<(&[f32], &[f32])>,
) {
    for head in row.chunks_exact_mut(heads.dim) {
        simd::rms_norm_in_place(isa, head, norm, eps);
        if let Some((cosines, sines)) = angles {
            let (low, high) = head.split_at_mut(heads.dim / 2);
            for (((x, y), cos), sin) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
            }
        }
    }
}
