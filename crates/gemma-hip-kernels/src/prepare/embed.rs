//! Embeddings, the choice of output rows, and the logits.

use gemma_hal::Op;

use super::{FEW, Rows, Run, Table, words_of};
use crate::arguments::{Copy, Gather, PerLayerEmbed, Product};
use crate::launch::{Address, Planes};

impl Run<'_> {
    pub(super) fn embed(&mut self, op: &Op) {
        let Op::Embed { table, scale, output } = op else { return };
        let to = self.at(*output);
        match self.memory.table(*table, *output) {
            Table::Rows(rows) => self.copy(rows, to, self.tokens * self.width(*output)),
            Table::Planes(planes) => {
                let weight = self.plan.weight(*table);
                let shape = (weight.rows(), weight.columns());
                self.gather(planes, weight.dtype(), shape, Address::NULL, (1, shape.1), *scale, to);
            }
        }
    }

    /// Some blocks of the rows of the run's tokens.
    #[expect(clippy::too_many_arguments, reason = "a table has as many sides")]
    fn gather(
        &mut self,
        table: Planes,
        dtype: gemma_hal::DType,
        (rows, columns): (usize, usize),
        blocks: Address,
        (count, width): (usize, usize),
        scale: f32,
        output: Address,
    ) {
        let arguments = Gather {
            table,
            ids: self.memory.ids(),
            blocks,
            output,
            rows: rows as u32,
            columns: columns as u32,
            width: width as u32,
            count: count as u32,
            scale,
            padding: 0,
        };
        self.push(arguments.launch(dtype, self.tokens));
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
        let (tokens, kept) = (self.rows(op), blocks.len() * width);
        let gathered = match self.memory.table(*table, *output) {
            Table::Rows(rows) => rows,
            Table::Planes(planes) => {
                let (weight, to) = (self.plan.weight(*table), self.memory.scratch());
                let shape = (weight.rows(), weight.columns());
                let (dtype, numbers) = (weight.dtype(), self.memory.blocks(*output));
                self.gather(planes, dtype, shape, numbers, (blocks.len(), *width), *table_scale, to);
                to
            }
        };
        // Layers that lie side by side in the parent are one product.
        let scratch = self.memory.scratch().words(words_of::<f32>(tokens * kept));
        let from = Rows { address: self.at(*input), stride: self.width(*input) };
        let (mut done, mut converted) = (0, None);
        for run in blocks.chunk_by(|a, b| a + 1 == *b) {
            let (first, wide) = (usize::from(run[0]) * width, run.len() * width);
            let to = Rows { address: self.at(*output).words(done), stride: kept };
            converted = self.product(*projection, first..first + wide, from, to, tokens, scratch, converted);
            done += wide;
        }
        let arguments = PerLayerEmbed {
            table: gathered,
            norm: self.vector(*norm),
            output: self.at(*output),
            blocks: blocks.len() as u32,
            width: *width as u32,
            projection_scale: *projection_scale,
            eps: self.plan.rms_eps(),
        };
        self.push(arguments.launch(tokens));
    }

    pub(super) fn select_outputs(&mut self, op: &Op) {
        let Op::SelectOutputs { input, output } = op else { return };
        let (rows, width) = (self.rows(op), self.width(*input));
        let from = self.at(*input).words((self.tokens - rows) * width);
        self.copy(from, self.at(*output), rows * width);
    }

    fn copy(&mut self, input: Address, output: Address, count: usize) {
        self.push(Copy { input, output, count: count as u32, padding: 0 }.launch());
    }

    /// The kernel for few rows has the soft cap; it takes many rows too where there is one, which only tests ask for.
    pub(super) fn unembed(&mut self, op: &Op) {
        let Op::Unembed { input, table, softcap, output } = op else { return };
        let (tokens, weight) = (self.rows(op), self.plan.weight(*table));
        let to = Rows { address: self.at(*output), stride: weight.rows() };
        let from = Rows { address: self.at(*input), stride: weight.columns() };
        if tokens > FEW && softcap.is_none() {
            self.product(*table, 0..weight.rows(), from, to, tokens, self.memory.scratch(), None);
            return;
        }
        let arguments = Product {
            weight: self.memory.matrix(*table),
            input: from.address,
            output: to.address,
            first: 0,
            rows: weight.rows() as u32,
            columns: weight.columns() as u32,
            input_stride: from.stride as u32,
            output_stride: to.stride as u32,
            softcap: softcap.unwrap_or(0.0),
        };
        self.push(arguments.launch(weight.dtype(), self.activations, tokens));
    }
}
