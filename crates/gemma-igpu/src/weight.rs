//! Weights in device memory, in layouts that kernels read in whole words: those of [`gemma_hal::planes`].
//!
//! A matrix is an array of words and, where a block's f16 scale would break the words' alignment, an array of scales:
//!
//! | type | words of a block | scales |
//! | --- | --- | --- |
//! | F32 | 1 a value | – |
//! | F16, BF16 | 1 for two values; an odd row is filled up | – |
//! | Q8_0 | 8 of quants | f16 a block |
//! | Q4_0 | 4 of nibbles | f16 a block |
//! | Q4_1 | 4 of nibbles | f16 a block, and its minimum |
//! | Q5_0 | 4 of nibbles | a word of fifth bits a block; behind them all, f16 a block |
//! | Q4_K, Q5_K | the block as it is: 36 and 44 | – |
//! | Q6_K | 52: the block without its last two bytes | f16 a block |
//!
//! No byte is added or lost but for alignment. Rows follow each other without gaps. A matrix whose words are more than
//! an adapter binds at once is split between rows.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use gemma_hal::planes::{self, Planes};
use gemma_hal::{Budget, DType, DeviceError, Reservation, Weight};

use crate::gpu::{Gpu, Region};
use crate::kernels::format::Format;
use crate::turned::Copies;

/// Rows of a matrix on the device.
#[derive(Debug)]
pub(crate) struct Part {
    /// Rows of the matrix that are here.
    pub(crate) rows: Range<usize>,
    pub(crate) words: Region,
    pub(crate) scales: Region,
}

/// A matrix on the device.
#[derive(Debug)]
pub(crate) struct Matrix {
    pub(crate) columns: usize,
    pub(crate) format: Format,
    /// One after the other.
    pub(crate) parts: Vec<Part>,
    _reservation: Reservation,
}

impl Matrix {
    /// All rows, where they are together.
    pub(crate) fn whole(&self) -> Option<&Part> {
        match self.parts.as_slice() {
            [part] => Some(part),
            _ => None,
        }
    }
}

/// The layout of a type.
pub(crate) const fn format(dtype: DType) -> Format {
    match dtype {
        DType::F32 => Format::F32,
        DType::F16 => Format::F16,
        DType::BF16 => Format::BF16,
        DType::Q8_0 => Format::Q8_0,
        DType::Q6K => Format::Q6K,
        DType::Q5K => Format::Q5K,
        DType::Q5_0 => Format::Q5_0,
        DType::Q4_1 => Format::Q4_1,
        DType::Q4K => Format::Q4K,
        DType::Q4_0 => Format::Q4_0,
    }
}

/// What makes two weights the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Identity {
    address: usize,
    rows: usize,
    columns: usize,
    stride: usize,
    dtype: DType,
}

/// The matrices of a device: each is uploaded once for all plans that use it.
#[derive(Debug, Default)]
pub(crate) struct Matrices {
    all: Mutex<HashMap<Identity, (Weak<Matrix>, Weight)>>,
    /// Turned ones, beside them.
    pub(crate) copies: Copies,
}

impl Matrices {
    /// `weight` on the device.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] over budget.
    pub(crate) fn get(
        &self,
        gpu: &Gpu,
        budget: &Budget,
        name: &str,
        weight: &Weight,
    ) -> Result<Arc<Matrix>, DeviceError> {
        let identity = Identity {
            address: weight.span().as_ptr() as usize,
            rows: weight.rows(),
            columns: weight.columns(),
            stride: weight.row_stride(),
            dtype: weight.dtype(),
        };
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matrix) = all.get(&identity).and_then(|(matrix, _)| matrix.upgrade()) {
            return Ok(matrix);
        }
        // The address of a weight that is gone may come again with other bytes.
        all.retain(|_, (matrix, _)| matrix.strong_count() > 0);
        let matrix = Arc::new(upload(gpu, budget, name, weight)?);
        // The weight is kept as long as its matrix, so that its address is nobody else's.
        all.insert(identity, (Arc::downgrade(&matrix), weight.clone()));
        Ok(matrix)
    }
}

fn upload(gpu: &Gpu, budget: &Budget, name: &str, weight: &Weight) -> Result<Matrix, DeviceError> {
    let [words, scales, high] = planes::plane_bytes(weight);
    let reservation = budget.reserve(name, (words + scales + high) as u64)?;
    let most = (gpu.largest_part as usize / (words / weight.rows().max(1)).max(1)).max(1);
    let mut parts = Vec::new();
    for first in (0..weight.rows()).step_by(most) {
        let rows = first..(first + most).min(weight.rows());
        let Planes { words, scales, high } = planes::pack(weight, rows.clone());
        // Fifth bits stand before all scales.
        let scales = if high.is_empty() { scales } else { [high, scales].concat() };
        parts.push(Part { rows, words: gpu.upload(&words), scales: gpu.upload(&scales) });
    }
    Ok(Matrix { columns: weight.columns(), format: format(weight.dtype()), parts, _reservation: reservation })
}
