//! Few inputs: four rows at a time, unpacked in registers as they stream by. The loops; [`Few`] is what is in them.

use super::Product;
use super::stored::Stored;
use crate::simd::operands::Matrix;
use crate::simd::quantised::CHAINS;
use crate::simd::quantised::activation::Rounded;
use crate::simd::tile::ROWS;

/// Room for the blocks of an incomplete group of any format.
const TAIL: usize = 256;

/// What an instruction set does with a group of four rows.
///
/// Methods must be `#[inline(always)]`, so that they are compiled with their caller's instruction set.
pub(in crate::simd::quantised) trait Few<F: Stored>: Copy {
    /// The chains of four rows and one input.
    type Sums: Copy;
    /// What asks memory for rows before they are needed.
    type Ahead;

    /// No products.
    fn no_sums(self) -> Self::Sums;
    /// Adds the products of the first `blocks` blocks of a group with group `group` of the inputs.
    fn step<const T: usize>(
        self,
        rows: [F::Group<'_>; ROWS],
        inputs: &[Rounded<'_>; T],
        group: usize,
        blocks: usize,
        sums: &mut [Self::Sums; T],
    );
    /// `((c0 + c1) + c2) + c3` of the four rows.
    fn add_chains(self, sums: Self::Sums) -> [f32; ROWS];

    /// For the tile that begins with a row.
    fn ahead(self, matrix: Matrix<'_>, row: usize, groups: usize) -> Self::Ahead;
    /// Asks for what follows, with each group.
    fn ask(self, ahead: &Self::Ahead, group: usize);
}

/// Sets the outputs of some rows.
#[inline(always)]
pub(in crate::simd::quantised) fn run<F: Stored, G: Few<F>>(simd: G, product: &Product<'_>) {
    for row in product.rows.clone().step_by(ROWS) {
        let tile = Tile { product, row, count: ROWS.min(product.rows.end - row) };
        let mut token = 0;
        while token < product.inputs.n {
            // The products of two inputs with blocks of four rows fill the registers.
            token += match product.inputs.n - token {
                1 => tile.run::<F, G, 1>(simd, token),
                _ => tile.run::<F, G, 2>(simd, token),
            };
        }
    }
}

/// Up to four rows.
struct Tile<'a> {
    product: &'a Product<'a>,
    row: usize,
    count: usize,
}

impl Tile<'_> {
    /// Outputs of `T` inputs. Returns `T`.
    #[inline(always)]
    fn run<F: Stored, G: Few<F>, const T: usize>(&self, simd: G, token: usize) -> usize {
        let Product { matrix, inputs: all, target, .. } = *self.product;
        let mut rows: [&[u8]; ROWS] = [&[]; ROWS];
        for (r, bytes) in rows.iter_mut().enumerate() {
            // Where fewer rows are left, the last one is computed again and not used.
            *bytes = matrix.row(self.row + r.min(self.count - 1));
        }
        let mut inputs = [all.token(token); T];
        for t in 1..T {
            inputs[t] = all.token(token + t);
        }
        let groups = all.blocks / CHAINS;
        let ahead = simd.ahead(matrix, self.row, groups);
        let mut sums = [simd.no_sums(); T];
        for group in 0..groups {
            if token == 0 {
                simd.ask(&ahead, group);
            }
            let mut four = [F::group(rows[0], group); ROWS];
            for r in 1..ROWS {
                four[r] = F::group(rows[r], group);
            }
            simd.step::<T>(four, &inputs, group, CHAINS, &mut sums);
        }
        let rest = all.blocks % CHAINS;
        if rest > 0 {
            let mut padded = [[0; TAIL]; ROWS];
            for (padded, row) in padded.iter_mut().zip(rows) {
                let row = &row[groups * F::GROUP_BYTES..];
                padded[..row.len()].copy_from_slice(row);
            }
            let mut four = [F::group(&padded[0], 0); ROWS];
            for r in 1..ROWS {
                four[r] = F::group(&padded[r], 0);
            }
            simd.step::<T>(four, &inputs, groups, rest, &mut sums);
        }
        let mut out = [[0.0; ROWS]; T];
        for t in 0..T {
            out[t] = simd.add_chains(sums[t]);
        }
        target.emit::<T>(true, self.row, self.count, token, &out);
        T
    }
}
