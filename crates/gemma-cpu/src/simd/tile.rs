//! The inner loop of every matrix product: dot products of a few stored rows with a few inputs, kept in registers.
//!
//! The order in which a dot product is summed is fixed here and is the same for every tile size: within a block of
//! [`DEPTH`] chunks, lane `i` of one vector takes columns `i`, `i + LANES`, …; then the lanes are added, then blocks.

use gemma_hal::block::BLOCK;

use super::format::Decode;
use super::lanes::Simd;

/// Chunks of columns summed in one go: 1024 columns, so that a few inputs stay in the first-level cache.
pub(super) const DEPTH: usize = 32;

/// Rows computed together: enough independent sums to hide the latency of a multiply-add.
pub(super) const ROWS: usize = 4;

/// 32 values of an input.
pub(super) type Chunk = [f32; BLOCK];

/// Accumulators for a tile of rows and `T` inputs.
pub(super) type Sums<S, const T: usize> = [[<S as Simd>::F; T]; ROWS];

/// Adds the products of rows and inputs of the same length. `ahead` bytes further on in each row are prefetched.
#[inline(always)]
pub(super) fn accumulate<S: Simd, F: Decode, const T: usize>(
    simd: S,
    sums: &mut Sums<S, T>,
    rows: [&[F::Chunk]; ROWS],
    inputs: [&[Chunk]; T],
    ahead: usize,
) {
    let length = rows[0].len();
    // Slices of one length let the compiler drop the checks in the loop.
    let rows = rows.map(|row| &row[..length]);
    let inputs = inputs.map(|input| &input[..length]);
    for chunk in 0..length {
        if ahead > 0 {
            for r in 0..ROWS {
                simd.prefetch(rows[r].as_ptr().wrapping_add(chunk).cast::<u8>().wrapping_add(ahead));
            }
        }
        // One row after the other where decoding needs registers of its own; else inputs are loaded once for all rows.
        if F::BLOCKED {
            for r in 0..ROWS {
                for v in 0..S::VECTORS {
                    step::<S, F, T>(simd, &mut sums[r], &rows[r][chunk], &inputs, chunk, v);
                }
            }
        } else {
            for v in 0..S::VECTORS {
                for r in 0..ROWS {
                    step::<S, F, T>(simd, &mut sums[r], &rows[r][chunk], &inputs, chunk, v);
                }
            }
        }
    }
}

/// Adds the products of one vector of a row.
#[inline(always)]
fn step<S: Simd, F: Decode, const T: usize>(
    simd: S,
    sums: &mut [S::F; T],
    row: &F::Chunk,
    inputs: &[&[Chunk]; T],
    chunk: usize,
    v: usize,
) {
    let weights = F::decode(simd, row, v);
    for t in 0..T {
        sums[t] = simd.fma(weights, simd.load(&inputs[t][chunk], v), sums[t]);
    }
}

/// The sums of each accumulator, rows first: `[t][r]`.
#[inline(always)]
pub(super) fn reduce<S: Simd, const T: usize>(simd: S, sums: &Sums<S, T>) -> [[f32; ROWS]; T] {
    let mut out = [[0.0; ROWS]; T];
    for t in 0..T {
        let mut rows = [simd.zero(); ROWS];
        for r in 0..ROWS {
            rows[r] = sums[r][t];
        }
        out[t] = simd.sums(rows);
    }
    out
}
