//! Products of matrices: alone, several in one launch, and for many rows with activations converted once.

use std::ops::Range;

use gemma_hal::op::LinearPart;
use gemma_hal::{BufferId, Op, WeightId};

use super::{FEW, Rows, Run, empty_gemm, words_of};
use crate::arguments::{ActivationHalf, ActivationRounded, Method, Product, ProductPart, Products};
use crate::launch::{Address, Planes};

/// Products that one launch computes.
const TOGETHER: usize = 4;

/// No part.
const NO_PART: ProductPart = ProductPart {
    weight: Planes { words: Address::NULL, scales: Address::NULL, high: Address::NULL },
    input: Address::NULL,
    output: Address::NULL,
    rows: 0,
    columns: 0,
};

impl Run<'_> {
    pub(super) fn linear(&mut self, op: &Op) {
        let Op::Linear { input, parts } = op else { return };
        let rows = self.rows(op);
        if rows <= FEW && (2..=TOGETHER).contains(&parts.len()) {
            let all: Vec<_> = parts.iter().map(|part| (*part, *input)).collect();
            if self.together(&all, rows) {
                return;
            }
        }
        let products: Vec<_> = parts.iter().map(|part| (part.weight, part.output)).collect();
        self.whole_products(*input, &products, rows);
    }

    /// Two products that do not wait for each other, in one launch. False, and nothing is done, where they are not that.
    pub(super) fn pair(&mut self, first: &Op, second: &Op) -> bool {
        let (Op::Linear { input: x, parts: first_parts }, Op::Linear { input: y, parts: second_parts }) =
            (first, second)
        else {
            return false;
        };
        let ([a], [b]) = (first_parts.as_slice(), second_parts.as_slice()) else { return false };
        let rows = self.rows(first);
        let is_apart = *y != a.output && b.output != *x && a.output != b.output;
        rows <= FEW && rows == self.rows(second) && is_apart && self.together(&[(*a, *x), (*b, *y)], rows)
    }

    /// Products in one launch. False, and nothing is done, where weights are of several types.
    fn together(&mut self, parts: &[(LinearPart, BufferId)], tokens: usize) -> bool {
        let dtype = self.dtype(parts[0].0.weight);
        if parts.iter().any(|(part, _)| self.dtype(part.weight) != dtype) {
            return false;
        }
        // Short rows leave lanes idle and wait for memory: theirs come first, and end under the others'.
        let mut parts = parts.to_vec();
        parts.sort_by_key(|(part, _)| self.plan.weight(part.weight).columns());
        let mut arguments = Products { parts: [NO_PART; TOGETHER] };
        for ((part, input), place) in parts.iter().zip(&mut arguments.parts) {
            let weight = self.plan.weight(part.weight);
            *place = ProductPart {
                weight: self.memory.matrix(part.weight),
                input: self.at(*input),
                output: self.at(part.output),
                rows: weight.rows() as u32,
                columns: weight.columns() as u32,
            };
        }
        self.push(arguments.launch(dtype, self.activations, tokens));
        true
    }

    /// All rows of each weight with all of a buffer.
    pub(super) fn whole_products(
        &mut self,
        input: BufferId,
        products: &[(WeightId, BufferId)],
        tokens: usize,
    ) {
        let from = Rows { address: self.at(input), stride: self.width(input) };
        let mut converted = None;
        for (weight, output) in products {
            let to = Rows { address: self.at(*output), stride: self.width(*output) };
            let all = 0..self.plan.weight(*weight).rows();
            converted = self.product(*weight, all, from, to, tokens, self.memory.scratch(), converted);
        }
    }

    /// `rows` of a weight with rows of activations, by what suits their number. Activations that must be converted go to `scratch`, unless
    /// they are there already: `converted` is how, and the answer what is there afterwards.
    #[expect(clippy::too_many_arguments, reason = "a product has as many sides")]
    pub(super) fn product(
        &mut self,
        id: WeightId,
        rows: Range<usize>,
        input: Rows,
        output: Rows,
        tokens: usize,
        scratch: Address,
        converted: Option<Method>,
    ) -> Option<Method> {
        let (dtype, columns) = (self.dtype(id), self.plan.weight(id).columns());
        let weight = self.memory.matrix(id);
        if tokens <= FEW {
            let arguments = Product {
                weight,
                input: input.address,
                output: output.address,
                first: rows.start as u32,
                rows: rows.len() as u32,
                columns: columns as u32,
                input_stride: input.stride as u32,
                output_stride: output.stride as u32,
                softcap: 0.0,
            };
            self.push(arguments.launch(dtype, self.activations, tokens));
            return converted;
        }
        let method = Method::of(dtype, self.activations);
        let mut gemm = empty_gemm(weight, output, rows.start, rows.len(), columns, tokens);
        if method == Method::Tile {
            gemm.input = input.address;
            gemm.input_stride = input.stride as u32;
        } else {
            gemm.input = scratch;
            gemm.blocks = scratch.words(words_of::<u8>(match method {
                Method::Half => ActivationHalf::bytes(columns, tokens),
                _ => ActivationRounded::bytes(columns, tokens),
            }));
            if converted != Some(method) {
                self.convert(method, columns, input, scratch, gemm.blocks, tokens);
            }
        }
        self.push(gemm.launch(dtype, method));
        if method == Method::Tile { converted } else { Some(method) }
    }

    fn convert(
        &mut self,
        method: Method,
        columns: usize,
        input: Rows,
        output: Address,
        blocks: Address,
        tokens: usize,
    ) {
        let (columns, input_stride) = (columns as u32, input.stride as u32);
        let input = input.address;
        let launch = if method == Method::Half {
            ActivationHalf { input, output, scales: blocks, columns, input_stride }.launch(tokens)
        } else {
            ActivationRounded { input, quants: output, blocks, columns, input_stride }.launch(tokens)
        };
        self.push(launch);
    }
}

/// Words that activations take which are converted for matrix units.
pub(super) fn converted_words(columns: usize, tokens: usize) -> usize {
    let rounded = ActivationRounded::bytes(columns, tokens);
    let int8 = words_of::<u8>(rounded) + words_of::<u8>(rounded / 2);
    (words_of::<u8>(ActivationHalf::bytes(columns, tokens)) + tokens).max(int8)
}
