//! Linear layers and the feed-forward network.

use gemma_hal::{BufferId, Op};

use super::Run;
use super::sparse::{Layer, Row};
use crate::simd::{self, Output};

/// Products that may share an input: query, key, value and LAuReL.
pub(super) const MAX_PARTS: usize = 4;

impl Run<'_> {
    pub(super) fn linear(&mut self, op: &Op) {
        let Op::Linear { input, parts } = op else { return };
        let (rows, _) = self.rows(op);
        let width = |id: BufferId| self.plan.buffer(id).width;
        // Buffers that are not there are empty pieces of the input's.
        let mut wanted = [(*input, rows * width(*input)), (*input, 0), (*input, 0), (*input, 0), (*input, 0)];
        for (wanted, part) in wanted[1..].iter_mut().zip(parts) {
            *wanted = (part.output, rows * width(part.output));
        }
        let plan = self.plan;
        let [x, a, b, c, d] = self.memory.get(wanted);
        let weight = |index: usize| plan.weight(parts[index].weight);
        let (kernels, pool) = (self.kernels, self.pool);
        match parts.len() {
            1 => simd::linear_many(kernels, pool, &mut [Output::new(weight(0), a)], x, rows),
            2 => {
                let mut outputs = [Output::new(weight(0), a), Output::new(weight(1), b)];
                simd::linear_many(kernels, pool, &mut outputs, x, rows);
            }
            3 => {
                let mut outputs =
                    [Output::new(weight(0), a), Output::new(weight(1), b), Output::new(weight(2), c)];
                simd::linear_many(kernels, pool, &mut outputs, x, rows);
            }
            _ => {
                let mut outputs = [
                    Output::new(weight(0), a),
                    Output::new(weight(1), b),
                    Output::new(weight(2), c),
                    Output::new(weight(3), d),
                ];
                simd::linear_many(kernels, pool, &mut outputs, x, rows);
            }
        }
    }

    pub(super) fn feed_forward(&mut self, op: &Op) {
        let Op::FeedForward { input, gate, up, down, cutoff, gated, hidden, output } = op else { return };
        let (rows, _) = self.rows(op);
        let (isa, width, inner) = (self.isa, self.plan.buffer(*input).width, self.plan.buffer(*hidden).width);
        let (gate, up, down_id) = (self.plan.weight(*gate), self.plan.weight(*up), *down);
        let down = self.plan.weight(down_id);
        let [x, g, h, out] = self.memory.get([
            (*input, rows * width),
            (*gated, rows * inner),
            (*hidden, rows * inner),
            (*output, rows * width),
        ]);
        let foresee = self.foresee;
        if cutoff.is_some() && self.sparse.is_some() {
            foresee.next();
        } else {
            foresee.product(&[down_id]);
        }
        if let (Some(z), Some(sparse)) = (cutoff, self.sparse.as_mut()) {
            simd::linear_many(self.kernels, self.pool, &mut [Output::new(gate, g)], x, rows);
            let layer = Layer { up, down, down_index: down_id.index() };
            for (row, output) in out.chunks_exact_mut(width).enumerate() {
                let (inputs, units) = (row * width..(row + 1) * width, row * inner..(row + 1) * inner);
                let (gated, hidden) = (&mut g[units.clone()], &mut h[units]);
                simd::gaussian_cut(isa, gated, *z);
                sparse.row(self.kernels, self.pool, &layer, Row { x: &x[inputs], gated, hidden, output });
            }
            return;
        }
        simd::linear_many(self.kernels, self.pool, &mut [Output::new(gate, g), Output::new(up, h)], x, rows);
        if let Some(z) = cutoff {
            self.pool.for_chunks_mut(g, inner, |_, gate| simd::gaussian_cut(isa, gate, *z));
        }
        // A row of the decoder is shared out in pieces, so that one token keeps all threads busy.
        let piece = (inner / self.pool.threads()).next_multiple_of(1024).min(inner.max(1));
        let h = &*h;
        self.pool.for_chunks_mut(g, piece, |index, gate| {
            let start = index * piece;
            simd::gelu_multiply(isa, gate, &h[start..start + gate.len()]);
        });
        foresee.next();
        simd::linear(self.kernels, self.pool, down, g, rows, out);
    }
}
