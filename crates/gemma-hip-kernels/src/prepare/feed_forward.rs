//! The feed-forward network: dense, and of one token behind a cutoff only what the cut leaves.

use gemma_hal::{Op, Plan};

use super::{FEW, Run, words_of};
use crate::arguments::{DOWN_TILE, FeedForwardCut, FeedForwardGate, Gated, SparseCut, SparseDown, SparseUp};

/// Parts of the list of active units for the columns of `down`, each with a block a tile of outputs.
const PARTS: usize = 16;

/// Words before the list, of which the first is its length.
const LENGTH_WORDS: usize = 4;

/// The hidden units and the outputs of a step that is sparse in runs of one token.
fn shape(plan: &Plan, op: &Op) -> Option<(usize, usize)> {
    match op {
        Op::FeedForward { gated, output, cutoff: Some(_), .. } => {
            Some((plan.buffer(*gated).width, plan.buffer(*output).width))
        }
        _ => None,
    }
}

/// Words that lie between the kernels of a step: the list and the parts of the outputs.
pub(super) fn scratch_words(plan: &Plan, op: &Op) -> usize {
    shape(plan, op).map_or(0, |(units, outputs)| {
        LENGTH_WORDS + words_of::<u32>(units) + PARTS * outputs.next_multiple_of(DOWN_TILE)
    })
}

/// Counters of a step: one a tile of outputs.
pub(super) fn counters(plan: &Plan, op: &Op) -> usize {
    shape(plan, op).map_or(0, |(_, outputs)| outputs.div_ceil(DOWN_TILE))
}

impl Run<'_> {
    pub(super) fn feed_forward(&mut self, op: &Op) {
        let Op::FeedForward { input, gate, up, down, cutoff, gated, hidden, output } = op else { return };
        let tokens = self.rows(op);
        if tokens == 1 && cutoff.is_some() {
            self.sparse(op);
            return;
        }
        let same = self.dtype(*gate) == self.dtype(*up);
        if tokens <= FEW && cutoff.is_none() && same {
            let weight = self.plan.weight(*gate);
            let arguments = Gated {
                gate: self.memory.matrix(*gate),
                up: self.memory.matrix(*up),
                input: self.at(*input),
                output: self.at(*gated),
                rows: weight.rows() as u32,
                columns: weight.columns() as u32,
            };
            self.push(arguments.launch(weight.dtype(), self.activations, tokens));
        } else {
            self.whole_products(*input, &[(*gate, *gated), (*up, *hidden)], tokens);
            self.multiply(op, tokens);
        }
        self.whole_products(*gated, &[(*down, *output)], tokens);
    }

    /// The gate on the up product, where both have been computed whole.
    fn multiply(&mut self, op: &Op, tokens: usize) {
        let Op::FeedForward { cutoff, gated, hidden, .. } = op else { return };
        let width = self.width(*gated);
        let (gated, up) = (self.at(*gated), self.at(*hidden));
        let launch = match cutoff {
            Some(cutoff) => FeedForwardCut { gated, up, width: width as u32, cutoff: *cutoff }.launch(tokens),
            None => FeedForwardGate { gated, up, count: (tokens * width) as u32, padding: 0 }.launch(),
        };
        self.push(launch);
    }

    fn sparse(&mut self, op: &Op) {
        let Op::FeedForward { input, gate, up, down, cutoff: Some(cutoff), gated, hidden, output } = op
        else {
            return;
        };
        self.whole_products(*input, &[(*gate, *gated)], 1);
        let (units, outputs) = (self.width(*gated), self.width(*output));
        let scratch = self.memory.scratch();
        let (count, list) = (scratch, scratch.words(LENGTH_WORDS));
        let partial = list.words(words_of::<u32>(units));
        let (gates, values) = (self.at(*gated), self.at(*hidden));
        let width = units as u32;
        self.push(SparseCut { gated: gates, values, units: list, count, width, cutoff: *cutoff }.launch());
        let weight = self.plan.weight(*up);
        let arguments = SparseUp {
            weight: self.memory.matrix(*up),
            input: self.at(*input),
            units: list,
            count,
            values,
            gated: gates,
            columns: weight.columns() as u32,
            blocks: SparseUp::blocks(units),
        };
        self.push(arguments.launch(weight.dtype(), self.activations));
        let Some(turned) = self.memory.turned(*down) else {
            // What is not active is zero.
            self.whole_products(*gated, &[(*down, *output)], 1);
            return;
        };
        let arguments = SparseDown {
            words: turned.words,
            scales: turned.scales,
            units: list,
            count,
            values,
            partial,
            counters: self.memory.counters(),
            output: self.at(*output),
            outputs: outputs as u32,
            parts: PARTS as u32,
            tiles: outputs.div_ceil(DOWN_TILE) as u32,
            padding: 0,
        };
        self.push(arguments.launch(self.dtype(*down)));
    }
}
