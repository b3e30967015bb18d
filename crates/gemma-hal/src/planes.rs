//! Planes: stored weights taken apart, so that processors which read whole words find words.
//!
//! [`pack`] puts a matrix's quants, scales and high bits into planes of their own; [`turn`] gives a copy whose columns lie together, of
//! which single ones are read. No value is changed, and none is added but to fill the last word. What is in the planes is up to
//! kernels; nothing here knows a device.
//!
//! | type | words of a block | scales of a block |
//! | --- | --- | --- |
//! | F32, F16, BF16 | the values; a row ends on a whole word | – |
//! | Q8_0 | 32 bytes of quants | f16 |
//! | Q4_0 | 16 bytes of nibbles | f16 |
//! | Q4_1 | 16 bytes of nibbles | f16, and its minimum |
//! | Q5_0 | 16 bytes of nibbles | f16; the third plane has a word of fifth bits |
//! | Q4_K, Q5_K | the block as it is | – |
//! | Q6_K | the block without its last two bytes | f16 |

use std::ops::Range;
use std::thread;

use crate::block::BLOCK;
use crate::{DType, Weight};

/// Bytes of a word.
const WORD: usize = 4;

/// Outputs of a turned matrix that lie in the same words.
const EIGHT: usize = 8;

/// Words of eight outputs in the widest type.
const MOST_WORDS: usize = 8;

/// Threads that turn a matrix: more would wait for memory.
const MOST_THREADS: usize = 4;

/// Some rows of a matrix in planes, row after row without gaps. Planes that a type does not have are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Planes {
    /// Values or quants.
    pub words: Vec<u32>,
    /// Scales, and minima with them.
    pub scales: Vec<u32>,
    /// Fifth bits.
    pub high: Vec<u32>,
}

/// A matrix with its columns together, output after output, so that a copy of the first columns is the beginning of a copy of all.
///
/// Eight outputs of a column are 8 words in F32, 4 in F16 and BF16, 2 in Q8_0, and 1 in Q4_0 and Q4_1: outputs 0 to 3 in the low
/// nibbles of its bytes, 4 to 7 in the high ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turned {
    /// Values or quants.
    pub words: Vec<u32>,
    /// One for each output and 32 columns, output after output, block after block; in Q4_1 each with its minimum behind it.
    pub scales: Vec<u32>,
}

/// Bytes of a block, or of a plain value, in each plane.
#[derive(Clone, Copy)]
struct Shares {
    words: usize,
    scales: usize,
    high: usize,
}

const fn shares(dtype: DType) -> Shares {
    let (words, scales, high) = match dtype {
        DType::Q8_0 => (32, 2, 0),
        DType::Q4_0 => (16, 2, 0),
        DType::Q4_1 => (16, 4, 0),
        DType::Q5_0 => (16, 2, 4),
        DType::Q6K => (208, 2, 0),
        _ => (dtype.block_bytes(), 0, 0),
    };
    Shares { words, scales, high }
}

/// Bytes of the planes of all rows of `weight`, known before they are made: words, scales, high bits.
pub fn plane_bytes(weight: &Weight) -> [usize; 3] {
    let (rows, shares) = (weight.rows(), shares(weight.dtype()));
    let blocks = weight.columns() / weight.dtype().block_len();
    let row_bytes = (blocks * shares.words).next_multiple_of(WORD);
    [rows * row_bytes, rows * blocks * shares.scales, rows * blocks * shares.high]
        .map(|bytes| bytes.next_multiple_of(WORD))
}

