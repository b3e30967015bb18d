//! Bytes read from memory each second, beyond every cache.
//!
//! Each thread adds up all values of its part of a buffer, with vectors of the kernels' instruction set.

use std::hint::black_box;
use std::path::Path;

use gemma_hal::block::BLOCK;

use super::{DURATION, best_of};
use crate::pool::Pool;
use crate::simd::{Isa, Kernel, Simd};

/// Read at least this much, or four times the largest cache if that is more.
const SMALLEST_BUFFER: usize = 256 << 20;

/// Machines with larger caches get a somewhat flattering figure rather than a long wait.
const LARGEST_BUFFER: usize = 1 << 30;

/// Blocks read at a time by one thread.
const STRETCH: usize = 4096;

type Block = [f32; BLOCK];

/// Bytes a second that all threads of `pool` together read from memory.
///
/// Takes some 0.3 s and, for that time, 256 MiB to 1 GiB of memory: less when that much cannot be had, which may
/// then measure a cache.
pub fn read_bandwidth(isa: Isa, pool: &Pool) -> f64 {
    let cache = largest_cache(Path::new("/sys/devices/system/cpu/cpu0/cache")).unwrap_or(0);
    let buffer = buffer(pool, cache.saturating_mul(4).clamp(SMALLEST_BUFFER, LARGEST_BUFFER));
    let bytes = size_of_val(buffer.as_slice()) as f64;
    let pass = || {
        pool.for_ranges_of(buffer.len(), STRETCH, |range| {
            black_box(isa.run(Read(&buffer[range])));
        });
    };
    bytes / best_of(DURATION, pass).as_secs_f64()
}

/// Memory that every thread has written to: pages never written are all the same page of zeros.
fn buffer(pool: &Pool, bytes: usize) -> Vec<Block> {
    let mut buffer = Vec::new();
    let mut blocks = bytes / size_of::<Block>();
    while buffer.try_reserve_exact(blocks).is_err() && blocks > 1 {
        blocks /= 2;
    }
    buffer.resize(blocks, [0.0; BLOCK]);
    pool.for_chunks_mut(&mut buffer, STRETCH, |_, blocks| blocks.fill([1.0; BLOCK]));
    buffer
}

/// Reads every byte.
struct Read<'a>(&'a [Block]);

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mut sums = [simd.zero(); BLOCK];
        for block in self.0 {
            #[allow(clippy::needless_range_loop, reason = "the block and the sums share the index")]
            for v in 0..S::VECTORS {
                sums[v] = simd.add(sums[v], simd.load(block, v));
            }
        }
        let mut total = simd.zero();
        for sum in &sums[..S::VECTORS] {
            total = simd.add(total, *sum);
        }
        simd.sum(total)
    }
}

/// Bytes of the largest cache described in `folder`.
fn largest_cache(folder: &Path) -> Option<usize> {
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| cache_size(&std::fs::read_to_string(entry.ok()?.path().join("size")).ok()?))
        .max()
}

/// A size as the kernel writes it: `32768K`, `32M`.
fn cache_size(text: &str) -> Option<usize> {
    let text = text.trim();
    let (digits, unit) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_sizes() {
        for (text, size) in
            [("32768K\n", Some(32 << 20)), ("32M", Some(32 << 20)), ("64", Some(64)), ("x", None)]
        {
            assert_eq!(cache_size(text), size, "{text:?}");
        }
    }
}
