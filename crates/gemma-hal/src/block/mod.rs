//! Block formats: layouts, quantisers and the plain conversion to f32 that every faster one is tested against.
//!
//! Layouts are ggml's, so that GGUF tensors are used in place. Rounding without weights follows ggml's reference for
//! blocks of 32 values; K-quants are searched for with code of our own. Little-endian only, as GGUF and safetensors are.

mod quantise;
mod small;
mod super_block;

use bytemuck::Pod;
use half::{bf16, f16};

use crate::DType;

pub use quantise::{quantise_row, quantise_row_weighted};
pub use small::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ8_0};
pub use super_block::{BlockQ4K, BlockQ5K, BlockQ6K, GROUPS, SMALL_GROUPS};

/// Values in a [`BlockQ8_0`], [`BlockQ5_0`], [`BlockQ4_1`] or [`BlockQ4_0`].
pub const BLOCK: usize = 32;

/// Values in a [`BlockQ6K`], [`BlockQ5K`] or [`BlockQ4K`].
pub const SUPER_BLOCK: usize = 256;

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
        DType::Q8_0 => decode_blocks(bytes, out, |block: &BlockQ8_0, out| *out = block.dequantise()),
        DType::Q5_0 => decode_blocks(bytes, out, |block: &BlockQ5_0, out| *out = block.dequantise()),
        DType::Q4_1 => decode_blocks(bytes, out, |block: &BlockQ4_1, out| *out = block.dequantise()),
        DType::Q4_0 => decode_blocks(bytes, out, |block: &BlockQ4_0, out| *out = block.dequantise()),
        DType::Q6K => decode_blocks(bytes, out, BlockQ6K::dequantise),
        DType::Q5K => decode_blocks(bytes, out, BlockQ5K::dequantise),
        DType::Q4K => decode_blocks(bytes, out, BlockQ4K::dequantise),
    }
}

/// Calls `visit` with values `first .. first + count` of a stored row, piece by piece: the index of a piece's first
/// value, counted from `first`, and the piece. Blocks need not begin at `first`.
///
/// # Panics
/// When the row has fewer values.
pub fn visit_values(
    dtype: DType,
    row: &[u8],
    first: usize,
    count: usize,
    mut visit: impl FnMut(usize, &[f32]),
) {
    const ROOM: usize = SUPER_BLOCK;
    let (len, bytes) = (dtype.block_len(), dtype.block_bytes());
    let mut values = [0.0; ROOM];
    let mut index = first;
    while index < first + count {
        let begin = index / len * len;
        let end = (begin + ROOM).min((first + count).next_multiple_of(len));
        let stored = &row[begin / len * bytes..end / len * bytes];
        dequantise_row(dtype, stored, &mut values[..end - begin]);
        let until = end.min(first + count);
        visit(index - first, &values[index - begin..until - begin]);
        index = until;
    }
}

fn decode<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in bytes.as_chunks::<N>().0.iter().zip(out) {
        *out = value(*bytes);
    }
}

fn decode_blocks<B: Pod, const N: usize>(bytes: &[u8], out: &mut [f32], block: impl Fn(&B, &mut [f32; N])) {
    for (bytes, out) in bytes.chunks_exact(size_of::<B>()).zip(out.as_chunks_mut::<N>().0) {
        block(&bytemuck::pod_read_unaligned(bytes), out);
    }
}
