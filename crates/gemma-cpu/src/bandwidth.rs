//! What the machine can do at best: bytes read from memory and multiply-adds done, each second.
//!
//! Reports divide by these figures. Measured with the instruction set and the threads that the kernels use, best of
//! several passes, because everything that disturbs a pass makes it slower.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use gemma_hal::block::BLOCK;

use crate::pool::Pool;
use crate::simd::{Isa, Kernel, Simd};

/// Read at least this much, or four times the largest cache if that is more.
const SMALLEST_BUFFER: usize = 256 << 20;

/// Machines with larger caches get a somewhat flattering figure rather than a long wait.
const LARGEST_BUFFER: usize = 1 << 30;

/// Each measurement goes on for at least this long.
const DURATION: Duration = Duration::from_millis(200);

/// Blocks read at a time by one thread.
const STRETCH: usize = 4096;

type Block = [f32; BLOCK];

/// Bytes a second that all threads of `pool` together read from memory.
///
/// Takes some 0.3 s and, for that time, 256 MiB to 1 GiB of memory: less when that much cannot be had, which may
/// then measure a cache.
pub fn measure(isa: Isa, pool: &Pool) -> f64 {
    let cache = largest_cache(Path::new("/sys/devices/system/cpu/cpu0/cache")).unwrap_or(0);
    let buffer = buffer(pool, cache.saturating_mul(4).clamp(SMALLEST_BUFFER, LARGEST_BUFFER));
    let bytes = size_of_val(buffer.as_slice()) as f64;
    let pass = || {
        pool.for_ranges_of(buffer.len(), STRETCH, |range| {
            black_box(isa.run(Read(&buffer[range])));
        });
    };
    bytes / best_of(pass).as_secs_f64()
}

/// Floating-point operations a second (a multiply-add is two) of all threads of `pool` together.
pub fn peak_flops(isa: Isa, pool: &Pool) -> f64 {
    const ROUNDS: usize = 200_000;
    let lanes = isa.run(Multiply { rounds: 0 }).1;
    let pass = || {
        pool.run(|_, _| {
            black_box(isa.run(Multiply { rounds: black_box(ROUNDS) }));
        });
    };
    let flops = 2 * ROUNDS * CHAINS * lanes * pool.threads();
    flops as f64 / best_of(pass).as_secs_f64()
}

/// The shortest of the passes that fit in [`DURATION`], at least three.
fn best_of(pass: impl Fn()) -> Duration {
    let start = Instant::now();
    let mut best = Duration::MAX;
    let mut passes = 0;
    while passes < 3 || start.elapsed() < DURATION {
        let pass_start = Instant::now();
        pass();
        best = best.min(pass_start.elapsed());
        passes += 1;
    }
    best
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

/// Independent chains of multiply-adds: more than latency times units of current processors.
const CHAINS: usize = 12;

/// Multiply-adds in registers.
struct Multiply {
    rounds: usize,
}

impl Kernel for Multiply {
    /// The sum, and the lanes of a vector.
    type Output = (f32, usize);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (f32, usize) {
        let factor = simd.splat(black_box(0.999));
        let addend = simd.splat(black_box(0.001));
        let mut sums = [simd.zero(); CHAINS];
        for _ in 0..self.rounds {
            for sum in &mut sums {
                *sum = simd.fma(*sum, factor, addend);
            }
        }
        let mut total = simd.zero();
        for sum in sums {
            total = simd.add(total, sum);
        }
        (simd.sum(total), S::LANES)
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

    #[test]
    fn more_than_the_slowest_machine_and_less_than_any() {
        let pool = Pool::new(1).unwrap();
        for isa in Isa::available() {
            let bytes = measure(isa, &pool);
            assert!((1e8..1e12).contains(&bytes), "{}: {bytes} bytes a second", isa.name());
            let flops = peak_flops(isa, &pool);
            assert!((1e8..1e13).contains(&flops), "{}: {flops} operations a second", isa.name());
        }
    }
}
