//! [`Integer`]: exact products of 8-bit values, one type for each generation of AArch64 processors.
//!
//! The instructions of Armv8.4 and 8.6 have no stable intrinsics in the Rust that this is written for, so they are
//! named in assembly: one instruction each, on registers alone.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::aarch64::*;
use std::arch::asm;

use gemma_hal::block::BLOCK;

use super::{NeonDot, NeonI8mm};
use crate::simd::Neon;
use crate::simd::lanes;
use crate::simd::quantised::activation::TILE;

/// Rows of a panel.
pub(super) const PANEL: usize = 8;

/// Vectors of a block of a panel.
pub(super) const VECTORS: usize = PANEL * BLOCK / 16;

/// A block as 8-bit values: the first 16, and the last.
pub(super) type Quants = [int8x16_t; 2];

/// The integer sums of a panel's rows: 0 to 3, and 4 to 7.
pub(super) type Dots = [int32x4_t; 2];

/// A block of a panel, in the order that [`Integer::dots`] reads it.
pub(super) type Panel = [[i8; 16]; VECTORS];

/// Calls intrinsics of NEON, where a value is at hand that exists only with it.
macro_rules! neon {
    ($($body:tt)*) => {
        // SAFETY: a `Neon` or what contains one is at hand and proves that the processor has the feature. Every pointer
        // below is made in the same expression from a reference to exactly what the intrinsic reads or writes.
        unsafe { $($body)* }
    };
}
pub(super) use neon;

/// Sums of products of 8-bit values, of which a weight may be −128 and an input may not.
///
/// A value of an implementing type is a capability, as for [`crate::simd::Simd`].
pub(super) trait Integer: Copy {
    /// What else it can do.
    fn neon(self) -> Neon;

    /// Four sums which together are that of the products of a block.
    fn dot(self, weights: Quants, inputs: Quants) -> int32x4_t;

    /// The same of half a block.
    fn dot_half(self, weights: int8x16_t, inputs: int8x16_t) -> int32x4_t;

    /// A block of 8 rows as a panel.
    fn arrange(self, rows: [Quants; PANEL]) -> [int8x16_t; VECTORS];

    /// The products of a block of 8 rows with those of `T` inputs, of the first half, the last, or both.
    fn dots<const T: usize>(self, panel: &Panel, inputs: &[[i8; BLOCK]; T], halves: [bool; 2]) -> [Dots; T];
}

/// Products of 16 bits, added in pairs: any AArch64 processor.
impl Integer for Neon {
    #[inline(always)]
    fn neon(self) -> Neon {
        self
    }

    #[inline(always)]
    fn dot(self, weights: Quants, inputs: Quants) -> int32x4_t {
        let [first, last] = [two(self, weights[0], inputs[0]), two(self, weights[1], inputs[1])];
        neon!(vpadalq_s16(vpaddlq_s16(first), last))
    }

    #[inline(always)]
    fn dot_half(self, weights: int8x16_t, inputs: int8x16_t) -> int32x4_t {
        neon!(vpaddlq_s16(two(self, weights, inputs)))
    }

    #[inline(always)]
    fn arrange(self, rows: [Quants; PANEL]) -> [int8x16_t; VECTORS] {
        let mut out = [rows[0][0]; VECTORS];
        for row in 0..PANEL {
            [out[2 * row], out[2 * row + 1]] = rows[row];
        }
        out
    }

    #[inline(always)]
    fn dots<const T: usize>(self, panel: &Panel, inputs: &[[i8; BLOCK]; T], halves: [bool; 2]) -> [Dots; T] {
        let mut dots = [[neon!(vdupq_n_s32(0)); 2]; T];
        for t in 0..T {
            let input: Quants = load(self, inputs[t].as_chunks().0);
            for half in 0..2 {
                let mut rows = [dots[t][half]; 4];
                for row in 0..4 {
                    let weights: Quants = load(self, &panel[(half * 4 + row) * 2..]);
                    rows[row] = match halves {
                        [true, true] => self.dot(weights, input),
                        [first, _] => {
                            let only = usize::from(!first);
                            self.dot_half(weights[only], input[only])
                        }
                    };
                }
                dots[t][half] = add_lanes(self, rows);
            }
        }
        dots
    }
}

/// Sums of two products: of at most 128 · 127 they fit 16 bits.
#[inline(always)]
fn two(_: Neon, weights: int8x16_t, inputs: int8x16_t) -> int16x8_t {
    neon!(vmlal_high_s8(vmull_s8(vget_low_s8(weights), vget_low_s8(inputs)), weights, inputs))
}

/// Vector `2s + h` of a panel has columns `4s ..` of rows `4h ..`.
impl Integer for NeonDot {
    #[inline(always)]
    fn neon(self) -> Neon {
        self.0
    }

