//! Many inputs: panels of 16 rows, packed so that a vector holds 4 columns of all 16.

#[allow(clippy::wildcard_imports, reason = "intrinsics by the dozen")]
use std::arch::x86_64::*;

use gemma_hal::block::BLOCK;

use super::Avx512Vnni;
use super::formats::Format;
use super::vectors::{PANEL, vnni};
use crate::simd::Avx512;
use crate::simd::lanes::{part, part_mut};
use crate::simd::quantised::avx2::Unpack;
use crate::simd::quantised::driver::many::{Many, Pack, Packed, Panel, STEPS};
use crate::simd::quantised::driver::stored::Stored;
use crate::simd::quantised::{CHAINS, PANEL_ROWS};

/// Calls intrinsics of AVX-512 F and BW, where a value of [`Avx512`] or better is at hand.
macro_rules! wide {
    ($($body:tt)*) => {
        // SAFETY: an `Avx512` or `Avx512Vnni` at hand proves that the processor has the features. Every pointer below is
        // made in the same expression from a reference to exactly the bytes that the intrinsic reads or writes, and the
        // intrinsics used need no alignment.
        unsafe { $($body)* }
    };
}

/// A block that [`Pack::pack`] fills.
const NOTHING: Packed<PANEL> =
    Packed { quants: [[0; BLOCK]; PANEL], scales: [0.0; PANEL], more: [0.0; PANEL] };

/// Exact products of bytes.
trait Integer: Copy {
    /// What packed panels have besides what quants stand for: this power of two.
    fn offset_log2<F: Stored>() -> Option<u32>;

    /// `sums` plus the products of columns `4 · FROM .. 4 · TO`.
    fn dots<F: Stored, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
        self,
        panels: [&Panel<PANEL>; P],
        inputs: &[[i8; BLOCK]; T],
        sums: [[__m512i; P]; T],
    ) -> [[__m512i; P]; T];
}

impl<G: Integer> Many<PANEL> for G {
    const PANELS: usize = PANEL_ROWS / PANEL;
    type Sums = __m512;
    type Dots = __m512i;

    #[inline(always)]
    fn zero(self) -> __m512 {
        wide!(_mm512_setzero_ps())
    }

    #[inline(always)]
    fn load(self, values: &[f32; PANEL]) -> __m512 {
        wide!(_mm512_loadu_ps(values.as_ptr()))
    }

    #[inline(always)]
    fn store(self, values: &mut [f32; PANEL], sums: __m512) {
        wide!(_mm512_storeu_ps(values.as_mut_ptr(), sums));
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        wide!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn multiply_add(self, dots: __m512i, rows: __m512, input: f32, sums: __m512) -> __m512 {
        wide! {
            let scale = _mm512_mul_ps(rows, _mm512_set1_ps(input));
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scale, sums)
        }
    }

    #[inline(always)]
    fn splat(self, value: i32) -> __m512i {
        wide!(_mm512_set1_epi32(value))
    }

    #[inline(always)]
    fn dots<F: Stored, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
        self,
        panels: [&Panel<PANEL>; P],
        inputs: &[[i8; BLOCK]; T],
        sums: &[i32; T],
    ) -> [[__m512i; P]; T] {
        let zero = wide!(_mm512_setzero_si512());
        let mut dots = [[zero; P]; T];
        if let Some(log2) = G::offset_log2::<F>() {
            for t in 0..T {
                wide! {
                    let offset = _mm512_sll_epi32(_mm512_set1_epi32(sums[t]), _mm_cvtsi32_si128(log2 as i32));
                    dots[t] = [_mm512_sub_epi32(zero, offset); P];
                }
            }
        }
        Integer::dots::<F, P, T, FROM, TO>(self, panels, inputs, dots)
    }

    #[inline(always)]
    fn prefetch(self, address: *const u8) {
        wide!(_mm_prefetch::<_MM_HINT_T1>(address.cast()));
    }
}

/// Columns `4 · step ..` of all rows of a panel.
#[inline(always)]
fn row_columns<G: Integer>(_: G, panel: &Panel<PANEL>, step: usize) -> __m512i {
    wide!(_mm512_loadu_si512(part::<2, _>(panel, 2 * step).as_ptr().cast()))
}

/// The same columns of an input, for all rows of a panel.
#[inline(always)]
fn four<G: Integer>(_: G, input: &[i8; BLOCK], step: usize) -> __m512i {
    let four: [i8; 4] = input.as_chunks().0[step];
    wide!(_mm512_set1_epi32(i32::from_le_bytes(four.map(i8::cast_unsigned))))
}

impl Integer for Avx512Vnni {
    #[inline(always)]
    fn offset_log2<F: Stored>() -> Option<u32> {
        F::OFFSET_LOG2
    }

    #[inline(always)]
    fn dots<F: Stored, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
        self,
        panels: [&Panel<PANEL>; P],
        inputs: &[[i8; BLOCK]; T],
        mut sums: [[__m512i; P]; T],
    ) -> [[__m512i; P]; T] {
        for step in FROM..TO {
            let mut weights = [vnni!(_mm512_setzero_si512()); P];
            for p in 0..P {
                weights[p] = row_columns(self, panels[p], step);
            }
            for t in 0..T {
                let four = four(self, &inputs[t], step);
                for p in 0..P {
                    sums[t][p] = vnni!(_mm512_dpbusd_epi32(sums[t][p], weights[p], four));
                }
            }
        }
        sums
    }
}

