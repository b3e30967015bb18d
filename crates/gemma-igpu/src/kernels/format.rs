//! How stored weights are read: every block format as whole numbers of 8 bits with a scale and a minimum.
//!
//! A weight's value is `scale · q − minimum` with `scale` and `minimum` of its group. Groups have 32 values, those of
//! [`Format::Q6K`] 16. `q` comes four at a time in the bytes of a word, ready for an integer dot product.

use cubecl::prelude::*;
use half::f16;

/// How a weight's values lie in device memory. See `crate::weight` for the layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    F32,
    F16,
    BF16,
    Q8_0,
    Q6K,
    Q5K,
    Q5_0,
    Q4_1,
    Q4K,
    Q4_0,
}

impl Format {
    /// Words of a row's block (of a pair of values in [`Format::F16`] and [`Format::BF16`]).
    pub(crate) const fn block_words(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 => 8,
            Self::Q6K => 52,
            Self::Q5K => 44,
            Self::Q5_0 | Self::Q4_1 => 5,
            Self::Q4K => 36,
            Self::Q4_0 => 4,
        }
    }

    /// Groups of 32 values in a block.
    pub(crate) const fn block_groups(self) -> usize {
        match self {
            Self::Q6K | Self::Q5K | Self::Q4K => 8,
            _ => 1,
        }
    }

    /// Whether the scales of blocks lie apart, as f16.
    pub(crate) const fn has_scales(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Q6K | Self::Q5_0 | Self::Q4_0)
    }

    /// Whether values lie in blocks.
    pub(crate) const fn is_block(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }
}

/// The f16 at `index` of an array of words.
#[cube]
pub(crate) fn half_at(halves: &[u32], index: usize) -> f32 {
    half_bits((halves[index / 2] >> ((index as u32 & 1) * 16)) & 0xffff)
}

/// The f16 of the lower 16 bits.
#[cube]
pub(crate) fn half_bits(bits: u32) -> f32 {
    f32::cast_from(f16::reinterpret(u16::cast_from(bits)))
}

/// Four values `q`, one a byte: values `4 · word ..` of group `group` of the block whose words begin at `base`.
#[cube]
pub(crate) fn quants(
    words: &[u32],
    base: usize,
    group: usize,
    #[comptime] word: usize,
    #[comptime] format: Format,
) -> u32 {
    match format {
        Format::Q8_0 => words[base + word],
        Format::Q4_0 => nibbles(words[base + comptime!(word % 4)], comptime!(word as u32 / 4 * 4)),
        Format::Q4_1 => nibbles(words[base + comptime!(1 + word % 4)], comptime!(word as u32 / 4 * 4)),
        Format::Q5_0 => {
            let low = nibbles(words[base + comptime!(1 + word % 4)], comptime!(word as u32 / 4 * 4));
            // Bit i of the first word belongs to value i: spread four of them over the bytes.
            let bits = (words[base] >> comptime!(word as u32 * 4)) & 15;
            low | (((bits * 0x0020_4081) & 0x0101_0101) << 4)
        }
        Format::Q4K => nibbles(words[base + 4 + group / 2 * 8 + word], (group as u32 & 1) * 4),
        Format::Q5K => {
            let low = nibbles(words[base + 12 + group / 2 * 8 + word], (group as u32 & 1) * 4);
            let high = (words[base + 4 + word] >> group as u32) & 0x0101_0101;
            low | (high << 4)
        }
        Format::Q6K => {
            let half = group / 4;
            let k = group as u32 & 3;
            let low = nibbles(words[base + half * 16 + (group & 1) * 8 + word], (k / 2) * 4);
            let high = (words[base + 32 + half * 8 + word] >> (2 * k)) & 0x0303_0303;
            low | (high << 4)
        }
        _ => 0u32.runtime(),
    }
}

#[cube]
fn nibbles(word: u32, shift: u32) -> u32 {
    (word >> shift) & 0x0f0f_0f0f
}

/// Byte `index` of a word as a whole number, signed in [`Format::Q8_0`] alone.
#[cube]
pub(crate) fn quant(packed: u32, #[comptime] index: u32, #[comptime] format: Format) -> f32 {
    if comptime!(matches!(format, Format::Q8_0)) {
        f32::cast_from(i32::cast_from(packed << comptime!(24 - 8 * index)) >> 24)
    } else {
        f32::cast_from((packed >> comptime!(8 * index)) & 255)
    }
}

/// Byte `index` of the words from `base` on.
#[cube]
fn byte_at(words: &[u32], base: usize, index: u32) -> u32 {
    (words[base + (index / 4) as usize] >> ((index % 4) * 8)) & 255
}

/// What the first (`part` 0) or second 16 values of a group are multiplied by. `block` counts all blocks of the matrix.
#[cube]
pub(crate) fn scale(
    words: &[u32],
    scales: &[u32],
    block: usize,
    group: usize,
    #[comptime] part: u32,
    #[comptime] format: Format,
) -> f32 {
    let base = block * comptime!(format.block_words());
    match format {
        Format::Q8_0 | Format::Q4_0 | Format::Q5_0 => half_at(scales, block),
        Format::Q4_1 => half_bits(words[base] & 0xffff),
        Format::Q4K | Format::Q5K => {
            half_bits(words[base] & 0xffff) * f32::cast_from(step(words, base, group as u32))
        }
        Format::Q6K => {
            let byte = byte_at(words, base + 48, 2 * group as u32 + part);
            half_at(scales, block) * f32::cast_from(i32::cast_from(byte << 24) >> 24)
        }
        _ => 1.0f32.runtime(),
    }
}

/// What is taken off the values of a group after scaling. `scale` is the group's.
#[cube]
pub(crate) fn minimum(
    words: &[u32],
    block: usize,
    group: usize,
    scale: f32,
    #[comptime] format: Format,
) -> f32 {
    let base = block * comptime!(format.block_words());
    match format {
        Format::Q4_0 => scale * 8.0,
        Format::Q5_0 => scale * 16.0,
        Format::Q6K => scale * 32.0,
        // Stored with the opposite sign.
        Format::Q4_1 => -half_bits(words[base] >> 16),
        Format::Q4K | Format::Q5K => {
            half_bits(words[base] >> 16) * f32::cast_from(lowest(words, base, group as u32))
        }
        _ => 0.0f32.runtime(),
    }
}

/// The scale of a group of a K-quant with 12 bytes of scales and minima, 0 to 63.
#[cube]
fn step(words: &[u32], base: usize, group: u32) -> u32 {
    let near = byte_at(words, base + 1, group % 4);
    let low = byte_at(words, base + 1, 8 + group % 4) & 15;
    select(group < 4, near & 63, low | ((near >> 6) << 4))
}

/// The minimum of such a group.
#[cube]
fn lowest(words: &[u32], base: usize, group: u32) -> u32 {
    let near = byte_at(words, base + 1, 4 + group % 4);
    let high = byte_at(words, base + 1, 8 + group % 4) >> 4;
    select(group < 4, near & 63, high | ((near >> 6) << 4))
}
