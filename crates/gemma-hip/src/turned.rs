//! Turned copies of matrices, of which single columns are read: `down` of layers with a cutoff, in decode. See [`gemma_hal::planes::turn`].

use std::sync::{Arc, Mutex, PoisonError, Weak};

use gemma_hal::{Reservation, Weight, planes};
use gemma_hip_kernels::prepare;

use crate::device::Setup;
use crate::runtime::{ALIGNMENT, Buffer, Turn};
use crate::weight::allocate;

/// Copies are made as long as all that is held stays within this part of the budget: caches and other plans need some too.
const BUDGET_PART: (u64, u64) = (3, 4);

/// A turned matrix on the GPU.
pub(crate) struct Turned {
    pub(crate) place: prepare::Turned,
    _buffer: Buffer,
    /// Its bytes stay where they are as long as the copy.
    weight: Weight,
    _reservation: Reservation,
}

/// The turned copies of a device: each is made once for all plans that use it.
#[derive(Default)]
pub(crate) struct Copies(Mutex<Vec<Weak<Turned>>>);

impl Copies {
    /// A turned copy of `weight`, or one that begins with it. None where its type has none and where there is no room: then the matrix
    /// itself is read.
    pub(crate) fn get(&self, setup: &Setup, turn: &Turn<'_>, weight: &Weight) -> Option<Arc<Turned>> {
        // Held while the copy is made, so that no two plans make the same one.
        let mut copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        copies.retain(|copy| copy.strong_count() > 0);
        let mut held = copies.iter().filter_map(Weak::upgrade);
        if let Some(copy) = held.find(|copy| begins_with(&copy.weight, weight)) {
            return Some(copy);
        }
        let (size, memory) = (planes::turned_bytes(weight)? as u64 + ALIGNMENT as u64, setup.budget.memory());
        if memory.used.checked_add(size)? > memory.limit / BUDGET_PART.1 * BUDGET_PART.0 {
            return None;
        }
        let reservation = setup.budget.reserve("turned weights", size).ok()?;
        let turned = planes::turn(weight)?;
        let (words, scales): (&[u8], &[u8]) =
            (bytemuck::cast_slice(&turned.words), bytemuck::cast_slice(&turned.scales));
        let start = words.len().next_multiple_of(ALIGNMENT);
        let buffer = allocate(setup, turn, "turned weights", start + scales.len()).ok()?;
        turn.put(&buffer, 0, words).ok()?;
        turn.put(&buffer, start, scales).ok()?;
        let place = prepare::Turned { words: buffer.at(0), scales: buffer.at(start) };
        let copy =
            Arc::new(Turned { place, _buffer: buffer, weight: weight.clone(), _reservation: reservation });
        copies.push(Arc::downgrade(&copy));
        Some(copy)
    }
}

/// Whether the first columns of `whole` are all of `part`: the same bytes, seen as the same type.
fn begins_with(whole: &Weight, part: &Weight) -> bool {
    whole.storage().same_as(part.storage())
        && (whole.offset(), whole.dtype()) == (part.offset(), part.dtype())
        && (whole.rows(), whole.row_stride()) == (part.rows(), part.row_stride())
        && whole.columns() >= part.columns()
}