/// Sums of two neighbouring products of 16 bits, as with AVX2: signed quants as their magnitudes times inputs of their
/// sign.
impl Integer for Avx512 {
    #[inline(always)]
    fn offset_log2<F: Stored>() -> Option<u32> {
        F::OFFSET_LOG2.filter(|_| !F::SIGNED)
    }

    #[inline(always)]
    fn dots<F: Stored, const P: usize, const T: usize, const FROM: usize, const TO: usize>(
        self,
        panels: [&Panel<PANEL>; P],
        inputs: &[[i8; BLOCK]; T],
        mut sums: [[__m512i; P]; T],
    ) -> [[__m512i; P]; T] {
        let (zero, ones) = wide!((_mm512_setzero_si512(), _mm512_set1_epi16(1)));
        let mut pairs = [[zero; P]; T];
        for step in FROM..TO {
            let (mut weights, mut negative) = ([zero; P], [0; P]);
            for p in 0..P {
                weights[p] = row_columns(self, panels[p], step);
                if F::SIGNED {
                    (weights[p], negative[p]) =
                        wide!((_mm512_abs_epi8(weights[p]), _mm512_movepi8_mask(weights[p])));
                }
            }
            for t in 0..T {
                let four = four(self, &inputs[t], step);
                for p in 0..P {
                    let mut signed = four;
                    if F::SIGNED {
                        signed = wide!(_mm512_mask_sub_epi8(four, negative[p], zero, four));
                    }
                    pairs[t][p] =
                        wide!(_mm512_add_epi16(pairs[t][p], _mm512_maddubs_epi16(weights[p], signed)));
                }
            }
            // 16 bits hold so many steps and no more.
            if (step + 1 - FROM).is_multiple_of(F::EXACT_STEPS) || step + 1 == TO {
                for t in 0..T {
                    for p in 0..P {
                        let products = wide!(_mm512_madd_epi16(pairs[t][p], ones));
                        sums[t][p] = wide!(_mm512_add_epi32(sums[t][p], products));
                        pairs[t][p] = zero;
                    }
                }
            }
        }
        sums
    }
}

impl<F: Format> Pack<F, PANEL> for Avx512Vnni {
    #[inline(always)]
    fn pack(self, rows: [&[u8]; PANEL], index: usize) -> [Packed<PANEL>; CHAINS] {
        let zero = vnni!(_mm512_setzero_si512());
        let mut vectors = [[zero; 4]; STEPS];
        let (mut scales, mut more) = ([zero; 4], [zero; 4]);
        for four in 0..4 {
            let raw = [
                F::load(self, rows[four * 4], index),
                F::load(self, rows[four * 4 + 1], index),
                F::load(self, rows[four * 4 + 2], index),
                F::load(self, rows[four * 4 + 3], index),
            ];
            scales[four] = vnni!(_mm512_castps_si512(F::scales(self, raw)));
            more[four] = vnni!(_mm512_castps_si512(F::more(self, raw)));
            let quants = [
                F::quants(self, raw[0]),
                F::quants(self, raw[1]),
                F::quants(self, raw[2]),
                F::quants(self, raw[3]),
            ];
            for half in 0..2 {
                let rows = [quants[0][half], quants[1][half], quants[2][half], quants[3][half]];
                let columns = self.transpose_in_lanes(rows);
                for step in 0..4 {
                    vectors[half * 4 + step][four] = columns[step];
                }
            }
        }
        let mut out = [NOTHING; CHAINS];
        for step in 0..STEPS {
            let blocks = self.transpose_lanes(vectors[step]);
            for chain in 0..CHAINS {
                let to: &mut [[i8; BLOCK]; 2] = part_mut(&mut out[chain].quants, 2 * step);
                vnni!(_mm512_storeu_si512(to.as_mut_ptr().cast(), blocks[chain]));
            }
        }
        let (scales, more) = (self.transpose_lanes(scales), self.transpose_lanes(more));
        for chain in 0..CHAINS {
            let to = &mut out[chain];
            vnni! {
                _mm512_storeu_si512(to.scales.as_mut_ptr().cast(), scales[chain]);
                _mm512_storeu_si512(to.more.as_mut_ptr().cast(), more[chain]);
            }
        }
        out
    }
}

/// Two halves, packed as for AVX2.
impl<F: Unpack> Pack<F, PANEL> for Avx512 {
    #[inline(always)]
    fn pack(self, rows: [&[u8]; PANEL], index: usize) -> [Packed<PANEL>; CHAINS] {
        let mut out = [NOTHING; CHAINS];
        for half in 0..2 {
            let blocks = Pack::<F, { PANEL / 2 }>::pack(self.avx2(), *part(&rows, half * PANEL / 2), index);
            for (out, block) in out.iter_mut().zip(&blocks) {
                for step in 0..STEPS {
                    out.quants[2 * step + half] = block.quants[step];
                }
                *part_mut(&mut out.scales, half * PANEL / 2) = block.scales;
                *part_mut(&mut out.more, half * PANEL / 2) = block.more;
            }
        }
        out
    }
}
