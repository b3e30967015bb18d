//! A thread pool for short parallel regions: a decode step has hundreds, each a few microseconds to milliseconds.
//!
//! The caller is thread 0, so one thread means no synchronisation at all. Free threads take the next range of the
//! work; kernels compute each output on one thread in one order, so results are the same for every thread count.
//! A pool never runs more threads than it was made with, even when regions are nested; [`PoolOptions`] says where
//! they run and how long they spin.

mod foresight;
mod gate;
#[cfg(test)]
mod model;
mod placement;
mod power;
mod topology;

/// What the gate is built on: the standard library's primitives here, a model checker's in `model`.
mod sync {
    pub(super) use std::hint::spin_loop;
    pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
}

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use foresight::{Asker, Foresight};
use gate::Gate;
pub use placement::PIN_VARIABLE;
pub use topology::default_threads;

/// Ranges handed out for each thread by [`Pool::for_ranges`]: enough for a fast core to help a slow one.
const RANGES_PER_THREAD: usize = 4;

/// Threads that run parallel regions together with the caller.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One region at a time; callers from other threads queue here.
    region: Mutex<()>,
}

/// How a pool's threads wait and where they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Threads at work, the caller's included.
    pub threads: usize,
    /// Whether each worker stays on a processor of its own, physical cores first; the caller's thread is never
    /// pinned. Without effect outside of Linux, and where this process may use fewer processors than threads.
    pub pin: bool,
    /// How long a thread spins before it sleeps.
    pub patience: Patience,
}

/// How long a thread spins at the gate before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Some 50 to 100 microseconds: most regions follow each other faster than that.
    Long,
    /// Some 2 to 4 microseconds: for a battery, and where threads share processors.
    Short,
}

impl Patience {
    /// Pauses before sleeping.
    const fn spins(self) -> usize {
        match self {
            Self::Long => 4000,
            Self::Short => 160,
        }
    }
}

impl PoolOptions {
    /// `threads` that float and spin long.
    pub const fn new(threads: usize) -> Self {
        Self { threads, pin: false, patience: Patience::Long }
    }

    /// What suits this machine now: pinned as [`PIN_VARIABLE`] says, or where processors share cores; patient unless
    /// it runs on a battery or has fewer processors than `threads`.
    ///
    /// # Errors
    /// [`PoolError::Variable`] when the variable says neither `on` nor `off`.
    pub fn for_machine(threads: usize) -> Result<Self, PoolError> {
        let crowded = topology::allowed_parallelism() < threads;
        let patience = if crowded || power::on_battery() { Patience::Short } else { Patience::Long };
        Ok(Self { threads, pin: placement::wanted()?, patience })
    }
}

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// A pool needs at least the caller's thread.
    #[error("a thread pool needs at least 1 thread")]
    NoThreads,
    /// More than [`Pool::MAX_THREADS`].
    #[error("{0} threads asked for; at most {max} are supported", max = Pool::MAX_THREADS)]
    TooMany(usize),
    /// [`PIN_VARIABLE`] is neither `on` nor `off`.
    #[error("{PIN_VARIABLE}={0}: write on or off")]
    Variable(String),
    /// The operating system refused a thread.
    #[error("cannot start worker thread {index}: {source}; ask for fewer threads")]
    Spawn {
        /// Number of the worker, from 1.
        index: usize,
        /// What the operating system said.
        source: std::io::Error,
    },
}

type Job<'a> = dyn Fn(usize, usize) + Sync + 'a;

