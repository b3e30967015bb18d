//! Linear layers and the feed-forward network.

use gemma_hal::op::LinearPart;
use gemma_hal::{BufferId, Op, WeightId};

use super::Run;
use super::launch::{self, FEW, Rows};
use crate::kernels::linear::Reading;
use crate::kernels::{feed_forward as kernels, linear};
use crate::weight::Part;

/// Products of one input that one launch computes.
const TOGETHER: usize = 4;

impl Run<'_> {
    pub(super) fn linear(&self, op: &Op) {
        let Op::Linear { input, parts } = op else { return };
        let rows = self.rows(op);
        if rows <= FEW && (2..=TOGETHER).contains(&parts.len()) && self.products(*input, parts, rows) {
            return;
        }
        let products: Vec<_> = parts.iter().map(|part| (part.weight, part.output)).collect();
        self.whole_products(*input, &products, rows);
    }

    /// The products of one input in one launch. False, and nothing is done, where the matrices do not allow it.
    fn products(&self, input: BufferId, parts: &[LinearPart], count: usize) -> bool {
        let first = self.matrix(parts[0].weight);
        let format = first.format;
        let reading = Reading { outputs: 1, ..self.reading(first, 0) };
        let stored: Option<Vec<&Part>> = parts
            .iter()
            .map(|part| self.matrix(part.weight))
            .map(|matrix| matrix.whole().filter(|_| matrix.format == format && self.is_staged_whole(matrix)))
            .collect();
        let Some(stored) = stored else { return false };
        // A part that is not there repeats the first one and has no rows.
        let part = |index: usize| {
            let here = if index < parts.len() { index } else { 0 };
            let rows = if index < parts.len() { stored[here].rows.len() } else { 0 };
            let output = self.region(parts[here].output);
            (stored[here].words.quads(), stored[here].scales.arg(), output.arg(), rows)
        };
        let [first, second, third, fourth] = [part(0), part(1), part(2), part(3)];
        let (cubes, units) = self.planes(first.3 + second.3 + third.3 + fourth.3, count);
        // SAFETY: the plan's check has compared the shapes of weights, input and outputs.
        unsafe {
            linear::products::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                self.region(input).fours(),
                first.0,
                first.1,
                first.2,
                first.3,
                second.0,
                second.1,
                second.2,
                second.3,
                third.0,
                third.1,
                third.2,
                third.3,
                fourth.0,
                fourth.1,
                fourth.2,
                fourth.3,
                self.width(input) / 4,
                reading,
            );
        }
        true
    }

    /// Two products that do not wait for each other, in one launch. False, and nothing is done, where they are not that.
    pub(super) fn pair(&self, first: &Op, second: &Op) -> bool {
        let (Op::Linear { input: x, parts: first_parts }, Op::Linear { input: y, parts: second_parts }) =
            (first, second)
        else {
            return false;
        };
        let ([a], [b]) = (first_parts.as_slice(), second_parts.as_slice()) else { return false };
        let rows = self.rows(first);
        if rows > FEW || rows != self.rows(second) || *y == a.output || b.output == *x || a.output == b.output
        {
            return false;
        }
        let (first, second) = (self.matrix(a.weight), self.matrix(b.weight));
        let (Some(one), Some(two)) = (first.whole(), second.whole()) else { return false };
        // Both are staged side by side.
        let places = self.staging(first).places() + self.staging(second).places();
        if !self.is_staged_whole(first) || !self.is_staged_whole(second) || places > linear::MOST_PLACES {
            return false;
        }
        let reading = |matrix| Reading { outputs: 1, ..self.reading(matrix, 0) };
        let (cubes, units) = self.planes(one.rows.len() + two.rows.len(), rows);
        // SAFETY: the plan's check has compared the shapes of weights, inputs and outputs.
        unsafe {
            linear::pair::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                self.region(*x).fours(),
                one.words.quads(),
                one.scales.arg(),
                self.region(a.output).arg(),
                one.rows.len(),
                first.columns / 4,
                self.region(*y).fours(),
                two.words.quads(),
                two.scales.arg(),
                self.region(b.output).arg(),
                two.rows.len(),
                second.columns / 4,
                reading(first),
                reading(second),
            );
        }
        true
    }

    pub(super) fn feed_forward(&self, op: &Op) {
        let Op::FeedForward { input, gate, up, down, cutoff, gated, hidden, output } = op else { return };
        let rows = self.rows(op);
        if self.sparse_feed_forward(op) {
            return;
        }
        let done = rows <= FEW && cutoff.is_none() && self.gate_and_up(op, rows);
        if !done {
            self.whole_products(*input, &[(*gate, *gated), (*up, *hidden)], rows);
        }
        let (g, h) = (self.region(*gated), self.region(*hidden));
        if let Some(cutoff) = cutoff {
            let (cubes, units, row) = self.rows_in_registers(rows, self.width(*gated));
            // SAFETY: a cube works on one of the rows that both regions hold.
            unsafe {
                kernels::sparse_gate::launch_unchecked(
                    &self.gpu.client,
                    cubes,
                    units,
                    g.fours(),
                    h.fours(),
                    *cutoff,
                    row,
                );
            }
        } else if !done {
            let (cubes, units) = launch::values(g.len());
            // SAFETY: the kernel compares each index with the length of both regions.
            unsafe {
                kernels::gate::launch_unchecked(&self.gpu.client, cubes, units, g.arg(), h.arg(), g.len());
            }
        }
        self.whole_products(*gated, &[(*down, *output)], rows);
    }

    /// Gate and up of a network without a cutoff, multiplied, in one launch. False, and nothing is done, where the matrices do
    /// not allow it.
    fn gate_and_up(&self, op: &Op, count: usize) -> bool {
        let Op::FeedForward { input, gate, up, gated, .. } = op else { return false };
        let (gate, up) = (self.matrix(*gate), self.matrix(*up));
        let (Some(gates), Some(ups)) = (gate.whole(), up.whole()) else { return false };
        // Both meet what is staged once.
        if self.staging(gate) != self.staging(up) {
            return false;
        }
        let rows = gates.rows.len();
        let reading = self.reading(gate, rows);
        let (cubes, units) = self.planes(rows.div_ceil(reading.outputs), count);
        // SAFETY: the plan's check has compared the shapes of weights, input and outputs.
        unsafe {
            linear::gated::launch_unchecked(
                &self.gpu.client,
                cubes,
                units,
                self.region(*input).fours(),
                gates.words.quads(),
                gates.scales.arg(),
                ups.words.quads(),
                ups.scales.arg(),
                self.region(*gated).arg(),
                rows,
                gate.columns / 4,
                reading,
                self.reading(up, rows),
            );
        }
        true
    }

    /// All rows of each weight with all of a buffer.
    pub(super) fn whole_products(&self, input: BufferId, products: &[(WeightId, BufferId)], rows: usize) {
        let x = self.region(input);
        let x = Rows { region: &x, stride: self.width(input) };
        let mut halved = false;
        for (weight, output) in products {
            let (matrix, out) = (self.matrix(*weight), self.region(*output));
            let halves = self.halves_for(matrix, rows);
            if let Some(halves) = halves.filter(|_| !halved) {
                self.halve(&x, matrix.columns, halves, rows);
                halved = true;
            }
            let out = Rows { region: &out, stride: self.width(*output) };
            self.product_of(matrix, 0..self.width(*output), &x, halves, &out, rows);
        }
    }
}