    #[inline(always)]
    fn dot(self, weights: Quants, inputs: Quants) -> int32x4_t {
        // SAFETY: `self` proves that the processor has the feature.
        unsafe { sdot(sdot(vdupq_n_s32(0), weights[0], inputs[0]), weights[1], inputs[1]) }
    }

    #[inline(always)]
    fn dot_half(self, weights: int8x16_t, inputs: int8x16_t) -> int32x4_t {
        // SAFETY: as above.
        unsafe { sdot(vdupq_n_s32(0), weights, inputs) }
    }

    #[inline(always)]
    fn arrange(self, rows: [Quants; PANEL]) -> [int8x16_t; VECTORS] {
        let mut out = [rows[0][0]; VECTORS];
        for part in 0..2 {
            for half in 0..2 {
                let four: &[Quants; 4] = lanes::part(&rows, half * 4);
                let [a, b, c, d] = neon! {
                    [
                        vreinterpretq_s32_s8(four[0][part]),
                        vreinterpretq_s32_s8(four[1][part]),
                        vreinterpretq_s32_s8(four[2][part]),
                        vreinterpretq_s32_s8(four[3][part]),
                    ]
                };
                let columns = neon! {
                    let (ab, ab2) = (pairs(vtrn1q_s32(a, b)), pairs(vtrn2q_s32(a, b)));
                    let (cd, cd2) = (pairs(vtrn1q_s32(c, d)), pairs(vtrn2q_s32(c, d)));
                    [vtrn1q_s64(ab, cd), vtrn1q_s64(ab2, cd2), vtrn2q_s64(ab, cd), vtrn2q_s64(ab2, cd2)]
                };
                for step in 0..4 {
                    out[(part * 4 + step) * 2 + half] = neon!(vreinterpretq_s8_s64(columns[step]));
                }
            }
        }
        out
    }

    #[inline(always)]
    fn dots<const T: usize>(self, panel: &Panel, inputs: &[[i8; BLOCK]; T], halves: [bool; 2]) -> [Dots; T] {
        let mut dots = [[neon!(vdupq_n_s32(0)); 2]; T];
        if halves[0] {
            self.half::<T, 0>(panel, inputs, &mut dots);
        }
        if halves[1] {
            self.half::<T, 1>(panel, inputs, &mut dots);
        }
        dots
    }
}

impl NeonDot {
    /// Adds the products of columns `16 · HALF ..`.
    #[inline(always)]
    fn half<const T: usize, const HALF: usize>(
        self,
        panel: &Panel,
        inputs: &[[i8; BLOCK]; T],
        dots: &mut [Dots; T],
    ) {
        let mut sixteen = [neon!(vdupq_n_s8(0)); T];
        for t in 0..T {
            [sixteen[t]] = load(self.0, &inputs[t].as_chunks().0[HALF..]);
        }
        self.four::<T, 0>(&panel[HALF * 8..], sixteen, dots);
        self.four::<T, 1>(&panel[HALF * 8 + 2..], sixteen, dots);
        self.four::<T, 2>(&panel[HALF * 8 + 4..], sixteen, dots);
        self.four::<T, 3>(&panel[HALF * 8 + 6..], sixteen, dots);
    }

    /// Adds the products of 4 columns with values `4 · LANE ..` of the inputs.
    #[inline(always)]
    fn four<const T: usize, const LANE: usize>(
        self,
        panel: &[[i8; 16]],
        inputs: [int8x16_t; T],
        dots: &mut [Dots; T],
    ) {
        let [low, high] = load(self.0, panel);
        for t in 0..T {
            // SAFETY: `self` proves that the processor has the feature.
            dots[t] = unsafe {
                [
                    sdot_lane::<LANE>(dots[t][0], low, inputs[t]),
                    sdot_lane::<LANE>(dots[t][1], high, inputs[t]),
                ]
            };
        }
    }
}

/// Vector `4s + p` of a panel has columns `8s ..` of rows `2p` and `2p + 1`.
impl Integer for NeonI8mm {
    #[inline(always)]
    fn neon(self) -> Neon {
        self.0.neon()
    }

    #[inline(always)]
    fn dot(self, weights: Quants, inputs: Quants) -> int32x4_t {
        self.0.dot(weights, inputs)
    }

    #[inline(always)]
    fn dot_half(self, weights: int8x16_t, inputs: int8x16_t) -> int32x4_t {
        self.0.dot_half(weights, inputs)
    }

    #[inline(always)]
    fn arrange(self, rows: [Quants; PANEL]) -> [int8x16_t; VECTORS] {
        let mut out = [rows[0][0]; VECTORS];
        for part in 0..2 {
            for pair in 0..4 {
                let eights = interleave(self.neon(), rows[2 * pair][part], rows[2 * pair + 1][part]);
                for step in 0..2 {
                    out[(part * 2 + step) * 4 + pair] = eights[step];
                }
            }
        }
        out
    }

