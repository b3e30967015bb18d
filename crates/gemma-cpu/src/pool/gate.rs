//! The synchronisation of [`super::Pool`]: one caller opens a round, every worker passes through it once.
//!
//! Nothing here knows what a round is for. Both sides spin first, because the next round is usually microseconds
//! away, and sleep after that. All of the pool's waiting and waking is in this file, so that a model checker needs
//! to see nothing else.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Pauses before sleeping: some 50 to 100 microseconds on current processors.
const SPINS: usize = 4000;

/// Lets workers in, round after round, and says when all of them are through.
#[derive(Default)]
pub(super) struct Gate {
    /// Rounds opened so far.
    round: AtomicUsize,
    /// Workers that have not finished the current round.
    pending: AtomicUsize,
    /// Workers asleep, or about to be.
    sleepers: AtomicUsize,
    /// Whether the caller is asleep, or about to be.
    caller_sleeps: AtomicBool,
    lock: Mutex<()>,
    opened: Condvar,
    finished: Condvar,
}

impl Gate {
    /// Opens the next round for `workers` workers. What the caller wrote before is visible to them.
    ///
    /// The round before must be finished: see [`Gate::wait_until_finished`].
    pub(super) fn open(&self, workers: usize) {
        self.pending.store(workers, Ordering::Relaxed);
        // Sequentially consistent, as is the pair in `wait_for_round`: either this sees the sleeper or the sleeper
        // sees the round.
        self.round.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // A worker that found no round holds the lock until it waits, so the notice cannot come too early.
            drop(self.lock());
            self.opened.notify_all();
        }
    }

    /// Waits for a round other than `seen` and returns its number.
    pub(super) fn wait_for_round(&self, seen: usize) -> usize {
        for _ in 0..SPINS {
            let round = self.round.load(Ordering::Acquire);
            if round != seen {
                return round;
            }
            hint::spin_loop();
        }
        let mut guard = self.lock();
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        loop {
            let round = self.round.load(Ordering::SeqCst);
            if round != seen {
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                return round;
            }
            guard = self.opened.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One worker is through. What it wrote before is visible to the caller after the round.
    pub(super) fn finish(&self) {
        let last = self.pending.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.caller_sleeps.load(Ordering::SeqCst) {
            drop(self.lock());
            self.finished.notify_one();
        }
    }

    /// Waits until every worker is through the current round.
    pub(super) fn wait_until_finished(&self) {
        for _ in 0..SPINS {
            if self.pending.load(Ordering::Acquire) == 0 {
                return;
            }
            hint::spin_loop();
        }
        let mut guard = self.lock();
        self.caller_sleeps.store(true, Ordering::SeqCst);
        while self.pending.load(Ordering::SeqCst) != 0 {
            guard = self.finished.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.caller_sleeps.store(false, Ordering::SeqCst);
    }

    /// The lock guards no data, so a panic while it was held leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
