//! Weights on the GPU, as [`gemma_hal::planes`] packs them; each once for all plans and slices that begin with it.
//!
//! They are packed some rows at a time, so that no second copy stays and none is as large as a matrix.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use gemma_hal::{DeviceError, Reservation, Weight, planes};
use gemma_hip_kernels::{Address, Planes};

use crate::device::{Setup, WeightMemory};
use crate::runtime::{ALIGNMENT, Buffer, Placement, Turn};
use crate::turned::Copies;

/// Bytes that are packed at a time, about.
const PIECE: usize = 8 << 20;

/// Rows of which each plane's bytes are whole words, in every type.
const ROWS_OF_WORDS: usize = 4;

/// A matrix on the GPU.
pub(crate) struct Matrix {
    pub(crate) planes: Planes,
    _buffer: Buffer,
    /// Its bytes stay where they are as long as the matrix, so that they are nobody else's.
    weight: Weight,
    _reservation: Reservation,
}

/// The matrices of a device.
#[derive(Default)]
pub(crate) struct Matrices {
    all: Mutex<Vec<Weak<Matrix>>>,
    /// Turned ones, beside them.
    pub(crate) copies: Copies,
}

impl Matrices {
    /// `weight` on the GPU, or a matrix that begins with it: rows follow each other without gaps.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], otherwise what the runtime says.
    pub(crate) fn get(
        &self,
        setup: &Setup,
        turn: &Turn<'_>,
        name: &str,
        weight: &Weight,
    ) -> Result<Arc<Matrix>, DeviceError> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|matrix| matrix.strong_count() > 0);
        let mut held = all.iter().filter_map(Weak::upgrade);
        if let Some(matrix) = held.find(|matrix| begins_with(&matrix.weight, weight)) {
            return Ok(matrix);
        }
        let matrix = Arc::new(upload(setup, turn, name, weight)?);
        all.push(Arc::downgrade(&matrix));
        Ok(matrix)
    }
}

/// Whether the first rows of `whole` are all of `part`: the same bytes, seen as the same type.
fn begins_with(whole: &Weight, part: &Weight) -> bool {
    whole.storage().same_as(part.storage())
        && (whole.offset(), whole.dtype()) == (part.offset(), part.dtype())
        && (whole.columns(), whole.row_stride()) == (part.columns(), part.row_stride())
        && whole.rows() >= part.rows()
}

fn upload(setup: &Setup, turn: &Turn<'_>, name: &str, weight: &Weight) -> Result<Matrix, DeviceError> {
    let bytes = planes::plane_bytes(weight);
    let starts = [0, bytes[0].next_multiple_of(ALIGNMENT)];
    let starts = [starts[0], starts[1], (starts[1] + bytes[1]).next_multiple_of(ALIGNMENT)];
    let all = starts[2] + bytes[2];
    let reservation = setup.budget.reserve(name, all as u64)?;
    let buffer = allocate(setup, turn, name, all)?;
    let rows = weight.rows();
    let each = (PIECE / (bytes[0] / rows.max(1)).max(1)).max(1).next_multiple_of(ROWS_OF_WORDS);
    let mut offsets = starts;
    for first in (0..rows).step_by(each) {
        let packed = planes::pack(weight, first..(first + each).min(rows));
        for (offset, words) in offsets.iter_mut().zip([&packed.words, &packed.scales, &packed.high]) {
            let bytes: &[u8] = bytemuck::cast_slice(words);
            turn.put(&buffer, *offset, bytes)?;
            *offset += bytes.len();
        }
    }
    let at = |plane: usize| if bytes[plane] == 0 { Address::NULL } else { buffer.at(starts[plane]) };
    let planes = Planes { words: at(0), scales: at(1), high: at(2) };
    Ok(Matrix { planes, _buffer: buffer, weight: weight.clone(), _reservation: reservation })
}

/// Memory for what is written once and then read by the GPU alone.
///
/// # Errors
/// [`DeviceError::OutOfMemory`], otherwise what the runtime says.
pub(crate) fn allocate(
    setup: &Setup,
    turn: &Turn<'_>,
    what: &str,
    bytes: usize,
) -> Result<Buffer, DeviceError> {
    let placement = match setup.weights {
        WeightMemory::Mapped => match turn.allocate(what, bytes, Placement::Mapped) {
            Err(
                DeviceError::Unsupported { .. }
                | DeviceError::OutOfMemory { .. }
                | DeviceError::Driver { .. },
            ) => Placement::Device,
            done => return done,
        },
        WeightMemory::Fitting => Placement::Device,
        WeightMemory::Device => Placement::DeviceAlone,
    };
    turn.allocate(what, bytes, placement)
}
