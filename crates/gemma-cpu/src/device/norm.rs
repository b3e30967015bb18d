//! Norms of a plain residual stream.

use gemma_hal::Op;

use super::Run;
use crate::simd;

impl Run<'_> {
    pub(super) fn rms_norm(&mut self, op: &Op) {
        let Op::RmsNorm { input, norm, output } = op else { return };
        let (rows, _) = self.rows(op);
        let (isa, eps, width) = (self.isa, self.plan.rms_eps(), self.plan.buffer(*input).width);
        let norm = self.vector(*norm);
        let [x, out] = self.memory.get([(*input, rows * width), (*output, rows * width)]);
        let x = &*x;
        self.pool.for_chunks_mut(out, width, |row, out| {
            simd::rms_norm(isa, &x[row * width..(row + 1) * width], Some(norm), eps, out);
        });
    }

    pub(super) fn add_norm(&mut self, op: &Op) {
        let Op::AddNorm { input, post_norm, residual, next_norm, normed } = op else { return };
        let (rows, _) = self.rows(op);
        let (isa, eps, width) = (self.isa, self.plan.rms_eps(), self.plan.buffer(*residual).width);
        let (post_norm, next_norm) = (self.vector(*post_norm), self.vector(*next_norm));
        let [x, stream, out] =
            self.memory.get([(*input, rows * width), (*residual, rows * width), (*normed, rows * width)]);
        let x = &*x;
        self.pool.for_chunks_pair_mut(stream, width, out, width, |row, stream, out| {
            simd::rms_norm(isa, &x[row * width..(row + 1) * width], Some(post_norm), eps, out);
            stream.iter_mut().zip(&*out).for_each(|(stream, branch)| *stream += branch);
            simd::rms_norm(isa, stream, Some(next_norm), eps, out);
        });
    }
}
