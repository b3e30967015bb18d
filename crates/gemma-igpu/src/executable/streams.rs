//! AltUp, the attention's end, and a layer's per-layer input.

use gemma_hal::Op;

use super::Run;
use super::launch::{self, FEW, Rows};
use crate::kernels::linear::Reading;
use crate::kernels::{linear, per_layer, streams as kernels};

impl Run<'_> {
    pub(super) fn altup_init(&self, op: &Op) {
        let Op::AltUpInit { input, projections, streams } = op else { return };
        let (width, all, count) = (self.width(*input), self.width(*streams), self.rows(op));
        let (x, out) = (self.region(*input), self.region(*streams));
        for (index, id) in projections.iter().enumerate() {
            let begin = (index + 1) * width;
            let stream = out.part(begin, out.len() - begin);
            self.product(
                self.matrix(*id),
                0..width,
                &Rows { region: &x, stride: width },
                &Rows { region: &stream, stride: all },
                count,
            );
        }
        let (cubes, units) = self.whole_rows(count);
        // SAFETY: a cube works on one of the rows that the regions hold; the plan's check has compared widths.
        unsafe {
            kernels::init::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                x.arg(),
                out.arg(),
                width,
                projections.len() + 1,
            );
        }
    }

    /// The prediction, and before it what the layer before adds to the other streams, if its end has been left to this.
    pub(super) fn altup_predict(&self, op: &Op, left: Option<&Op>) {
        let Op::AltUpPredict { streams, active, router, coefficients, input_norm, normed } = op else {
            return;
        };
        let width = self.width(*normed);
        let (cubes, units, row) = self.rows_in_registers(self.rows(op), width);
        // Without anything to add, something else stands in that is not read.
        let (projected, projected_norm) = match left {
            Some(Op::PerLayerInput { scaled, norm, .. }) => (*scaled, *norm),
            _ => (*normed, *input_norm),
        };
        // SAFETY: as in `altup_init`.
        unsafe {
            kernels::predict::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                self.region(*streams).fours(),
                self.region(projected).fours(),
                self.vector(projected_norm).fours(),
                self.vector(router.norm).fours(),
                self.vector(router.weight).fours(),
                self.vector(*coefficients).arg(),
                self.vector(*input_norm).fours(),
                self.region(*normed).fours(),
                self.plan.rms_eps(),
                row,
                self.width(*streams) / width,
                *active,
                left.is_some(),
            );
        }
    }

    pub(super) fn attention_residual(&self, op: &Op) {
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
        let width = self.width(*normed);
        let (cubes, units, row) = self.rows_in_registers(self.rows(op), width);
        // SAFETY: as in `altup_init`.
        unsafe {
            kernels::attention_residual::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                self.region(*streams).fours(),
                self.region(*normed).fours(),
                self.region(*attended).fours(),
                self.region(*laurel).fours(),
                self.vector(*post_norm).fours(),
                self.vector(*laurel_norm).fours(),
                self.vector(*ffn_norm).fours(),
                self.region(*residual).fours(),
                self.region(*ffn_input).fours(),
                self.plan.rms_eps(),
                row,
                self.width(*streams) / width,
                *active,
            );
        }
    }

    pub(super) fn altup_correct(&self, op: &Op) {
        let Op::AltUpCorrect { streams, active, residual, ffn, post_norm, router, coefficients } = op else {
            return;
        };
        let width = self.width(*residual);
        let (cubes, units, row) = self.rows_in_registers(self.rows(op), width);
        // SAFETY: as in `altup_init`.
        unsafe {
            kernels::correct::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                self.region(*streams).fours(),
                self.region(*residual).fours(),
                self.region(*ffn).fours(),
                self.vector(*post_norm).fours(),
                self.vector(router.norm).fours(),
                self.vector(router.weight).fours(),
                self.vector(*coefficients).arg(),
                self.plan.rms_eps(),
                row,
                self.width(*streams) / width,
                *active,
            );
        }
    }

    /// All but the sum with the streams, see [`Run::per_layer_add`].
    pub(super) fn per_layer_input(&self, op: &Op) {
        let Op::PerLayerInput { projection, scaled, gated, .. } = op else { return };
        let (rows, width, narrow) = (self.rows(op), self.width(*scaled), self.width(*gated));
        let (u, g) = (self.region(*scaled), self.region(*gated));
        let wide = Rows { region: &u, stride: width };
        let thin = Rows { region: &g, stride: narrow };
        if rows > FEW || !self.per_layer_gate(op, rows) {
            self.scaled_gate(op, rows);
        }
        self.product(self.matrix(*projection), 0..width, &thin, &wide, rows);
    }

    /// What [`Run::per_layer_input`] has projected, added to the streams.
    pub(super) fn per_layer_add(&self, op: &Op) {
        let Op::PerLayerInput { streams, active, norm, scaled, .. } = op else { return };
        let (rows, width) = (self.rows(op), self.width(*scaled));
        let (cubes, units) = self.whole_rows(rows);
        // SAFETY: as in `altup_init`.
        unsafe {
            per_layer::add::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                self.region(*scaled).arg(),
                self.vector(*norm).arg(),
                self.region(*streams).arg(),
                self.plan.rms_eps(),
                width,
                self.width(*streams) / width,
                *active,
            );
        }
    }

    pub(super) fn altup_merge(&self, op: &Op) {
        let Op::AltUpMerge { streams, projections, norm, projected, output } = op else { return };
        let (rows, width) = (self.rows(op), self.width(*output));
        let (all, products) = (self.width(*streams), self.width(*projected));
        let (s, p) = (self.region(*streams), self.region(*projected));
        for (index, id) in projections.iter().enumerate() {
            let (from, to) = ((index + 1) * width, index * width);
            self.product(
                self.matrix(*id),
                0..width,
                &Rows { region: &s.part(from, s.len() - from), stride: all },
                &Rows { region: &p.part(to, p.len() - to), stride: products },
                rows,
            );
        }
        let (cubes, units) = self.whole_rows(rows);
        // SAFETY: as in `altup_init`.
        unsafe {
            kernels::merge::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                s.arg(),
                p.arg(),
                self.vector(*norm).arg(),
                self.region(*output).arg(),
                self.plan.rms_eps(),
                width,
                projections.len() + 1,
            );
        }
    }

    /// The gate in one launch, for few rows. False, and nothing is done, where the matrix does not allow it.
    fn per_layer_gate(&self, op: &Op, rows: usize) -> bool {
        let Op::PerLayerInput { streams, active, per_layer, block, scale, gate, norm, scaled, gated, .. } =
            op
        else {
            return false;
        };
        let matrix = self.matrix(*gate);
        let Some(part) = matrix.whole().filter(|_| self.is_staged_whole(matrix)) else { return false };
        let (width, narrow) = (self.width(*scaled), self.width(*gated));
        let reading = Reading { outputs: 1, ..self.reading(matrix, narrow) };
        let (cubes, units) = self.planes(narrow, rows);
        // SAFETY: the plan's check has compared the shapes of the weight, the streams and the block.
        unsafe {
            linear::per_layer_gate::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                part.words.quads(),
                part.scales.arg(),
                self.region(*streams).fours(),
                self.vector(scale.unwrap_or(*norm)).fours(),
                self.region(*per_layer).arg(),
                self.region(*gated).arg(),
                narrow,
                width / 4,
                self.width(*streams) / 4,
                active * width / 4,
                self.width(*per_layer),
                block * narrow,
                scale.is_some(),
                reading,
            );
        }
        true
    }

    /// The gate step by step.
    fn scaled_gate(&self, op: &Op, rows: usize) {
        let Op::PerLayerInput { streams, active, per_layer, block, scale, gate, norm, scaled, gated, .. } =
            op
        else {
            return;
        };
        let (width, narrow, all) = (self.width(*scaled), self.width(*gated), self.width(*streams));
        let (s, u, g) = (self.region(*streams), self.region(*scaled), self.region(*gated));
        let (cubes, units) = launch::values(rows * width);
        // SAFETY: the kernel compares each index with the number of values; rows of both regions are as wide as said.
        unsafe {
            per_layer::scale_active::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                s.arg(),
                self.vector(scale.unwrap_or(*norm)).arg(),
                u.arg(),
                rows * width,
                width,
                all,
                active * width,
                scale.is_some(),
            );
        }
        let wide = Rows { region: &u, stride: width };
        let thin = Rows { region: &g, stride: narrow };
        self.product(self.matrix(*gate), 0..narrow, &wide, &thin, rows);
        let (cubes, units) = launch::values(rows * narrow);
        // SAFETY: as above; the plan's check has looked at the block.
        unsafe {
            per_layer::gate::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                g.arg(),
                self.region(*per_layer).arg(),
                rows * narrow,
                narrow,
                self.width(*per_layer),
                block * narrow,
            );
        }
    }
}
