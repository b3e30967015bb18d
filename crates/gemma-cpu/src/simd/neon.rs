//! [`Simd`] with NEON, which every AArch64 processor has: 4 lanes, fused multiply-add, conversion from f16.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::aarch64::*;

use gemma_hal::block::BLOCK;

use super::lanes::{Simd, part, part_mut};
use super::{Isa, Kernel};

const LANES: usize = 4;

/// A number that no byte of a table of 16 has: a look-up gives 0.
const NONE: u8 = 0xff;

/// Where byte `4v + i` of 16 goes: the lowest byte of lane `i`.
const LOW: [[u8; 16]; 4] = spread(0);

/// Where byte `4v + i` of 16 goes: the highest byte of lane `i`.
const HIGH: [[u8; 16]; 4] = spread(3);

/// Exists only where the processor has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

impl Neon {
    /// The capability, where the processor has it.
    pub fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// Runs a kernel compiled for these instructions.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn inner<K: Kernel>(simd: Neon, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves that the processor has the enabled feature.
        unsafe { inner(self, kernel) }
    }
}

impl From<Neon> for Isa {
    fn from(token: Neon) -> Self {
        Self::Neon(token)
    }
}

/// Calls intrinsics of the feature named above, in methods of `Neon` only.
macro_rules! neon {
    ($($body:tt)*) => {
        // SAFETY: `self` proves that the processor has the feature. Every pointer below is made in the same expression
        // from a reference to an array of exactly the bytes that the intrinsic reads or writes; values of more than a
        // byte are read through pointers to bytes, or through references to arrays of them.
        unsafe { $($body)* }
    };
}

