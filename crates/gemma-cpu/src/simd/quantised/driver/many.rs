//! Many inputs: panels of rows, packed once as the processor multiplies them, for every input of the product. The
//! loops; [`Many`] is what is in them.

use std::cell::RefCell;
use std::ops::Range;

use gemma_hal::block::BLOCK;

use super::Product;
use super::stored::{More, Stored};
use crate::simd::operands::{Matrix, Target};
use crate::simd::quantised::CHAINS;
use crate::simd::quantised::activation::{self, Line, Rounded, TILE};

/// Panels that share a pass over the inputs at most.
const MAX_PANELS: usize = 2;

/// Room for the blocks of an incomplete group of any format.
const TAIL: usize = 256;

/// Vectors of 4 columns in a block.
pub(in crate::simd::quantised) const STEPS: usize = BLOCK / 4;

/// The quants of a block of as many rows as a panel has, in an order of the instruction set's own.
pub(in crate::simd::quantised) type Panel<const ROWS: usize> = [[i8; BLOCK]; ROWS];

/// A block of the rows of a panel.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::simd::quantised) struct Packed<const ROWS: usize> {
    pub(in crate::simd::quantised) quants: Panel<ROWS>,
    pub(in crate::simd::quantised) scales: [f32; ROWS],
    /// What the format has besides.
    pub(in crate::simd::quantised) more: [f32; ROWS],
}

/// What an instruction set does with panels of `ROWS` rows.
///
/// Methods must be `#[inline(always)]`, so that they are compiled with their caller's instruction set.
pub(in crate::simd::quantised) trait Many<const ROWS: usize>: Copy {
    /// Panels that share a pass over the inputs.
    const PANELS: usize;
    /// A number for each row.
    type Sums: Copy;
    /// An integer for each row.
    type Dots: Copy;

    fn zero(self) -> Self::Sums;
    fn load(self, values: &[f32; ROWS]) -> Self::Sums;
    fn store(self, values: &mut [f32; ROWS], sums: Self::Sums);
    fn add(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// `dots · (rows · input) + sums`, with one rounding where the processor can.
    fn multiply_add(self, dots: Self::Dots, rows: Self::Sums, input: f32, sums: Self::Sums) -> Self::Sums;
    /// The same for all rows.
    fn splat(self, value: i32) -> Self::Dots;

    /// Products of columns `4 · FROM .. 4 · TO` (all, the first half or the last) of what the quants stand for, and of
    /// inputs whose values in these columns have the sums `sums`.
    fn dots<F: Stored, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
        self,
        panels: [&Panel<ROWS>; P],
        inputs: &[[i8; BLOCK]; T],
        sums: &[i32; T],
    ) -> [[Self::Dots; P]; T];

    /// Asks for the cache line at `address`, which need not be valid.
    fn prefetch(self, address: *const u8);
}

/// How an instruction set packs panels of a format.
pub(in crate::simd::quantised) trait Pack<F: Stored, const ROWS: usize>:
    Many<ROWS>
{
    /// The 4 blocks of group `index` of these rows.
    fn pack(self, rows: [&[u8]; ROWS], index: usize) -> [Packed<ROWS>; CHAINS];
}

/// Memory for panels, kept so that no run but the first allocates. Lines of values, for panels of any size.
#[derive(Default)]
struct Room {
    /// `[block, panel, row, column]`, blocks in the order chain after chain.
    quants: Vec<Line>,
    /// `[block, panel, row]`
    scales: Vec<Line>,
    /// `[block, panel, row]`: what formats have besides a scale.
    more: Vec<Line>,
    /// `[token, panel, row]`: sums of the chains so far.
    sums: Vec<Line>,
}