/// `rows` of `weight`.
///
/// # Panics
/// When `weight` has fewer rows.
pub fn pack(weight: &Weight, rows: Range<usize>) -> Planes {
    let (count, shares) = (rows.len(), shares(weight.dtype()));
    let blocks = weight.columns() / weight.dtype().block_len();
    let plane = |bytes: usize| vec![0_u32; bytes.div_ceil(WORD)];
    let row_bytes = (blocks * shares.words).next_multiple_of(WORD);
    let mut planes = Planes {
        words: plane(count * row_bytes),
        scales: plane(count * blocks * shares.scales),
        high: plane(count * blocks * shares.high),
    };
    let words: &mut [u8] = bytemuck::cast_slice_mut(&mut planes.words);
    let scales: &mut [u8] = bytemuck::cast_slice_mut(&mut planes.scales);
    let high: &mut [u8] = bytemuck::cast_slice_mut(&mut planes.high);
    for (index, number) in rows.enumerate() {
        let row = weight.row(number);
        let first = index * blocks;
        for (block, stored) in row.chunks_exact(weight.dtype().block_bytes()).enumerate() {
            let (scale, bits, quants) = apart(weight.dtype(), stored, shares);
            words[index * row_bytes + block * shares.words..][..shares.words].copy_from_slice(quants);
            scales[(first + block) * shares.scales..][..shares.scales].copy_from_slice(scale);
            high[(first + block) * shares.high..][..shares.high].copy_from_slice(bits);
        }
    }
    planes
}

/// Scale, high bits and quants of a stored block.
fn apart(dtype: DType, stored: &[u8], shares: Shares) -> (&[u8], &[u8], &[u8]) {
    if matches!(dtype, DType::Q6K) {
        let (quants, scale) = stored.split_at(shares.words);
        return (scale, &[], quants);
    }
    let (scale, rest) = stored.split_at(shares.scales);
    let (bits, quants) = rest.split_at(shares.high);
    (scale, bits, quants)
}

/// What a turned copy takes.
#[derive(Clone, Copy)]
struct Layout {
    columns: usize,
    outputs: usize,
    /// Bits of a quant.
    bits: usize,
    /// Bytes that stand before the quants of a block: its scale, and its minimum.
    scale_bytes: usize,
}

impl Layout {
    /// None for what has no turned copy.
    fn of(weight: &Weight) -> Option<Self> {
        let (bits, scale_bytes) = match weight.dtype() {
            DType::F32 => (32, 0),
            DType::F16 | DType::BF16 => (16, 0),
            DType::Q8_0 => (8, 2),
            DType::Q4_0 => (4, 2),
            DType::Q4_1 => (4, 4),
            _ => return None,
        };
        let (columns, outputs) = (weight.columns(), weight.rows());
        outputs.is_multiple_of(EIGHT).then_some(Self { columns, outputs, bits, scale_bytes })
    }

    /// Words of a column.
    fn column_words(self) -> usize {
        self.outputs / EIGHT * self.bits * EIGHT / u32::BITS as usize
    }

    /// Words of the scales of a block of columns.
    fn block_words(self) -> usize {
        self.outputs * self.scale_bytes / WORD
    }

    fn words(self) -> usize {
        self.columns * self.column_words()
    }

    fn scale_words(self) -> usize {
        self.columns.div_ceil(BLOCK) * self.block_words()
    }
}

/// Bytes of a turned copy of `weight`, known before it is made; none for what has no such copy.
pub fn turned_bytes(weight: &Weight) -> Option<usize> {
    Layout::of(weight).map(|layout| (layout.words() + layout.scale_words()) * WORD)
}

/// A turned copy of `weight`, made by several threads. None for types other than F32, F16, BF16, Q8_0, Q4_0 and Q4_1, and where outputs
/// are no multiple of eight.
pub fn turn(weight: &Weight) -> Option<Turned> {
    let layout = Layout::of(weight)?;
    let (mut words, mut scales) = (vec![0_u32; layout.words()], vec![0_u32; layout.scale_words()]);
    let blocks = layout.columns.div_ceil(BLOCK);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let each = blocks.div_ceil(threads).max(1);
    thread::scope(|scope| {
        let (mut words, mut scales) = (words.as_mut_slice(), scales.as_mut_slice());
        for first in (0..blocks).step_by(each) {
            let wanted = each * BLOCK * layout.column_words();
            let (mine, rest) = words.split_at_mut(wanted.min(words.len()));
            let (my_scales, other_scales) =
                scales.split_at_mut((each * layout.block_words()).min(scales.len()));
            (words, scales) = (rest, other_scales);
            scope.spawn(move || turn_blocks(weight, layout, first, mine, my_scales));
        }
    });
    Some(Turned { words, scales })
}

