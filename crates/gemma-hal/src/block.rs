//! Block formats: layouts, quantisers and the plain conversion to f32 that every faster one is tested against.
//!
//! Layouts and rounding follow ggml's `ggml-quants.c` reference functions, so that a block made here is the block
//! that llama.cpp makes. Little-endian only, as GGUF and safetensors are.

use bytemuck::{Pod, Zeroable};
use half::{bf16, f16};

use crate::DType;

/// Values in a [`BlockQ8_0`] or [`BlockQ4_0`].
pub const BLOCK: usize = 32;

/// 32 values `scale · quants[i]`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
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

const _: () = assert!(size_of::<BlockQ8_0>() == DType::Q8_0.block_bytes());
const _: () = assert!(size_of::<BlockQ4_0>() == DType::Q4_0.block_bytes());

impl BlockQ8_0 {
    /// The nearest block: scale = largest magnitude / 127.
    pub fn quantise(values: &[f32; BLOCK]) -> Self {
        let largest = values.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
        let step = largest / 127.0;
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        Self { scale: f16::from_f32(step), quants: values.map(|value| (value * inverse).round() as i8) }
    }

    /// The values.
    pub fn dequantise(&self) -> [f32; BLOCK] {
        let scale = self.scale.to_f32();
        self.quants.map(|quant| scale * f32::from(quant))
    }
}

impl BlockQ4_0 {
    /// The block whose value of largest magnitude is −8 steps.
    pub fn quantise(values: &[f32; BLOCK]) -> Self {
        let extreme =
            values.iter().fold(0.0_f32, |max, value| if value.abs() > max.abs() { *value } else { max });
        let step = extreme / -8.0;
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        let nibble = |value: f32| ((value * inverse + 8.5) as u8).min(15);
        Self {
            scale: f16::from_f32(step),
            nibbles: std::array::from_fn(|i| nibble(values[i]) | nibble(values[i + BLOCK / 2]) << 4),
        }
    }

    /// The values.
    pub fn dequantise(&self) -> [f32; BLOCK] {
        let scale = self.scale.to_f32();
        std::array::from_fn(|i| {
            let byte = self.nibbles[i % (BLOCK / 2)];
            let nibble = if i < BLOCK / 2 { byte & 15 } else { byte >> 4 };
            scale * (f32::from(nibble) - 8.0)
        })
    }
}

/// Writes the values stored in `bytes` to `out`.
///
/// # Panics
/// When `bytes` is not exactly `out.len()` values of `dtype`.
pub fn dequantise_row(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(dtype.row_bytes(out.len()), Some(bytes.len()), "{} values of {dtype}", out.len());
    match dtype {
        DType::F32 => decode(bytes, out, f32::from_le_bytes),
        DType::F16 => decode(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        DType::BF16 => decode(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        DType::Q8_0 => {
            decode_blocks(bytes, out, |b| bytemuck::pod_read_unaligned::<BlockQ8_0>(b).dequantise());
        }
        DType::Q4_0 => {
            decode_blocks(bytes, out, |b| bytemuck::pod_read_unaligned::<BlockQ4_0>(b).dequantise());
        }
    }
}

/// The bytes of `values` in `dtype`, rounded to nearest.
///
/// # Panics
/// When the values do not end on a block.
pub fn quantise_row(dtype: DType, values: &[f32]) -> Vec<u8> {
    assert!(values.len().is_multiple_of(dtype.block_len()), "{} values of {dtype}", values.len());
    match dtype {
        DType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        DType::Q8_0 => encode_blocks(values, BlockQ8_0::quantise),
        DType::Q4_0 => encode_blocks(values, BlockQ4_0::quantise),
    }
}

fn decode<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in bytes.as_chunks::<N>().0.iter().zip(out) {
        *out = value(*bytes);
    }
}

fn decode_blocks(bytes: &[u8], out: &mut [f32], block: impl Fn(&[u8]) -> [f32; BLOCK]) {
    let blocks = out.as_chunks_mut::<BLOCK>().0;
    for (bytes, out) in bytes.chunks_exact(bytes.len() / blocks.len().max(1)).zip(blocks) {
        *out = block(bytes);
    }
}

fn encode_blocks<B: Pod>(values: &[f32], quantise: impl Fn(&[f32; BLOCK]) -> B) -> Vec<u8> {
    values.as_chunks::<BLOCK>().0.iter().flat_map(|v| bytemuck::bytes_of(&quantise(v)).to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(dtype: DType, values: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; values.len()];
        dequantise_row(dtype, &quantise_row(dtype, values), &mut out);
        out
    }

    proptest! {
        #[test]
        fn every_value_returns_within_its_format_s_step(
            values in prop::collection::vec(-8.0_f32..8.0, 64),
        ) {
            for dtype in DType::ALL {
                let back = round_trip(dtype, &values);
                for (chunk, back) in values.chunks(32).zip(back.chunks(32)) {
                    let largest = chunk.iter().fold(0.0_f32, |max, value| max.max(value.abs()));
                    // Half a step, plus the rounding of the scale itself to f16 (2^-11 of the largest value).
                    let bound = match dtype {
                        DType::F32 => 0.0,
                        DType::F16 => largest / 2048.0,
                        DType::BF16 => largest / 256.0,
                        DType::Q8_0 => largest * (0.51 / 127.0 + 1.0 / 2048.0),
                        // The side opposite to the extreme value is cut at 7 steps of 8.
                        DType::Q4_0 => largest * (1.0 / 8.0 + 1.0 / 1024.0),
                    };
                    for (value, back) in chunk.iter().zip(back) {
                        prop_assert!((value - back).abs() <= bound, "{dtype}: {value} became {back}");
                    }
                }
            }
        }

        #[test]
        fn quantising_again_changes_nothing(values in prop::collection::vec(-1.0_f32..1.0, 32)) {
            for dtype in [DType::F16, DType::BF16, DType::Q8_0] {
                let once = round_trip(dtype, &values);
                let twice = round_trip(dtype, &once);
                for (a, b) in once.iter().zip(&twice) {
                    prop_assert!((a - b).abs() <= 1e-3 * a.abs(), "{dtype}: {a} then {b}");
                }
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        for dtype in DType::ALL {
            assert_eq!(round_trip(dtype, &[0.0; 32]), [0.0; 32], "{dtype}");
        }
    }

    #[test]
    fn q4_0_splits_a_block_in_halves() {
        let block = BlockQ4_0 { scale: f16::from_f32(0.5), nibbles: [0xF0; 16] };
        let values = block.dequantise();
        assert_eq!(values[..16], [-4.0; 16]);
        assert_eq!(values[16..], [3.5; 16]);
    }
}
