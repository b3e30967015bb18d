//! How many threads are worth having: one for each physical core that this process may use.
//!
//! Two threads of one core share its vector units and its path to memory, so the second adds nothing to these
//! kernels. Read from sysfs on Linux; elsewhere every logical processor counts.

use std::num::NonZero;
use std::path::Path;
use std::{fs, thread};

/// Physical cores, but no more than the processors this process may use (affinity and cgroup limits).
pub fn default_threads() -> usize {
    let allowed = thread::available_parallelism().map_or(1, NonZero::get);
    physical_cores(Path::new("/sys/devices/system/cpu")).map_or(allowed, |cores| cores.clamp(1, allowed))
}

/// Processors under `root` that come first in their own list of siblings; `None` when nothing is listed.
fn physical_cores(root: &Path) -> Option<usize> {
    let cores = fs::read_dir(root)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("cpu")?.parse::<usize>().ok())
        .filter(|cpu| {
            fs::read_to_string(root.join(format!("cpu{cpu}/topology/thread_siblings_list")))
                .is_ok_and(|list| first_of(&list) == Some(*cpu))
        })
        .count();
    (cores > 0).then_some(cores)
}

/// The first number of a list such as `0,64` or `2-3`.
fn first_of(list: &str) -> Option<usize> {
    list.trim().split([',', '-']).next()?.parse().ok()
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
    fn the_default_is_within_what_is_allowed() {
        let threads = default_threads();
        assert!((1..=thread::available_parallelism().unwrap().get()).contains(&threads));
    }
}
