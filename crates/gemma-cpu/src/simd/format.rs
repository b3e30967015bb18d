//! [`Format`]: how 32 stored values become vectors, one type for each [`gemma_hal::DType`].
//!
//! Decoding is exact for every format, so a kernel that decodes in registers and one that decodes into scratch
//! memory compute the same.

use gemma_hal::block::BLOCK;

use super::lanes::Simd;

/// How [`BLOCK`] values lie in memory, known at compile time.
pub(super) trait Decode: Copy + Send + Sync + 'static {
    /// [`BLOCK`] values.
    type Chunk: Copy + Send + Sync;

    /// Whether the values of a chunk share a scale, which takes registers while they are decoded.
    const BLOCKED: bool;

    /// Whether chunks were written by this thread a moment ago, so that asking for them early is of no use.
    const IN_CACHE: bool = false;

    /// Values `v * LANES ..` of a chunk.
    fn decode<S: Simd>(simd: S, chunk: &Self::Chunk, v: usize) -> S::F;
}

/// A format that weights are stored in.
pub(super) trait Format: Decode {
    /// The whole chunks of a row, and the bytes of the values left over.
    fn chunks(row: &[u8]) -> (&[Self::Chunk], &[u8]);
    /// A chunk that begins with these bytes and ends in zeros.
    fn padded(bytes: &[u8]) -> Self::Chunk;
}

macro_rules! format {
    ($name:ident, $bytes:expr, $blocked:literal, $method:ident) => {
        #[derive(Clone, Copy)]
        pub(super) struct $name;

        impl Decode for $name {
            type Chunk = [u8; $bytes];

            const BLOCKED: bool = $blocked;

            #[inline(always)]
            fn decode<S: Simd>(simd: S, chunk: &Self::Chunk, v: usize) -> S::F {
                simd.$method(chunk, v)
            }
        }

        impl Format for $name {
            #[inline(always)]
            fn chunks(row: &[u8]) -> (&[Self::Chunk], &[u8]) {
                row.as_chunks()
            }

            #[inline(always)]
            fn padded(bytes: &[u8]) -> Self::Chunk {
                let mut chunk = [0; $bytes];
                chunk[..bytes.len()].copy_from_slice(bytes);
                chunk
            }
        }
    };
}

/// f32 values in memory order of this machine: a row that was decoded before.
#[derive(Clone, Copy)]
pub(super) struct Decoded;

impl Decode for Decoded {
    type Chunk = [f32; BLOCK];

    const BLOCKED: bool = false;
    const IN_CACHE: bool = true;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, chunk: &Self::Chunk, v: usize) -> S::F {
        simd.load(chunk, v)
    }
}

format!(F32, 4 * BLOCK, false, f32);
format!(F16, 2 * BLOCK, false, f16);
format!(BF16, 2 * BLOCK, false, bf16);
format!(Q8_0, 34, true, q8_0);
format!(Q4_0, 18, true, q4_0);