    #[inline(always)]
    fn dots<const T: usize>(self, panel: &Panel, inputs: &[[i8; BLOCK]; T], halves: [bool; 2]) -> [Dots; T] {
        let zero = neon!(vdupq_n_s32(0));
        let mut sums = [[zero; 4]; PAIRS];
        if halves[0] {
            self.half::<T, 0>(panel, inputs, &mut sums);
        }
        if halves[1] {
            self.half::<T, 1>(panel, inputs, &mut sums);
        }
        let mut dots = [[zero; 2]; T];
        for t in 0..T {
            let [a, b, c, d] = sums[t / 2];
            dots[t] = neon! {
                if t % 2 == 0 {
                    [vuzp1q_s32(a, b), vuzp1q_s32(c, d)]
                } else {
                    [vuzp2q_s32(a, b), vuzp2q_s32(c, d)]
                }
            };
        }
        dots
    }
}

/// Pairs of inputs in a tile.
const PAIRS: usize = TILE.div_ceil(2);

/// By pair of inputs and of rows: value `2i + j` is the sum of row `i` and input `j` of their pairs.
type PairSums = [[int32x4_t; 4]; PAIRS];

impl NeonI8mm {
    /// Adds the products of columns `16 · HALF ..`.
    #[inline(always)]
    fn half<const T: usize, const HALF: usize>(
        self,
        panel: &Panel,
        inputs: &[[i8; BLOCK]; T],
        sums: &mut PairSums,
    ) {
        let zero = neon!(vdupq_n_s8(0));
        let (mut first, mut last) = ([zero; PAIRS], [zero; PAIRS]);
        for pair in 0..T.div_ceil(2) {
            // Where inputs are odd in number, the last is computed twice.
            let tokens = [2 * pair, (2 * pair + 1).min(T - 1)];
            let [a] = load(self.neon(), &inputs[tokens[0]].as_chunks().0[HALF..]);
            let [b] = load(self.neon(), &inputs[tokens[1]].as_chunks().0[HALF..]);
            [first[pair], last[pair]] = interleave(self.neon(), a, b);
        }
        self.eight::<T>(&panel[HALF * 8..], first, sums);
        self.eight::<T>(&panel[HALF * 8 + 4..], last, sums);
    }

    /// Adds the products of 8 columns.
    #[inline(always)]
    fn eight<const T: usize>(self, panel: &[[i8; 16]], inputs: [int8x16_t; PAIRS], sums: &mut PairSums) {
        let [a, b, c, d] = load(self.neon(), panel);
        for pair in 0..T.div_ceil(2) {
            let input = inputs[pair];
            // SAFETY: `self` proves that the processor has the feature.
            sums[pair] = unsafe {
                [
                    smmla(sums[pair][0], a, input),
                    smmla(sums[pair][1], b, input),
                    smmla(sums[pair][2], c, input),
                    smmla(sums[pair][3], d, input),
                ]
            };
        }
    }
}

/// The first `N` of these vectors.
#[inline(always)]
pub(super) fn load<const N: usize>(_: Neon, from: &[[i8; 16]]) -> [int8x16_t; N] {
    let from: &[[i8; 16]; N] = lanes::part(from, 0);
    let mut out = [neon!(vdupq_n_s8(0)); N];
    for i in 0..N {
        out[i] = neon!(vld1q_s8(from[i].as_ptr()));
    }
    out
}

/// The sums of each vector.
#[inline(always)]
pub(super) fn add_lanes(_: Neon, [a, b, c, d]: [int32x4_t; 4]) -> int32x4_t {
    neon!(vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)))
}

/// The first 8 values of both, and the last 8.
#[inline(always)]
fn interleave(_: Neon, a: int8x16_t, b: int8x16_t) -> [int8x16_t; 2] {
    neon! {
        let (a, b) = (vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b));
        [vreinterpretq_s8_s64(vtrn1q_s64(a, b)), vreinterpretq_s8_s64(vtrn2q_s64(a, b))]
    }
}

/// Two values of 32 bits as one.
#[inline]
#[target_feature(enable = "neon")]
fn pairs(values: int32x4_t) -> int64x2_t {
    vreinterpretq_s64_s32(values)
}

/// `sum[i] += Σ_j a[4i + j] · b[4i + j]`
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes the named registers only, and the feature is enabled.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// `sum[i] += Σ_j a[4i + j] · b[4 · LANE + j]`
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot_lane<const LANE: usize>(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes the named registers only, and the feature is enabled.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]",
            sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// `sum[2i + j] += Σ_k a[8i + k] · b[8j + k]`
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(mut sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes the named registers only, and the feature is enabled.
    unsafe {
        asm!(
            "smmla {sum:v}.4s, {a:v}.16b, {b:v}.16b",
            sum = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}
