//! Activations rounded to 8 bits, in the layout that the kernels read them in.
//!
//! A block of 32 values becomes `scale · quants`, with the largest magnitude at 127 steps. A product visits the blocks
//! `c`, `c + 4`, `c + 8`, … of a row as chain `c`; see [`super`].

use std::cell::RefCell;
use std::ops::Range;

use gemma_hal::block::BLOCK;

use super::CHAINS;
use crate::pool::Pool;
use crate::simd::{Isa, Kernel, Simd};

/// Tokens that a tile of the many-input kernel has at most.
pub(super) const TILE: usize = 6;

/// Values below which waking the other threads costs more than it saves.
const SERIAL_VALUES: usize = 1 << 16;

/// Blocks whose largest magnitude is smaller count as zeros: their inverse scale would overflow.
const SMALLEST: f32 = 1e-30;

/// Bytes of a cache line and of the widest vector.
pub(super) const LINE: usize = 64;

/// A cache line of quants.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [i8; LINE]);

/// How the blocks of several tokens lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Token after token. Every 4 blocks lie as the first 16 values of each, then the last 16 of each, so that a row of
    /// nibbles unpacks to the same order. The last group is filled up with zeros.
    Grouped,
    /// Tiles of up to [`TILE`] tokens; in a tile chain after chain, block after block, token after token.
    Tiled,
}

/// The tokens of tile `index` of [`Layout::Tiled`]: as even as can be, so that no tile is left nearly empty.
pub(super) fn tile(n: usize, index: usize) -> Range<usize> {
    let tiles = n.div_ceil(TILE);
    index * n / tiles..(index + 1) * n / tiles
}

/// The first position of each chain of a row of `blocks`, in the order chain after chain, and the end.
pub(super) fn chain_starts(blocks: usize) -> [usize; CHAINS + 1] {
    let mut starts = [0; CHAINS + 1];
    for chain in 0..CHAINS {
        starts[chain + 1] = starts[chain] + (blocks + CHAINS - 1 - chain) / CHAINS;
    }
    starts
}

/// Rounded activations of all tokens of a product.
#[derive(Clone, Copy)]
pub(in crate::simd) struct Inputs<'a> {
    pub(super) n: usize,
    /// Blocks of a token.
    pub(super) blocks: usize,
    pub(super) layout: Layout,
    quants: &'a [i8],
    scales: &'a [f32],
    /// Sums of the quants of a block.
    sums: &'a [i32],
    /// Sums of the first 16 quants of a block.
    firsts: &'a [i32],
}

/// The quants, scales and sums of some blocks.
#[derive(Clone, Copy)]
pub(super) struct Rounded<'a> {
    pub(super) quants: &'a [[i8; BLOCK]],
    pub(super) scales: &'a [f32],
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        allow(dead_code, reason = "for formats with minima")
    )]
    pub(super) sums: &'a [i32],
    #[cfg_attr(
        not(any(target_arch = "x86_64", target_arch = "aarch64")),
        allow(dead_code, reason = "for formats with two scales in a block")
    )]
    pub(super) firsts: &'a [i32],
}

impl<'a> Inputs<'a> {
    /// One token of [`Layout::Grouped`]: whole groups.
    pub(super) fn token(&self, token: usize) -> Rounded<'a> {
        debug_assert_eq!(self.layout, Layout::Grouped);
        let blocks = self.blocks.next_multiple_of(CHAINS);
        self.blocks_at(token * blocks..(token + 1) * blocks)
    }

    /// A tile of [`Layout::Tiled`].
    pub(super) fn tile(&self, tokens: &Range<usize>) -> Rounded<'a> {
        debug_assert_eq!(self.layout, Layout::Tiled);
        self.blocks_at(tokens.start * self.blocks..tokens.end * self.blocks)
    }

    fn blocks_at(&self, range: Range<usize>) -> Rounded<'a> {
        Rounded {
            quants: &self.quants.as_chunks().0[range.clone()],
            scales: &self.scales[range.clone()],
            sums: &self.sums[range.clone()],
            firsts: &self.firsts[range],
        }
    }
}

/// Memory for [`Inputs`], kept so that a step of decode allocates nothing.
#[derive(Default)]
struct Room {
    lines: Vec<Line>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    firsts: Vec<i32>,
}

