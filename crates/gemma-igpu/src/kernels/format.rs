//! How stored weights are read: four values at a time, neighbours in a row.
//!
//! A value in a block is `scale · q − minimum` with `scale` and `minimum` of its group. Groups have 32 values, those of
//! [`Format::Q6K`] 16; `q` lies in a byte, a nibble, or a nibble and bits elsewhere.

use cubecl::prelude::*;
use half::f16;

/// Four values.
pub(crate) type Four = Vector<f32, Const<4>>;

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
    /// Bytes of a block that lie apart: its f16 scale, and what else would break the alignment of words.
    pub(crate) const fn scale_bytes(self) -> usize {
        match self {
            Self::Q8_0 | Self::Q6K | Self::Q4_0 => 2,
            Self::Q4_1 => 4,
            Self::Q5_0 => 6,
            _ => 0,
        }
    }

    /// Quads of words that the scales of eight outputs take in a turned copy, where a block has one for each output.
    pub(crate) const fn turned_quads(self) -> usize {
        self.scale_bytes() / 2
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

/// Four values of a matrix, number `index` of all its fours.
#[cube]
pub(crate) fn four_at(words: &[u32], scales: &[u32], index: usize, #[comptime] format: Format) -> Four {
    let (group, e) = (index / 8, index % 8);
    match format {
        Format::F32 => of_words(words, index * 4),
        Format::F16 | Format::BF16 => of_halves(words, index * 2, format),
        Format::Q8_0 => of_signed_bytes(words[index]) * Four::new(half_at(scales, group)),
        Format::Q4_0 => {
            let by = half_at(scales, group);
            of_bytes(nibbles(words[group * 4 + e % 4], e as u32 / 4 * 4), by, by * 8.0f32)
        }
        Format::Q4_1 => {
            let packed = nibbles(words[group * 4 + e % 4], e as u32 / 4 * 4);
            let both = scales[group];
            of_bytes(packed, half_bits(both & 0xffff), -half_bits(both >> 16))
        }
        Format::Q5_0 => {
            // Behind the words of fifth bits, one a block, stand the scales.
            let by = half_at(scales, words.len() / 2 + group);
            // Bit i of the word belongs to value i: spread four of them over the bytes.
            let bits = (scales[group] >> (e as u32 * 4)) & 15;
            let high = ((bits * 0x0020_4081) & 0x0101_0101) << 4;
            of_bytes(nibbles(words[group * 4 + e % 4], e as u32 / 4 * 4) | high, by, by * 16.0f32)
        }
        Format::Q4K => {
            let (base, part) = (group / 8 * 36, group % 8);
            let packed = nibbles(words[base + 4 + part / 2 * 8 + e], part as u32 % 2 * 4);
            let by = half_bits(words[base] & 0xffff) * step(words, base, part as u32);
            of_bytes(packed, by, half_bits(words[base] >> 16) * lowest(words, base, part as u32))
        }
        Format::Q5K => {
            let (base, part) = (group / 8 * 44, group % 8);
            let high = ((words[base + 4 + e] >> part as u32) & 0x0101_0101) << 4;
            let packed = nibbles(words[base + 12 + part / 2 * 8 + e], part as u32 % 2 * 4) | high;
            let by = half_bits(words[base] & 0xffff) * step(words, base, part as u32);
            of_bytes(packed, by, half_bits(words[base] >> 16) * lowest(words, base, part as u32))
        }
        Format::Q6K => {
            let (base, part) = (group / 8 * 52, group % 8);
            let (half, k) = (part / 4, part % 4);
            let high = ((words[base + 32 + half * 8 + e] >> (2 * k as u32)) & 0x0303_0303) << 4;
            let packed = nibbles(words[base + half * 16 + k % 2 * 8 + e], k as u32 / 2 * 4) | high;
            let at = (2 * part + e / 4) as u32;
            let byte = byte_at(words, base + 48, at);
            let by = half_at(scales, group / 8) * f32::cast_from(i32::cast_from(byte << 24) >> 24);
            of_bytes(packed, by, by * 32.0f32)
        }
    }
}

/// The low nibble of each byte, or with a shift of 4 the high ones.
#[cube]
pub(super) fn nibbles(word: u32, shift: u32) -> u32 {
    (word >> shift) & 0x0f0f_0f0f
}

/// `scale · q − minimum` for the bytes `q` of a word.
#[cube]
pub(super) fn of_bytes(word: u32, scale: f32, minimum: f32) -> Four {
    let mut four = Four::new(0.0f32);
    #[unroll]
    for i in 0..4usize {
        four.insert(i, f32::cast_from((word >> comptime!(8 * i as u32)) & 255));
    }
    four * Four::new(scale) - Four::new(minimum)
}

/// The bytes of a word as signed whole numbers.
#[cube]
pub(super) fn of_signed_bytes(word: u32) -> Four {
    let mut four = Four::new(0.0f32);
    #[unroll]
    for i in 0..4usize {
        let byte = i32::cast_from(word << comptime!(24 - 8 * i as u32)) >> 24;
        four.insert(i, f32::cast_from(byte));
    }
    four
}

#[cube]
pub(super) fn of_words(words: &[u32], at: usize) -> Four {
    let mut four = Four::new(0.0f32);
    #[unroll]
    for i in 0..4usize {
        four.insert(i, f32::reinterpret(words[at + i]));
    }
    four
}

#[cube]
pub(super) fn of_halves(words: &[u32], at: usize, #[comptime] format: Format) -> Four {
    let mut four = Four::new(0.0f32);
    #[unroll]
    for i in 0..2usize {
        let word = words[at + i];
        if comptime!(matches!(format, Format::BF16)) {
            four.insert(comptime!(2 * i), f32::reinterpret(word << 16));
            four.insert(comptime!(2 * i + 1), f32::reinterpret(word & 0xffff_0000));
        } else {
            four.insert(comptime!(2 * i), half_bits(word & 0xffff));
            four.insert(comptime!(2 * i + 1), half_bits(word >> 16));
        }
    }
    four
}

/// The sum of four products.
#[cube]
pub(crate) fn dot(a: Four, b: Four) -> f32 {
    let both = a * b;
    both.extract(0usize) + both.extract(1usize) + both.extract(2usize) + both.extract(3usize)
}

/// Byte `index` of the words from `base` on.
#[cube]
fn byte_at(words: &[u32], base: usize, index: u32) -> u32 {
    (words[base + (index / 4) as usize] >> ((index % 4) * 8)) & 255
}

/// The scale of a group of a K-quant with 12 bytes of scales and minima, 0 to 63.
#[cube]
fn step(words: &[u32], base: usize, group: u32) -> f32 {
    let near = byte_at(words, base + 1, group % 4);
    let low = byte_at(words, base + 1, 8 + group % 4) & 15;
    f32::cast_from(select(group < 4, near & 63, low | ((near >> 6) << 4)))
}

/// The minimum of such a group.
#[cube]
fn lowest(words: &[u32], base: usize, group: u32) -> f32 {
    let near = byte_at(words, base + 1, 4 + group % 4);
    let high = byte_at(words, base + 1, 8 + group % 4) >> 4;
    f32::cast_from(select(group < 4, near & 63, high | ((near >> 6) << 4)))
}