impl Room {
    /// For panels of `rows` rows together.
    fn resize(&mut self, rows: usize, n: usize, blocks: usize) {
        let grow = |lines: &mut Vec<Line>, bytes: usize| {
            lines.resize(lines.len().max(bytes.div_ceil(size_of::<Line>())), bytemuck::Zeroable::zeroed());
        };
        grow(&mut self.quants, rows * blocks * BLOCK);
        grow(&mut self.scales, rows * blocks * size_of::<f32>());
        grow(&mut self.more, rows * blocks * size_of::<f32>());
        grow(&mut self.sums, rows * n * size_of::<f32>());
    }
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// Makes the memory of the current thread, for panels of `rows` rows together.
pub(in crate::simd::quantised) fn reserve(rows: usize, n: usize, columns: usize) {
    ROOM.with_borrow_mut(|room| room.resize(rows, n, columns.div_ceil(BLOCK)));
}

/// Values of `P` panels, one after the other.
#[inline(always)]
fn panels_of<V: bytemuck::Pod, const ROWS: usize, const P: usize>(
    lines: &mut [Line],
) -> &mut [[[V; ROWS]; P]] {
    bytemuck::cast_slice_mut::<Line, V>(lines).as_chunks_mut().0.as_chunks_mut().0
}

/// Sets the outputs of some rows.
#[inline(always)]
pub(in crate::simd::quantised) fn run<F: Stored, G: Pack<F, ROWS>, const ROWS: usize>(
    simd: G,
    product: &Product<'_>,
) {
    // Taken out and put back, because what is called in a closure is not compiled for the instruction set.
    let mut room = ROOM.take();
    room.resize(ROWS * G::PANELS, product.inputs.n, product.inputs.blocks);
    for first in product.rows.clone().step_by(ROWS * G::PANELS) {
        let rows = first..product.rows.end.min(first + ROWS * G::PANELS);
        match G::PANELS {
            1 => panels::<F, G, ROWS, 1>(simd, product, rows, &mut room),
            _ => panels::<F, G, ROWS, MAX_PANELS>(simd, product, rows, &mut room),
        }
    }
    ROOM.set(room);
}

/// The outputs of `P` panels.
#[inline(always)]
fn panels<F: Stored, G: Pack<F, ROWS>, const ROWS: usize, const P: usize>(
    simd: G,
    product: &Product<'_>,
    rows: Range<usize>,
    room: &mut Room,
) {
    let Product { matrix, inputs, target, .. } = *product;
    let starts = activation::chain_starts(inputs.blocks);
    let mut packed = Panels {
        quants: bytemuck::cast_slice_mut::<Line, i8>(&mut room.quants)
            .as_chunks_mut()
            .0
            .as_chunks_mut()
            .0
            .as_chunks_mut()
            .0,
        scales: panels_of(&mut room.scales),
        more: panels_of(&mut room.more),
    };
    for p in 0..P {
        packed.pack::<F, G>(simd, matrix, &rows, &starts, p);
    }
    let sums: &mut [[[f32; ROWS]; P]] = &mut panels_of(&mut room.sums)[..inputs.n];
    for chain in 0..CHAINS {
        let blocks = starts[chain]..starts[chain + 1];
        for index in 0..inputs.n.div_ceil(TILE) {
            let tokens = activation::tile(inputs.n, index);
            let (rounded, sums) = (inputs.tile(&tokens), &mut sums[tokens.clone()]);
            let chain = Chain {
                quants: &packed.quants[blocks.clone()],
                scales: &packed.scales[blocks.clone()],
                more: &packed.more[blocks.clone()],
                start: blocks.start,
                rounded,
                first: chain == 0,
            };
            match tokens.len() {
                1 => chain.run::<F, G, 1>(simd, sums),
                2 => chain.run::<F, G, 2>(simd, sums),
                3 => chain.run::<F, G, 3>(simd, sums),
                4 => chain.run::<F, G, 4>(simd, sums),
                5 => chain.run::<F, G, 5>(simd, sums),
                _ => chain.run::<F, G, 6>(simd, sums),
            }
        }
    }
    store(target, &rows, sums);
}

/// Writes the sums of `P` panels to the outputs.
fn store<const ROWS: usize, const P: usize>(
    target: Target<'_>,
    rows: &Range<usize>,
    sums: &[[[f32; ROWS]; P]],
) {
    for (token, sums) in sums.iter().enumerate() {
        // SAFETY: ranges of rows of a region do not overlap, so no other thread touches these outputs.
        unsafe { target.store(rows.start, token, &sums.as_flattened()[..rows.len()]) };
    }
}

/// One chain of blocks of `P` panels and one tile of inputs.
struct Chain<'a, const ROWS: usize, const P: usize> {
    quants: &'a [[Panel<ROWS>; P]],
    scales: &'a [[[f32; ROWS]; P]],
    more: &'a [[[f32; ROWS]; P]],
    /// Position of the first block in the order of the inputs.
    start: usize,
    rounded: Rounded<'a>,
    /// Whether it is the first chain of the outputs.
    first: bool,
}

