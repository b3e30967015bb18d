//! Norms, AltUp, what joins attention with the residual, and the layer's input from per-layer embeddings.

use gemma_hal::Op;

use super::{FEW, Rows, Run};
use crate::arguments::{
    AddNorm, AltUpCorrect, AltUpInit, AltUpMerge, AltUpPredict, AttentionResidual, PerLayerAdd, PerLayerGate,
    PerLayerMultiply, PerLayerScale, RmsNorm,
};
use crate::launch::Address;

impl Run<'_> {
    pub(super) fn norm(&mut self, op: &Op) {
        let (tokens, eps) = (self.rows(op), self.plan.rms_eps());
        let launch = match op {
            Op::RmsNorm { input, norm, output } => {
                let width = self.width(*input) as u32;
                let (input, output) = (self.at(*input), self.at(*output));
                RmsNorm { input, weight: self.vector(*norm), output, width, eps }.launch(tokens)
            }
            Op::AddNorm { input, post_norm, residual, next_norm, normed } => AddNorm {
                input: self.at(*input),
                post_norm: self.vector(*post_norm),
                residual: self.at(*residual),
                next_norm: self.vector(*next_norm),
                normed: self.at(*normed),
                width: self.width(*input) as u32,
                eps,
            }
            .launch(tokens),
            _ => return,
        };
        self.push(launch);
    }

    pub(super) fn altup_init(&mut self, op: &Op) {
        let Op::AltUpInit { input, projections, streams } = op else { return };
        let (tokens, width) = (self.rows(op), self.width(*input));
        let all = self.width(*streams);
        let from = Rows { address: self.at(*input), stride: width };
        let mut converted = None;
        for (index, id) in projections.iter().enumerate() {
            let to = Rows { address: self.at(*streams).words((index + 1) * width), stride: all };
            converted = self.product(*id, 0..width, from, to, tokens, self.memory.scratch(), converted);
        }
        let arguments = AltUpInit {
            input: self.at(*input),
            streams: self.at(*streams),
            width: width as u32,
            count: (all / width) as u32,
        };
        self.push(arguments.launch(tokens));
    }

    /// With the end of the per-layer input before it, if that is left to this step.
    pub(super) fn altup_predict(&mut self, op: &Op, left: Option<&Op>) {
        let Op::AltUpPredict { streams, active, router, coefficients, input_norm, normed } = op else {
            return;
        };
        let (projected, projected_norm) = match left {
            Some(Op::PerLayerInput { norm, scaled, .. }) => (self.at(*scaled), self.vector(*norm)),
            _ => (Address::NULL, Address::NULL),
        };
        let width = self.width(*normed);
        let arguments = AltUpPredict {
            streams: self.at(*streams),
            projected,
            projected_norm,
            router_norm: self.vector(router.norm),
            router: self.vector(router.weight),
            coefficients: self.vector(*coefficients),
            input_norm: self.vector(*input_norm),
            normed: self.at(*normed),
            width: width as u32,
            count: (self.width(*streams) / width) as u32,
            active: *active as u32,
            eps: self.plan.rms_eps(),
        };
        self.push(arguments.launch(self.rows(op)));
    }

    pub(super) fn attention_residual(&mut self, op: &Op) {
        let Op::AttentionResidual {
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
        } = op
        else {
            return;
        };
        let width = self.width(*normed);
        let arguments = AttentionResidual {
            streams: self.at(*streams),
            normed: self.at(*normed),
            attended: self.at(*attended),
            laurel: self.at(*laurel),
            post_norm: self.vector(*post_norm),
            laurel_norm: self.vector(*laurel_norm),
            ffn_norm: self.vector(*ffn_norm),
            residual: self.at(*residual),
            ffn_input: self.at(*ffn_input),
            width: width as u32,
            count: (self.width(*streams) / width) as u32,
            active: *active as u32,
            eps: self.plan.rms_eps(),
        };
        self.push(arguments.launch(self.rows(op)));
    }

    pub(super) fn altup_correct(&mut self, op: &Op) {
        let Op::AltUpCorrect { streams, active, residual, ffn, post_norm, router, coefficients } = op else {
            return;
        };
        let width = self.width(*ffn);
        let arguments = AltUpCorrect {
            streams: self.at(*streams),
            residual: self.at(*residual),
            ffn: self.at(*ffn),
            post_norm: self.vector(*post_norm),
            router_norm: self.vector(router.norm),
            router: self.vector(router.weight),
            coefficients: self.vector(*coefficients),
            width: width as u32,
            count: (self.width(*streams) / width) as u32,
            active: *active as u32,
            eps: self.plan.rms_eps(),
        };
        self.push(arguments.launch(self.rows(op)));
    }

    pub(super) fn altup_merge(&mut self, op: &Op) {
        let Op::AltUpMerge { streams, projections, norm, projected, output } = op else { return };
        let (tokens, width) = (self.rows(op), self.width(*output));
        let (all, products) = (self.width(*streams), self.width(*projected));
        for (index, id) in projections.iter().enumerate() {
            let from = Rows { address: self.at(*streams).words((index + 1) * width), stride: all };
            let to = Rows { address: self.at(*projected).words(index * width), stride: products };
            self.product(*id, 0..width, from, to, tokens, self.memory.scratch(), None);
        }
        let arguments = AltUpMerge {
            streams: self.at(*streams),
            projected: self.at(*projected),
            norm: self.vector(*norm),
            output: self.at(*output),
            width: width as u32,
            count: (all / width) as u32,
            eps: self.plan.rms_eps(),
            padding: 0,
        };
        self.push(arguments.launch(tokens));
    }

    /// All but the sum with the streams, see [`Run::per_layer_add`].
    pub(super) fn per_layer_input(&mut self, op: &Op) {
        let Op::PerLayerInput {
            streams,
            active,
            per_layer,
            block,
            scale,
            gate,
            projection,
            scaled,
            gated,
            ..
        } = op
        else {
            return;
        };
        let (tokens, width, narrow) = (self.rows(op), self.width(*scaled), self.width(*gated));
        let stride = self.width(*streams) as u32;
        let scale = scale.map_or(Address::NULL, |id| self.vector(id));
        let (start, all) = ((active * width) as u32, self.width(*per_layer) as u32);
        if tokens <= FEW {
            let arguments = PerLayerGate {
                weight: self.memory.matrix(*gate),
                streams: self.at(*streams),
                scale,
                per_layer: self.at(*per_layer),
                output: self.at(*gated),
                rows: narrow as u32,
                columns: width as u32,
                stride,
                start,
                all,
                block: (block * narrow) as u32,
            };
            self.push(arguments.launch(self.dtype(*gate), self.activations, tokens));
        } else {
            let (to, count) = (self.at(*scaled), (tokens * width) as u32);
            let streams = self.at(*streams);
            let width = width as u32;
            self.push(PerLayerScale { streams, scale, scaled: to, count, width, stride, start }.launch());
            self.whole_products(*scaled, &[(*gate, *gated)], tokens);
            let arguments = PerLayerMultiply {
                gated: self.at(*gated),
                per_layer: self.at(*per_layer),
                count: (tokens * narrow) as u32,
                width: narrow as u32,
                all,
                block: (block * narrow) as u32,
            };
            self.push(arguments.launch());
        }
        self.whole_products(*gated, &[(*projection, *scaled)], tokens);
    }

    /// What [`Run::per_layer_input`] has projected, added to the streams.
    pub(super) fn per_layer_add(&mut self, op: &Op) {
        let Op::PerLayerInput { streams, active, norm, scaled, .. } = op else { return };
        let width = self.width(*scaled);
        let arguments = PerLayerAdd {
            projected: self.at(*scaled),
            norm: self.vector(*norm),
            streams: self.at(*streams),
            width: width as u32,
            count: (self.width(*streams) / width) as u32,
            active: *active as u32,
            eps: self.plan.rms_eps(),
        };
        self.push(arguments.launch(self.rows(op)));
    }
}
