//! Turned copies of matrices, of which single columns are read: `down` of layers with a cutoff, in decode.
//!
//! [`gemma_hal::planes`] makes them and says how they lie. The types that it does not turn have no such copy.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use gemma_hal::{Budget, Reservation, Weight, planes};

use crate::gpu::{Gpu, Region};
use crate::kernels::format::Format;
use crate::weight::format;

/// Copies are made as long as all that is held stays within this part of the budget: caches and other plans need some too.
const BUDGET_PART: (u64, u64) = (3, 4);

/// A turned matrix on the device.
#[derive(Debug)]
pub(crate) struct Turned {
    pub(crate) format: Format,
    pub(crate) words: Region,
    pub(crate) scales: Region,
    /// Its bytes stay where they are as long as the copy.
    weight: Weight,
    _reservation: Reservation,
}

/// The turned copies of a device: each is made once for all plans that use it.
#[derive(Debug, Default)]
pub(crate) struct Copies(Mutex<Vec<Weak<Turned>>>);

impl Copies {
    /// A turned copy of `weight`, or one that begins with it. None where its type has none and where there is no room.
    pub(crate) fn get(&self, gpu: &Gpu, budget: &Budget, weight: &Weight) -> Option<Arc<Turned>> {
        let size = planes::turned_bytes(weight)? as u64;
        // Held while the copy is made, so that no two plans make the same one.
        let mut copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        copies.retain(|copy| copy.strong_count() > 0);
        let mut held = copies.iter().filter_map(Weak::upgrade);
        if let Some(copy) = held.find(|copy| begins_with(&copy.weight, weight)) {
            return Some(copy);
        }
        let memory = budget.memory();
        let most = memory.limit / BUDGET_PART.1 * BUDGET_PART.0;
        if memory.used.checked_add(size)? > most || size > gpu.largest_part {
            return None;
        }
        let reservation = budget.reserve("turned weights", size).ok()?;
        let planes::Turned { words, scales } = planes::turn(weight)?;
        let copy = Arc::new(Turned {
            format: format(weight.dtype()),
            words: gpu.upload(&words),
            scales: gpu.upload(&scales),
            weight: weight.clone(),
            _reservation: reservation,
        });
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
