//! [`Column`]: how 32 rows of a column of a [`super::turned::Turned`] weight are stored, one type for each format.
//!
//! Block formats say how a block is taken apart, and what scales its quants; the copy, the products in f32 and those
//! with rounded inputs are written once for all of them. Decoding is exact, or rounds as the plain decoder does.

use std::marker::PhantomData;

use bytemuck::Pod;
use gemma_hal::block::{BLOCK, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5K, BlockQ6K, BlockQ8_0};
use half::f16;

use super::format::{self, Decode};
use super::lanes::{Simd, part};
use super::turned::{Patch, Scaling, turn_blocks, turn_plain};

/// 32 rows of a column of some type.
pub(super) trait Column: 'static {
    /// The values of 32 rows.
    type Values: Pod;
    /// Bytes of the scales of 32 rows of a group of columns.
    const SCALE_BYTES: usize;
    /// Bytes of the factors of 32 rows of a strip of columns.
    const FACTOR_BYTES: usize;

    /// Values `v * LANES ..` of 32 rows; `half` is 1 for the last 16 columns of a group.
    fn decode<S: Simd>(simd: S, values: &Self::Values, scaling: Scaling<'_>, half: usize, v: usize) -> S::F;

    /// Copies the columns of a strip.
    fn turn(patch: &Patch<'_>, target: &mut [u8]);
}

/// What a group has besides a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    /// No more.
    Nothing,
    /// A number that is added to each value.
    Minimum,
    /// A number that is taken from each value.
    Offset,
    /// A scale for its last 16 values; the other one is for the first 16 only.
    Scale,
}

/// A block format.
pub(super) trait Blocks: Column<Values = Self::Quants> {
    /// A block as it is stored in the weight.
    type Block: Pod;
    /// 32 quants of a column.
    type Quants: Quants;
    /// Bytes of a scale: an f16, or a step that a factor is multiplied by.
    const SCALE_WIDTH: usize = if Self::FACTOR_BYTES == 0 { 2 } else { 1 };
    /// The second scale.
    const MORE: More;
    /// What [`Quants::read`] is less than a quant.
    const LIFT: f32;

    /// Group `g` of a block: its quants as bytes, signed or below 16, and its scales of [`Blocks::SCALE_WIDTH`] bytes.
    fn unpack(block: &Self::Block, g: usize) -> ([u8; BLOCK], [[u8; 2]; 2]);

    /// What the steps of the scales are multiplied by.
    fn factors(_: &Self::Block) -> [f16; 2] {
        [f16::ZERO; 2]
    }
}

/// How 32 quants are stored.
pub(super) trait Quants: Pod {
    /// Quants `v * LANES ..`
    fn read<S: Simd>(&self, simd: S, v: usize) -> S::F;
}

/// Signed.
impl Quants for [u8; BLOCK] {
    #[inline(always)]
    fn read<S: Simd>(&self, simd: S, v: usize) -> S::F {
        simd.i8(self, v)
    }
}

/// Nibbles less 8: number `i` in the low half of byte `i`, number `i + 16` in its high half.
impl Quants for [u8; BLOCK / 2] {
    #[inline(always)]
    fn read<S: Simd>(&self, simd: S, v: usize) -> S::F {
        simd.i4(self, v)
    }
}

impl Scaling<'_> {
    /// Scales `v * LANES ..` of kind `which` of a chunk.
    #[inline(always)]
    pub(super) fn scale<B: Blocks, S: Simd>(self, simd: S, which: usize, v: usize) -> S::F {
        if B::FACTOR_BYTES == 0 {
            return simd.f16(part(self.scales, which * 2 * BLOCK), v);
        }
        // Where there is one factor, it is that of both scales.
        let factor = if B::FACTOR_BYTES == 2 * BLOCK { 0 } else { which * 2 * BLOCK };
        // Exact: 11 significant bits times 7.
        simd.mul(simd.f16(part(self.factors, factor), v), simd.i8(part(self.scales, which * BLOCK), v))
    }

    /// What is added to values `v * LANES ..` of a chunk.
    #[inline(always)]
    pub(super) fn minimum<B: Blocks, S: Simd>(self, simd: S, v: usize) -> S::F {
        let minimum = self.scale::<B, S>(simd, 1, v);
        if B::MORE == More::Offset { simd.sub(simd.zero(), minimum) } else { minimum }
    }
}

/// Values of 2 or 4 bytes.
pub(super) struct Plain<F, const N: usize>(PhantomData<F>);

