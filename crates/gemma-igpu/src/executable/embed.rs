//! Embeddings, the choice of output rows, and the logits.

use gemma_hal::Op;
use gemma_hal::inputs::Source;

use super::Run;
use super::launch::{self, Rows};
use crate::gpu::Region;
use crate::kernels::{per_layer, rows};
use cubecl::prelude::*;

impl Run<'_> {
    pub(super) fn embed(&self, op: &Op) {
        let Op::Embed { output, .. } = op else { return };
        self.copy(&self.inputs.table(Source::Embeddings(*output), 0, self.tokens), &self.region(*output));
    }

    pub(super) fn per_layer_embed(&self, op: &Op) {
        let Op::PerLayerEmbed { input, projection, norm, blocks, width, projection_scale, output, .. } = op
        else {
            return;
        };
        let (count, kept) = (self.rows(op), blocks.len() * width);
        let table = self.inputs.table(Source::Embeddings(*output), 0, self.tokens);
        let (input, output, matrix) = (self.region(*input), self.region(*output), self.matrix(*projection));
        // Layers that lie side by side in the parent are one product.
        let mut done = 0;
        for run in blocks.chunk_by(|a, b| a + 1 == *b) {
            let (first, wide) = (usize::from(run[0]) * width, run.len() * width);
            let rest = output.part(done, output.len() - done);
            self.product(
                matrix,
                first..first + wide,
                &Rows { region: &input, stride: matrix.columns },
                &Rows { region: &rest, stride: kept },
                count,
            );
            done += wide;
        }
        // SAFETY: a cube works on one block of one row; the regions hold all rows and blocks.
        unsafe {
            per_layer::embed::launch_unchecked(
                &self.gpu.client,
                CubeCount::new_2d(blocks.len() as u32, count as u32),
                CubeDim::new_1d(self.gpu.row_units),
                table.arg(),
                self.vector(*norm).arg(),
                output.arg(),
                blocks.len(),
                *projection_scale,
                self.plan.rms_eps(),
                *width,
            );
        }
    }

    pub(super) fn select_outputs(&self, op: &Op) {
        let Op::SelectOutputs { input, output } = op else { return };
        let (from, to) = (self.region(*input), self.region(*output));
        self.copy(&from.part(from.len() - to.len(), to.len()), &to);
    }

    pub(super) fn unembed(&self, op: &Op) {
        let Op::Unembed { input, table, softcap, output } = op else { return };
        let (matrix, input, output) = (self.matrix(*table), self.region(*input), self.region(*output));
        let vocabulary = self.plan.weight(*table).rows();
        self.product(
            matrix,
            0..vocabulary,
            &Rows { region: &input, stride: matrix.columns },
            &Rows { region: &output, stride: vocabulary },
            self.rows(op),
        );
        let Some(cap) = *softcap else { return };
        let (count, units) = launch::values(output.len());
        // SAFETY: the kernel compares each index with the region's length.
        unsafe {
            rows::soft_cap::launch_unchecked(&self.gpu.client, count, units, output.arg(), cap, output.len());
        }
    }

    fn copy(&self, from: &Region, to: &Region) {
        let (count, units) = launch::values(to.len());
        // SAFETY: the kernel compares each index with the length, which is that of both regions.
        unsafe {
            rows::copy::launch_unchecked(&self.gpu.client, count, units, from.arg(), to.arg(), to.len());
        }
    }
}
