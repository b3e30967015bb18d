//! [`Arena`]: one block of memory for all activations of a plan, laid out from their lifetimes.
//!
//! Buffers that are never alive together may share memory. Layout is decided once; running allocates nothing.

use std::ops::Range;

use crate::op::BufferId;
use crate::plan::Plan;

/// Values to which every buffer is aligned: 64 bytes, a cache line and an AVX-512 register.
const ALIGNMENT: usize = 16;

/// Where each buffer lies, in f32 values from the start of the block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arena {
    places: Vec<Range<usize>>,
    len: usize,
}

impl Arena {
    /// For a device that runs one step after the other.
    pub(crate) fn of(plan: &Plan) -> Self {
        Self::lasting(plan, 0)
    }

    /// First-fit by decreasing size: each buffer takes the lowest place that is free for its whole life and `longer` steps
    /// after it. A device that runs a step together with those that follow needs them: what the step reads must not be
    /// overwritten by what they write.
    pub fn lasting(plan: &Plan, longer: usize) -> Self {
        let mut lives = lifetimes(plan);
        lives.iter_mut().flatten().for_each(|life| life.end = life.end.saturating_add(longer));
        let mut order: Vec<usize> = (0..lives.len()).collect();
        let size = |index: usize| {
            let buffer = &plan.buffers[index];
            plan.row_count(buffer.rows, plan.max_tokens) * buffer.width
        };
        order.sort_by_key(|&index| (std::cmp::Reverse(size(index)), index));
        let mut places = vec![0..0; lives.len()];
        let mut placed: Vec<usize> = Vec::new();
        for index in order {
            let Some(life) = &lives[index] else { continue };
            let mut taken: Vec<Range<usize>> = placed
                .iter()
                .filter(|&&other| {
                    lives[other].as_ref().is_some_and(|l| l.start < life.end && life.start < l.end)
                })
                .map(|&other| places[other].clone())
                .collect();
            taken.sort_by_key(|range| range.start);
            let wanted = size(index).next_multiple_of(ALIGNMENT);
            let mut start = 0;
            for range in taken {
                if range.start >= start + wanted {
                    break;
                }
                start = start.max(range.end.next_multiple_of(ALIGNMENT));
            }
            places[index] = start..start + size(index);
            placed.push(index);
        }
        let len = places.iter().map(|range| range.end).max().unwrap_or(0).next_multiple_of(ALIGNMENT);
        Self { places, len }
    }

    /// Values in the block.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the plan has no activations.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the block.
    pub fn bytes(&self) -> u64 {
        self.len as u64 * size_of::<f32>() as u64
    }

    /// [`Arena::place`] of the buffer at `index` of [`Plan::buffers`].
    pub fn place_at(&self, index: usize) -> Range<usize> {
        self.places[index].clone()
    }

    /// Where `buffer` lies with all the rows it can have.
    pub fn place(&self, buffer: BufferId) -> Range<usize> {
        self.places[buffer.index()].clone()
    }
}

/// Steps `first .. last + 1` in which each buffer holds something; none for a buffer that nobody touches.
fn lifetimes(plan: &Plan) -> Vec<Option<Range<usize>>> {
    let mut lives: Vec<Option<Range<usize>>> = vec![None; plan.buffers.len()];
    for (index, step) in plan.steps.iter().enumerate() {
        step.op.buffers(&mut |id, _| {
            let life = lives[id.index()].get_or_insert(index..index + 1);
            life.end = index + 1;
        });
    }
    if let Some(life) = plan.output.and_then(|id| lives[id.index()].as_mut()) {
        life.end = plan.steps.len() + 1;
    }
    lives
}
