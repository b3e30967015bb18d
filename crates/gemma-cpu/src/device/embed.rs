//! Embeddings and the choice of output rows.

use gemma_hal::{Op, block};

use super::Run;
use crate::simd::{self, Output};

impl Run<'_> {
    pub(super) fn embed(&mut self, op: &Op) {
        let Op::Embed { table, scale, output } = op else { return };
        let (rows, _) = self.rows(op);
        let table = self.plan.weight(*table);
        let [out] = self.memory.get([(*output, rows * table.columns())]);
        for (id, row) in self.tokens.iter().zip(out.chunks_exact_mut(table.columns())) {
            block::dequantise_row(table.dtype(), table.row(*id as usize), row);
            row.iter_mut().for_each(|value| *value *= scale);
        }
    }

    pub(super) fn per_layer_embed(&mut self, op: &Op) {
        let Op::PerLayerEmbed {
            input,
            projection,
            table,
            norm,
            blocks,
            width,
            projection_scale,
            table_scale,
            output,
        } = op
        else {
            return;
        };
        let (rows, _) = self.rows(op);
        let (isa, eps, norm) = (self.isa, self.plan.rms_eps(), self.vector(*norm));
        let projection = self.plan.weight(*projection);
        let table = self.plan.weight(*table);
        let kept = blocks.len() * width;
        let [x, out] = self.memory.get([(*input, rows * projection.columns()), (*output, rows * kept)]);
        // Layers that lie side by side in the parent are one product.
        let mut done = 0;
        for run in blocks.chunk_by(|a, b| a + 1 == *b) {
            let part = projection
                .rows_view(usize::from(run[0]) * width, run.len() * width)
                .expect("the plan's check has looked at the blocks");
            let target = Output::with_stride(&part, &mut out[done * width..], kept);
            simd::linear_many(self.kernels, self.pool, &mut [target], x, rows);
            done += run.len();
        }
        let ids = self.tokens;
        self.pool.for_chunks_mut(out, kept, |row, out| {
            let id = ids[row] as usize;
            let token = table.row(if id < table.rows() { id } else { 0 });
            for (layer, context) in blocks.iter().zip(out.chunks_exact_mut(*width)) {
                context.iter_mut().for_each(|value| *value *= projection_scale);
                simd::rms_norm_in_place(isa, context, Some(norm), eps);
                block::visit_values(
                    table.dtype(),
                    token,
                    usize::from(*layer) * width,
                    *width,
                    |i, values| {
                        context[i..]
                            .iter_mut()
                            .zip(values)
                            .for_each(|(out, value)| *out += table_scale * value);
                    },
                );
                context.iter_mut().for_each(|value| *value *= std::f32::consts::FRAC_1_SQRT_2);
            }
        });
    }

    pub(super) fn select_outputs(&mut self, op: &Op) {
        let Op::SelectOutputs { input, output } = op else { return };
        let (rows, _) = self.rows(op);
        let width = self.plan.buffer(*input).width;
        let count = self.tokens.len();
        let [from, to] = self.memory.get([(*input, count * width), (*output, rows * width)]);
        to.copy_from_slice(&from[(count - rows) * width..]);
    }

    pub(super) fn unembed(&mut self, op: &Op) {
        let Op::Unembed { input, table, softcap, output } = op else { return };
        let (rows, _) = self.rows(op);
        let table = self.plan.weight(*table);
        let [x, out] = self.memory.get([(*input, rows * table.columns()), (*output, rows * table.rows())]);
        simd::linear(self.kernels, self.pool, table, x, rows, out);
        let (isa, Some(softcap)) = (self.isa, *softcap) else { return };
        // Pieces begin on whole vectors of their own row, so that a row comes out the same alone and among others.
        let piece = if rows == 1 { 4096 } else { table.rows() };
        self.pool.for_chunks_mut(out, piece, |_, logits| simd::soft_cap(isa, logits, softcap));
    }
}
