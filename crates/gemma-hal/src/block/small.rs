//! Blocks of 32 values: a scale, for some formats a minimum, and the values in steps of it.
//!
//! Only layouts and their values are here; see [`super::quantise_row`] for how blocks are made. A block stands at any
//! address that is a multiple of two.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::BLOCK;
use crate::DType;

/// 32 values `scale · quants[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ8_0 {
    /// Size of one step.
    pub scale: f16,
    /// Steps, −127 to 127.
    pub quants: [i8; BLOCK],
}

/// 32 values `scale · (nibble − 8)`; byte `i` holds value `i` in its low and value `i + 16` in its high nibble.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_0 {
    /// Size of one step.
    pub scale: f16,
    /// Two values a byte.
    pub nibbles: [u8; BLOCK / 2],
}

/// 32 values `scale · nibble + min`; nibbles as in [`BlockQ4_0`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ4_1 {
    /// Size of one step.
    pub scale: f16,
    /// The value of no steps.
    pub min: f16,
    /// Two values a byte.
    pub nibbles: [u8; BLOCK / 2],
}

/// 32 values `scale · (quant − 16)` of five bits; nibbles as in [`BlockQ4_0`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct BlockQ5_0 {
    /// Size of one step.
    pub scale: f16,
    /// The fifth bits, a little-endian number: bit `i` is that of value `i`.
    pub high: [u8; BLOCK / 8],
    /// The low four bits, two values a byte.
    pub nibbles: [u8; BLOCK / 2],
}

const _: () = assert!(size_of::<BlockQ8_0>() == DType::Q8_0.block_bytes());
const _: () = assert!(size_of::<BlockQ4_0>() == DType::Q4_0.block_bytes());
const _: () = assert!(size_of::<BlockQ4_1>() == DType::Q4_1.block_bytes());
const _: () = assert!(size_of::<BlockQ5_0>() == DType::Q5_0.block_bytes());

impl BlockQ8_0 {
    /// The values.
    pub fn dequantise(&self) -> [f32; BLOCK] {
        let scale = self.scale.to_f32();
        self.quants.map(|quant| scale * f32::from(quant))
    }
}

impl BlockQ4_0 {
    /// The values.
    pub fn dequantise(&self) -> [f32; BLOCK] {
        let scale = self.scale.to_f32();
        unpack(&self.nibbles).map(|nibble| scale * (f32::from(nibble) - 8.0))
    }
}

impl BlockQ4_1 {
    /// The values.
    #[expect(clippy::suboptimal_flops, reason = "ggml rounds the product, and so must we")]
    pub fn dequantise(&self) -> [f32; BLOCK] {
        let (scale, min) = (self.scale.to_f32(), self.min.to_f32());
        unpack(&self.nibbles).map(|nibble| scale * f32::from(nibble) + min)
    }
}

impl BlockQ5_0 {
    /// The values.
    pub fn dequantise(&self) -> [f32; BLOCK] {
        let scale = self.scale.to_f32();
        let (low, high) = (unpack(&self.nibbles), u32::from_le_bytes(self.high));
        std::array::from_fn(|i| {
            let quant = low[i] | ((high >> i & 1) << 4) as u8;
            scale * (f32::from(quant) - 16.0)
        })
    }
}

/// Nibbles in the order of their values.
fn unpack(nibbles: &[u8; BLOCK / 2]) -> [u8; BLOCK] {
    let mut values = [0; BLOCK];
    let (low, high) = values.split_at_mut(BLOCK / 2);
    for (i, byte) in nibbles.iter().enumerate() {
        low[i] = byte & 15;
        high[i] = byte >> 4;
    }
    values
}

/// Values below 16 as nibbles; the high bits of others are cut off.
pub(super) fn pack(values: &[u8; BLOCK]) -> [u8; BLOCK / 2] {
    std::array::from_fn(|i| values[i] & 15 | values[i + BLOCK / 2] << 4)
}

/// Values of five bits as fifth bits and nibbles.
pub(super) fn split(values: &[u8; BLOCK]) -> ([u8; BLOCK / 8], [u8; BLOCK / 2]) {
    let high = values.iter().enumerate().fold(0, |high, (i, value)| high | u32::from(value >> 4) << i);
    (high.to_le_bytes(), pack(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q4_0_splits_a_block_in_halves() {
        let block = BlockQ4_0 { scale: f16::from_f32(0.5), nibbles: [0xF0; 16] };
        let values = block.dequantise();
        assert_eq!(values[..16], [-4.0; 16]);
        assert_eq!(values[16..], [3.5; 16]);
    }
}
