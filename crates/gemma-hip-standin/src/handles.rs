//! Handles that the program keeps: numbers that never were addresses, so that a stale or made-up one is noticed.

use std::collections::HashMap;

/// Things by their handles.
pub(crate) struct Handles<T> {
    things: HashMap<usize, T>,
    next: usize,
}

impl<T> Handles<T> {
    /// Handles of one kind of thing; each kind has numbers of its own.
    pub(crate) fn new(kind: u8) -> Self {
        // Above all addresses of a program, and never the small numbers that stand for certain streams.
        Self { things: HashMap::new(), next: 0x5a00_0000_0000_0000 | usize::from(kind) << 48 | 0x10 }
    }

    pub(crate) fn insert(&mut self, thing: T) -> usize {
        let handle = self.next;
        self.next += 0x10;
        self.things.insert(handle, thing);
        handle
    }

    /// For the one handle that everybody knows.
    pub(crate) fn insert_at(&mut self, handle: usize, thing: T) {
        self.things.insert(handle, thing);
    }

    pub(crate) fn get(&self, handle: usize) -> Option<&T> {
        self.things.get(&handle)
    }

    pub(crate) fn get_mut(&mut self, handle: usize) -> Option<&mut T> {
        self.things.get_mut(&handle)
    }

    pub(crate) fn remove(&mut self, handle: usize) -> Option<T> {
        self.things.remove(&handle)
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.things.values_mut()
    }

    /// All handles, oldest first.
    pub(crate) fn handles(&self) -> Vec<usize> {
        let mut handles: Vec<_> = self.things.keys().copied().collect();
        handles.sort_unstable();
        handles
    }

    /// Forgets those that do not satisfy the condition.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&usize, &mut T) -> bool) {
        self.things.retain(keep);
    }
}
