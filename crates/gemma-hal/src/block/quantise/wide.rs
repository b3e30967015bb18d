//! The sums of a search eight values at a time (AVX2), for machines that have it.
//!
//! Every step is the one of `search.rs` in the same order and nothing is fused, so the results are the same to the bit;
//! the search spends its time here.

use core::arch::x86_64::{
    __m256, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
    _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps,
    _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_sub_ps,
};

use super::search::{Group, LANES, Levels, Products};

/// [`Group::error`].
#[target_feature(enable = "avx2")]
pub(super) fn error<const N: usize>(
    group: Group<'_, N>,
    inverse: f32,
    step: f32,
    minimum: f32,
    levels: Levels,
) -> f32 {
    let (inverse, step) = (_mm256_set1_ps(inverse), _mm256_set1_ps(step));
    let minimum = _mm256_set1_ps(minimum);
    let mut sum = _mm256_setzero_ps();
    for (values, weights) in chunks(group) {
        let (value, weight) = (load(values), load(weights));
        let quant = nearest(_mm256_mul_ps(_mm256_sub_ps(value, minimum), inverse), levels);
        let rest = _mm256_sub_ps(value, _mm256_add_ps(_mm256_mul_ps(step, quant), minimum));
        sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_mul_ps(weight, rest), rest));
    }
    total(sum)
}

/// [`Group::products`].
#[target_feature(enable = "avx2")]
pub(super) fn products<const N: usize>(
    group: Group<'_, N>,
    base: f32,
    inverse: f32,
    offset: f32,
    levels: Levels,
) -> Products {
    let (base, inverse, offset) = (_mm256_set1_ps(base), _mm256_set1_ps(inverse), _mm256_set1_ps(offset));
    let (mut q, mut qq, mut yq) = (_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps());
    for (values, weights) in chunks(group) {
        let y = _mm256_sub_ps(load(values), base);
        let quant = nearest(_mm256_add_ps(_mm256_mul_ps(y, inverse), offset), levels);
        let weighted = _mm256_mul_ps(load(weights), quant);
        q = _mm256_add_ps(q, weighted);
        qq = _mm256_add_ps(qq, _mm256_mul_ps(weighted, quant));
        yq = _mm256_add_ps(yq, _mm256_mul_ps(weighted, y));
    }
    Products { q: total(q), qq: total(qq), yq: total(yq) }
}

fn chunks<const N: usize>(group: Group<'_, N>) -> impl Iterator<Item = (&[f32; LANES], &[f32; LANES])> {
    group.values.as_chunks().0.iter().zip(group.weights.as_chunks().0)
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(values: &[f32; LANES]) -> __m256 {
    // SAFETY: the reference is to eight values, which is what is read, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// [`Levels::nearest`]: the instructions for the larger and the smaller of two take the second where they compare
/// false, as `larger` and `smaller` do.
#[target_feature(enable = "avx2")]
#[inline]
fn nearest(value: __m256, levels: Levels) -> __m256 {
    let shift = _mm256_set1_ps(Levels::SHIFT);
    let low = _mm256_max_ps(value, _mm256_set1_ps(levels.low));
    let kept = _mm256_min_ps(low, _mm256_set1_ps(levels.high));
    _mm256_sub_ps(_mm256_add_ps(kept, shift), shift)
}

/// The sum of the lanes a to h as `((a + e) + (c + g)) + ((b + f) + (d + h))`.
#[target_feature(enable = "avx2")]
#[inline]
fn total(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}
