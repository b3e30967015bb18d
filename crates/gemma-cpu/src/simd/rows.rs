//! Element-wise work on rows of activations: norms, dot products, activation functions, AltUp's mixing.
//!
//! Whole blocks of 32 values go through vectors; what is left of a row goes through the same formulas one by one.

use gemma_hal::block::BLOCK;

use super::lanes::Simd;
use super::{Isa, Kernel};

/// What vectors go through at a time.
type Block = [f32; BLOCK];

/// The most streams that [`mix_streams`] mixes.
pub const MAX_STREAMS: usize = 8;

/// `Σ a[i] · b[i]` over the shorter of the two.
pub fn dot(isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks();
    let (b, b_rest) = b.as_chunks();
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    isa.run(Dot { a, b }) + rest
}

/// `Σ x[i]²`.
pub fn sum_of_squares(isa: Isa, x: &[f32]) -> f32 {
    dot(isa, x, x)
}

/// `out = x / sqrt(mean(x²) + eps) · weight`; without a weight, times 1.
///
/// # Panics
/// When the slices differ in length.
pub fn rms_norm(isa: Isa, x: &[f32], weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    out.copy_from_slice(x);
    rms_norm_in_place(isa, out, weight, eps);
}

/// [`rms_norm`] of a row onto itself.
///
/// # Panics
/// When the weight has another length than the row.
pub fn rms_norm_in_place(isa: Isa, x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
    let scale = 1.0 / (sum_of_squares(isa, x) / x.len() as f32 + eps).sqrt();
    let Some(weight) = weight else {
        return x.iter_mut().for_each(|x| *x *= scale);
    };
    assert_eq!(x.len(), weight.len(), "a weight for every value");
    x.iter_mut().zip(weight).for_each(|(x, weight)| *x = *x * scale * weight);
}

/// `gate = gelu_tanh(gate) · up`.
///
/// # Panics
/// When the slices differ in length.
pub fn gelu_multiply(isa: Isa, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "as many gates as values");
    in_blocks(gate, up, |gate, up| isa.run(GeluMultiply { gate, up }));
}

/// `x = cap · tanh(x / cap)`.
pub fn soft_cap(isa: Isa, logits: &mut [f32], cap: f32) {
    let (blocks, rest) = logits.as_chunks_mut();
    isa.run(SoftCap { blocks, cap });
    rest.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
}

/// `gate = relu(gate − (mean(gate) + z · std(gate)))` with the biased standard deviation of the whole row.
pub fn gaussian_cut(isa: Isa, gate: &mut [f32], z: f32) {
    let count = gate.len() as f32;
    let (blocks, rest) = gate.as_chunks();
    let mean = (isa.run(Deviations { blocks, mean: None }) + rest.iter().sum::<f32>()) / count;
    let squares = isa.run(Deviations { blocks, mean: Some(mean) })
        + rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
    let cut = mean + z * (squares / count).sqrt();
    // Not `max`, which would make 0 of NaN.
    gate.iter_mut().for_each(|x| *x = if *x < cut { 0.0 } else { *x - cut });
}

/// `streams[j] += Σ_i mix[j · count + i] · streams[i]`, all at once, for `count` streams of equal width in one row.
///
/// # Panics
/// When there are more than [`MAX_STREAMS`] streams, or not a factor for each pair.
pub fn mix_streams(streams: &mut [f32], count: usize, mix: &[f32]) {
    assert!(count <= MAX_STREAMS && mix.len() == count * count, "{count} streams, {} factors", mix.len());
    /// Values that are mixed together: the old ones of all streams fit in the first-level cache.
    const PIECE: usize = 256;
    let width = streams.len() / count;
    let mut old = [[0.0; PIECE]; MAX_STREAMS];
    for start in (0..width).step_by(PIECE) {
        let len = PIECE.min(width - start);
        for (old, stream) in old.iter_mut().zip(streams.chunks_exact(width)) {
            old[..len].copy_from_slice(&stream[start..start + len]);
        }
        for (stream, mix) in streams.chunks_exact_mut(width).zip(mix.chunks_exact(count)) {
            for (old, factor) in old.iter().zip(mix) {
                let new = &mut stream[start..start + len];
                new.iter_mut().zip(old).for_each(|(new, old)| *new += factor * old);
            }
        }
    }
}

/// Calls `work` with whole blocks, then with what is left in blocks padded with zeros.
fn in_blocks(a: &mut [f32], b: &[f32], work: impl Fn(&mut [Block], &[Block])) {
    let (a, a_rest) = a.as_chunks_mut();
    let (b, b_rest) = b.as_chunks();
    work(a, b);
    if !a_rest.is_empty() {
        let mut padded = [[0.0; BLOCK]; 2];
        padded[0][..a_rest.len()].copy_from_slice(a_rest);
        padded[1][..b_rest.len()].copy_from_slice(b_rest);
        let [a, b] = &mut padded;
        work(std::slice::from_mut(a), std::slice::from_ref(b));
        a_rest.copy_from_slice(&a[..a_rest.len()]);
    }
}

