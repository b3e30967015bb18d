//! The arena of a prepared plan, borrowed buffer by buffer.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};
use gemma_hal::{BufferId, Plan};

/// A cache line and an AVX-512 register.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// All activations of a plan, laid out by its [`gemma_hal::Arena`].
pub(super) struct Memory {
    lines: Vec<Line>,
    places: Vec<Range<usize>>,
}

impl Memory {
    pub(super) fn of(plan: &Plan) -> Self {
        let places =
            plan.buffers().iter().enumerate().map(|(index, _)| plan.arena().place_at(index)).collect();
        Self { lines: vec![Line([0.0; 16]); plan.arena().len().div_ceil(16)], places }
    }

    /// The first `len` values of a buffer.
    pub(super) fn read(&self, id: BufferId, len: usize) -> &[f32] {
        let start = self.places[id.index()].start;
        &bytemuck::cast_slice(&self.lines)[start..start + len]
    }

    /// The first values of several buffers at once, each with its own length.
    ///
    /// # Panics
    /// When two overlap, which a checked plan rules out: buffers of one operation are alive together.
    pub(super) fn get<const N: usize>(&mut self, wanted: [(BufferId, usize); N]) -> [&mut [f32]; N] {
        let ranges = wanted.map(|(id, len)| {
            let place = &self.places[id.index()];
            debug_assert!(len <= place.len());
            place.start..place.start + len
        });
        let values: &mut [f32] = bytemuck::cast_slice_mut(&mut self.lines);
        values.get_disjoint_mut(ranges).expect("buffers of one operation do not overlap")
    }
}
