//! Many inputs: panels of 8 rows, packed as the processor's widest integer product reads them.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::aarch64::*;

use gemma_hal::block::BLOCK;

use super::formats::Unpack;
use super::vectors::{Dots, Integer, PANEL, neon};
use crate::simd::Simd;
use crate::simd::lanes::part;
use crate::simd::quantised::CHAINS;
use crate::simd::quantised::driver::many::{Many, Pack, Packed, Panel, STEPS};
use crate::simd::quantised::driver::stored::Stored;

impl<G: Integer> Many<PANEL> for G {
    const PANELS: usize = 1;
    /// Rows 0 to 3, and 4 to 7.
    type Sums = [float32x4_t; 2];
    type Dots = Dots;

    #[inline(always)]
    fn zero(self) -> Self::Sums {
        [neon!(vdupq_n_f32(0.0)); 2]
    }

    #[inline(always)]
    fn load(self, values: &[f32; PANEL]) -> Self::Sums {
        neon!([vld1q_f32(part::<4, _>(values, 0).as_ptr()), vld1q_f32(part::<4, _>(values, 4).as_ptr())])
    }

    #[inline(always)]
    fn store(self, values: &mut [f32; PANEL], sums: Self::Sums) {
        let [low, high] = values.as_chunks_mut::<4>().0 else { unreachable!("8 values") };
        neon! {
            vst1q_f32(low.as_mut_ptr(), sums[0]);
            vst1q_f32(high.as_mut_ptr(), sums[1]);
        }
    }

    #[inline(always)]
    fn add(self, a: Self::Sums, b: Self::Sums) -> Self::Sums {
        neon!([vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])])
    }

    #[inline(always)]
    fn multiply_add(self, dots: Dots, rows: Self::Sums, input: f32, sums: Self::Sums) -> Self::Sums {
        neon! {
            [
                vfmaq_f32(sums[0], vcvtq_f32_s32(dots[0]), vmulq_n_f32(rows[0], input)),
                vfmaq_f32(sums[1], vcvtq_f32_s32(dots[1]), vmulq_n_f32(rows[1], input)),
            ]
        }
    }

    #[inline(always)]
    fn splat(self, value: i32) -> Dots {
        [neon!(vdupq_n_s32(value)); 2]
    }

    /// Quants are what they stand for, so that the sums of the inputs are not needed.
    #[inline(always)]
    fn dots<F: Stored, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
        self,
        panels: [&Panel<PANEL>; P],
        inputs: &[[i8; BLOCK]; T],
        _: &[i32; T],
    ) -> [[Dots; P]; T] {
        let mut out = [[self.splat(0); P]; T];
        for p in 0..P {
            let vectors = panels[p].as_flattened().as_chunks().0;
            let dots = self.dots::<T>(part(vectors, 0), inputs, [FROM == 0, TO == STEPS]);
            for t in 0..T {
                out[t][p] = dots[t];
            }
        }
        out
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        Simd::prefetch(self.neon(), address);
    }
}

impl<F: Unpack, G: Integer> Pack<F, PANEL> for G {
    #[inline(always)]
    fn pack(self, rows: [&[u8]; PANEL], index: usize) -> [Packed<PANEL>; CHAINS] {
        let nothing = Packed { quants: [[0; BLOCK]; PANEL], scales: [0.0; PANEL], more: [0.0; PANEL] };
        let mut out = [nothing; CHAINS];
        let mut groups = [F::group(rows[0], index); PANEL];
        for r in 1..PANEL {
            groups[r] = F::group(rows[r], index);
        }
        for block in 0..CHAINS {
            let mut quants = [[neon!(vdupq_n_s8(0)); 2]; PANEL];
            for r in 0..PANEL {
                quants[r] = F::quants(self.neon(), groups[r], block);
            }
            let vectors = self.arrange(quants);
            for (to, vector) in
                out[block].quants.as_flattened_mut().as_chunks_mut::<16>().0.iter_mut().zip(vectors)
            {
                neon!(vst1q_s8(to.as_mut_ptr(), vector));
            }
        }
        let [a, b, c, d, e, f, g, h] = groups;
        let fours = [[a, b, c, d], [e, f, g, h]];
        let scales = [F::scales(self.neon(), fours[0]), F::scales(self.neon(), fours[1])];
        let more = [F::more(self.neon(), fours[0]), F::more(self.neon(), fours[1])];
        for block in 0..CHAINS {
            self.store(&mut out[block].scales, [scales[0][block], scales[1][block]]);
            self.store(&mut out[block].more, [more[0][block], more[1][block]]);
        }
        out
    }
}
