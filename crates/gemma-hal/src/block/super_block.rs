//! Blocks of 256 values ("K-quants"): groups of 16 or 32 values whose scales are themselves quantised.
//!
//! Only layouts and their values are here; see [`super::quantise_row`] for how blocks are made. A block stands at any
//! address that is a multiple of two.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::SUPER_BLOCK;
use crate::DType;

/// Groups of a [`BlockQ4K`] or [`BlockQ5K`], of 32 values each.
pub const GROUPS: usize = 8;

/// Groups of a [`BlockQ6K`], of 16 values each.
pub const SMALL_GROUPS: usize = 16;

/// 256 values `scale · s · nibble − min_scale · m` with `s` and `m` of the value's group.
///
/// Bytes `32·p ..` hold group `2·p` in their low and group `2·p + 1` in their high nibbles.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4K {
    /// What the scales of groups are multiples of.
    pub scale: f16,
    /// What the minima of groups are multiples of.
    pub min_scale: f16,
    /// `s` and `m` of all groups, six bits each; [`BlockQ4K::groups`] unpacks them.
    pub groups: [u8; 12],
    /// Two values a byte.
    pub nibbles: [u8; SUPER_BLOCK / 2],
}

/// 256 values `scale · s · quant − min_scale · m` of five bits; all else as in [`BlockQ4K`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5K {
    /// What the scales of groups are multiples of.
    pub scale: f16,
    /// What the minima of groups are multiples of.
    pub min_scale: f16,
    /// `s` and `m` of all groups, six bits each; [`BlockQ5K::groups`] unpacks them.
    pub groups: [u8; 12],
    /// The fifth bits: bit `g` of byte `i` is that of value `i` of group `g`.
    pub high: [u8; SUPER_BLOCK / 8],
    /// The low four bits, two values a byte.
    pub nibbles: [u8; SUPER_BLOCK / 2],
}

/// 256 values `scale · scales[i / 16] · (quant − 32)` of six bits, in two halves of 128.
///
/// Half `h` has bytes `64·h ..` of `low` and `32·h ..` of `high`. Its value `32·k + i` has its low four bits in a
/// nibble of byte `32·(k mod 2) + i` of `low` (the high nibble for `k ≥ 2`) and its upper two in bits `2·k ..` of byte
/// `i` of `high`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ6K {
    /// The low four bits, two values a byte.
    pub low: [u8; SUPER_BLOCK / 2],
    /// The upper two bits, four values a byte.
    pub high: [u8; SUPER_BLOCK / 4],
    /// Scales of groups.
    pub scales: [i8; SMALL_GROUPS],
    /// What the scales of groups are multiples of.
    pub scale: f16,
}

const _: () = assert!(size_of::<BlockQ4K>() == DType::Q4K.block_bytes());
const _: () = assert!(size_of::<BlockQ5K>() == DType::Q5K.block_bytes());
const _: () = assert!(size_of::<BlockQ6K>() == DType::Q6K.block_bytes());

impl BlockQ4K {
    /// `s` and `m` of each group, 0 to 63.
    pub fn groups(&self) -> ([u8; GROUPS], [u8; GROUPS]) {
        unpack_groups(&self.groups)
    }

    /// Writes the values.
    pub fn dequantise(&self, out: &mut [f32; SUPER_BLOCK]) {
        let (steps, mins) = steps(self.scale, self.min_scale, self.groups());
        for (pair, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let nibbles = &self.nibbles[32 * pair..][..32];
            let (low, high) = out.split_at_mut(32);
            for (i, byte) in nibbles.iter().enumerate() {
                low[i] = steps[2 * pair] * f32::from(byte & 15) - mins[2 * pair];
                high[i] = steps[2 * pair + 1] * f32::from(byte >> 4) - mins[2 * pair + 1];
            }
        }
    }

    /// The block of these nibbles, in the order of their values.
    pub(super) fn pack(scales: &GroupScales, quants: &[u8; SUPER_BLOCK]) -> Self {
        Self {
            scale: scales.scale,
            min_scale: scales.min_scale,
            groups: pack_groups(scales.steps, scales.mins),
            nibbles: pack_nibbles(quants),
        }
    }
}

impl BlockQ5K {
    /// `s` and `m` of each group, 0 to 63.
    pub fn groups(&self) -> ([u8; GROUPS], [u8; GROUPS]) {
        unpack_groups(&self.groups)
    }

    /// Writes the values.
    pub fn dequantise(&self, out: &mut [f32; SUPER_BLOCK]) {
        let (steps, mins) = steps(self.scale, self.min_scale, self.groups());
        for (group, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let nibbles = &self.nibbles[group / 2 * 32..][..32];
            let shift = group % 2 * 4;
            for (i, out) in out.iter_mut().enumerate() {
                let quant = nibbles[i] >> shift & 15 | (self.high[i] >> group & 1) << 4;
                *out = steps[group] * f32::from(quant) - mins[group];
            }
        }
    }

    /// The block of these values of five bits, in their order.
    pub(super) fn pack(scales: &GroupScales, quants: &[u8; SUPER_BLOCK]) -> Self {
        let mut high = [0; SUPER_BLOCK / 8];
        for (group, quants) in quants.as_chunks::<32>().0.iter().enumerate() {
            for (high, quant) in high.iter_mut().zip(quants) {
                *high |= (quant >> 4) << group;
            }
        }
        Self {
            scale: scales.scale,
            min_scale: scales.min_scale,
            groups: pack_groups(scales.steps, scales.mins),
            high,
            nibbles: pack_nibbles(quants),
        }
    }
}

