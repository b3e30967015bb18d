//! Linear layers and the feed-forward network.

use gemma_hal::{BufferId, Op, WeightId};

use super::Run;
use super::launch::{self, Rows};
use crate::kernels::feed_forward as kernels;

impl Run<'_> {
    pub(super) fn linear(&self, op: &Op) {
        let Op::Linear { input, parts } = op else { return };
        for part in parts {
            self.whole_product(part.weight, *input, part.output, self.rows(op));
        }
    }

    pub(super) fn feed_forward(&self, op: &Op) {
        let Op::FeedForward { input, gate, up, down, cutoff, gated, hidden, output } = op else { return };
        let (rows, width) = (self.rows(op), self.width(*gated));
        self.whole_product(*gate, *input, *gated, rows);
        self.whole_product(*up, *input, *hidden, rows);
        let (g, h) = (self.region(*gated), self.region(*hidden));
        if let Some(cutoff) = cutoff {
            let (cubes, units) = launch::rows(rows);
            // SAFETY: a cube works on one of the rows that both regions hold.
            unsafe {
                kernels::sparse_gate::launch_unchecked(
                    &self.gpu.client,
                    cubes,
                    units,
                    g.arg(),
                    h.arg(),
                    *cutoff,
                    width,
                );
            }
        } else {
            let (cubes, units) = launch::values(g.len());
            // SAFETY: the kernel compares each index with the length of both regions.
            unsafe {
                kernels::gate::launch_unchecked(&self.gpu.client, cubes, units, g.arg(), h.arg(), g.len());
            }
        }
        self.whole_product(*down, *gated, *output, rows);
    }

    /// All rows of a weight with all of a buffer.
    fn whole_product(&self, weight: WeightId, input: BufferId, output: BufferId, rows: usize) {
        let (x, out) = (self.region(input), self.region(output));
        self.product(
            self.matrix(weight),
            0..self.width(output),
            &Rows { region: &x, stride: self.width(input) },
            &Rows { region: &out, stride: self.width(output) },
            rows,
        );
    }
}
