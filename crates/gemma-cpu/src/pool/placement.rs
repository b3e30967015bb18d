//! Where the threads of a pool run: each worker on a processor of its own, physical cores first.
//!
//! A worker that the system moves leaves its caches behind and may land on a core that is taken. The caller's thread
//! belongs to the caller and is never pinned; the core that it is on when the pool is made is left to it.

use super::PoolError;
use super::topology::Processor;

/// The environment variable that turns pinning `on` or `off`; without it, workers are pinned where processors are
/// threads of shared cores, so that no two of them meet on one core while another is idle.
pub const PIN_VARIABLE: &str = "GEMMA_CPU_PIN";

/// Whether to pin: what [`PIN_VARIABLE`] says, or what suits the processors.
pub(super) fn wanted() -> Result<bool, PoolError> {
    let value = std::env::var_os(PIN_VARIABLE).unwrap_or_default();
    let told = parse(&value.to_string_lossy())?;
    Ok(told.unwrap_or_else(|| share_cores(&super::topology::processors())))
}

fn parse(value: &str) -> Result<Option<bool>, PoolError> {
    match value {
        "" => Ok(None),
        "on" => Ok(Some(true)),
        "off" => Ok(Some(false)),
        other => Err(PoolError::Variable(other.to_owned())),
    }
}

/// Whether any two are threads of one core.
fn share_cores(processors: &[Processor]) -> bool {
    let mut cores: Vec<usize> = processors.iter().map(|processor| processor.core).collect();
    cores.sort_unstable();
    cores.windows(2).any(|pair| pair[0] == pair[1])
}

/// The processors of the workers of a pool of `threads`, in the workers' order; empty where they shall float.
pub(super) fn for_workers(threads: usize) -> Vec<usize> {
    if super::topology::allowed_parallelism() < threads {
        return Vec::new();
    }
    choose(&super::topology::processors(), threads, current())
}

/// Of `processors` (in order of preference), those of `threads − 1` workers, when the caller is on processor `caller`.
fn choose(processors: &[Processor], threads: usize, caller: Option<usize>) -> Vec<usize> {
    if threads == 0 || processors.len() < threads {
        return Vec::new();
    }
    let taken = &processors[..threads];
    let on = |processor: &Processor| Some(processor.number) == caller;
    let core = processors.iter().find(|processor| on(processor)).map(|processor| processor.core);
    let own = taken.iter().position(on);
    let own = own.or_else(|| taken.iter().position(|processor| Some(processor.core) == core)).unwrap_or(0);
    let others = taken.iter().enumerate().filter(|(index, _)| *index != own);
    others.map(|(_, processor)| processor.number).collect()
}

/// The processor that this thread is on.
#[cfg(target_os = "linux")]
#[allow(clippy::unnecessary_wraps, reason = "other systems do not tell")]
fn current() -> Option<usize> {
    Some(rustix::thread::sched_getcpu())
}

#[cfg(not(target_os = "linux"))]
fn current() -> Option<usize> {
    None
}

/// Keeps this thread on one processor. Where the system refuses, it floats: slower perhaps, never wrong.
#[cfg(target_os = "linux")]
pub(super) fn stay_on(processor: usize) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    if processor < CpuSet::MAX_CPU {
        let mut set = CpuSet::new();
        set.set(processor);
        let _ = sched_setaffinity(None, &set);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn stay_on(_processor: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_says_on_or_off() {
        for (value, told) in [("", None), ("on", Some(true)), ("off", Some(false))] {
            assert_eq!(parse(value).unwrap(), told, "{value:?}");
        }
        let error = parse("yes").unwrap_err().to_string();
        assert_eq!(error, "GEMMA_CPU_PIN=yes: write on or off");
    }

    /// Four cores of two threads each, as [`super::super::topology::processors`] orders them.
    fn two_by_four() -> Vec<Processor> {
        (0..8).map(|number| Processor { number, core: number % 4 }).collect()
    }

    #[test]
    fn unless_told_threads_are_pinned_where_cores_are_shared() {
        assert!(share_cores(&two_by_four()));
        assert!(!share_cores(&two_by_four()[..4]));
        assert!(!share_cores(&[]));
    }

    #[test]
    fn workers_take_free_cores_before_siblings() {
        for (threads, caller, places) in [
            (1, Some(0), vec![]),
            (4, Some(0), vec![1, 2, 3]),
            (4, Some(2), vec![0, 1, 3]),
            // On a sibling of core 1: that core is the caller's.
            (4, Some(5), vec![0, 2, 3]),
            (4, None, vec![1, 2, 3]),
            (2, Some(3), vec![1]),
            (8, Some(5), vec![0, 1, 2, 3, 4, 6, 7]),
            (9, Some(0), vec![]),
        ] {
            assert_eq!(choose(&two_by_four(), threads, caller), places, "{threads} threads, {caller:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn workers_stay_where_they_are_put_and_the_caller_is_left_alone() {
        use super::super::{Patience, Pool, PoolOptions};
        use rustix::thread::sched_getaffinity;
        use std::sync::Mutex;

        let threads = super::super::default_threads().min(4);
        let before = sched_getaffinity(None).unwrap();
        let places = for_workers(threads);
        let pool = Pool::with_options(PoolOptions { threads, pin: true, patience: Patience::Short }).unwrap();
        let counts = Mutex::new(vec![0; threads]);
        pool.run(|index, _| counts.lock().unwrap()[index] = sched_getaffinity(None).unwrap().count());
        let counts = counts.into_inner().unwrap();
        assert_eq!(counts[0], before.count(), "the caller");
        assert_eq!(sched_getaffinity(None).unwrap(), before);
        if places.len() + 1 == threads {
            assert!(counts[1..].iter().all(|count| *count == 1), "{counts:?}");
        }
    }

    #[test]
    fn more_threads_than_processors_float() {
        let allowed = super::super::topology::allowed_parallelism();
        assert!(for_workers(allowed + 1).is_empty());
    }
}