struct Dot<'a> {
    a: &'a [[f32; BLOCK]],
    b: &'a [[f32; BLOCK]],
}

impl Kernel for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mut sums = [simd.zero(); 4];
        for (a, b) in self.a.iter().zip(self.b) {
            for v in 0..S::VECTORS {
                sums[v % 4] = simd.fma(simd.load(a, v), simd.load(b, v), sums[v % 4]);
            }
        }
        let [a, b, c, d] = simd.sums(sums);
        (a + b) + (c + d)
    }
}

/// Sums of the values, or of the squares of what separates them from a mean.
struct Deviations<'a> {
    blocks: &'a [[f32; BLOCK]],
    mean: Option<f32>,
}

impl Kernel for Deviations<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mean = simd.splat(self.mean.unwrap_or(0.0));
        let one = simd.splat(1.0);
        let mut sums = [simd.zero(); 4];
        for block in self.blocks {
            for v in 0..S::VECTORS {
                let x = simd.sub(simd.load(block, v), mean);
                let factor = if self.mean.is_some() { x } else { one };
                sums[v % 4] = simd.fma(x, factor, sums[v % 4]);
            }
        }
        let [a, b, c, d] = simd.sums(sums);
        (a + b) + (c + d)
    }
}

struct GeluMultiply<'a> {
    gate: &'a mut [[f32; BLOCK]],
    up: &'a [[f32; BLOCK]],
}

impl Kernel for GeluMultiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // gelu(x) = x · (1 + tanh(u)) / 2 = x / (1 + exp(−2u)) with u = sqrt(2/π) · (x + 0.044715 · x³).
        let (linear, cubic) = (simd.splat(-2.0 * 0.797_884_6), simd.splat(-2.0 * 0.797_884_6 * 0.044_715));
        let one = simd.splat(1.0);
        for (gate, up) in self.gate.iter_mut().zip(self.up) {
            for v in 0..S::VECTORS {
                let x = simd.load(gate, v);
                let power = simd.mul(x, simd.fma(simd.mul(x, x), cubic, linear));
                let gelu = simd.div(x, simd.add(one, exp(simd, power)));
                simd.store(gate, v, simd.mul(gelu, simd.load(up, v)));
            }
        }
    }
}

struct SoftCap<'a> {
    blocks: &'a mut [[f32; BLOCK]],
    cap: f32,
}

impl Kernel for SoftCap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // tanh(|y|) = (1 − e) / (1 + e) with e = exp(−2|y|), which cannot overflow.
        let (cap, factor) = (simd.splat(self.cap), simd.splat(-2.0 / self.cap));
        let (zero, one) = (simd.zero(), simd.splat(1.0));
        for block in self.blocks.iter_mut() {
            for v in 0..S::VECTORS {
                let x = simd.load(block, v);
                let magnitude = simd.max(x, simd.sub(zero, x));
                let e = exp(simd, simd.mul(magnitude, factor));
                let tanh = simd.div(simd.sub(one, e), simd.add(one, e));
                simd.store(block, v, simd.copy_sign(simd.mul(cap, tanh), x));
            }
        }
    }
}