impl BlockQ6K {
    /// Writes the values.
    pub fn dequantise(&self, out: &mut [f32; SUPER_BLOCK]) {
        let scale = self.scale.to_f32();
        let steps = self.scales.map(|group| scale * f32::from(group));
        for (part, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (half, k) = (part / 4, part % 4);
            let low = &self.low[64 * half + k % 2 * 32..][..32];
            let high = &self.high[32 * half..][..32];
            for (i, out) in out.iter_mut().enumerate() {
                let quant = low[i] >> (k / 2 * 4) & 15 | (high[i] >> (2 * k) & 3) << 4;
                *out = steps[2 * part + i / 16] * (f32::from(quant) - 32.0);
            }
        }
    }

    /// The block of these values of six bits, in their order.
    pub(super) fn pack(scale: f16, scales: [i8; SMALL_GROUPS], quants: &[u8; SUPER_BLOCK]) -> Self {
        let (mut low, mut high) = ([0; SUPER_BLOCK / 2], [0; SUPER_BLOCK / 4]);
        for (part, quants) in quants.as_chunks::<32>().0.iter().enumerate() {
            let (half, k) = (part / 4, part % 4);
            let low = &mut low[64 * half + k % 2 * 32..][..32];
            let high = &mut high[32 * half..][..32];
            for (i, quant) in quants.iter().enumerate() {
                low[i] |= (quant & 15) << (k / 2 * 4);
                high[i] |= (quant >> 4) << (2 * k);
            }
        }
        Self { low, high, scales, scale }
    }
}

/// Scales and minima of a [`BlockQ4K`] or [`BlockQ5K`].
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupScales {
    pub(super) scale: f16,
    pub(super) min_scale: f16,
    /// 0 to 63.
    pub(super) steps: [u8; GROUPS],
    /// 0 to 63.
    pub(super) mins: [u8; GROUPS],
}

/// The step and the minimum of each group.
fn steps(
    scale: f16,
    min_scale: f16,
    (steps, mins): ([u8; GROUPS], [u8; GROUPS]),
) -> ([f32; GROUPS], [f32; GROUPS]) {
    let (scale, min_scale) = (scale.to_f32(), min_scale.to_f32());
    (steps.map(|step| scale * f32::from(step)), mins.map(|min| min_scale * f32::from(min)))
}

/// Bytes 0 to 3 hold `s` and 4 to 7 hold `m` of groups 0 to 3 in their low six bits. Groups 4 to 7 have their low four
/// bits in the nibbles of bytes 8 to 11 (`s` low, `m` high) and their upper two on top of those eight bytes.
fn unpack_groups(bytes: &[u8; 12]) -> ([u8; GROUPS], [u8; GROUPS]) {
    let (mut steps, mut mins) = ([0; GROUPS], [0; GROUPS]);
    for i in 0..4 {
        steps[i] = bytes[i] & 63;
        mins[i] = bytes[i + 4] & 63;
        steps[i + 4] = bytes[i + 8] & 15 | bytes[i] >> 6 << 4;
        mins[i + 4] = bytes[i + 8] >> 4 | bytes[i + 4] >> 6 << 4;
    }
    (steps, mins)
}

fn pack_groups(steps: [u8; GROUPS], mins: [u8; GROUPS]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for i in 0..4 {
        bytes[i] = steps[i] | steps[i + 4] >> 4 << 6;
        bytes[i + 4] = mins[i] | mins[i + 4] >> 4 << 6;
        bytes[i + 8] = steps[i + 4] & 15 | mins[i + 4] << 4;
    }
    bytes
}

fn pack_nibbles(quants: &[u8; SUPER_BLOCK]) -> [u8; SUPER_BLOCK / 2] {
    let mut nibbles = [0; SUPER_BLOCK / 2];
    for (nibbles, quants) in nibbles.as_chunks_mut::<32>().0.iter_mut().zip(quants.as_chunks::<64>().0) {
        for (i, nibble) in nibbles.iter_mut().enumerate() {
            *nibble = quants[i] & 15 | quants[i + 32] << 4;
        }
    }
    nibbles
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(bytes in prop::array::uniform12(any::<u8>())) {
            let (steps, mins) = unpack_groups(&bytes);
            prop_assert!(steps.iter().chain(&mins).all(|value| *value < 64));
            prop_assert_eq!(pack_groups(steps, mins), bytes);
        }
    }

    /// Each value of a block is another one, so that none is taken for its neighbour.
    #[test]
    fn packed_values_come_back_in_order() {
        let quant = |i: usize, levels: usize| ((i * 7 + i / 32) % levels) as u8;
        let (steps, mins) = (std::array::from_fn(|g| g as u8 * 8 + 1), std::array::from_fn(|g| 63 - g as u8));
        let scales = GroupScales { scale: f16::ONE, min_scale: f16::from_f32(2.0), steps, mins };
        let (mut q4, mut q5, mut q6) = ([0.0; 256], [0.0; 256], [0.0; 256]);
        BlockQ4K::pack(&scales, &std::array::from_fn(|i| quant(i, 16))).dequantise(&mut q4);
        BlockQ5K::pack(&scales, &std::array::from_fn(|i| quant(i, 32))).dequantise(&mut q5);
        let small = std::array::from_fn(|g| 5 * g as i8 - 40);
        BlockQ6K::pack(f16::ONE, small, &std::array::from_fn(|i| quant(i, 64))).dequantise(&mut q6);
        for i in 0..256 {
            let value = |levels| f32::from(quant(i, levels));
            let (step, min) = (f32::from(steps[i / 32]), 2.0 * f32::from(mins[i / 32]));
            assert_eq!(q4[i], step * value(16) - min, "q4_k, value {i}");
            assert_eq!(q5[i], step * value(32) - min, "q5_k, value {i}");
            assert_eq!(q6[i], f32::from(small[i / 16]) * (value(64) - 32.0), "q6_k, value {i}");
        }
    }
}
