//! [`Turned`]: a copy of a weight in which what belongs to a column lies together, with the very same values.
//!
//! A product with an input that is zero nearly everywhere reads a few of its rows instead of the whole weight. Block
//! formats keep their quants and scales; nothing is rounded again. Made once, in parallel.

use std::ops::Range;

use gemma_hal::block::BLOCK;
use gemma_hal::{DType, Weight};

use crate::pool::Pool;

/// Columns whose values are stored together: a block of a block format.
const GROUP: usize = BLOCK;

/// Groups that a task makes: a cache line of the weight holds several blocks of a row.
const GROUPS_PER_TASK: usize = 8;

/// Bytes of a cache line.
const LINE: usize = 64;

/// For each group of `GROUP` columns: a row of values for each column, then the rows' scales in block formats.
///
/// Rows are padded with zeros to whole blocks. In Q4_0 byte `i` of 16 holds row `i` in its low and row `i + 16` in its
/// high nibble, as a block does.
#[derive(Debug)]
pub struct Turned {
    dtype: DType,
    rows: usize,
    columns: usize,
    /// With room to start on a cache line.
    bytes: Vec<u8>,
    start: usize,
}

impl Turned {
    /// Whether weights of this type can be turned: those whose blocks have one scale and nothing else.
    pub fn supports(dtype: DType) -> bool {
        matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0 | DType::Q4_0)
    }

    /// Bytes that the copy of a weight takes.
    pub fn size(weight: &Weight) -> u64 {
        let layout = Layout::of(weight.dtype(), weight.rows());
        layout.group() as u64 * weight.columns().div_ceil(GROUP) as u64 + LINE as u64
    }

    /// Copies a weight.
    pub fn new(pool: &Pool, weight: &Weight) -> Self {
        let layout = Layout::of(weight.dtype(), weight.rows());
        let length = layout.group() * weight.columns().div_ceil(GROUP);
        let mut bytes = vec![0; length + LINE];
        let start = bytes.as_ptr().align_offset(LINE).min(LINE);
        if length > 0 {
            let target = &mut bytes[start..start + length];
            pool.for_chunks_mut(target, layout.group() * GROUPS_PER_TASK, |task, target| {
                for chunk in 0..weight.rows().div_ceil(BLOCK) {
                    for (g, target) in target.chunks_exact_mut(layout.group()).enumerate() {
                        layout.turn(weight, task * GROUPS_PER_TASK + g, chunk, target);
                    }
                }
            });
        }
        Self { dtype: weight.dtype(), rows: weight.rows(), columns: weight.columns(), bytes, start }
    }

    /// Rows of the weight: results of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the weight: inputs of a product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Type of the values.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes that a product with `columns` inputs that are not zero reads at most.
    pub fn most_bytes(&self, columns: usize) -> u64 {
        let layout = Layout::of(self.dtype, self.rows);
        let groups = columns.min(self.columns.div_ceil(GROUP));
        (columns * layout.column + groups * layout.scales) as u64
    }

    /// A column's values, and its scales in block formats: whole blocks of rows.
    #[inline(always)]
    pub(super) fn column(&self, column: usize) -> (&[u8], &[u8]) {
        let layout = Layout::of(self.dtype, self.rows);
        let group = &self.bytes[self.start + column / GROUP * layout.group()..][..layout.group()];
        let (values, scales) = group.split_at(GROUP * layout.column);
        (&values[column % GROUP * layout.column..][..layout.column], scales)
    }
}

/// Sizes in bytes.
#[derive(Clone, Copy)]
struct Layout {
    dtype: DType,
    /// The values of a column.
    column: usize,
    /// The scales of a group.
    scales: usize,
}

impl Layout {
    #[inline(always)]
    fn of(dtype: DType, rows: usize) -> Self {
        let rows = rows.next_multiple_of(BLOCK);
        let (column, scales) = match dtype {
            DType::F32 => (rows * 4, 0),
            DType::F16 | DType::BF16 => (rows * 2, 0),
            DType::Q8_0 => (rows, rows * 2),
            DType::Q4_0 => (rows / 2, rows * 2),
            dtype => unreachable!("{dtype} is not turned"),
        };
        Self { dtype, column, scales }
    }

    #[inline(always)]
    fn group(self) -> usize {
        GROUP * self.column + self.scales
    }