impl<F: Decode, const N: usize> Column for Plain<F, N>
where
    F::Chunk: Pod,
{
    type Values = F::Chunk;
    const SCALE_BYTES: usize = 0;
    const FACTOR_BYTES: usize = 0;

    #[inline(always)]
    fn decode<S: Simd>(simd: S, values: &F::Chunk, _: Scaling<'_>, _: usize, v: usize) -> S::F {
        F::decode(simd, values, v)
    }

    fn turn(patch: &Patch<'_>, target: &mut [u8]) {
        turn_plain::<N>(patch, target);
    }
}

pub(super) type F32 = Plain<format::F32, 4>;
pub(super) type F16 = Plain<format::F16, 2>;
pub(super) type BF16 = Plain<format::BF16, 2>;

macro_rules! blocks {
    ($name:ident: $quants:ty, $scales:literal scales of $width:literal, $factors:literal factors) => {
        pub(super) struct $name;

        impl Column for $name {
            type Values = $quants;
            const SCALE_BYTES: usize = $scales * $width * BLOCK;
            const FACTOR_BYTES: usize = $factors * 2 * BLOCK;

            #[inline(always)]
            fn decode<S: Simd>(
                simd: S,
                values: &$quants,
                scaling: Scaling<'_>,
                half: usize,
                v: usize,
            ) -> S::F {
                let mut quants = values.read(simd, v);
                if Self::LIFT != 0.0 {
                    quants = simd.add(quants, simd.splat(Self::LIFT));
                }
                match Self::MORE {
                    More::Nothing => simd.mul(scaling.scale::<Self, S>(simd, 0, v), quants),
                    More::Scale => simd.mul(scaling.scale::<Self, S>(simd, half, v), quants),
                    // The product is exact, so it is rounded once with or without the instruction.
                    More::Minimum | More::Offset => {
                        let minimum = scaling.minimum::<Self, S>(simd, v);
                        simd.fma(scaling.scale::<Self, S>(simd, 0, v), quants, minimum)
                    }
                }
            }

            fn turn(patch: &Patch<'_>, target: &mut [u8]) {
                turn_blocks::<Self>(patch, target);
            }
        }
    };
}

blocks!(Q8_0: [u8; BLOCK], 1 scales of 2, 0 factors);
blocks!(Q5_0: [u8; BLOCK], 1 scales of 2, 0 factors);
blocks!(Q4_0: [u8; BLOCK / 2], 1 scales of 2, 0 factors);
blocks!(Q4_1: [u8; BLOCK / 2], 2 scales of 2, 0 factors);
blocks!(Q4K: [u8; BLOCK / 2], 2 scales of 1, 2 factors);
blocks!(Q5K: [u8; BLOCK], 2 scales of 1, 2 factors);
blocks!(Q6K: [u8; BLOCK], 2 scales of 1, 1 factors);

impl Blocks for Q8_0 {
    type Block = BlockQ8_0;
    type Quants = [u8; BLOCK];
    const MORE: More = More::Nothing;
    const LIFT: f32 = 0.0;

    #[inline(always)]
    fn unpack(block: &BlockQ8_0, _: usize) -> ([u8; BLOCK], [[u8; 2]; 2]) {
        (block.quants.map(i8::cast_unsigned), halves(block.scale, f16::ZERO))
    }
}

impl Blocks for Q5_0 {
    type Block = BlockQ5_0;
    type Quants = [u8; BLOCK];
    const MORE: More = More::Nothing;
    const LIFT: f32 = 0.0;

    #[inline(always)]
    fn unpack(block: &BlockQ5_0, _: usize) -> ([u8; BLOCK], [[u8; 2]; 2]) {
        let (low, high) = (nibbles(&block.nibbles), u32::from_le_bytes(block.high));
        let quants = std::array::from_fn(|i| (low[i] | ((high >> i & 1) << 4) as u8).wrapping_sub(16));
        (quants, halves(block.scale, f16::ZERO))
    }
}

impl Blocks for Q4_0 {
    type Block = BlockQ4_0;
    type Quants = [u8; BLOCK / 2];
    const MORE: More = More::Nothing;
    const LIFT: f32 = 0.0;

    #[inline(always)]
    fn unpack(block: &BlockQ4_0, _: usize) -> ([u8; BLOCK], [[u8; 2]; 2]) {
        (nibbles(&block.nibbles), halves(block.scale, f16::ZERO))
    }
}

impl Blocks for Q4_1 {
    type Block = BlockQ4_1;
    type Quants = [u8; BLOCK / 2];
    const MORE: More = More::Minimum;
    const LIFT: f32 = 8.0;

