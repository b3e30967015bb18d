//! Products of few rows together with the work on whole rows that follows them.

use gemma_hal::Op;

use super::Run;
use super::launch::FEW;
use crate::kernels::row::Row;
use crate::kernels::{linear, tails as kernels};

/// A row of `width` values in the registers of a cube that has computed products.
fn row(width: usize) -> Row {
    let fours = width / 4;
    Row { fours, slices: fours.div_ceil(linear::UNITS as usize) }
}

impl Run<'_> {
    /// The attention's output projection, LAuReL's, and their sum with the residual. False, and nothing is done, where the
    /// operations are not these, or the adapter or a matrix does not allow it. So for all below.
    pub(super) fn pair_and_residual(&self, first: &Op, second: &Op, third: &Op) -> bool {
        let Op::AttentionResidual { streams, active, normed, attended, laurel, .. } = third else {
            return false;
        };
        let Op::AttentionResidual { post_norm, laurel_norm, ffn_norm, residual, ffn_input, .. } = third
        else {
            return false;
        };
        let pair = self.as_pair(first, second).filter(|pair| pair.outputs == (*attended, *laurel));
        let Some(pair) = pair.filter(|pair| self.gpu.cubes_meet && pair.rows == self.rows(third)) else {
            return false;
        };
        let width = self.width(*normed);
        let (one, two) = pair.parts;
        let (cubes, units) = self.planes(one.rows.len() + two.rows.len(), pair.rows);
        // SAFETY: as in `pair` and `attention_residual`; there is a counter for each row.
        unsafe {
            kernels::pair_and_residual::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                self.region(pair.inputs.0).fours(),
                one.words.quads(),
                one.scales.arg(),
                self.region(pair.outputs.0).arg(),
                one.rows.len(),
                pair.matrices.0.columns / 4,
                self.region(pair.inputs.1).fours(),
                two.words.quads(),
                two.scales.arg(),
                self.region(pair.outputs.1).arg(),
                two.rows.len(),
                pair.matrices.1.columns / 4,
                self.counters.arg(),
                self.region(*streams).fours(),
                self.region(*normed).fours(),
                self.vector(*post_norm).fours(),
                self.vector(*laurel_norm).fours(),
                self.vector(*ffn_norm).fours(),
                self.region(*residual).fours(),
                self.region(*ffn_input).fours(),
                self.plan.rms_eps(),
                row(width),
                self.width(*streams) / width,
                *active,
                self.one_output(pair.matrices.0),
                self.one_output(pair.matrices.1),
            );
        }
        true
    }

    /// The feed-forward network, and the correction of all streams by it.
    pub(super) fn feed_forward_and_correct(&self, first: &Op, second: &Op) -> bool {
        let (Op::FeedForward { down, gated, output, .. }, Op::AltUpCorrect { ffn, .. }) = (first, second)
        else {
            return false;
        };
        let Op::AltUpCorrect { streams, active, residual, post_norm, router, coefficients, .. } = second
        else {
            return false;
        };
        let (rows, matrix) = (self.rows(first), self.matrix(*down));
        let joins = self.gpu.cubes_meet && rows <= FEW && rows == self.rows(second) && output == ffn;
        let Some(part) = matrix.whole().filter(|_| joins) else { return false };
        self.feed_forward_gate(first);
        let width = self.width(*residual);
        let reading = self.reading(matrix, part.rows.len());
        let (cubes, units) = self.planes(part.rows.len().div_ceil(reading.outputs), rows);
        // SAFETY: as in `lines` and `altup_correct`; there is a counter for each row.
        unsafe {
            kernels::product_and_correct::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                part.words.quads(),
                part.scales.arg(),
                self.region(*gated).fours(),
                self.region(*output).arg(),
                part.rows.len(),
                matrix.columns / 4,
                self.counters.arg(),
                self.region(*streams).fours(),
                self.region(*residual).fours(),
                self.vector(*post_norm).fours(),
                self.vector(router.norm).fours(),
                self.vector(router.weight).fours(),
                self.vector(*coefficients).arg(),
                self.plan.rms_eps(),
                row(width),
                self.width(*streams) / width,
                *active,
                reading,
            );
        }
        true
    }

    /// A layer's per-layer input, and the prediction that begins the next layer.
    pub(super) fn per_layer_input_and_predict(&self, first: &Op, second: &Op) -> bool {
        let Op::PerLayerInput { projection, gated, scaled, norm, .. } = first else { return false };
        let Op::AltUpPredict { streams, active, router, coefficients, input_norm, normed } = second else {
            return false;
        };
        let (rows, matrix) = (self.rows(first), self.matrix(*projection));
        let joins = self.gpu.cubes_meet && rows <= FEW && self.goes_with(first, second);
        let Some(part) = matrix.whole().filter(|_| joins) else { return false };
        self.gate(first, rows);
        let width = self.width(*normed);
        let reading = self.reading(matrix, part.rows.len());
        let (cubes, units) = self.planes(part.rows.len().div_ceil(reading.outputs), rows);
        // SAFETY: as in `lines` and `altup_predict`; there is a counter for each row.
        unsafe {
            kernels::product_and_predict::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                part.words.quads(),
                part.scales.arg(),
                self.region(*gated).fours(),
                self.region(*scaled).arg(),
                part.rows.len(),
                matrix.columns / 4,
                self.counters.arg(),
                self.region(*streams).fours(),
                self.vector(*norm).fours(),
                self.vector(router.norm).fours(),
                self.vector(router.weight).fours(),
                self.vector(*coefficients).arg(),
                self.vector(*input_norm).fours(),
                self.region(*normed).fours(),
                self.plan.rms_eps(),
                row(width),
                self.width(*streams) / width,
                *active,
                reading,
            );
        }
        true
    }
}
