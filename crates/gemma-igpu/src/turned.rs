//! Turned copies of matrices, of which single columns are read: `down` of layers with a cutoff, in decode.
//!
//! The values of a column lie together, output after output, and the columns one after the other, so that a copy of the first
//! columns is the beginning of a copy of all. Quants stay what they are. The scales of a block, one for each output and 32 columns,
//! lie output after output, block after block.
//!
//! | type | eight outputs of a column | their scales |
//! | --- | --- | --- |
//! | F32 | 8 words | – |
//! | F16, BF16 | 4 words of two | – |
//! | Q8_0 | 2 words of four | 8 f16 |
//! | Q4_0 | 1 word: outputs 0 to 3 in the low nibbles of its bytes, 4 to 7 in the high ones | 8 f16 |
//! | Q4_1 | as Q4_0 | 8 f16, each with its minimum |
//!
//! The other types have no such copy.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use gemma_hal::{Budget, Reservation, Weight};

use crate::gpu::{Gpu, Region, WORD};
use crate::kernels::format::Format;
use crate::weight::format;

/// Columns that share a scale, and that are turned together.
const BLOCK: usize = 32;

/// Outputs that lie in the same words.
const EIGHT: usize = 8;

/// Words of eight outputs in the widest type.
const MOST_WORDS: usize = 8;

/// Copies are made as long as all that is held stays within this part of the budget: caches and other plans need some too.
const BUDGET_PART: (u64, u64) = (3, 4);

/// Threads that turn a matrix: more would wait for memory.
const MOST_THREADS: usize = 4;

/// A turned matrix on the device.
#[derive(Debug)]
pub(crate) struct Turned {
    pub(crate) format: Format,
    pub(crate) words: Region,
    pub(crate) scales: Region,
    /// Its bytes stay where they are as long as the copy.
    weight: Weight,
    _reservation: Reservation,
}

/// The turned copies of a device: each is made once for all plans that use it.
#[derive(Debug, Default)]
pub(crate) struct Copies(Mutex<Vec<Weak<Turned>>>);

impl Copies {
    /// A turned copy of `weight`, or one that begins with it. None where its type has none and where there is no room.
    pub(crate) fn get(&self, gpu: &Gpu, budget: &Budget, weight: &Weight) -> Option<Arc<Turned>> {
        let layout = Layout::of(weight)?;
        // Held while the copy is made, so that no two plans make the same one.
        let mut copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        copies.retain(|copy| copy.strong_count() > 0);
        let mut held = copies.iter().filter_map(Weak::upgrade);
        if let Some(copy) = held.find(|copy| begins_with(&copy.weight, weight)) {
            return Some(copy);
        }
        let (words, scales) = (layout.words(), layout.scale_words());
        let (size, memory) = (((words + scales) * WORD) as u64, budget.memory());
        let most = memory.limit / BUDGET_PART.1 * BUDGET_PART.0;
        if memory.used.checked_add(size)? > most || (words.max(scales) * WORD) as u64 > gpu.largest_part {
            return None;
        }
        let reservation = budget.reserve("turned weights", size).ok()?;
        let (words, scales) = turn(weight, layout);
        let copy = Arc::new(Turned {
            format: layout.format,
            words: gpu.upload(&words),
            scales: gpu.upload(&scales),
            weight: weight.clone(),
            _reservation: reservation,
        });
        copies.push(Arc::downgrade(&copy));
        Some(copy)
    }
}

/// Whether the first columns of `whole` are all of `part`: the same bytes, seen as the same type.
fn begins_with(whole: &Weight, part: &Weight) -> bool {
    whole.storage().same_as(part.storage())
        && (whole.offset(), whole.dtype()) == (part.offset(), part.dtype())
        && (whole.rows(), whole.row_stride()) == (part.rows(), part.row_stride())
        && whole.columns() >= part.columns()
}

/// What a turned copy takes.
#[derive(Clone, Copy)]
struct Layout {
    format: Format,
    columns: usize,
    outputs: usize,
    /// Bits of a quant.
    bits: usize,
    /// Bytes that stand before the quants of a block: its scale, and its minimum.
    scale_bytes: usize,
}

impl Layout {
    /// None for a type without one.
    fn of(weight: &Weight) -> Option<Self> {
        let format = format(weight.dtype());
        let bits = match format {
            Format::F32 => 32,
            Format::F16 | Format::BF16 => 16,
            Format::Q8_0 => 8,
            Format::Q4_0 | Format::Q4_1 => 4,
            _ => return None,
        };
        let (columns, outputs) = (weight.columns(), weight.rows());
        let scale_bytes = format.scale_bytes();
        outputs.is_multiple_of(EIGHT).then_some(Self { format, columns, outputs, bits, scale_bytes })
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

/// The words and scales of the copy.
fn turn(weight: &Weight, layout: Layout) -> (Vec<u32>, Vec<u32>) {
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
    (words, scales)
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
    let (word, shift) = (k * bits / u32::BITS as usize, k * bits % u32::BITS as usize);
    for (quant, turned) in quants.chunks_exact(bits / 8).zip(turned) {
        let value = quant.iter().rev().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
        turned[word] |= value << shift;
    }
}

#[cfg(test)]
mod tests {
    use gemma_hal::{DType, Storage, block};
    use half::f16;

    use super::*;

    const OUTPUTS: usize = 24;
    const COLUMNS: usize = 96;

    fn half(bits: u32) -> f32 {
        f16::from_bits(bits as u16).to_f32()
    }

    /// Value of `output` in `column` as a kernel reads it.
    fn read(layout: Layout, words: &[u32], scales: &[u32], column: usize, output: usize) -> f32 {
        let place = column * layout.column_words() * (32 / layout.bits) + output;
        let block = column / BLOCK * OUTPUTS + output;
        let scale = |index: usize| half(scales[index / 2] >> (index % 2 * 16));
        let nibble = || {
            let eight = words[place / EIGHT];
            let k = output % EIGHT;
            ((eight >> (k % 4 * 8 + k / 4 * 4)) & 15) as f32
        };
        match layout.format {
            Format::F32 => f32::from_bits(words[place]),
            Format::F16 => half(words[place / 2] >> (place % 2 * 16)),
            Format::BF16 => f32::from_bits(words[place / 2] >> (place % 2 * 16) << 16),
            Format::Q8_0 => f32::from((words[place / 4] >> (place % 4 * 8)) as i8) * scale(block),
            Format::Q4_0 => (nibble() - 8.0) * scale(block),
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
            let (words, scales) = turn(&weight, layout);
            let mut expected = vec![0.0; columns];
            for output in 0..OUTPUTS {
                block::dequantise_row(dtype, weight.row(output), &mut expected);
                for (column, expected) in expected.iter().enumerate() {
                    let found = read(layout, &words, &scales, column, output);
                    assert!(
                        (found - expected).abs() < 1e-6,
                        "{dtype} [{output}][{column}]: {found}, not {expected}"
                    );
                }
            }
        }
    }
}
