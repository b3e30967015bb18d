//! The processors that this process may use, and how many threads are worth having: one a physical core.
//!
//! Two threads of one core share its vector units and its path to memory, so the second adds nothing to these
//! kernels. Read from the system on Linux; elsewhere every logical processor counts.

use std::num::NonZero;
use std::path::Path;
use std::{fs, thread};

/// Where Linux lists processors.
const ROOT: &str = "/sys/devices/system/cpu";

/// A logical processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Processor {
    /// The system's number for it.
    pub(super) number: usize,
    /// The same for those that are threads of one core.
    pub(super) core: usize,
}

/// Physical cores that this process may use, but no more than its share of processor time (cgroup quota) keeps busy.
pub fn default_threads() -> usize {
    threads_for(&processors(), allowed_parallelism())
}

/// Threads that this process can keep running at once: its affinity and its cgroup's quota, whichever is less.
pub(super) fn allowed_parallelism() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// The processors that this process may use: one of each core first, then their siblings. Empty where the system does
/// not tell.
pub(super) fn processors() -> Vec<Processor> {
    in_order(Path::new(ROOT), &allowed())
}

fn threads_for(processors: &[Processor], allowed: usize) -> usize {
    let mut cores: Vec<usize> = processors.iter().map(|processor| processor.core).collect();
    cores.sort_unstable();
    cores.dedup();
    if cores.is_empty() { allowed } else { cores.len().clamp(1, allowed) }
}

/// `numbers` by their place among the siblings of their core, as listed under `root`.
fn in_order(root: &Path, numbers: &[usize]) -> Vec<Processor> {
    let mut found: Vec<(usize, Processor)> = Vec::new();
    for &number in numbers {
        let list = fs::read_to_string(root.join(format!("cpu{number}/topology/thread_siblings_list")));
        let core = list.ok().and_then(|list| first_of(&list)).unwrap_or(number);
        let before = found.iter().filter(|(_, processor)| processor.core == core).count();
        found.push((before, Processor { number, core }));
    }
    // Stable: within a rank they stay in the system's order.
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, processor)| processor).collect()
}

/// The first number of a list such as `0,64` or `2-3`.
fn first_of(list: &str) -> Option<usize> {
    list.trim().split([',', '-']).next()?.parse().ok()
}

/// Numbers of the processors in this thread's affinity mask, which is the process's own unless it was changed.
#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let Ok(set) = sched_getaffinity(None) else { return Vec::new() };
    (0..CpuSet::MAX_CPU).filter(|number| set.is_set(*number)).collect()
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sibling_lists() {
        for (list, first) in [("0,64\n", Some(0)), ("2-3\n", Some(2)), ("7", Some(7)), ("", None)] {
            assert_eq!(first_of(list), first, "{list:?}");
        }
    }

    #[test]
    fn one_thread_of_each_core_comes_first_and_only_what_is_allowed() {
        let root = tempfile::TempDir::new().unwrap();
        for (number, siblings) in ["0-1", "0-1", "2,6", "3", "", "5", "2,6"].iter().enumerate() {
            let folder = root.path().join(format!("cpu{number}/topology"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("thread_siblings_list"), siblings).unwrap();
        }
        for (allowed, order, cores) in [
            (vec![0, 1, 2, 3, 6], vec![0, 2, 3, 1, 6], 3),
            // The affinity leaves two threads of one core: one thread is worth having, not two.
            (vec![2, 6], vec![2, 6], 1),
            (vec![1, 6], vec![1, 6], 2),
            // Processor 4 lists nothing, 9 is not there: each is a core of its own.
            (vec![4, 9], vec![4, 9], 2),
        ] {
            let found = in_order(root.path(), &allowed);
            let numbers: Vec<usize> = found.iter().map(|processor| processor.number).collect();
            assert_eq!(numbers, order, "{allowed:?}");
            assert_eq!(threads_for(&found, 100), cores, "{allowed:?}");
            assert_eq!(threads_for(&found, 1), 1, "a quota of one processor");
        }
        assert_eq!(threads_for(&[], 3), 3, "the system tells no cores");
    }

    #[test]
    fn the_default_is_within_what_is_allowed() {
        assert!((1..=allowed_parallelism()).contains(&default_threads()));
    }
}
