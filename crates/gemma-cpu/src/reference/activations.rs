//! The reference backend's activations: a vector each, so that borrowing is checked by the compiler.

use gemma_hal::{BufferId, Plan};

/// All activations of a plan, with the rows of the run at hand.
#[derive(Debug)]
pub(super) struct Activations {
    values: Vec<Vec<f32>>,
    widths: Vec<usize>,
}

impl Activations {
    pub(super) fn of(plan: &Plan) -> Self {
        let widths: Vec<usize> = plan.buffers().iter().map(|buffer| buffer.width).collect();
        Self { values: vec![Vec::new(); widths.len()], widths }
    }

    /// Makes room for a run of `tokens` tokens. Old values become NaN, so that reading one shows.
    pub(super) fn resize(&mut self, plan: &Plan, tokens: usize) {
        for (values, buffer) in self.values.iter_mut().zip(plan.buffers()) {
            values.clear();
            values.resize(plan.row_count(buffer.rows, tokens) * buffer.width, f32::NAN);
        }
    }

    pub(super) fn get(&self, id: BufferId) -> &[f32] {
        &self.values[id.index()]
    }

    pub(super) fn row(&self, id: BufferId, row: usize) -> &[f32] {
        let width = self.widths[id.index()];
        &self.values[id.index()][row * width..(row + 1) * width]
    }

    pub(super) fn row_mut(&mut self, id: BufferId, row: usize) -> &mut [f32] {
        let width = self.widths[id.index()];
        &mut self.values[id.index()][row * width..(row + 1) * width]
    }
}
