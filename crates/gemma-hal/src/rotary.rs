//! [`RotaryTables`]: the angles of rotary embedding, which every device takes from here.

use crate::op::Op;
use crate::plan::Plan;

/// What angles depend on besides the position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RotaryBase {
    /// Base of the angles.
    pub theta: f32,
    /// What the angles are divided by.
    pub stretch: f32,
    /// Values a head.
    pub dim: usize,
}

/// Cosines and sines of a run's positions, for each base that the plan uses.
#[derive(Clone, Debug)]
pub struct RotaryTables {
    tables: Vec<Table>,
}

#[derive(Clone, Debug)]
struct Table {
    base: RotaryBase,
    frequencies: Vec<f32>,
    /// `[max_tokens, dim]`: for each token `dim / 2` cosines, then as many sines.
    values: Vec<f32>,
}

/// Values in all tables of `plan`, known before any is made.
pub fn table_values(plan: &Plan) -> usize {
    bases(plan).into_iter().map(|base| plan.max_tokens() * base.dim + base.dim / 2).sum()
}

/// Each base that the plan uses, once.
fn bases(plan: &Plan) -> Vec<RotaryBase> {
    let mut bases = Vec::new();
    for step in plan.steps() {
        if let Op::Rotary { heads, theta, stretch, .. } = &step.op {
            let base = RotaryBase { theta: *theta, stretch: *stretch, dim: heads.dim };
            if !bases.contains(&base) {
                bases.push(base);
            }
        }
    }
    bases
}

impl RotaryTables {
    /// Tables with room for the plan's longest run.
    pub fn of(plan: &Plan) -> Self {
        let table = |base: RotaryBase| Table {
            base,
            frequencies: (0..base.dim / 2)
                .map(|i| rotary_frequency(base.theta, i, base.dim) / base.stretch)
                .collect(),
            values: vec![0.0; plan.max_tokens() * base.dim],
        };
        Self { tables: bases(plan).into_iter().map(table).collect() }
    }

    /// Computes the angles of `count` positions from `start` on, as products in f32 like transformers.
    pub fn fill(&mut self, start: usize, count: usize) {
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
    ///
    /// # Panics
    /// For a base that the plan does not use, and beyond its longest run.
    pub fn row(&self, base: RotaryBase, index: usize) -> (&[f32], &[f32]) {
        self.rows(base, index, 1).split_at(base.dim / 2)
    }

    /// `[count, dim]` from token `first` on: for each token `dim / 2` cosines, then as many sines.
    ///
    /// # Panics
    /// As [`RotaryTables::row`].
    pub fn rows(&self, base: RotaryBase, first: usize, count: usize) -> &[f32] {
        let table = self.tables.iter().find(|table| table.base == base);
        let table = table.expect("every base of the plan has a table");
        &table.values[first * base.dim..(first + count) * base.dim]
    }
}

/// `theta^(−2i/dim)`: radians a position for pair `i` of a head, in f32 as transformers computes it.
pub fn rotary_frequency(theta: f32, i: usize, dim: usize) -> f32 {
    1.0 / theta.powf((2 * i) as f32 / dim as f32)
}
