//! [`Foresight`]: the memory that a coming region reads first, for threads to ask for while they wait.
//!
//! Between two products memory would be idle: one thread norms a row, the others wait. What they ask for in that time
//! lies in a cache when the region begins. Nothing depends on it: what is foreseen may be wrong, late or gone.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::prefetch::{LINE, prefetch};

/// Most bytes that a thread asks for: they must stay in its second-level cache until the region begins.
const MOST: usize = 192 << 10;

/// Lines between two looks at the gate.
const LINES: usize = 8;

/// Where the ranges of a coming region begin. Threads read the fields one by one, so they may see a mixture of two;
/// that costs a few lines.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    start: AtomicUsize,
    /// Bytes of a range.
    range: AtomicUsize,
    /// Bytes of all ranges.
    all: AtomicUsize,
}

impl Foresight {
    /// The next region reads `all` from its start on, `range` bytes in each range.
    pub(super) fn set(&self, all: &[u8], range: usize) {
        self.range.store(range, Ordering::Relaxed);
        self.all.store(all.len(), Ordering::Relaxed);
        self.start.store(all.as_ptr().addr(), Ordering::Relaxed);
    }
}

/// How far one thread has asked.
pub(super) struct Asker {
    index: usize,
    seen: usize,
    next: usize,
    end: usize,
}

impl Asker {
    /// For thread `index` of a pool, which will probably take the range of that number.
    pub(super) fn new(index: usize) -> Self {
        Self { index, seen: 0, next: 0, end: 0 }
    }

    /// Asks for a few more lines. Returns whether there was something to ask for.
    pub(super) fn ask(&mut self, foresight: &Foresight) -> bool {
        let start = foresight.start.load(Ordering::Relaxed);
        if start != self.seen {
            self.seen = start;
            let (range, all) =
                (foresight.range.load(Ordering::Relaxed), foresight.all.load(Ordering::Relaxed));
            let first = self.index.saturating_mul(range).min(all);
            self.next = start.wrapping_add(first);
            self.end = self.next.wrapping_add(range.min(MOST).min(all - first));
        }
        if self.next >= self.end {
            return false;
        }
        for line in 0..LINES {
            prefetch(std::ptr::without_provenance(self.next.wrapping_add(line * LINE)));
        }
        self.next = self.next.wrapping_add(LINES * LINE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thread `index` asks for this part of what is foreseen.
    fn asked(index: usize, bytes: usize, range: usize) -> std::ops::Range<usize> {
        let all = vec![0; bytes];
        let (foresight, mut asker) = (Foresight::default(), Asker::new(index));
        assert!(!asker.ask(&foresight), "nothing is foreseen yet");
        foresight.set(&all, range);
        let start = all.as_ptr().addr();
        if !asker.ask(&foresight) {
            return 0..0;
        }
        let first = asker.next - LINES * LINE;
        while asker.ask(&foresight) {}
        first - start..asker.next - start
    }

    #[test]
    fn each_thread_asks_for_the_start_of_its_own_range() {
        let step = LINES * LINE;
        assert_eq!(asked(0, 8 * step, 2 * step), 0..2 * step);
        assert_eq!(asked(3, 8 * step, 2 * step), 6 * step..8 * step);
        assert_eq!(asked(1, 4 * MOST, 2 * MOST), 2 * MOST..3 * MOST);
        assert!(asked(4, 8 * step, 2 * step).is_empty(), "there is no such range");
    }

    #[test]
    fn the_same_memory_is_asked_for_once() {
        let all = [0; 4096];
        let (foresight, mut asker) = (Foresight::default(), Asker::new(0));
        foresight.set(&all, 4096);
        while asker.ask(&foresight) {}
        foresight.set(&all, 4096);
        assert!(!asker.ask(&foresight));
        foresight.set(&all[64..], 4032);
        assert!(asker.ask(&foresight));
    }
}
