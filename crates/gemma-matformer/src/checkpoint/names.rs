//! The tensors of Gemma 3n and Gemma 3 by name: the canonical name used inside, which is transformers' without its prefix, and
//! GGUF's. Both readers and the writer use this one table.

/// A tensor's canonical name and its GGUF name.
pub(crate) struct Name {
    pub(crate) canonical: &'static str,
    pub(crate) gguf: &'static str,
}

const fn name(canonical: &'static str, gguf: &'static str) -> Name {
    Name { canonical, gguf }
}

pub(crate) const EMBED: Name = name("embed_tokens.weight", "token_embd.weight");
pub(crate) const PLE_TABLE: Name = name("embed_tokens_per_layer.weight", "per_layer_token_embd.weight");
pub(crate) const PLE_PROJECTION: Name =
    name("per_layer_model_projection.weight", "per_layer_model_proj.weight");
pub(crate) const PLE_NORM: Name = name("per_layer_projection_norm.weight", "per_layer_proj_norm.weight");
pub(crate) const NORM: Name = name("norm.weight", "output_norm.weight");

/// Tensors of every whole model that are stored one by one in both formats.
pub(crate) const MODEL: [Name; 2] = [EMBED, NORM];
/// As [`MODEL`], in Gemma 3n only.
pub(crate) const MODEL_3N: [Name; 3] = [PLE_TABLE, PLE_PROJECTION, PLE_NORM];

/// Square matrices, one for each stream but the first; GGUF stacks them into one tensor. The canonical name is a prefix.
pub(crate) const ALTUP_PROJECTIONS: Name = name("altup_projections", "altup_proj.weight");
/// As [`ALTUP_PROJECTIONS`].
pub(crate) const ALTUP_UNEMBED: Name = name("altup_unembed_projections", "altup_unembd_proj.weight");

pub(crate) const ROUTER: Name = name("altup.modality_router.weight", "altup_router.weight");
pub(crate) const ROUTER_NORM: Name = name("altup.router_norm.weight", "altup_router_norm.weight");
pub(crate) const PREDICTION: Name = name("altup.prediction_coefs.weight", "altup_predict_coef.weight");
pub(crate) const CORRECTION: Name = name("altup.correction_coefs.weight", "altup_correct_coef.weight");
pub(crate) const CORRECT_SCALE: Name = name("altup.correct_output_scale", "altup_correct_scale.weight");
pub(crate) const INPUT_NORM: Name = name("input_layernorm.weight", "attn_norm.weight");
pub(crate) const LAUREL_LEFT: Name = name("laurel.linear_left.weight", "laurel_l.weight");
pub(crate) const LAUREL_RIGHT: Name = name("laurel.linear_right.weight", "laurel_r.weight");
pub(crate) const LAUREL_NORM: Name = name("laurel.post_laurel_norm.weight", "laurel_post_norm.weight");
pub(crate) const Q: Name = name("self_attn.q_proj.weight", "attn_q.weight");
pub(crate) const Q_NORM: Name = name("self_attn.q_norm.weight", "attn_q_norm.weight");
pub(crate) const K: Name = name("self_attn.k_proj.weight", "attn_k.weight");
pub(crate) const K_NORM: Name = name("self_attn.k_norm.weight", "attn_k_norm.weight");
pub(crate) const V: Name = name("self_attn.v_proj.weight", "attn_v.weight");
pub(crate) const O: Name = name("self_attn.o_proj.weight", "attn_output.weight");
pub(crate) const POST_ATTENTION_NORM: Name =
    name("post_attention_layernorm.weight", "post_attention_norm.weight");
pub(crate) const PRE_FFN_NORM: Name = name("pre_feedforward_layernorm.weight", "ffn_norm.weight");
pub(crate) const GATE: Name = name("mlp.gate_proj.weight", "ffn_gate.weight");
pub(crate) const UP: Name = name("mlp.up_proj.weight", "ffn_up.weight");
pub(crate) const DOWN: Name = name("mlp.down_proj.weight", "ffn_down.weight");
pub(crate) const POST_FFN_NORM: Name = name("post_feedforward_layernorm.weight", "post_ffw_norm.weight");
pub(crate) const PLE_GATE: Name = name("per_layer_input_gate.weight", "inp_gate.weight");
pub(crate) const PLE_OUT: Name = name("per_layer_projection.weight", "proj.weight");
pub(crate) const POST_PLE_NORM: Name = name("post_per_layer_input_norm.weight", "post_norm.weight");

/// Tensors of one layer of any model.
pub(crate) const LAYER: [Name; 13] = [
    INPUT_NORM,
    Q,
    Q_NORM,
    K,
    K_NORM,
    V,
    O,
    POST_ATTENTION_NORM,
    PRE_FFN_NORM,
    GATE,
    UP,
    DOWN,
    POST_FFN_NORM,
];

/// Further tensors of one layer, in Gemma 3n only.
pub(crate) const LAYER_3N: [Name; 11] = [
    ROUTER,
    ROUTER_NORM,
    PREDICTION,
    CORRECTION,
    CORRECT_SCALE,
    LAUREL_LEFT,
    LAUREL_RIGHT,
    LAUREL_NORM,
    PLE_GATE,
    PLE_OUT,
    POST_PLE_NORM,
];

/// What a layer that shares keys and values does not need.
pub(crate) const KV: [Name; 3] = [K, K_NORM, V];

/// Whether the tensor is a norm, a scale or AltUp coefficients, which are used as f32 whatever the file has.
pub(crate) fn is_small(canonical: &str) -> bool {
    is_norm(canonical) || ["_coefs.weight", "correct_output_scale"].iter().any(|end| canonical.ends_with(end))
}

/// Whether the tensor is a norm.
pub(crate) fn is_norm(canonical: &str) -> bool {
    canonical.ends_with("norm.weight")
}

/// `layers.{layer}.{name}`.
pub(crate) fn in_layer(layer: usize, name: &Name) -> String {
    format!("layers.{layer}.{}", name.canonical)
}

/// `{stack}.{index}.weight`.
pub(crate) fn in_stack(stack: &Name, index: usize) -> String {
    format!("{}.{index}.weight", stack.canonical)
}

/// The GGUF name of a canonical name; `None` for one of a stack or an unknown one.
pub(crate) fn to_gguf(canonical: &str) -> Option<String> {
    if let Some((layer, rest)) = canonical.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        let name = LAYER.iter().chain(&LAYER_3N).find(|name| name.canonical == rest)?;
        return Some(format!("blk.{layer}.{}", name.gguf));
    }
    MODEL.iter().chain(&MODEL_3N).find(|name| name.canonical == canonical).map(|name| name.gguf.to_owned())
}

/// The canonical name of a GGUF name; `None` for a stack or an unknown one.
pub(crate) fn from_gguf(gguf: &str) -> Option<String> {
    if let Some((layer, rest)) = gguf.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        let layer: usize = layer.parse().ok()?;
        return LAYER
            .iter()
            .chain(&LAYER_3N)
            .find(|name| name.gguf == rest)
            .map(|name| in_layer(layer, name));
    }
    MODEL.iter().chain(&MODEL_3N).find(|name| name.gguf == gguf).map(|name| name.canonical.to_owned())
}