    #[inline(always)]
    fn unpack(block: &BlockQ4_1, _: usize) -> ([u8; BLOCK], [[u8; 2]; 2]) {
        (nibbles(&block.nibbles), halves(block.scale, block.min))
    }
}

impl Blocks for Q4K {
    type Block = BlockQ4K;
    type Quants = [u8; BLOCK / 2];
    const MORE: More = More::Offset;
    const LIFT: f32 = 8.0;

    #[inline(always)]
    fn unpack(block: &BlockQ4K, g: usize) -> ([u8; BLOCK], [[u8; 2]; 2]) {
        let (steps, mins) = block.groups();
        let bytes: &[u8; BLOCK] = part(&block.nibbles, g / 2 * BLOCK);
        (bytes.map(|byte| byte >> (g % 2 * 4) & 15), [[steps[g], 0], [mins[g], 0]])
    }

    fn factors(block: &BlockQ4K) -> [f16; 2] {
        [block.scale, block.min_scale]
    }
}

impl Blocks for Q5K {
    type Block = BlockQ5K;
    type Quants = [u8; BLOCK];
    const MORE: More = More::Offset;
    const LIFT: f32 = 0.0;

    #[inline(always)]
    fn unpack(block: &BlockQ5K, g: usize) -> ([u8; BLOCK], [[u8; 2]; 2]) {
        let (steps, mins) = block.groups();
        let bytes: &[u8; BLOCK] = part(&block.nibbles, g / 2 * BLOCK);
        let quant = |i: usize| bytes[i] >> (g % 2 * 4) & 15 | (block.high[i] >> g & 1) << 4;
        (std::array::from_fn(quant), [[steps[g], 0], [mins[g], 0]])
    }

    fn factors(block: &BlockQ5K) -> [f16; 2] {
        [block.scale, block.min_scale]
    }
}

impl Blocks for Q6K {
    type Block = BlockQ6K;
    type Quants = [u8; BLOCK];
    const MORE: More = More::Scale;
    const LIFT: f32 = 0.0;

    #[inline(always)]
    fn unpack(block: &BlockQ6K, g: usize) -> ([u8; BLOCK], [[u8; 2]; 2]) {
        let (half, k) = (g / 4, g % 4);
        let low: &[u8; BLOCK] = part(&block.low, 64 * half + k % 2 * BLOCK);
        let high: &[u8; BLOCK] = part(&block.high, BLOCK * half);
        let quant = |i: usize| (low[i] >> (k / 2 * 4) & 15 | (high[i] >> (2 * k) & 3) << 4).wrapping_sub(32);
        let scales = [block.scales[2 * g], block.scales[2 * g + 1]].map(|scale| [scale.cast_unsigned(), 0]);
        (std::array::from_fn(quant), scales)
    }

    fn factors(block: &BlockQ6K) -> [f16; 2] {
        [block.scale, f16::ZERO]
    }
}

/// Two f16 values.
fn halves(scale: f16, more: f16) -> [[u8; 2]; 2] {
    [scale.to_bits().to_le_bytes(), more.to_bits().to_le_bytes()]
}

/// Nibbles in the order of their values.
#[inline(always)]
fn nibbles(bytes: &[u8; BLOCK / 2]) -> [u8; BLOCK] {
    std::array::from_fn(|i| bytes[i % (BLOCK / 2)] >> (i / (BLOCK / 2) * 4) & 15)
}

/// The expression with `$C` as the [`Column`] of a type.
macro_rules! with_column {
    ($dtype:expr, $C:ident => $body:expr) => {
        $crate::simd::column::with_types!($dtype, $C => $body, [F32 F16 BF16 Q8_0 Q6K Q5K Q5_0 Q4_1 Q4K Q4_0],)
    };
}

/// The expression with `$C` as the [`Blocks`] of a type, which is a block format.
macro_rules! with_blocks {
    ($dtype:expr, $C:ident => $body:expr) => {
        $crate::simd::column::with_types!(
            $dtype, $C => $body, [Q8_0 Q6K Q5K Q5_0 Q4_1 Q4K Q4_0], dtype => unreachable!("{dtype} has no blocks"),
        )
    };
}

macro_rules! with_types {
    ($dtype:expr, $C:ident => $body:expr, [$($name:ident)*], $($other:pat => $else:expr,)?) => {
        match $dtype {
            $(gemma_hal::DType::$name => {
                type $C = $crate::simd::column::$name;
                $body
            })*
            $($other => $else,)?
        }
    };
}

pub(super) use {with_blocks, with_column, with_types};