impl Room {
    fn resize(&mut self, blocks: usize) {
        let lines = (blocks * BLOCK).div_ceil(LINE);
        self.lines.resize(self.lines.len().max(lines), Line([0; LINE]));
        self.scales.resize(self.scales.len().max(blocks), 0.0);
        self.sums.resize(self.sums.len().max(blocks), 0);
        self.firsts.resize(self.firsts.len().max(blocks), 0);
    }
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// Makes the memory of the current thread for `n` inputs of `columns` values.
pub(super) fn reserve(n: usize, columns: usize) {
    ROOM.with_borrow_mut(|room| room.resize(n * columns.div_ceil(BLOCK).next_multiple_of(CHAINS)));
}

/// Rounds `[n, columns]` values and hands them to `then`. Columns are whole blocks.
pub(super) fn with_inputs<R>(
    isa: Isa,
    pool: &Pool,
    layout: Layout,
    values: &[f32],
    columns: usize,
    then: impl FnOnce(Inputs<'_>) -> R,
) -> R {
    let (n, blocks) = (values.len() / columns, columns / BLOCK);
    let stride = if layout == Layout::Grouped { blocks.next_multiple_of(CHAINS) } else { blocks };
    ROOM.with_borrow_mut(|room| {
        room.resize(n * stride);
        let total = n * stride;
        let quants: &mut [i8] = bytemuck::cast_slice_mut(&mut room.lines);
        let target = Target {
            quants: quants.as_mut_ptr().cast(),
            scales: room.scales.as_mut_ptr(),
            sums: room.sums.as_mut_ptr(),
            firsts: room.firsts.as_mut_ptr(),
        };
        let pieces = if layout == Layout::Grouped { n } else { n.div_ceil(TILE) };
        let job = |range: Range<usize>| {
            for piece in range {
                let tokens = if layout == Layout::Grouped { piece..piece + 1 } else { tile(n, piece) };
                let blocks = tokens.start * stride..tokens.end * stride;
                // SAFETY: the room has `total` blocks, pieces cover disjoint ranges of them, and each piece is handed
                // out once; the room stays borrowed until the region has ended.
                let (quants, scales, [sums, firsts]) = unsafe { target.slices(blocks) };
                let values = &values[tokens.start * columns..tokens.end * columns];
                let (values, count) = (values.as_chunks().0, tokens.len());
                isa.run(Round { values, count, layout, quants, scales, sums, firsts });
            }
        };
        if values.len() < SERIAL_VALUES {
            job(0..pieces);
        } else {
            pool.for_ranges(pieces, 1, job);
        }
        then(Inputs {
            n,
            blocks,
            layout,
            quants: &bytemuck::cast_slice(&room.lines)[..total * BLOCK],
            scales: &room.scales[..total],
            sums: &room.sums[..total],
            firsts: &room.firsts[..total],
        })
    })
}

/// Where threads write rounded blocks.
#[derive(Clone, Copy)]
struct Target {
    quants: *mut [i8; BLOCK],
    scales: *mut f32,
    sums: *mut i32,
    firsts: *mut i32,
}

// SAFETY: the pointers are used through `slices` only, whose callers keep ranges of different threads apart.
unsafe impl Sync for Target {}

impl Target {
    /// # Safety
    /// The blocks exist, are borrowed for `'a`, and no one else refers to them meanwhile.
    unsafe fn slices<'a>(
        &self,
        blocks: Range<usize>,
    ) -> (&'a mut [[i8; BLOCK]], &'a mut [f32], [&'a mut [i32]; 2]) {
        let (start, len) = (blocks.start, blocks.len());
        // SAFETY: the caller vouches for the blocks.
        unsafe {
            (
                std::slice::from_raw_parts_mut(self.quants.add(start), len),
                std::slice::from_raw_parts_mut(self.scales.add(start), len),
                [
                    std::slice::from_raw_parts_mut(self.sums.add(start), len),
                    std::slice::from_raw_parts_mut(self.firsts.add(start), len),
                ],
            )
        }
    }
}

/// Rounds one piece: a token, or a tile of them.
struct Round<'a> {
    values: &'a [[f32; BLOCK]],
    count: usize,
    layout: Layout,
    quants: &'a mut [[i8; BLOCK]],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
    firsts: &'a mut [i32],
}

impl Kernel for Round<'_> {
    type Output = ();

