//! Every order of events at the gate, within a bound on forced switches, by a model checker (loom).
//!
//! The gate's own source is compiled here over loom's primitives. A lost wake-up shows as a deadlock, a missing
//! ordering as two threads that touch one cell at once; nothing here runs outside of the tests.

mod sync {
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
}

#[path = "gate.rs"]
#[allow(clippy::duplicate_mod, reason = "the same source over other primitives is the point")]
mod gate;

use std::sync::Arc;

use gate::Gate;
use loom::cell::UnsafeCell;

/// A pool's state as the gate protects it: the caller writes `job` between rounds, worker `i` writes `results[i]` in
/// one.
struct Shared {
    gate: Gate,
    job: UnsafeCell<usize>,
    results: Vec<UnsafeCell<usize>>,
}

// SAFETY: loom's cells panic when two threads touch one at once without an order, which is what the tests look for.
unsafe impl Sync for Shared {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Shared {}

/// Runs `rounds` rounds of `workers` workers in every order that has at most `switches` forced switches.
fn check(workers: usize, rounds: usize, spins: usize, switches: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(move || {
        let shared = Arc::new(Shared {
            gate: Gate::new(spins),
            job: UnsafeCell::new(0),
            results: (0..workers).map(|_| UnsafeCell::new(0)).collect(),
        });
        let threads: Vec<_> = (0..workers)
            .map(|index| {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || work(&shared, index, rounds))
            })
            .collect();
        for round in 1..=rounds {
            // SAFETY: no round is open, so no worker reads the cell; loom checks this.
            shared.job.with_mut(|job| unsafe { *job = round });
            shared.gate.open(workers);
            shared.gate.wait_until_finished(|| false);
            for result in &shared.results {
                // SAFETY: the round is finished, so its worker no longer writes the cell; loom checks this.
                result.with(|result| assert_eq!(unsafe { *result }, 10 * round));
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(shared.gate.rounds(), rounds);
    });
}

/// A worker's life of `rounds` rounds.
fn work(shared: &Shared, index: usize, rounds: usize) {
    let mut seen = 0;
    for round in 1..=rounds {
        seen = shared.gate.wait_for_round(seen, || false);
        assert_eq!(seen, round, "no round is missed and none is seen twice");
        // SAFETY: this worker is inside of a round, when the caller does not write the cell; loom checks this.
        let job = shared.job.with(|job| unsafe { *job });
        // SAFETY: as above, and the cell is this worker's own.
        shared.results[index].with_mut(|result| unsafe { *result = 10 * job });
        shared.gate.finish();
    }
}

#[test]
fn one_worker_that_sleeps_at_once() {
    check(1, 3, 0, 3);
}

#[test]
fn one_worker_that_spins_first() {
    check(1, 2, 1, 3);
}

#[test]
fn two_workers_that_sleep_at_once() {
    check(2, 1, 0, 2);
}

#[test]
fn two_workers_over_two_rounds() {
    check(2, 2, 0, 2);
}
