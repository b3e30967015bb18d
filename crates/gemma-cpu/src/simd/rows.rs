//! Element-wise work on rows of activations.

use gemma_hal::HostLayer;
use gemma_hal::op::Heads;

use super::Isa;
use crate::pool::Pool;

pub fn dot(_isa: Isa, a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (a, at) = a.as_chunks::<16>();
    let (b, bt) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + at.iter().zip(bt).map(|(a, b)| a * b).sum::<f32>()
}

pub fn sum_of_squares(isa: Isa, x: &[f32]) -> f32 {
    dot(isa, x, x)
}

pub fn rms_norm(isa: Isa, x: &[f32], weight: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let scale = 1.0 / (sum_of_squares(isa, x) / x.len() as f32 + eps).sqrt();
    match weight {
        Some(weight) => out.iter_mut().zip(x).zip(weight).for_each(|((out, x), w)| *out = x * scale * w),
        None => out.iter_mut().zip(x).for_each(|(out, x)| *out = x * scale),
    }
}

pub fn rms_norm_in_place(isa: Isa, x: &mut [f32], weight: Option<&[f32]>, eps: f32) {
    let scale = 1.0 / (sum_of_squares(isa, x) / x.len() as f32 + eps).sqrt();
    match weight {
        Some(weight) => x.iter_mut().zip(weight).for_each(|(x, w)| *x = *x * scale * w),
        None => x.iter_mut().for_each(|x| *x *= scale),
    }
}

pub fn gelu_multiply(_isa: Isa, gate: &mut [f32], up: &[f32]) {
    for (g, up) in gate.iter_mut().zip(up) {
        let x = *g;
        let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
        *g = 0.5 * x * (1.0 + inner.tanh()) * up;
    }
}

pub fn soft_cap(_isa: Isa, logits: &mut [f32], cap: f32) {
    logits.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
}

pub fn gaussian_cut(_isa: Isa, gate: &mut [f32], z: f32) {
    let n = gate.len() as f64;
    let mean = gate.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
    let var = gate.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n;
    let cut = (mean + f64::from(z) * var.sqrt()) as f32;
    gate.iter_mut().for_each(|x| *x = (*x - cut).max(0.0));
}

pub fn mix_streams(_isa: Isa, streams: &mut [f32], count: usize, mix: &[f32]) {
    let width = streams.len() / count;
    for e in 0..width {
        let mut old = [0.0; 8];
        for i in 0..count {
            old[i] = streams[i * width + e];
        }
        for j in 0..count {
            let mut sum = old[j];
            for i in 0..count {
                sum += mix[j * count + i] * old[i];
            }
            streams[j * width + e] = sum;
        }
    }
}

#[allow(clippy::too_many_arguments)]
pub fn attention(
    isa: Isa,
    pool: &Pool,
    heads: Heads,
    layer: &HostLayer,
    q: &[f32],
    position: usize,
    out: &mut [f32],
    _scratch: &mut [f32],
) {
    let group = heads.query / heads.key_value;
    pool.for_chunks_mut(out, heads.dim, |index, out| {
        let (row, head) = (index / heads.query, index % heads.query);
        let query = &q[index * heads.dim..(index + 1) * heads.dim];
        let p = position + row;
        let at = |p: usize| layer.slot(p) + head / group * heads.dim;
        let mut values = vec![0.0; heads.dim];
        let scores: Vec<f32> = (layer.first_visible(p)..=p)
            .map(|p| {
                layer.keys.read(at(p), &mut values);
                dot(isa, query, &values)
            })
            .collect();
        let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = scores.iter().map(|s| (s - top).exp()).sum();
        out.fill(0.0);
        for (p, s) in (layer.first_visible(p)..=p).zip(&scores) {
            layer.values.read(at(p), &mut values);
            let w = (s - top).exp() / total;
            out.iter_mut().zip(&values).for_each(|(o, v)| *o += w * v);
        }
    });
}
