//! What a product reads and writes: rows of a weight, inputs in chunks, outputs. No arithmetic of its own.
//!
//! [`super::linear`] makes these; kernels over stored and over rounded inputs share them.

use std::ops::Range;

use gemma_hal::{DType, Weight};

use super::shared::Shared;
use super::tile::{Chunk, DEPTH, ROWS};

/// A weight's bytes, or a choice of its rows.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) dtype: DType,
    bytes: &'a [u8],
    pub(super) stride: usize,
    row_bytes: usize,
    pub(super) columns: usize,
    choice: Option<&'a [u32]>,
}

impl<'a> Matrix<'a> {
    pub(super) fn of(weight: &'a Weight, choice: Option<&'a [u32]>) -> Self {
        Self {
            dtype: weight.dtype(),
            bytes: weight.span(),
            stride: weight.row_stride(),
            row_bytes: weight.row_bytes(),
            columns: weight.columns(),
            choice,
        }
    }

    /// The number of chosen rows, or none where it has all rows of the weight, one after the other.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for kernels that ask for rows ahead"))]
    #[inline(always)]
    pub(super) fn chosen(&self) -> Option<usize> {
        self.choice.map(<[u32]>::len)
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &'a [u8] {
        let row = self.choice.map_or(row, |choice| choice[row] as usize);
        &self.bytes[row * self.stride..][..self.row_bytes]
    }

    /// The bytes of a row from `start` on, and what follows the row: for kernels that read whole groups of blocks and
    /// use only a row's own.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for vectors wider than a row's end"))]
    #[inline(always)]
    pub(super) fn beyond(&self, row: usize, start: usize) -> &'a [u8] {
        let row = self.choice.map_or(row, |choice| choice[row] as usize);
        &self.bytes[row * self.stride + start..]
    }
}

/// Inputs in whole chunks.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    chunks: &'a [Chunk],
    pub(super) width: usize,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(values: &'a [f32], width: usize) -> Self {
        Self { chunks: values.as_chunks().0, width }
    }

    #[inline(always)]
    pub(super) fn count(&self) -> usize {
        self.chunks.len() / self.width
    }

    /// Block `depth` of `T` inputs from `first` on.
    #[inline(always)]
    pub(super) fn blocks<const T: usize>(&self, first: usize, depth: &Range<usize>) -> [&'a [Chunk]; T] {
        let mut blocks: [&[Chunk]; T] = [&[]; T];
        for (t, block) in blocks.iter_mut().enumerate() {
            *block = &self.chunks[(first + t) * self.width..][depth.clone()];
        }
        blocks
    }

    /// The ranges of chunks that are summed in one go.
    #[inline(always)]
    pub(super) fn depths(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let width = self.width;
        (0..width).step_by(DEPTH).map(move |start| start..width.min(start + DEPTH))
    }
}

/// Where a product goes.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    values: Shared<'a>,
    stride: usize,
}

impl<'a> Target<'a> {
    /// Outputs of one input stand together, those of the next `stride` values further on.
    pub(super) fn new(values: &'a mut [f32], stride: usize) -> Self {
        Self { values: Shared::new(values), stride }
    }

    /// Sets outputs of one input from `row` on.
    ///
    /// # Safety
    /// No other thread touches these outputs.
    #[inline(always)]
    pub(super) unsafe fn store(self, row: usize, token: usize, values: &[f32]) {
        // SAFETY: the caller vouches for it.
        unsafe { self.values.copy(token * self.stride + row, values) }
    }

    /// Sets (for the first block of columns) or adds to the outputs of one tile, of which `rows` rows count.
    #[inline(always)]
    pub(super) fn emit<const T: usize>(
        self,
        first: bool,
        row: usize,
        rows: usize,
        token: usize,
        sums: &[[f32; ROWS]; T],
    ) {
        for (t, sums) in sums.iter().enumerate() {
            let start = (token + t) * self.stride + row;
            if rows == ROWS {
                self.values.put(start, sums, first);
            } else {
                for (r, sum) in sums[..rows].iter().enumerate() {
                    self.values.put(start + r, &[*sum], first);
                }
            }
        }
    }
}
