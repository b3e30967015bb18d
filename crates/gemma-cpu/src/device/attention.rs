//! Attention over the cache, and what follows it.

use gemma_hal::op::Heads;
use gemma_hal::{Op, Plan};

use super::Run;
use crate::simd;

/// The different heads of `plan`'s attention.
pub(super) fn heads(plan: &Plan) -> Vec<Heads> {
    let mut all = Vec::new();
    for step in plan.steps() {
        if let Op::Attention { heads, .. } = &step.op
            && !all.contains(heads)
        {
            all.push(*heads);
        }
    }
    all
}

/// Scratch values that attention with these heads needs in runs of at most `rows` rows.
pub(super) fn scratch_len(heads: &[Heads], rows: usize) -> usize {
    heads.iter().map(|heads| simd::attention_scratch(*heads, rows)).max().unwrap_or(0)
}

impl Run<'_> {
    pub(super) fn attention(&mut self, op: &Op) {
        let Op::Attention { heads, cache_layer, query, output } = op else { return };
        let (rows, position) = self.rows(op);
        let width = heads.query_width();
        let [q, out] = self.memory.get([(*query, rows * width), (*output, rows * width)]);
        let layer = self.cache.layer(*cache_layer);
        simd::attention(self.isa, self.pool, *heads, layer, q, position, out, self.scratch);
    }

    pub(super) fn attention_residual(&mut self, op: &Op) {
        let Op::AttentionResidual {
            streams,
            active,
            normed,
            attended,
            laurel,
            post_norm,
            laurel_norm,
            ffn_norm,
            residual,
            ffn_input,
        } = op
        else {
            return;
        };
        let (rows, _) = self.rows(op);
        let (isa, eps, width) = (self.isa, self.plan.rms_eps(), self.plan.buffer(*normed).width);
        let all = self.plan.buffer(*streams).width;
        let (post_norm, laurel_norm, ffn_norm) =
            (self.vector(*post_norm), self.vector(*laurel_norm), self.vector(*ffn_norm));
        let [streams, normed, attended, laurel, residual, ffn_input] = self.memory.get([
            (*streams, rows * all),
            (*normed, rows * width),
            (*attended, rows * width),
            (*laurel, rows * width),
            (*residual, rows * width),
            (*ffn_input, rows * width),
        ]);
        let (streams, normed, attended, laurel) = (&*streams, &*normed, &*attended, &*laurel);
        self.pool.for_chunks_pair_mut(residual, width, ffn_input, width, |row, y, n| {
            let at = row * width..(row + 1) * width;
            simd::rms_norm(isa, &attended[at.clone()], Some(post_norm), eps, y);
            simd::rms_norm(isa, &laurel[at.clone()], Some(laurel_norm), eps, n);
            let x = &streams[row * all + active * width..][..width];
            for (((y, lau), h), x) in y.iter_mut().zip(&*n).zip(&normed[at]).zip(x) {
                *y = (x + *y + h + lau) * std::f32::consts::FRAC_1_SQRT_2;
            }
            simd::rms_norm(isa, y, Some(ffn_norm), eps, n);
        });
    }
}