/// Turns the blocks from `first` on, as many as `words` takes.
fn turn_blocks(weight: &Weight, layout: Layout, first: usize, words: &mut [u32], scales: &mut [u32]) {
    let (column_words, block_words) = (layout.column_words(), layout.block_words());
    let eight_words = layout.bits * EIGHT / u32::BITS as usize;
    for (index, words) in words.chunks_mut(BLOCK * column_words).enumerate() {
        let scales: &mut [u8] = bytemuck::cast_slice_mut(&mut scales[index * block_words..][..block_words]);
        for eight in 0..layout.outputs / EIGHT {
            let mut turned = [[0_u32; MOST_WORDS]; BLOCK];
            for k in 0..EIGHT {
                let output = eight * EIGHT + k;
                let block = block_of(weight.row(output), layout, first + index);
                let (scale, quants) = block.split_at(layout.scale_bytes);
                scales[output * layout.scale_bytes..][..layout.scale_bytes].copy_from_slice(scale);
                put(quants, k, layout.bits, &mut turned);
            }
            for (column, turned) in words.chunks_exact_mut(column_words).zip(&turned) {
                column[eight * eight_words..][..eight_words].copy_from_slice(&turned[..eight_words]);
            }
        }
    }
}

/// Block `index` of a row; the last one may be shorter in types that are none of blocks.
fn block_of(row: &[u8], layout: Layout, index: usize) -> &[u8] {
    let bytes = layout.scale_bytes + BLOCK * layout.bits / 8;
    let start = index * bytes;
    &row[start..(start + bytes).min(row.len())]
}

