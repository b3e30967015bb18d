//! Rotary embedding, attention and what follows it.

use gemma_hal::op::{Heads, RotaryKeyValue};
use gemma_hal::{BufferId, HostLayer, Op};

use super::Run;
use super::math::{self, row};

/// How the heads of one row are turned.
#[derive(Clone, Copy)]
struct Turn {
    position: usize,
    dim: usize,
    theta: f32,
    stretch: f32,
}

impl Run<'_> {
    pub(super) fn attention_step(&mut self, op: &Op) {
        let (rows, first) = self.rows(op);
        match op {
            Op::Rotary { heads, theta, stretch, cache_layer, query, key_value } => {
                for r in 0..rows {
                    let turn = Turn { position: first + r, dim: heads.dim, theta: *theta, stretch: *stretch };
                    if let Some(q) = query {
                        let norm = row(self.plan.weight(q.norm), 0);
                        self.norm_heads(q.query, r, heads.dim, Some(&norm));
                        self.rotate_heads(q.query, r, turn);
                        self.activations.row_mut(q.query, r).iter_mut().for_each(|value| *value *= q.scale);
                    }
                    if let Some(kv) = key_value {
                        self.cache_key_value(*kv, *cache_layer, r, turn);
                    }
                }
            }
            Op::Attention { heads, cache_layer, query, output } => {
                for r in 0..rows {
                    let layer = self.cache.layer(*cache_layer);
                    let attended = attend(*heads, layer, self.activations.row(*query, r), first + r);
                    self.activations.row_mut(*output, r).copy_from_slice(&attended);
                }
            }
            Op::AttentionResidual {
                streams,
                active,
                normed,
                attended,
                laurel,
                post_norm,
                laurel_norm,
                ffn_norm,
                residual,
                ffn_input,
            } => {
                let eps = self.plan.rms_eps();
                let weight = |id| row(self.plan.weight(id), 0);
                for r in 0..rows {
                    let h = self.activations.row(*normed, r);
                    let x = &self.activations.row(*streams, r)[active * h.len()..][..h.len()];
                    let att =
                        math::rms_norm(self.activations.row(*attended, r), Some(&weight(*post_norm)), eps);
                    let lau =
                        math::rms_norm(self.activations.row(*laurel, r), Some(&weight(*laurel_norm)), eps);
                    let sum: Vec<f32> = (0..h.len())
                        .map(|i| (x[i] + att[i] + h[i] + lau[i]) * std::f32::consts::FRAC_1_SQRT_2)
                        .collect();
                    let normed = math::rms_norm(&sum, Some(&weight(*ffn_norm)), eps);
                    self.activations.row_mut(*residual, r).copy_from_slice(&sum);
                    self.activations.row_mut(*ffn_input, r).copy_from_slice(&normed);
                }
            }
            _ => unreachable!("the caller has sorted the operations"),
        }
    }

    fn norm_heads(&mut self, id: BufferId, r: usize, dim: usize, norm: Option<&[f32]>) {
        let eps = self.plan.rms_eps();
        for head in self.activations.row_mut(id, r).chunks_exact_mut(dim) {
            let normed = math::rms_norm(head, norm, eps);
            head.copy_from_slice(&normed);
        }
    }

    fn rotate_heads(&mut self, id: BufferId, r: usize, turn: Turn) {
        for head in self.activations.row_mut(id, r).chunks_exact_mut(turn.dim) {
            math::rotate(head, turn.position, turn.theta, turn.stretch);
        }
    }

    fn cache_key_value(&mut self, kv: RotaryKeyValue, layer: usize, r: usize, turn: Turn) {
        let norm = row(self.plan.weight(kv.norm), 0);
        self.norm_heads(kv.key, r, turn.dim, Some(&norm));
        self.rotate_heads(kv.key, r, turn);
        if kv.value_norm {
            self.norm_heads(kv.value, r, turn.dim, None);
        }
        let (key, value) = (self.activations.row(kv.key, r), self.activations.row(kv.value, r));
        self.cache.layer_mut(layer).write(turn.position, key, value);
    }
}

/// Softmax attention of one row of queries.
fn attend(heads: Heads, layer: &HostLayer, query: &[f32], position: usize) -> Vec<f32> {
    let group = heads.query / heads.key_value;
    let seen = layer.first_visible(position)..position + 1;
    let mut out = vec![0.0; query.len()];
    let mut values = vec![0.0; heads.dim];
    for (head, (query, out)) in query.chunks_exact(heads.dim).zip(out.chunks_exact_mut(heads.dim)).enumerate()
    {
        let at = |position: usize| layer.slot(position) + head / group * heads.dim;
        let scores: Vec<f64> = seen
            .clone()
            .map(|position| {
                layer.keys.read(at(position), &mut values);
                f64::from(math::dot(query, &values))
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut sums = vec![0.0_f64; heads.dim];
        for (position, weight) in seen.clone().zip(&weights) {
            layer.values.read(at(position), &mut values);
            for (sum, value) in sums.iter_mut().zip(&values) {
                *sum += weight * f64::from(*value);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = (sum / total) as f32;
        }
    }
    out
}