    /// Copies block `chunk` of the rows of a group of columns.
    fn turn(self, weight: &Weight, group: usize, chunk: usize, target: &mut [u8]) {
        let columns = group * GROUP..weight.columns().min((group + 1) * GROUP);
        let place = |column: usize| column / self.dtype.block_len() * self.dtype.block_bytes();
        let from = Patch {
            bytes: weight.span(),
            stride: weight.row_stride(),
            rows: chunk * BLOCK..weight.rows().min((chunk + 1) * BLOCK),
            columns: place(columns.start)..place(columns.end),
        };
        let (values, scales) = target.split_at_mut(GROUP * self.column);
        match self.dtype {
            DType::Q4_0 | DType::Q8_0 => {
                let mut quants = [[0_u8; BLOCK]; BLOCK];
                for (r, row) in from.rows().enumerate() {
                    quants[r][..row.len() - 2].copy_from_slice(&row[2..]);
                    scales[(chunk * BLOCK + r) * 2..][..2].copy_from_slice(&row[..2]);
                }
                let width = self.column / weight.rows().div_ceil(BLOCK);
                let quants =
                    if self.dtype == DType::Q4_0 { turn_nibbles(&quants) } else { turn_bytes(&quants) };
                for (column, quants) in values.chunks_exact_mut(self.column).zip(&quants) {
                    column[chunk * width..][..width].copy_from_slice(&quants[..width]);
                }
            }
            DType::F16 | DType::BF16 => turn_plain::<2>(&from, values, self.column, chunk),
            DType::F32 => turn_plain::<4>(&from, values, self.column, chunk),
            dtype => unreachable!("{dtype} is not turned"),
        }
    }
}

/// Some rows of some columns of a weight.
struct Patch<'a> {
    bytes: &'a [u8],
    stride: usize,
    rows: Range<usize>,
    /// Bytes of a row before the columns, and of the columns.
    columns: Range<usize>,
}

impl Patch<'_> {
    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.rows.clone().map(|row| &self.bytes[row * self.stride..][self.columns.clone()])
    }
}

/// Turns values of `N` bytes by way of a small square: columns lie so far apart that lines written in turns would
/// drive each other out of the first-level cache.
fn turn_plain<const N: usize>(from: &Patch<'_>, values: &mut [u8], column: usize, chunk: usize) {
    let mut square = [[[0; N]; BLOCK]; GROUP];
    for (r, row) in from.rows().enumerate() {
        for (value, square) in row.as_chunks::<N>().0.iter().zip(&mut square) {
            square[r] = *value;
        }
    }
    for (to, from) in values.chunks_exact_mut(column).zip(&square) {
        to[chunk * BLOCK * N..][..BLOCK * N].copy_from_slice(from.as_flattened());
    }
}

/// 32 rows of the nibbles of Q4_0 blocks as 32 columns of them; both use 16 bytes of each array.
fn turn_nibbles(rows: &[[u8; BLOCK]; BLOCK]) -> [[u8; BLOCK]; BLOCK] {
    const HALF: usize = BLOCK / 2;
    let mut pairs = [[0; BLOCK]; BLOCK];
    for j in 0..HALF {
        let (a, b) = (&rows[j], &rows[j + HALF]);
        for i in 0..HALF {
            pairs[j][i] = a[i] & 15 | b[i] << 4;
            pairs[j][i + HALF] = a[i] >> 4 | b[i] & 0xf0;
        }
    }
    let mut out = [[0; BLOCK]; BLOCK];
    for (j, i) in [(0, 0), (0, 8), (0, 16), (0, 24), (8, 0), (8, 8), (8, 16), (8, 24)] {
        turn_square(&pairs, &mut out, j, i);
    }
    out
}

fn turn_bytes(rows: &[[u8; BLOCK]; BLOCK]) -> [[u8; BLOCK]; BLOCK] {
    let mut out = [[0; BLOCK]; BLOCK];
    for row in (0..BLOCK).step_by(8) {
        for column in (0..BLOCK).step_by(8) {
            turn_square(rows, &mut out, row, column);
        }
    }
    out
}

/// Turns the 8 by 8 bytes at a row and a column, halves of halves of which change places.
fn turn_square(from: &[[u8; BLOCK]; BLOCK], to: &mut [[u8; BLOCK]; BLOCK], row: usize, column: usize) {
    let mut words = [0_u64; 8];
    for (word, from) in words.iter_mut().zip(&from[row..row + 8]) {
        *word = from[column..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    }
    for (distance, shift, mask) in
        [(4, 32, 0x0000_0000_ffff_ffff_u64), (2, 16, 0x0000_ffff_0000_ffff), (1, 8, 0x00ff_00ff_00ff_00ff)]
    {
        for i in 0..8 {
            if i & distance == 0 {
                let change = (words[i] >> shift ^ words[i + distance]) & mask;
                words[i + distance] ^= change;
                words[i] ^= change << shift;
            }
        }
    }
    for (word, to) in words.iter().zip(&mut to[column..column + 8]) {
        to[row..row + 8].copy_from_slice(&word.to_le_bytes());
    }
}
