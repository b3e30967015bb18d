//! The synchronisation of [`super::Pool`]: one caller opens a round, every worker passes through it once.
//!
//! Nothing here knows what a round is for. Both sides spin first, because the next round is usually microseconds
//! away, and sleep after that. All of the pool's waiting and waking is in this file; `model.rs` compiles it a second
//! time, over a model checker's primitives, and tries every order of events.

use std::sync::PoisonError;

use super::sync::{AtomicBool, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, fence, spin_loop};

/// Lets workers in, round after round, and says when all of them are through.
pub(super) struct Gate {
    /// Pauses before sleeping.
    spins: usize,
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
    /// A gate whose threads pause `spins` times before they sleep.
    pub(super) fn new(spins: usize) -> Self {
        Self {
            spins,
            round: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            lock: Mutex::new(()),
            opened: Condvar::new(),
            finished: Condvar::new(),
        }
    }

    /// Rounds opened so far.
    pub(super) fn rounds(&self) -> usize {
        self.round.load(Ordering::Relaxed)
    }

    /// Opens the next round for `workers` workers. What the caller wrote before is visible to them.
    ///
    /// The round before must be finished: see [`Gate::wait_until_finished`].
    pub(super) fn open(&self, workers: usize) {
        self.pending.store(workers, Ordering::Relaxed);
        // Nobody else writes it. A release, so that a worker that sees the round sees everything before it.
        self.round.store(self.rounds().wrapping_add(1), Ordering::Release);
        // Pairs with the fence in `wait_for_round`: either this sees the sleeper or the sleeper sees the round.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            // A worker that found no round holds the lock until it waits, so the notice cannot come too early.
            drop(self.lock());
            self.opened.notify_all();
        }
    }

    /// Waits for a round other than `seen` and returns its number.
    ///
    /// While it spins it calls `idle`, and pauses where that says that there was nothing to do.
    pub(super) fn wait_for_round(&self, seen: usize, mut idle: impl FnMut() -> bool) -> usize {
        for _ in 0..self.spins {
            let round = self.round.load(Ordering::Acquire);
            if round != seen {
                return round;
            }
            if !idle() {
                spin_loop();
            }
        }
        let mut guard = self.lock();
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        loop {
            let round = self.round.load(Ordering::Acquire);
            if round != seen {
                self.sleepers.fetch_sub(1, Ordering::Relaxed);
                return round;
            }
            guard = self.opened.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One worker is through. What it wrote before is visible to the caller after the round.
    pub(super) fn finish(&self) {
        let last = self.pending.fetch_sub(1, Ordering::AcqRel) == 1;
        if !last {
            return;
        }
        // Pairs with the fence in `wait_until_finished`: either this sees the sleeper or the sleeper sees the end.
        fence(Ordering::SeqCst);
        if self.caller_sleeps.load(Ordering::Relaxed) {
            drop(self.lock());
            self.finished.notify_one();
        }
    }

    /// Waits until every worker is through the current round, with `idle` as in [`Gate::wait_for_round`].
    pub(super) fn wait_until_finished(&self, mut idle: impl FnMut() -> bool) {
        for _ in 0..self.spins {
            if self.pending.load(Ordering::Acquire) == 0 {
                return;
            }
            if !idle() {
                spin_loop();
            }
        }
        let mut guard = self.lock();
        self.caller_sleeps.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while self.pending.load(Ordering::Acquire) != 0 {
            guard = self.finished.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.caller_sleeps.store(false, Ordering::Relaxed);
    }

    /// The lock guards no data, so a panic while it was held leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
