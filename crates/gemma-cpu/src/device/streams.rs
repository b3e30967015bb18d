//! AltUp: making the streams, predicting, correcting, per-layer inputs, merging.

use gemma_hal::op::{self, Router};
use gemma_hal::{Op, Plan};

use super::Run;
use crate::simd::{self, Isa, MAX_STREAMS, Output};

/// Scratch values that the AltUp operations of `plan` need: a normed row a token.
pub(super) fn scratch_len(plan: &Plan) -> usize {
    let width = plan.steps().iter().filter_map(|step| match &step.op {
        Op::AltUpPredict { normed: row, .. }
        | Op::AltUpCorrect { residual: row, .. }
        | Op::AltUpMerge { output: row, .. } => Some(plan.buffer(*row).width),
        _ => None,
    });
    width.max().unwrap_or(0) * plan.max_tokens()
}

/// The router's weights.
#[derive(Clone, Copy)]
struct RouterWeights<'a> {
    norm: &'a [f32],
    weight: &'a [f32],
}

impl<'a> Run<'a> {
    fn router_weights(&self, router: Router) -> RouterWeights<'a> {
        RouterWeights { norm: self.vector(router.norm), weight: self.vector(router.weight) }
    }

    pub(super) fn altup_init(&mut self, op: &Op) {
        let Op::AltUpInit { input, projections, streams } = op else { return };
        let (rows, _) = self.rows(op);
        let (isa, width) = (self.isa, self.plan.buffer(*input).width);
        let count = projections.len() + 1;
        let [x, out] = self.memory.get([(*input, rows * width), (*streams, rows * width * count)]);
        for (i, id) in projections.iter().enumerate() {
            let weight = self.plan.weight(*id);
            let target = Output::with_stride(weight, &mut out[(i + 1) * width..], count * width);
            simd::linear_many(self.kernels, self.pool, &mut [target], x, rows);
        }
        let x = &*x;
        self.pool.for_chunks_mut(out, count * width, |row, streams| {
            let (first, others) = streams.split_at_mut(width);
            first.copy_from_slice(&x[row * width..(row + 1) * width]);
            others.chunks_exact_mut(width).for_each(|stream| match_magnitude(isa, stream, first));
        });
    }

    pub(super) fn altup_predict(&mut self, op: &Op) {
        let Op::AltUpPredict { streams, active, router, coefficients, input_norm, normed } = op else {
            return;
        };
        let (rows, _) = self.rows(op);
        let (isa, eps, width) = (self.isa, self.plan.rms_eps(), self.plan.buffer(*normed).width);
        let count = self.plan.buffer(*streams).width / width;
        let (coefficients, input_norm) = (self.vector(*coefficients), self.vector(*input_norm));
        let router = self.router_weights(*router);
        let [all, out] = self.memory.get([(*streams, rows * width * count), (*normed, rows * width)]);
        self.pool.for_chunks_pair_mut(all, count * width, out, width, |_, streams, normed| {
            let modalities = modalities(isa, router, &streams[active * width..][..width], normed, count, eps);
            let mut mix = [0.0; MAX_STREAMS * MAX_STREAMS];
            for (mix, row) in mix.iter_mut().zip(coefficients.chunks_exact(count)) {
                *mix = row.iter().zip(&modalities).map(|(c, m)| c * m).sum();
            }
            simd::mix_streams(streams, count, &mix[..count * count]);
            simd::rms_norm(isa, &streams[active * width..][..width], Some(input_norm), eps, normed);
        });
    }

    pub(super) fn altup_correct(&mut self, op: &Op) {
        let Op::AltUpCorrect { streams, active, residual, ffn, post_norm, router, coefficients } = op else {
            return;
        };
        let (rows, _) = self.rows(op);
        let (isa, eps, width) = (self.isa, self.plan.rms_eps(), self.plan.buffer(*residual).width);
        let count = self.plan.buffer(*streams).width / width;
        let (coefficients, post_norm) = (self.vector(*coefficients), self.vector(*post_norm));
        let router = self.router_weights(*router);
        let [all, y, m] = self.memory.get([
            (*streams, rows * width * count),
            (*residual, rows * width),
            (*ffn, rows * width),
        ]);
        let y = &*y;
        let scratch = &mut self.scratch[..rows * width];
        self.pool.for_chunks_mut(m, width, |row, m| {
            simd::rms_norm_in_place(isa, m, Some(post_norm), eps);
            m.iter_mut().zip(&y[row * width..]).for_each(|(m, y)| *m += y);
        });
        let m = &*m;
        self.pool.for_chunks_pair_mut(all, count * width, scratch, width, |row, streams, scratch| {
            let z = &m[row * width..(row + 1) * width];
            let modalities = modalities(isa, router, z, scratch, count, eps);
            // The innovation, before the active stream itself is corrected.
            for ((out, z), predicted) in scratch.iter_mut().zip(z).zip(&streams[active * width..]) {
                *out = z - predicted;
            }
            for (stream, row) in streams.chunks_exact_mut(width).zip(coefficients.chunks_exact(count)) {
                let factor = 1.0 + row.iter().zip(&modalities).map(|(c, m)| c * m).sum::<f32>();
                stream.iter_mut().zip(&*scratch).for_each(|(value, z)| *value += factor * z);
            }
        });
    }

    pub(super) fn per_layer_input(&mut self, op: &Op) {
        let Op::PerLayerInput {
            streams,
            active,
            per_layer,
            block,
            scale,
            gate,
            projection,
            norm,
            scaled,
            gated,
        } = op
        else {
            return;
        };
        let (rows, _) = self.rows(op);
        let (isa, eps) = (self.isa, self.plan.rms_eps());
        let (width, inner) = (self.plan.buffer(*scaled).width, self.plan.buffer(*gated).width);
        let (all, ple) = (self.plan.buffer(*streams).width, self.plan.buffer(*per_layer).width);
        let (norm, scale) = (self.vector(*norm), scale.map(|id| self.vector(id)));
        let (gate, projection_id) = (self.plan.weight(*gate), *projection);
        let projection = self.plan.weight(projection_id);
        let [streams, per_layer, scaled, gated] = self.memory.get([
            (*streams, rows * all),
            (*per_layer, rows * ple),
            (*scaled, rows * width),
            (*gated, rows * inner),
        ]);
        for (u, streams) in scaled.chunks_exact_mut(width).zip(streams.chunks_exact(all)) {
            u.copy_from_slice(&streams[active * width..][..width]);
            if let Some(scale) = scale {
                u.iter_mut().zip(scale).for_each(|(u, scale)| *u *= scale);
            }
        }
        let foresee = self.foresee;
        foresee.product(&[projection_id]);
        simd::linear(self.kernels, self.pool, gate, scaled, rows, gated);
        let per_layer = &*per_layer;
        self.pool.for_chunks_mut(gated, inner, |row, gated| {
            simd::gelu_multiply(isa, gated, &per_layer[row * ple + block * inner..][..inner]);
        });
        foresee.next();
        simd::linear(self.kernels, self.pool, projection, gated, rows, scaled);
        self.pool.for_chunks_pair_mut(streams, all, scaled, width, |_, streams, e| {
            simd::rms_norm_in_place(isa, e, Some(norm), eps);
            for (index, stream) in streams.chunks_exact_mut(width).enumerate() {
                if index != *active {
                    stream.iter_mut().zip(&*e).for_each(|(value, e)| *value += e);
                }
            }
        });
    }

    pub(super) fn altup_merge(&mut self, op: &Op) {
        let Op::AltUpMerge { streams, projections, norm, projected, output } = op else { return };
        let (rows, _) = self.rows(op);
        let (isa, eps, width) = (self.isa, self.plan.rms_eps(), self.plan.buffer(*output).width);
        let (count, norm) = (projections.len() + 1, self.vector(*norm));
        let [streams, projected, out] = self.memory.get([
            (*streams, rows * width * count),
            (*projected, rows * width * (count - 1)),
            (*output, rows * width),
        ]);
        let stream_rows = &mut self.scratch[..rows * width];
        for (i, id) in projections.iter().enumerate() {
            // One stream's rows side by side, so that its matrix is read once for all of them.
            for (to, from) in stream_rows.chunks_exact_mut(width).zip(streams.chunks_exact(count * width)) {
                to.copy_from_slice(&from[(i + 1) * width..(i + 2) * width]);
            }
            let weight = self.plan.weight(*id);
            let target = Output::with_stride(weight, &mut projected[i * width..], (count - 1) * width);
            simd::linear_many(self.kernels, self.pool, &mut [target], stream_rows, rows);
        }
        let streams = &*streams;
        self.pool.for_chunks_pair_mut(projected, width * (count - 1), out, width, |row, projected, out| {
            let first = &streams[row * count * width..][..width];
            out.copy_from_slice(first);
            for stream in projected.chunks_exact_mut(width) {
                match_magnitude(isa, stream, first);
                out.iter_mut().zip(&*stream).for_each(|(out, value)| *out += value);
            }
            out.iter_mut().for_each(|value| *value /= count as f32);
            simd::rms_norm_in_place(isa, out, Some(norm), eps);
        });
    }
}

/// `tanh(weight · (rms(x, norm) / width))`; `room` is for the normed row.
fn modalities(
    isa: Isa,
    router: RouterWeights<'_>,
    x: &[f32],
    room: &mut [f32],
    count: usize,
    eps: f32,
) -> [f32; MAX_STREAMS] {
    let width = x.len();
    simd::rms_norm(isa, x, Some(router.norm), eps, room);
    let mut out = [0.0; MAX_STREAMS];
    for (out, row) in out[..count].iter_mut().zip(router.weight.chunks_exact(width)) {
        *out = (simd::dot(isa, row, room) / width as f32).tanh();
    }
    out
}

/// Gives `stream` the magnitude of `reference`.
fn match_magnitude(isa: Isa, stream: &mut [f32], reference: &[f32]) {
    let width = reference.len() as f32;
    let wanted = (simd::sum_of_squares(isa, reference) / width).sqrt();
    let found = (simd::sum_of_squares(isa, stream) / width).max(op::MATCH_FLOOR).sqrt();
    let scale = wanted / found;
    stream.iter_mut().for_each(|value| *value *= scale);
}
