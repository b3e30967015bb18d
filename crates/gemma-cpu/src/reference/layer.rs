//! Embeddings, AltUp, linear layers, the feed-forward network, per-layer inputs and the head.

use gemma_hal::op::Router;
use gemma_hal::{Op, WeightId};

use super::Run;
use super::math::{self, row};

impl Run<'_> {
    pub(super) fn embed_step(&mut self, op: &Op) {
        let (rows, _) = self.rows(op);
        match op {
            Op::Embed { table, scale, output } => {
                for r in 0..rows {
                    let values = row(self.plan.weight(*table), self.tokens[r] as usize);
                    let out = self.activations.row_mut(*output, r);
                    out.iter_mut().zip(values).for_each(|(out, value)| *out = value * scale);
                }
            }
            Op::PerLayerEmbed { .. } => (0..rows).for_each(|r| self.per_layer_embed(op, r)),
            Op::AltUpInit { input, projections, streams } => {
                for r in 0..rows {
                    let mut all = self.activations.row(*input, r).to_vec();
                    for id in projections {
                        let x = self.activations.row(*input, r);
                        all.extend(math::match_magnitude(&math::product(self.plan.weight(*id), x), x));
                    }
                    self.activations.row_mut(*streams, r).copy_from_slice(&all);
                }
            }
            Op::SelectOutputs { input, output } => {
                for r in 0..rows {
                    let from = self.tokens.len() - rows + r;
                    let values = self.activations.row(*input, from).to_vec();
                    self.activations.row_mut(*output, r).copy_from_slice(&values);
                }
            }
            _ => unreachable!("the caller has sorted the operations"),
        }
    }

    fn per_layer_embed(&mut self, op: &Op, r: usize) {
        let Op::PerLayerEmbed {
            input,
            projection,
            table,
            norm,
            blocks,
            width,
            projection_scale,
            table_scale,
            output,
        } = op
        else {
            unreachable!("the caller has sorted the operations")
        };
        let id = self.tokens[r] as usize;
        let table = self.plan.weight(*table);
        let token = row(table, if id < table.rows() { id } else { 0 });
        let norm = row(self.plan.weight(*norm), 0);
        let projection = self.plan.weight(*projection);
        let mut all = Vec::new();
        for block in blocks {
            let first = usize::from(*block) * width;
            let x = self.activations.row(*input, r);
            let context: Vec<f32> = (first..first + width)
                .map(|index| math::dot(&row(projection, index), x) * projection_scale)
                .collect();
            let context = math::rms_norm(&context, Some(&norm), self.plan.rms_eps());
            all.extend(
                context.iter().zip(&token[first..]).map(|(context, token)| {
                    (context + token * table_scale) * std::f32::consts::FRAC_1_SQRT_2
                }),
            );
        }
        self.activations.row_mut(*output, r).copy_from_slice(&all);
    }

    pub(super) fn layer_step(&mut self, op: &Op) {
        let (rows, _) = self.rows(op);
        for r in 0..rows {
            match op {
                Op::AltUpPredict { .. } => self.predict(op, r),
                Op::AltUpCorrect { .. } => self.correct(op, r),
                Op::FeedForward { .. } => self.feed_forward(op, r),
                Op::PerLayerInput { .. } => self.per_layer_input(op, r),
                Op::AltUpMerge { .. } => self.merge(op, r),
                Op::RmsNorm { input, norm, output } => {
                    let out = self.norm(self.activations.row(*input, r), *norm);
                    self.activations.row_mut(*output, r).copy_from_slice(&out);
                }
                Op::AddNorm { input, post_norm, residual, next_norm, normed } => {
                    let branch = self.norm(self.activations.row(*input, r), *post_norm);
                    let stream = self.activations.row_mut(*residual, r);
                    stream.iter_mut().zip(branch).for_each(|(stream, branch)| *stream += branch);
                    let out = self.norm(self.activations.row(*residual, r), *next_norm);
                    self.activations.row_mut(*normed, r).copy_from_slice(&out);
                }
                Op::Linear { input, parts } => {
                    for part in parts {
                        let out =
                            math::product(self.plan.weight(part.weight), self.activations.row(*input, r));
                        self.activations.row_mut(part.output, r).copy_from_slice(&out);
                    }
                }
                Op::Unembed { input, table, softcap, output } => {
                    let logits = math::product(self.plan.weight(*table), self.activations.row(*input, r));
                    let out = self.activations.row_mut(*output, r);
                    out.copy_from_slice(&logits);
                    if let Some(cap) = softcap {
                        out.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
                    }
                }
                _ => unreachable!("the caller has sorted the operations"),
            }
        }
    }

    fn vector(&self, id: WeightId) -> Vec<f32> {
        row(self.plan.weight(id), 0)
    }

    fn norm(&self, x: &[f32], id: WeightId) -> Vec<f32> {
        math::rms_norm(x, Some(&self.vector(id)), self.plan.rms_eps())
    }

    fn modalities(&self, router: Router, x: &[f32]) -> Vec<f32> {
        let normed: Vec<f32> = self.norm(x, router.norm).iter().map(|value| value / x.len() as f32).collect();
        math::product(self.plan.weight(router.weight), &normed).iter().map(|value| value.tanh()).collect()
    }

    fn predict(&mut self, op: &Op, r: usize) {
        let Op::AltUpPredict { streams, active, router, coefficients, input_norm, normed } = op else {
            unreachable!("the caller has sorted the operations")
        };
        let width = self.activations.row(*normed, r).len();
        let old = self.activations.row(*streams, r).to_vec();
        let count = old.len() / width;
        let modalities = self.modalities(*router, &old[active * width..][..width]);
        let mix = math::product(self.plan.weight(*coefficients), &modalities);
        let mut new = old.clone();
        for (j, out) in new.chunks_exact_mut(width).enumerate() {
            for (i, stream) in old.chunks_exact(width).enumerate() {
                let factor = mix[j * count + i];
                out.iter_mut().zip(stream).for_each(|(out, value)| *out += factor * value);
            }
        }
        let h = self.norm(&new[active * width..][..width], *input_norm);
        self.activations.row_mut(*streams, r).copy_from_slice(&new);
        self.activations.row_mut(*normed, r).copy_from_slice(&h);
    }

    fn correct(&mut self, op: &Op, r: usize) {
        let Op::AltUpCorrect { streams, active, residual, ffn, post_norm, router, coefficients } = op else {
            unreachable!("the caller has sorted the operations")
        };
        let ffn = self.norm(self.activations.row(*ffn, r), *post_norm);
        let z: Vec<f32> = self.activations.row(*residual, r).iter().zip(&ffn).map(|(y, m)| y + m).collect();
        let factors = math::product(self.plan.weight(*coefficients), &self.modalities(*router, &z));
        let width = z.len();
        let predicted = self.activations.row(*streams, r)[active * width..][..width].to_vec();
        for (stream, factor) in self.activations.row_mut(*streams, r).chunks_exact_mut(width).zip(factors) {
            for (i, value) in stream.iter_mut().enumerate() {
                *value += (factor + 1.0) * (z[i] - predicted[i]);
            }
        }
    }

    fn feed_forward(&mut self, op: &Op, r: usize) {
        let Op::FeedForward { input, gate, up, down, cutoff, gated: product, output, .. } = op else {
            unreachable!("the caller has sorted the operations")
        };
        let x = self.activations.row(*input, r);
        let mut gated = math::product(self.plan.weight(*gate), x);
        if let Some(z) = cutoff {
            math::gaussian_cut(&mut gated, *z);
        }
        let up = math::product(self.plan.weight(*up), x);
        let hidden: Vec<f32> = gated.iter().zip(&up).map(|(gate, up)| math::gelu(*gate) * up).collect();
        self.activations.row_mut(*product, r).copy_from_slice(&hidden);
        let out = math::product(self.plan.weight(*down), &hidden);
        self.activations.row_mut(*output, r).copy_from_slice(&out);
    }

    fn per_layer_input(&mut self, op: &Op, r: usize) {
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
            gated: product,
        } = op
        else {
            unreachable!("the caller has sorted the operations")
        };
        let width = self.activations.row(*scaled, r).len();
        let mut u = self.activations.row(*streams, r)[active * width..][..width].to_vec();
        if let Some(scale) = scale {
            u.iter_mut().zip(self.vector(*scale)).for_each(|(u, scale)| *u *= scale);
        }
        let gated = math::product(self.plan.weight(*gate), &u);
        let per_layer = &self.activations.row(*per_layer, r)[block * gated.len()..];
        let gated: Vec<f32> = gated.iter().zip(per_layer).map(|(g, ple)| math::gelu(*g) * ple).collect();
        self.activations.row_mut(*product, r).copy_from_slice(&gated);
        let e = self.norm(&math::product(self.plan.weight(*projection), &gated), *norm);
        for (j, stream) in self.activations.row_mut(*streams, r).chunks_exact_mut(width).enumerate() {
            if j != *active {
                stream.iter_mut().zip(&e).for_each(|(value, e)| *value += e);
            }
        }
    }

    fn merge(&mut self, op: &Op, r: usize) {
        let Op::AltUpMerge { streams, projections, norm, output, .. } = op else {
            unreachable!("the caller has sorted the operations")
        };
        let width = self.activations.row(*output, r).len();
        let streams = self.activations.row(*streams, r);
        let mut sum = streams[..width].to_vec();
        for (id, stream) in projections.iter().zip(streams.chunks_exact(width).skip(1)) {
            let projected = math::product(self.plan.weight(*id), stream);
            let matched = math::match_magnitude(&projected, &streams[..width]);
            sum.iter_mut().zip(matched).for_each(|(sum, value)| *sum += value);
        }
        let count = (projections.len() + 1) as f32;
        sum.iter_mut().for_each(|sum| *sum /= count);
        let out = self.norm(&sum, *norm);
        self.activations.row_mut(*output, r).copy_from_slice(&out);
    }
}
