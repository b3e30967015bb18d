//! Norms of whole rows.

use gemma_hal::Op;

use super::Run;
use crate::kernels::norm;

impl Run<'_> {
    pub(super) fn rms_norm(&self, op: &Op) {
        let Op::RmsNorm { input, norm: weight, output } = op else { return };
        let (count, units) = self.whole_rows(self.rows(op));
        // SAFETY: a cube works on one of the rows that the regions hold; the plan's check has compared widths.
        unsafe {
            norm::rms_norm::launch_unchecked(
                &self.gpu.client,
                count,
                units,
                self.region(*input).arg(),
                self.vector(*weight).arg(),
                self.region(*output).arg(),
                self.plan.rms_eps(),
                self.width(*output),
            );
        }
    }

    pub(super) fn add_norm(&self, op: &Op) {
        let Op::AddNorm { input, post_norm, residual, next_norm, normed } = op else { return };
        let (count, units) = self.whole_rows(self.rows(op));
        // SAFETY: as in `rms_norm`.
        unsafe {
            norm::add_norm::launch_unchecked(
                &self.gpu.client,
                count,
                units,
                self.region(*input).arg(),
                self.vector(*post_norm).arg(),
                self.region(*residual).arg(),
                self.vector(*next_norm).arg(),
                self.region(*normed).arg(),
                self.plan.rms_eps(),
                self.width(*normed),
            );
        }
    }
}