/// Puts the quants of output `k` of eight to those of the others.
fn put(quants: &[u8], k: usize, bits: usize, turned: &mut [[u32; MOST_WORDS]; BLOCK]) {
    if bits == 4 {
        let shift = k % 4 * 8 + k / 4 * 4;
        let (low, high) = turned.split_at_mut(BLOCK / 2);
        for (byte, (low, high)) in quants.iter().zip(low.iter_mut().zip(high)) {
            low[0] |= u32::from(byte & 15) << shift;
            high[0] |= u32::from(byte >> 4) << shift;
        }
        return;
    }
    let bytes = bits / 8;
    for (quant, turned) in quants.chunks_exact(bytes).zip(turned) {
        let value = quant.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        let at = k * bits;
        turned[at / 32] |= value << (at % 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;
    use crate::{Storage, block};

    fn weight(dtype: DType, rows: usize, columns: usize) -> Weight {
        let mut random = SplitMix64::new(3);
        let row = |random: &mut SplitMix64| -> Vec<f32> {
            (0..columns).map(|_| random.next_unit() - 0.5).collect()
        };
        let bytes: Vec<u8> = (0..rows).flat_map(|_| block::quantise_row(dtype, &row(&mut random))).collect();
        Weight::new(Storage::new("test", bytes), 0, rows, columns, dtype).unwrap()
    }

    #[test]
    fn every_stored_byte_is_in_one_plane() {
        for dtype in DType::ALL {
            let weight = weight(dtype, 5, 512);
            let all = pack(&weight, 0..5);
            let bytes = WORD * (all.words.len() + all.scales.len() + all.high.len());
            assert!((weight.bytes()..weight.bytes() + 8).contains(&(bytes as u64)), "{dtype}");
            let planes = [&all.words, &all.scales, &all.high].map(|plane| WORD * plane.len());
            assert_eq!(plane_bytes(&weight), planes, "{dtype}");
            // Rows have no gaps, so that some rows are a piece of all.
            let some = pack(&weight, 2..4);
            let row = all.words.len() / 5;
            assert_eq!(some.words, all.words[2 * row..4 * row], "{dtype}");
        }
    }

    #[test]
    fn planes_of_a_block() {
        let weight = weight(DType::Q5_0, 1, 64);
        let (stored, planes) = (weight.row(0), pack(&weight, 0..1));
        let word = |at: usize| u32::from_le_bytes(stored[at..at + 4].try_into().unwrap());
        assert_eq!(planes.high, [word(2), word(24)]);
        assert_eq!(planes.scales, [u32::from_le_bytes([stored[0], stored[1], stored[22], stored[23]])]);
        assert_eq!(planes.words[4..], [28, 32, 36, 40].map(word));
    }

    #[test]
    fn a_plain_row_ends_on_a_word() {
        let planes = pack(&weight(DType::F16, 2, 3), 0..2);
        assert_eq!(planes.words.len(), 4);
        assert_eq!(planes.words[1] >> 16, 0);
    }

    #[test]
    fn turned_columns_are_the_columns() {
        for (dtype, quants_a_word) in [(DType::F32, 1), (DType::F16, 2), (DType::Q8_0, 4)] {
            let weight = weight(dtype, 16, 64);
            let turned = turn(&weight).unwrap();
            assert_eq!(Some(WORD * (turned.words.len() + turned.scales.len())), turned_bytes(&weight));
            let bits = 32 / quants_a_word;
            let head = if dtype == DType::Q8_0 { 2 } else { 0 };
            let block = head + BLOCK * bits / 8;
            for (column, output) in [(0, 0), (33, 5), (63, 15)] {
                let at = column * 16 + output;
                let found = turned.words[at / quants_a_word] >> (at % quants_a_word * bits);
                let from = column / BLOCK * block + head + column % BLOCK * bits / 8;
                let stored = &weight.row(output)[from..from + bits / 8];
                assert_eq!(&found.to_le_bytes()[..bits / 8], stored, "{dtype} {column} {output}");
            }
        }
        assert!(turn(&weight(DType::Q6K, 8, 256)).is_none());
        assert!(turn(&weight(DType::F32, 12, 8)).is_none());
    }

    const OUTPUTS: usize = 24;
    const COLUMNS: usize = 96;

    fn half(bits: u32) -> f32 {
        half::f16::from_bits(bits as u16).to_f32()
    }

    /// Value of `output` in `column` as a kernel reads it.
    fn read(
        dtype: DType,
        layout: Layout,
        words: &[u32],
        scales: &[u32],
        column: usize,
        output: usize,
    ) -> f32 {
        let place = column * layout.column_words() * (32 / layout.bits) + output;
        let block = column / BLOCK * OUTPUTS + output;
        let scale = |index: usize| half(scales[index / 2] >> (index % 2 * 16));
        let nibble = || {
            let eight = words[place / EIGHT];
            let k = output % EIGHT;
            ((eight >> (k % 4 * 8 + k / 4 * 4)) & 15) as f32
        };
        match dtype {
            DType::F32 => f32::from_bits(words[place]),
            DType::F16 => half(words[place / 2] >> (place % 2 * 16)),
            DType::BF16 => f32::from_bits(words[place / 2] >> (place % 2 * 16) << 16),
            DType::Q8_0 => f32::from((words[place / 4] >> (place % 4 * 8)) as i8) * scale(block),
            DType::Q4_0 => (nibble() - 8.0) * scale(block),
            _ => nibble() * scale(2 * block) + scale(2 * block + 1),
        }
    }

    #[test]
    fn every_value_is_found_in_its_column() {
        for dtype in DType::ALL {
            // Rows stand apart, and the last block of a type without blocks is half one.
            let (parent, columns) =
                (COLUMNS + 64, if dtype.block_len() == 1 { COLUMNS - 16 } else { COLUMNS });
            if !parent.is_multiple_of(dtype.block_len()) {
                continue;
            }
            let values: Vec<f32> = (0..OUTPUTS * parent).map(|i| (i as f32 * 0.37).sin()).collect();
            let rows = values.chunks_exact(parent);
            let bytes: Vec<u8> = rows.flat_map(|row| block::quantise_row(dtype, row)).collect();
            let weight = Weight::new(Storage::new("parent", bytes), 0, OUTPUTS, parent, dtype).unwrap();
            let weight = weight.columns_view(columns).unwrap();
            let Some(layout) = Layout::of(&weight) else {
                assert_eq!(dtype, DType::Q5_0, "{dtype} is not turned");
                continue;
            };
            let Turned { words, scales } = turn(&weight).unwrap();
            let mut expected = vec![0.0; columns];
            for output in 0..OUTPUTS {
                block::dequantise_row(dtype, weight.row(output), &mut expected);
                for (column, expected) in expected.iter().enumerate() {
                    let found = read(dtype, layout, &words, &scales, column, output);
                    assert!(
                        (found - expected).abs() < 1e-6,
                        "{dtype} [{output}][{column}]: {found}, not {expected}"
                    );
                }
            }
        }
    }
}
