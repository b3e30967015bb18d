//! The feed-forward network of one token in layers with a cutoff.
//!
//! The gate is computed whole, then a row of `up` and a column of `down` for every unit that the cut has left. Columns come from
//! a turned copy; where there is none, `down` is multiplied densely with what is zero but for those units.

use std::sync::Arc;

use cubecl::prelude::*;
use gemma_hal::{Budget, Op, Plan};

use super::Run;
use crate::gpu::{Gpu, Region};
use crate::kernels::linear::Reading;
use crate::kernels::sparse::{self as kernels, Columns};
use crate::turned::Turned;
use crate::weight::Matrices;

/// Words before the list, of which the first is its length.
const LENGTH_WORDS: usize = 4;

/// Whether runs of `plan` are of one token.
fn decodes(plan: &Plan) -> bool {
    plan.max_tokens() == 1
}

/// The hidden units and the outputs of a step of `plan` that is sparse.
fn shape(plan: &Plan, op: &Op) -> Option<(usize, usize)> {
    match op {
        Op::FeedForward { gated, output, cutoff: Some(_), .. } if decodes(plan) => {
            Some((plan.buffer(*gated).width, plan.buffer(*output).width))
        }
        _ => None,
    }
}

/// Values that lie between the kernels of a step: the list and the parts of the outputs.
pub(super) fn scratch_values(gpu: &Gpu, plan: &Plan, op: &Op) -> usize {
    let parts = gpu.tuning.sparse_parts;
    let of = |(units, outputs): (usize, usize)| {
        LENGTH_WORDS + units + parts * outputs.next_multiple_of(kernels::TILE)
    };
    shape(plan, op).map_or(0, of)
}

/// Counters that steps need: one a tile of outputs.
pub(super) fn counters(plan: &Plan) -> usize {
    let outputs = plan.steps().iter().filter_map(|step| Some(shape(plan, &step.op)?.1));
    outputs.max().unwrap_or(0).div_ceil(kernels::TILE)
}

/// The turned copies of `plan`, by weight.
pub(super) fn copies(
    gpu: &Gpu,
    budget: &Budget,
    matrices: &Matrices,
    plan: &Plan,
) -> Vec<Option<Arc<Turned>>> {
    let mut copies = vec![None; plan.weights().len()];
    for step in plan.steps() {
        if let (Op::FeedForward { down, .. }, Some(_)) = (&step.op, shape(plan, &step.op)) {
            copies[down.index()] = matrices.copies.get(gpu, budget, plan.weight(*down));
        }
    }
    copies
}

impl Run<'_> {
    /// False, and nothing is done, for steps that are not sparse and where the matrices do not allow it.
    pub(super) fn sparse_feed_forward(&self, op: &Op) -> bool {
        let Op::FeedForward { input, gate, up, down, cutoff: Some(cutoff), gated, hidden, output } = op
        else {
            return false;
        };
        let Some((units, _)) = shape(self.plan, op) else { return false };
        let up = self.matrix(*up);
        let Some(rows) = up.whole().filter(|_| self.is_staged_whole(up)) else { return false };
        self.whole_products(*input, &[(*gate, *gated)], 1);
        let (gates, values) = (self.region(*gated), self.region(*hidden));
        let (count, list) = (self.scratch.part(0, 1), self.scratch.part(LENGTH_WORDS, units));
        let (cubes, of_cube, row) = self.rows_in_registers(1, units);
        // SAFETY: the plan's check has compared the widths of both buffers, and the list has room for all units.
        unsafe {
            kernels::cut::launch_unchecked(
                &self.gpu.client,
                cubes,
                of_cube,
                gates.fours(),
                values.arg(),
                list.arg(),
                count.arg(),
                *cutoff,
                row,
            );
        }
        let reading = Reading { outputs: 1, ..self.reading(up, 0) };
        // Where there are more active units than subgroups, some take a second.
        let (cubes, of_cube) = self.planes(units.div_ceil(self.gpu.tuning.units_a_plane), 1);
        // SAFETY: the plan's check has compared the shapes of weight, input and buffers; the list has numbers of units alone.
        unsafe {
            kernels::up::launch_unchecked(
                &self.gpu.client,
                cubes,
                of_cube,
                self.region(*input).fours(),
                rows.words.quads(),
                rows.scales.arg(),
                list.arg(),
                count.arg(),
                values.arg(),
                gates.arg(),
                units,
                up.columns / 4,
                reading,
            );
        }
        match &self.turned[down.index()] {
            Some(turned) => self.columns(turned, &list, &count, &values, &self.region(*output)),
            None => self.whole_products(*gated, &[(*down, *output)], 1),
        }
        true
    }

    /// The columns of `down` that a list of `count` numbers names, each times its value.
    fn columns(&self, turned: &Turned, list: &Region, count: &Region, values: &Region, output: &Region) {
        let parts = if self.gpu.cubes_meet { self.gpu.tuning.sparse_parts } else { 1 };
        let columns = Columns { format: turned.format, outputs: output.len(), parts };
        let tiles = output.len().div_ceil(kernels::TILE);
        let partial = self.scratch.part(LENGTH_WORDS + list.len(), parts * tiles * kernels::TILE);
        // SAFETY: the copy has as many outputs as the plan's check has found, and all columns that the list may name; there is
        // room for each part of each tile, and a counter for each tile.
        unsafe {
            kernels::down::launch_unchecked(
                &self.gpu.client,
                CubeCount::new_3d(tiles as u32, 1, parts as u32),
                CubeDim::new_1d(kernels::UNITS as u32),
                turned.words.arg(),
                turned.scales.quads(),
                list.arg(),
                count.arg(),
                values.arg(),
                partial.arg(),
                self.counters.arg(),
                output.arg(),
                columns,
            );
        }
    }
}