    /// Plain Rust, so that every instruction set rounds alike; the compiler makes vectors of it.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let blocks = self.values.len() / self.count;
        match self.layout {
            Layout::Grouped => {
                let halves = self.quants.as_flattened_mut().as_chunks_mut::<{ BLOCK / 2 }>().0;
                for (block, values) in self.values.iter().enumerate() {
                    let (quants, scale, [sum, first_sum]) = round(values);
                    let first = block / CHAINS * 2 * CHAINS + block % CHAINS;
                    halves[first].copy_from_slice(&quants[..BLOCK / 2]);
                    halves[first + CHAINS].copy_from_slice(&quants[BLOCK / 2..]);
                    (self.scales[block], self.sums[block], self.firsts[block]) = (scale, sum, first_sum);
                }
                for block in blocks..self.scales.len() {
                    let first = block / CHAINS * 2 * CHAINS + block % CHAINS;
                    (halves[first], halves[first + CHAINS]) = ([0; BLOCK / 2], [0; BLOCK / 2]);
                    (self.scales[block], self.sums[block], self.firsts[block]) = (0.0, 0, 0);
                }
            }
            Layout::Tiled => {
                let starts = chain_starts(blocks);
                for (token, values) in self.values.chunks_exact(blocks).enumerate() {
                    for (block, values) in values.iter().enumerate() {
                        let at = (starts[block % CHAINS] + block / CHAINS) * self.count + token;
                        let (quants, scale, sums) = round(values);
                        (self.quants[at], self.scales[at]) = (quants, scale);
                        [self.sums[at], self.firsts[at]] = sums;
                    }
                }
            }
        }
    }
}

/// Quants, scale and sums (of all, of the first half) of a block. A value that is not finite makes the scale NaN, and with it every output.
#[inline(always)]
fn round(values: &[f32; BLOCK]) -> ([i8; BLOCK], f32, [i32; 2]) {
    // Magnitudes compare as integers, with what is not finite above the rest.
    let mut largest = 0;
    for value in values {
        largest = largest.max(value.to_bits() & 0x7fff_ffff);
    }
    let largest = f32::from_bits(largest);
    if !largest.is_finite() {
        return ([0; BLOCK], f32::NAN, [0; 2]);
    }
    if largest < SMALLEST {
        return ([0; BLOCK], 0.0, [0; 2]);
    }
    // Adding 1.5 · 2^23 leaves the nearest integer, ties to even, in the low bits.
    const SHIFT: f32 = 12_582_912.0;
    let inverse = 127.0 / largest;
    let (mut quants, mut sums) = ([0; BLOCK], [0; 2]);
    for half in 0..2 {
        for i in half * BLOCK / 2..(half + 1) * BLOCK / 2 {
            let integer =
                (values[i] * inverse + SHIFT).to_bits().cast_signed() - SHIFT.to_bits().cast_signed();
            quants[i] = integer as i8;
            sums[half] += integer;
        }
    }
    (quants, largest / 127.0, [sums[0] + sums[1], sums[0]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest_step() {
        let mut values: [f32; BLOCK] = std::array::from_fn(|i| (i as f32 * 0.37).sin() * 3.0);
        values[7] = -4.0;
        let (quants, scale, [sum, first]) = round(&values);
        assert_eq!(quants[7], -127);
        assert_eq!(sum, quants.iter().map(|q| i32::from(*q)).sum());
        assert_eq!(first, quants[..16].iter().map(|q| i32::from(*q)).sum());
        for (value, quant) in values.iter().zip(quants) {
            assert!((value - scale * f32::from(quant)).abs() <= scale * 0.5001, "{value}");
        }
    }

    #[test]
    fn what_cannot_be_rounded_is_nan_or_zero() {
        let mut values = [1.0; BLOCK];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            values[3] = bad;
            let (quants, scale, _) = round(&values);
            assert!(scale.is_nan() && quants == [0; BLOCK]);
        }
        assert_eq!(round(&[1e-38; BLOCK]), ([0; BLOCK], 0.0, [0; 2]));
        let (quants, scale, _) = round(&[f32::MAX; BLOCK]);
        assert!(quants == [127; BLOCK] && scale.is_finite());
    }

    #[test]
    fn tiles_and_chains_cover_everything() {
        for n in 1..200_usize {
            let tiles: Vec<_> = (0..n.div_ceil(TILE)).map(|index| tile(n, index)).collect();
            assert!(tiles.iter().all(|tile| (1..=TILE).contains(&tile.len())));
            assert!(
                tiles.windows(2).all(|pair| pair[0].end == pair[1].start) && tiles[tiles.len() - 1].end == n
            );
            let starts = chain_starts(n);
            let mut seen = vec![false; n];
            (0..n).for_each(|block| seen[starts[block % CHAINS] + block / CHAINS] = true);
            assert!(starts[CHAINS] == n && seen.iter().all(|seen| *seen));
        }
    }
}
