//! Buffers of tiles with their semaphores: for each part of an object one of free and one of filled ones.

use crate::lower::{Part, Pool};

/// What memory holds before somebody writes it.
const UNWRITTEN: u8 = 0xA5;

pub(super) struct Pools(Vec<State>);

struct State {
    pool: Pool,
    objects: Vec<Vec<u8>>,
    /// By part.
    free: Vec<u32>,
    filled: Vec<u32>,
}

/// Which of the two semaphores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    Free,
    Filled,
}

impl Pools {
    pub(super) fn new(pools: Vec<Pool>) -> Self {
        let state = |pool: Pool| State {
            objects: vec![vec![UNWRITTEN; pool.bytes as usize]; pool.depth as usize],
            free: vec![pool.depth; pool.parts.len()],
            filled: vec![0; pool.parts.len()],
            pool,
        };
        Self(pools.into_iter().map(state).collect())
    }

    /// Takes one from a semaphore, if there is one.
    pub(super) fn acquire(&mut self, pool: usize, part: usize, lock: Lock) -> bool {
        let Some(value) = self.lock(pool, part, lock) else { return false };
        match value.checked_sub(1) {
            Some(less) => {
                *value = less;
                true
            }
            None => false,
        }
    }

    pub(super) fn release(&mut self, pool: usize, part: usize, lock: Lock) {
        if let Some(value) = self.lock(pool, part, lock) {
            *value += 1;
        }
    }

    fn lock(&mut self, pool: usize, part: usize, lock: Lock) -> Option<&mut u32> {
        let state = self.0.get_mut(pool)?;
        match lock {
            Lock::Free => state.free.get_mut(part),
            Lock::Filled => state.filled.get_mut(part),
        }
    }

    pub(super) fn depth(&self, pool: usize) -> u64 {
        self.0.get(pool).map_or(1, |state| u64::from(state.pool.depth))
    }

    pub(super) fn part(&self, pool: usize, part: usize) -> Part {
        let state = self.0.get(pool);
        state.and_then(|state| state.pool.parts.get(part)).copied().unwrap_or(Part { offset: 0, bytes: 0 })
    }

    pub(super) fn object(&mut self, pool: usize, object: usize) -> Option<&mut Vec<u8>> {
        self.0.get_mut(pool)?.objects.get_mut(object)
    }

    /// What is filled and waits for somebody.
    pub(super) fn left(&self) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .filter(|state| state.filled.iter().any(|filled| *filled > 0))
            .map(|state| format!("{} holds filled objects: {:?} by part", state.pool.tile, state.filled))
    }
}