struct Shared {
    gate: Gate,
    foresight: Foresight,
    threads: usize,
    closing: AtomicBool,
    /// The current region's function. Written by the caller while no round is open, read by workers inside a round.
    job: UnsafeCell<Option<&'static Job<'static>>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written under `Pool::region` before a round is
// opened and read by workers only between `wait_for_round` and `finish` of that round, which the gate orders.
unsafe impl Sync for Shared {}
// SAFETY: the reference in `job` is to a `Sync` function, which may be called from any thread.
unsafe impl Send for Shared {}

thread_local! {
    /// Whether this thread is inside a region, where another region runs on this thread alone.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// More threads than any machine this is for; a guard against a mistyped option.
    pub const MAX_THREADS: usize = 1024;

    /// [`Pool::with_options`] for threads that float and spin long.
    ///
    /// # Errors
    /// As [`Pool::with_options`].
    pub fn new(threads: usize) -> Result<Self, PoolError> {
        Self::with_options(PoolOptions::new(threads))
    }

    /// Starts `threads − 1` workers; the caller of [`Pool::run`] is the remaining thread.
    ///
    /// # Errors
    /// [`PoolError`] for a count of 0 or beyond [`Pool::MAX_THREADS`], or when a thread cannot be started.
    pub fn with_options(options: PoolOptions) -> Result<Self, PoolError> {
        let PoolOptions { threads, pin, patience } = options;
        if threads == 0 {
            return Err(PoolError::NoThreads);
        }
        if threads > Self::MAX_THREADS {
            return Err(PoolError::TooMany(threads));
        }
        let shared = Arc::new(Shared {
            gate: Gate::new(patience.spins()),
            foresight: Foresight::default(),
            threads,
            closing: AtomicBool::new(false),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
        });
        // Workers join the pool one by one, so that dropping it stops those already started when one fails.
        let mut pool = Self { shared, workers: Vec::with_capacity(threads - 1), region: Mutex::new(()) };
        let places = if pin { placement::for_workers(threads) } else { Vec::new() };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let place = places.get(index - 1).copied();
            let worker = thread::Builder::new()
                .name(format!("gemma-cpu-{index}"))
                .spawn(move || {
                    place.into_iter().for_each(placement::stay_on);
                    shared.work(index);
                })
                .map_err(|source| PoolError::Spawn { index, source })?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Threads that take part in a region, the caller's included.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Regions that all threads have run so far: barriers, as reports count them.
    pub fn rounds(&self) -> usize {
        self.shared.gate.rounds()
    }

    /// Calls `job(thread_index, threads)` once on every thread and returns when all calls have.
    ///
    /// Inside a region (a nested call) it is called once, as `job(0, 1)`, on the current thread.
    ///
    /// # Panics
    /// With the panic of a call, after all others have returned.
    pub fn run(&self, job: impl Fn(usize, usize) + Sync) {
        if self.workers.is_empty() || INSIDE.get() {
            return job(0, 1);
        }
        let _region = lock(&self.region);
        self.publish(&job);
        self.shared.gate.open(self.workers.len());
        INSIDE.set(true);
        let own = panic::catch_unwind(AssertUnwindSafe(|| job(0, self.threads())));
        INSIDE.set(false);
        let mut asker = Asker::new(0);
        self.shared.gate.wait_until_finished(|| asker.ask(&self.shared.foresight));
        let theirs = lock(&self.shared.panic).take();
        if let Some(payload) = own.err().or(theirs) {
            panic::resume_unwind(payload);
        }
    }

    /// Calls `job` with ranges that together are `0..total`, each beginning on a multiple of `align`.
    ///
    /// Free threads take the next range, so which thread gets which range varies; `job` must compute the same for an
    /// index whatever range it comes in. A total of one range runs on the caller's thread alone.
    ///
    /// # Panics
    /// When `align` is 0, or with a panic of `job`.
    pub fn for_ranges(&self, total: usize, align: usize, job: impl Fn(Range<usize>) + Sync) {
        self.for_ranges_of(total, self.range_size(total, align), job);
    }

    /// The size of the ranges of [`Pool::for_ranges`].
    fn range_size(&self, total: usize, align: usize) -> usize {
        total.div_ceil(self.threads() * RANGES_PER_THREAD).next_multiple_of(align)
    }

    /// Says that a coming region calls [`Pool::for_ranges`] with `total` and `align`, and reads `stride` bytes of
    /// `memory` for each index. Threads that wait ask for the beginning of it; results do not depend on it.
    pub fn foresee(&self, memory: &[u8], stride: usize, total: usize, align: usize) {
        self.shared.foresight.set(memory, stride.saturating_mul(self.range_size(total, align)));
    }

    /// [`Pool::for_ranges`] with ranges of `size` indices, but for the last; one thread gets all of them as one range.
    ///
    /// # Panics
    /// When `size` is 0 and `total` is not, or with a panic of `job`.
    pub fn for_ranges_of(&self, total: usize, size: usize, job: impl Fn(Range<usize>) + Sync) {
        if total <= size || self.threads() == 1 {
            if total > 0 {
                job(0..total);
            }
            return;
        }
        let ranges = total.div_ceil(size);
        let next = AtomicUsize::new(0);
        self.run(|_, _| {
            loop {
                // Only the counter is shared here; the gate orders everything else.
                let range = next.fetch_add(1, Ordering::Relaxed);
                if range >= ranges {
                    return;
                }
                job(range * size..total.min((range + 1) * size));
            }
        });
    }

    /// Calls `job(index, chunk)` for each chunk of `size` values of `values` (the last may be shorter).
    ///
    /// # Panics
    /// When `size` is 0, or with a panic of `job`.
    pub fn for_chunks_mut<T: Send>(
        &self,
        values: &mut [T],
        size: usize,
        job: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(size > 0, "chunks of 0 values");
        let start = Start::of(values);
        self.for_ranges(start.len.div_ceil(size), 1, |chunks| {
            for index in chunks {
                // SAFETY: `for_ranges` hands out each index once, so no other reference to the chunk exists, and
                // `values` is borrowed for the whole region.
                job(index, unsafe { start.chunk(index, size) });
            }
        });
    }

    /// [`Pool::for_chunks_mut`] over two slices at once: chunk `index` of `a` comes with chunk `index` of `b`.
    ///
    /// # Panics
    /// When a size is 0, when the slices have different numbers of chunks, or with a panic of `job`.
    pub fn for_chunks_pair_mut<T: Send>(
        &self,
        a: &mut [T],
        a_size: usize,
        b: &mut [T],
        b_size: usize,
        job: impl Fn(usize, &mut [T], &mut [T]) + Sync,
    ) {
        assert!(a_size > 0 && b_size > 0, "chunks of 0 values");
        let (a, b) = (Start::of(a), Start::of(b));
        assert_eq!(a.len.div_ceil(a_size), b.len.div_ceil(b_size), "as many chunks of each");
        self.for_ranges(a.len.div_ceil(a_size), 1, |chunks| {
            for index in chunks {
                // SAFETY: `for_ranges` hands out each index once, so no other reference to either chunk exists; both
                // slices are borrowed for the whole region and do not overlap, being two mutable borrows.
                let (a, b) = unsafe { (a.chunk(index, a_size), b.chunk(index, b_size)) };
                job(index, a, b);
            }
        });
    }

    fn publish(&self, job: &Job<'_>) {
        // SAFETY: only the lifetime changes. Workers use the reference between the opening of the round and their
        // `finish`, and `run` does not return or unwind before all of them have finished.
        let job = unsafe { std::mem::transmute::<&Job<'_>, &'static Job<'static>>(job) };
        // SAFETY: the caller holds `region` and no round is open, so no worker reads the cell.
        unsafe { *self.shared.job.get() = Some(job) };
    }
}

/// A mutable slice that threads share, each taking other chunks of it.
struct Start<T> {
    first: *mut T,
    len: usize,
}

// SAFETY: each thread makes references to its own chunks only, and `T: Send` lets another thread use them.
unsafe impl<T: Send> Sync for Start<T> {}

impl<T> Start<T> {
    fn of(values: &mut [T]) -> Self {
        Self { first: values.as_mut_ptr(), len: values.len() }
    }

    /// Chunk `index` of `size` values; the last may be shorter.
    ///
    /// # Safety
    /// The slice is still borrowed, and no other reference to the chunk exists.
    #[allow(clippy::mut_from_ref, reason = "the caller vouches for it")]
    unsafe fn chunk(&self, index: usize, size: usize) -> &mut [T] {
        let first = index * size;
        assert!(first < self.len, "chunk {index} of {size} in {}", self.len);
        // SAFETY: the chunk lies in the slice, which the caller says is borrowed and not otherwise referred to.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(first), size.min(self.len - first)) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The gate orders this store before the workers' load, as it does for `job`.
        self.shared.closing.store(true, Ordering::Relaxed);
        self.shared.gate.open(self.workers.len());
        for worker in self.workers.drain(..) {
            // A worker cannot panic outside of `catch_unwind`; if it did, there is nothing left to do here.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Shared {
    /// A worker's life.
    fn work(&self, index: usize) {
        INSIDE.set(true);
        let (mut round, mut asker) = (0, Asker::new(index));
        loop {
            round = self.gate.wait_for_round(round, || asker.ask(&self.foresight));
            if self.closing.load(Ordering::Relaxed) {
                return;
            }
            // SAFETY: a round is open and this worker has not finished it, so the caller does not write the cell and
            // the function it published is alive.
            let job = unsafe { *self.job.get() };
            if let Some(job) = job
                && let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| job(index, self.threads)))
            {
                lock(&self.panic).get_or_insert(payload);
            }
            self.gate.finish();
        }
    }
}

/// Locks a mutex whose data is whole at every moment, so that an earlier panic does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
