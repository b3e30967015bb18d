//! The formulas of `gemma_hal::op`, a row at a time.

use gemma_hal::{Weight, block, op, rotary};

/// All values of a row of `weight`.
pub(super) fn row(weight: &Weight, row: usize) -> Vec<f32> {
    let mut values = vec![0.0; weight.columns()];
    block::dequantise_row(weight.dtype(), weight.row(row), &mut values);
    values
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

/// `weight · x`.
pub(super) fn product(weight: &Weight, x: &[f32]) -> Vec<f32> {
    (0..weight.rows()).map(|index| dot(&row(weight, index), x)).collect()
}

fn mean_square(x: &[f32]) -> f64 {
    x.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / x.len() as f64
}

/// `x / sqrt(mean(x²) + eps) · weight`; without a weight, times 1.
pub(super) fn rms_norm(x: &[f32], weight: Option<&[f32]>, eps: f32) -> Vec<f32> {
    let scale = 1.0 / (mean_square(x) + f64::from(eps)).sqrt();
    x.iter()
        .enumerate()
        .map(|(i, value)| (f64::from(*value) * scale) as f32 * weight.map_or(1.0, |weight| weight[i]))
        .collect()
}

/// `y` with the magnitude of `reference`.
pub(super) fn match_magnitude(y: &[f32], reference: &[f32]) -> Vec<f32> {
    let scale = mean_square(reference).sqrt() / mean_square(y).max(f64::from(op::MATCH_FLOOR)).sqrt();
    y.iter().map(|value| (f64::from(*value) * scale) as f32).collect()
}

/// GELU in its tanh form.
pub(super) fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
    (0.5 * x * (1.0 + inner.tanh())) as f32
}

/// `relu(g − (mean(g) + z · std(g)))`, biased std.
pub(super) fn gaussian_cut(gate: &mut [f32], z: f32) {
    let count = gate.len() as f64;
    let mean = gate.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let variance = gate.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count;
    let cut = mean + f64::from(z) * variance.sqrt();
    for value in gate {
        // Not `max`, which would make 0 of NaN.
        let above = f64::from(*value) - cut;
        *value = if above < 0.0 { 0.0 } else { above as f32 };
    }
}

/// Rotates the halves of a head by the angles of `position`, divided by `stretch`.
///
/// Angles are products in f32, as transformers computes them; at far positions their rounding is what the model has
/// been trained with.
pub(super) fn rotate(head: &mut [f32], position: usize, theta: f32, stretch: f32) {
    let half = head.len() / 2;
    let (low, high) = head.split_at_mut(half);
    for (i, (a, b)) in low.iter_mut().zip(high).enumerate() {
        let angle = position as f32 * (rotary::rotary_frequency(theta, i, 2 * half) / stretch);
        let (sin, cos) = f64::from(angle).sin_cos();
        let (x, y) = (f64::from(*a), f64::from(*b));
        *a = (x * cos - y * sin) as f32;
        *b = (y * cos + x * sin) as f32;
    }
}