/// `e^x` within 2 units in the last place; below −87 the smallest normal number, above 88 a very large one.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::F) -> S::F {
    // e^x = 2^n · e^r with n the nearest integer to x / ln 2; ln 2 in two parts keeps r exact. The polynomial is
    // Cephes' expf.
    const POWERS: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // In this order of operands NaN stays NaN.
    let x = simd.min(simd.splat(88.0), simd.max(simd.splat(-87.0), x));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.fma(n, simd.splat(-0.693_359_4), x);
    let r = simd.fma(n, simd.splat(2.121_944_4e-4), r);
    let mut sum = simd.splat(POWERS[0]);
    for power in &POWERS[1..] {
        sum = simd.fma(sum, r, simd.splat(*power));
    }
    let one = simd.splat(1.0);
    simd.mul(simd.fma(simd.mul(sum, r), r, simd.add(r, one)), simd.exp2_int(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of every size that activations have, and a length that leaves a rest.
    fn values(count: usize, limit: f32) -> Vec<f32> {
        (0..count).map(|i| limit * ((i * 7919 % 2003) as f32 / 1001.0 - 1.0)).collect()
    }

    fn close(found: f32, expected: f64, bound: f64) -> bool {
        (f64::from(found) - expected).abs() <= bound * expected.abs().max(1.0)
    }

    #[test]
    fn activation_functions_match_f64() {
        for isa in Isa::available() {
            for limit in [0.01, 1.0, 6.0, 80.0] {
                let x = values(237, limit);
                let up = values(237, 1.5);
                let mut gate = x.clone();
                gelu_multiply(isa, &mut gate, &up);
                let mut capped = x.clone();
                soft_cap(isa, &mut capped, 30.0);
                for i in 0..x.len() {
                    let (x, up) = (f64::from(x[i]), f64::from(up[i]));
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                    let gelu = 0.5 * x * (1.0 + inner.tanh()) * up;
                    assert!(close(gate[i], gelu, 1e-6), "{} gelu({x})·{up}: {}", isa.name(), gate[i]);
                    let tanh = 30.0 * (x / 30.0).tanh();
                    assert!(close(capped[i], tanh, 2e-6), "{} cap({x}): {}", isa.name(), capped[i]);
                }
            }
        }
    }

    /// The exponential of each value.
    struct ExpAll<'a>(&'a mut [Block]);

    impl Kernel for ExpAll<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for block in self.0 {
                for v in 0..S::VECTORS {
                    let power = exp(simd, simd.load(block, v));
                    simd.store(block, v, power);
                }
            }
        }
    }

    #[test]
    fn exponentials_are_within_two_units_in_the_last_place() {
        for isa in Isa::available() {
            // All that a softmax asks for, and what the activation functions do.
            let x: Vec<f32> =
                (0..32 * 40_000).map(|i| -87.0 + 175.0 * (i as f32 / (32.0 * 40_000.0))).collect();
            let mut found = x.clone();
            isa.run(ExpAll(found.as_chunks_mut().0));
            for (x, found) in x.iter().zip(&found) {
                let expected = f64::from(*x).exp();
                let unit =
                    f64::from(f32::from_bits((expected as f32).to_bits() + 1)) - f64::from(expected as f32);
                let error = (f64::from(*found) - expected).abs() / unit;
                assert!(error <= 2.0, "{}: e^{x} is off by {error} units", isa.name());
            }
            let mut ends = [[0.0; BLOCK]];
            ends[0][1] = f32::NEG_INFINITY;
            ends[0][2] = -1000.0;
            isa.run(ExpAll(&mut ends));
            assert_eq!(ends[0][0].to_bits(), 1.0_f32.to_bits(), "{}", isa.name());
            assert!(ends[0][1] < 2e-38 && ends[0][2] < 2e-38, "{}: {:?}", isa.name(), &ends[0][1..3]);
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for isa in Isa::available() {
            let mut row = values(70, 2.0);
            row[5] = f32::NAN;
            let mut gate = row.clone();
            gelu_multiply(isa, &mut gate, &values(70, 1.0));
            let mut capped = row.clone();
            soft_cap(isa, &mut capped, 30.0);
            assert!(gate[5].is_nan() && capped[5].is_nan(), "{}", isa.name());
            assert_eq!(capped.iter().filter(|x| x.is_nan()).count(), 1, "{}", isa.name());
            gaussian_cut(isa, &mut row, 0.5);
            assert!(row.iter().all(|x| x.is_nan()), "{}", isa.name());
        }
    }

    #[test]
    fn sums_and_norms_match_f64() {
        for isa in Isa::available() {
            for len in [1, 31, 32, 100, 2048] {
                let (x, weight) = (values(len, 3.0), values(len, 2.0));
                let sum: f64 = x.iter().zip(&weight).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                assert!(close(dot(isa, &x, &weight), sum, 1e-5), "{} dot of {len}", isa.name());
                let mean = x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / len as f64;
                let mut out = vec![0.0; len];
                rms_norm(isa, &x, Some(&weight), 1e-6, &mut out);
                for i in 0..len {
                    let expected = f64::from(x[i]) / (mean + 1e-6).sqrt() * f64::from(weight[i]);
                    assert!(close(out[i], expected, 1e-6), "{} norm of {len}", isa.name());
                }
            }
        }
    }

    #[test]
    fn the_cut_keeps_the_fraction_that_a_normal_row_would() {
        for isa in Isa::available() {
            let mut gate: Vec<f32> = (0..8192)
                .map(|i| (0..12).map(|j| ((i * 12 + j) * 7919 % 9973) as f32 / 9973.0).sum())
                .collect();
            gaussian_cut(isa, &mut gate, 1.644_853_6);
            let kept = gate.iter().filter(|x| **x > 0.0).count() as f32 / 8192.0;
            assert!((0.03..0.07).contains(&kept), "{}: {kept}", isa.name());
        }
    }
}