impl Simd for Neon {
    type F = float32x4_t;
    const LANES: usize = LANES;
    const TOKENS: usize = 6;
    const SUM_ORDER: &'static [usize] = &[0, 1, 2, 3];

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        neon!(vdupq_n_f32(value))
    }

    #[inline(always)]
    fn load(self, block: &[f32; BLOCK], v: usize) -> float32x4_t {
        neon!(vld1q_f32(part::<LANES, _>(block, v * LANES).as_ptr()))
    }

    #[inline(always)]
    fn store(self, block: &mut [f32; BLOCK], v: usize, values: float32x4_t) {
        neon!(vst1q_f32(part_mut::<LANES, _>(block, v * LANES).as_mut_ptr(), values));
    }

    #[inline(always)]
    fn f32(self, block: &[u8; 4 * BLOCK], v: usize) -> float32x4_t {
        neon!(vreinterpretq_f32_u8(vld1q_u8(part::<16, _>(block, v * 16).as_ptr())))
    }

    #[inline(always)]
    fn f16(self, block: &[u8; 2 * BLOCK], v: usize) -> float32x4_t {
        neon! {
            let halves = vld1_u8(part::<8, _>(block, v * 8).as_ptr());
            vcvt_f32_f16(vreinterpret_f16_u8(halves))
        }
    }

    #[inline(always)]
    fn bf16(self, block: &[u8; 2 * BLOCK], v: usize) -> float32x4_t {
        neon! {
            let halves = vreinterpret_u16_u8(vld1_u8(part::<8, _>(block, v * 8).as_ptr()));
            vreinterpretq_f32_u32(vshll_n_u16::<16>(halves))
        }
    }

    #[inline(always)]
    fn q8_0(self, block: &[u8; 34], v: usize) -> float32x4_t {
        let scale = self.scale(*part(block, 0));
        neon! {
            let bytes = vld1q_u8(part::<16, _>(block, 2 + v / 4 * 16).as_ptr());
            // A quant in the highest byte is 2^24 times too large, which the conversion takes back exactly.
            let quants = vqtbl1q_u8(bytes, vld1q_u8(HIGH[v % 4].as_ptr()));
            vmulq_f32(scale, vcvtq_n_f32_s32::<24>(vreinterpretq_s32_u8(quants)))
        }
    }

    #[inline(always)]
    fn q4_0(self, block: &[u8; 18], v: usize) -> float32x4_t {
        let scale = self.scale(*part(block, 0));
        neon! {
            // Vectors 0 to 3 are the low nibbles of 16 bytes, 4 to 7 the high ones.
            let bytes = vld1q_u8(part::<16, _>(block, 2).as_ptr());
            let nibbles = if v < 4 { vandq_u8(bytes, vdupq_n_u8(15)) } else { vshrq_n_u8::<4>(bytes) };
            let nibbles = vqtbl1q_u8(nibbles, vld1q_u8(LOW[v % 4].as_ptr()));
            // scale · nibble − 8 · scale is exact: the product needs 15 bits, and so does the difference.
            let offset = vmulq_f32(scale, vdupq_n_f32(-8.0));
            vfmaq_f32(offset, scale, vcvtq_f32_u32(vreinterpretq_u32_u8(nibbles)))
        }
    }

    #[inline(always)]
    fn i8(self, block: &[u8; BLOCK], v: usize) -> float32x4_t {
        neon! {
            let bytes = vld1q_u8(part::<16, _>(block, v / 4 * 16).as_ptr());
            let values = vqtbl1q_u8(bytes, vld1q_u8(HIGH[v % 4].as_ptr()));
            vcvtq_n_f32_s32::<24>(vreinterpretq_s32_u8(values))
        }
    }

    #[inline(always)]
    fn i4(self, block: &[u8; BLOCK / 2], v: usize) -> float32x4_t {
        neon! {
            // Vectors 0 to 3 are the low nibbles, 4 to 7 the high ones.
            let bytes = vld1q_u8(block.as_ptr());
            let nibbles = if v < 4 { vandq_u8(bytes, vdupq_n_u8(15)) } else { vshrq_n_u8::<4>(bytes) };
            let nibbles = vqtbl1q_u8(nibbles, vld1q_u8(LOW[v % 4].as_ptr()));
            vsubq_f32(vcvtq_f32_u32(vreinterpretq_u32_u8(nibbles)), vdupq_n_f32(8.0))
        }
    }

    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vaddq_f32(a, b))
    }

    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vsubq_f32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vmulq_f32(a, b))
    }

    #[inline(always)]
    fn div(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vdivq_f32(a, b))
    }

    #[inline(always)]
    fn fma(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        neon!(vfmaq_f32(c, a, b))
    }

    #[inline(always)]
    fn max(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // Not the instruction, which gives NaN when either is.
        neon!(vbslq_f32(vcgtq_f32(a, b), a, b))
    }

    #[inline(always)]
    fn min(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        neon!(vbslq_f32(vcltq_f32(a, b), a, b))
    }

    #[inline(always)]
    fn round(self, a: float32x4_t) -> float32x4_t {
        neon!(vrndnq_f32(a))
    }

    #[inline(always)]
    fn exp2_int(self, a: float32x4_t) -> float32x4_t {
        neon! {
            let exponent = vaddq_s32(vcvtq_s32_f32(a), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        }
    }

    #[inline(always)]
    fn copy_sign(self, a: float32x4_t, sign: float32x4_t) -> float32x4_t {
        neon!(vbslq_f32(vdupq_n_u32(1 << 31), sign, a))
    }

    #[inline(always)]
    fn sums(self, [a, b, c, d]: [float32x4_t; 4]) -> [f32; 4] {
        let mut out = [0.0; 4];
        neon!(vst1q_f32(out.as_mut_ptr(), vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d))));
        out
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        crate::prefetch::prefetch(address);
    }
}

impl Neon {
    /// An f16 scale in all lanes.
    #[inline(always)]
    #[allow(clippy::unused_self, reason = "the value proves that the processor has the feature")]
    fn scale(self, bytes: [u8; 2]) -> float32x4_t {
        neon!(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(u16::from_le_bytes(bytes)))))
    }
}

/// Tables that move bytes `4v ..` of 16 to `byte` of each lane.
const fn spread(byte: usize) -> [[u8; 16]; 4] {
    let mut tables = [[NONE; 16]; 4];
    let mut i = 0;
    while i < 16 {
        tables[i / 4][i % 4 * 4 + byte] = i as u8;
        i += 1;
    }
    tables
}