impl<const ROWS: usize, const P: usize> Chain<'_, ROWS, P> {
    #[inline(always)]
    fn run<F: Stored, G: Many<ROWS>, const T: usize>(&self, simd: G, out: &mut [[[f32; ROWS]; P]]) {
        let mut sums = [[simd.zero(); P]; T];
        let count = self.quants.len();
        // Slices of one length let the compiler drop the checks in the loop.
        let (by_row, beside) = (&self.scales[..count], &self.more[..count]);
        let inputs = self.start * T..(self.start + count) * T;
        let quants = &self.rounded.quants[inputs.clone()].as_chunks::<T>().0[..count];
        let scales = &self.rounded.scales[inputs.clone()].as_chunks::<T>().0[..count];
        let all = &self.rounded.sums[inputs.clone()].as_chunks::<T>().0[..count];
        let firsts = &self.rounded.firsts[inputs].as_chunks::<T>().0[..count];
        for index in 0..count {
            let (quants, scales, all) = (&quants[index], &scales[index], &all[index]);
            let mut panels = [&self.quants[index][0]; P];
            for p in 1..P {
                panels[p] = &self.quants[index][p];
            }
            if F::MORE == More::Scale {
                let (first, mut last) = (&firsts[index], *all);
                for t in 0..T {
                    last[t] -= first[t];
                }
                let products = simd.dots::<F, P, T, 0, { STEPS / 2 }>(panels, quants, first);
                add(simd, products, &by_row[index], scales, &mut sums);
                let products = simd.dots::<F, P, T, { STEPS / 2 }, STEPS>(panels, quants, &last);
                add(simd, products, &beside[index], scales, &mut sums);
            } else {
                let products = simd.dots::<F, P, T, 0, STEPS>(panels, quants, all);
                add(simd, products, &by_row[index], scales, &mut sums);
            }
            if F::MORE == More::Minimum {
                let mut spread = [[simd.splat(0); P]; T];
                for t in 0..T {
                    spread[t] = [simd.splat(all[t]); P];
                }
                add(simd, spread, &beside[index], scales, &mut sums);
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out.iter_mut().zip(sums) {
                let sum = if self.first { sum } else { simd.add(simd.load(out), sum) };
                simd.store(out, sum);
            }
        }
    }
}

/// Adds products times the scales of rows and inputs.
#[inline(always)]
fn add<G: Many<ROWS>, const ROWS: usize, const P: usize, const T: usize>(
    simd: G,
    products: [[G::Dots; P]; T],
    rows: &[[f32; ROWS]; P],
    inputs: &[f32; T],
    sums: &mut [[G::Sums; P]; T],
) {
    for p in 0..P {
        let row = simd.load(&rows[p]);
        for t in 0..T {
            sums[t][p] = simd.multiply_add(products[t][p], row, inputs[t], sums[t][p]);
        }
    }
}

/// `P` panels that are being packed.
struct Panels<'a, const ROWS: usize, const P: usize> {
    quants: &'a mut [[Panel<ROWS>; P]],
    scales: &'a mut [[[f32; ROWS]; P]],
    more: &'a mut [[[f32; ROWS]; P]],
}

impl<const ROWS: usize, const P: usize> Panels<'_, ROWS, P> {
    /// Packs up to `ROWS` rows as panel `p`.
    #[inline(always)]
    fn pack<F: Stored, G: Pack<F, ROWS>>(
        &mut self,
        simd: G,
        matrix: Matrix<'_>,
        rows: &Range<usize>,
        starts: &[usize; CHAINS + 1],
        p: usize,
    ) {
        let blocks = starts[CHAINS];
        let mut bytes: [&[u8]; ROWS] = [&[]; ROWS];
        for (r, bytes) in bytes.iter_mut().enumerate() {
            // Rows beyond the last are packed as the last and not used.
            *bytes = matrix.row(rows.start + (p * ROWS + r).min(rows.len() - 1));
        }
        let groups = blocks / CHAINS;
        for group in 0..groups {
            // Each row is a stream of its own, too short for the hardware to run ahead of it over rows.
            for r in 0..ROWS {
                let ahead = group * F::GROUP_BYTES + ROWS * P * matrix.stride;
                simd.prefetch(bytes[r].as_ptr().wrapping_add(ahead));
            }
            self.put::<F>(&simd.pack(bytes, group), group, starts, p);
        }
        if !blocks.is_multiple_of(CHAINS) {
            let mut padded = [[0; TAIL]; ROWS];
            for (padded, row) in padded.iter_mut().zip(bytes) {
                let row = &row[groups * F::GROUP_BYTES..];
                padded[..row.len()].copy_from_slice(row);
            }
            self.put::<F>(&simd.pack(padded.each_ref().map(<[u8; TAIL]>::as_slice), 0), groups, starts, p);
        }
    }

    /// Writes the blocks of a group, as far as it goes, to their places in panel `p`.
    #[inline(always)]
    fn put<F: Stored>(
        &mut self,
        packed: &[Packed<ROWS>; CHAINS],
        group: usize,
        starts: &[usize; CHAINS + 1],
        p: usize,
    ) {
        let count = starts[CHAINS] - group * CHAINS;
        for (chain, block) in packed.iter().take(count).enumerate() {
            let at = starts[chain] + group;
            self.quants[at][p] = block.quants;
            self.scales[at][p] = block.scales;
            if F::MORE != More::Nothing {
                self.more[at][p] = block.more;
            }
        }
    }
}
