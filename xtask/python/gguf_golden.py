"""Writes the GGUF goldens.

Names, keys and value types are those that llama.cpp's converter gives Gemma 3n and Gemma 3;
the tokenizer is a small SentencePiece vocabulary of our own. Blocks and
dequantised values come from the gguf package, never from this project's code.
"""

import json

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type

GLOBAL = {
    "embed_tokens": "token_embd",
    "embed_tokens_per_layer": "per_layer_token_embd",
    "per_layer_model_projection": "per_layer_model_proj",
    "per_layer_projection_norm": "per_layer_proj_norm",
    "altup_projections": "altup_proj",
    "altup_unembed_projections": "altup_unembd_proj",
    "norm": "output_norm",
}
LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "per_layer_input_gate": "inp_gate",
    "per_layer_projection": "proj",
    "post_per_layer_input_norm": "post_norm",
    "altup.correction_coefs": "altup_correct_coef",
    "altup.correct_output_scale": "altup_correct_scale",
    "altup.prediction_coefs": "altup_predict_coef",
    "altup.modality_router": "altup_router",
    "altup.router_norm": "altup_router_norm",
    "laurel.linear_left": "laurel_l",
    "laurel.linear_right": "laurel_r",
    "laurel.post_laurel_norm": "laurel_post_norm",
}
# Each layer stores its large weights in another of these, each kind starting at another one.
CYCLE = [Type.Q4_0, Type.Q8_0, Type.F16, Type.BF16]
CYCLED = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "inp_gate"]
FIXED = {
    "token_embd": Type.Q8_0,
    "per_layer_token_embd": Type.Q4_0,
    "altup_predict_coef": Type.F32,
    "altup_correct_coef": Type.F32,
}

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
LETTERS = "▁abcdefghijklmnopqrstuvwxyz.,\n"
# In merge order; each is two earlier pieces put together.
MERGES = ["▁t", "th", "▁th", "▁the", "in", "er", "▁a", "an", "nd", "▁and", "on", "re", "at", "en", "or", "ou",
          "is", "it", "es", "ing", "▁s", "▁w", "▁o", "▁of", "▁to", "ed", "▁b", "ll"]
SAMPLES = ["the other thing", "and then", "", " ", "  two  spaces", "line\nline", "naïve café", "日本", "🦀 sells",
           "thinking, of it.", "0123", "of the king of the ring"]


def vocabulary():
    normal, control, unknown, byte = (
        gguf.TokenType.NORMAL, gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN, gguf.TokenType.BYTE
    )
    rows = [(text, 0.0, unknown if text == "<unk>" else control) for text in SPECIAL]
    rows += [(f"<0x{value:02X}>", 0.0, byte) for value in range(256)]
    rows += [(text, -float(rank), normal) for rank, text in enumerate(MERGES)]
    rows += [(text, -1000.0 - rank, normal) for rank, text in enumerate(LETTERS)]
    return rows


def tokenize(text, rows):
    """SentencePiece BPE: join the best-scored neighbours, leftmost first; the rest falls back to bytes."""
    index = {piece: i for i, (piece, _, _) in enumerate(rows)}
    pieces = list(text.replace(" ", "▁"))
    while True:
        joined = [(rows[index[a + b]][1], -i) for i, (a, b) in enumerate(zip(pieces, pieces[1:])) if a + b in index]
        if not joined:
            break
        at = -max(joined)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    ids = []
    for piece in pieces:
        ids += [index[piece]] if piece in index else [index[f"<0x{b:02X}>"] for b in piece.encode()]
    return ids


def gguf_name(name):
    """`layers.3.mlp.up_proj.weight` to `blk.3.ffn_up.weight`."""
    stem = name.removesuffix(".weight")
    if not stem.startswith("layers."):
        return f"{GLOBAL[stem]}.weight"
    _, layer, rest = stem.split(".", 2)
    return f"blk.{layer}.{LAYER[rest]}.weight"


def storage_type(name, value):
    stem = name.removesuffix(".weight")
    parts = stem.split(".")
    kind = parts[-1]
    if value.ndim == 1:
        return Type.F32
    if kind in CYCLED:
        chosen = CYCLE[(int(parts[1]) + CYCLED.index(kind)) % len(CYCLE)]
    else:
        chosen = FIXED.get(kind, Type.F16)
    assert value.shape[-1] % gguf.GGML_QUANT_SIZES[chosen][0] == 0, name
    return chosen


def stacked(weights, vocab_size):
    """The tensors as the converter arranges them: AltUp matrices stacked, embeddings padded to the vocabulary."""
    tensors = {}
    for name, value in weights.items():
        stem = name.split(".")[0]
        if stem in ("altup_projections", "altup_unembed_projections"):
            name = f"{stem}.weight"
            if name in tensors:
                continue
            value = np.stack([weights[f"{stem}.{i}.weight"] for i in range(3)])
        elif stem.startswith("embed_tokens"):
            value = np.pad(value, ((0, vocab_size - value.shape[0]), (0, 0)))
        tensors[gguf_name(name)] = np.ascontiguousarray(value, dtype=np.float32)
    return tensors


def sparsity_scale(value):
    """Φ⁻¹ in f32; minus infinity for a dense layer, as the converter writes it."""
    normal = torch.distributions.normal.Normal(0, 1)
    return normal.icdf(torch.tensor(value, dtype=torch.float32)).item()


def add_metadata(writer, config):
    c = config
    full, sliding = (c.rope_parameters[kind]["rope_theta"] for kind in ("full_attention", "sliding_attention"))
    writer.add_name("four layers")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    writer.add_rope_freq_base(full)
    writer.add_rope_freq_base_swa(sliding)
    writer.add_sliding_window(c.sliding_window)
    writer.add_final_logit_softcapping(c.final_logit_softcapping)
    writer.add_altup_active_idx(c.altup_active_idx)
    writer.add_altup_num_inputs(c.altup_num_inputs)
    writer.add_embedding_length_per_layer_input(c.hidden_size_per_layer_input)
    writer.add_shared_kv_layers(c.num_kv_shared_layers)
    writer.add_activation_sparsity_scale([sparsity_scale(s) for s in c.activation_sparsity_pattern])
    writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in c.layer_types])


def add_tokenizer(writer, rows):
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _, _ in rows])
    writer.add_token_scores([score for _, score, _ in rows])
    writer.add_token_types([int(kind) for _, _, kind in rows])
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_model(folder, config, weights):
    """`model.gguf`, `published.gguf` and `tokens.json`; `weights` are f32 by name after `model.`."""
    rows = vocabulary()
    assert len(rows) == config.vocab_size
    writer = gguf.GGUFWriter(folder / "model.gguf", "gemma3n")
    add_metadata(writer, config)
    add_tokenizer(writer, rows)
    for name, value in sorted(stacked(weights, config.vocab_size).items()):
        chosen = storage_type(name, value)
        writer.add_tensor(name, gguf.quants.quantize(value, chosen), raw_dtype=chosen)
    finish(writer)
    write_published(folder / "published.gguf")
    samples = [json.dumps({"text": text, "ids": tokenize(text, rows)}, ensure_ascii=False) for text in SAMPLES]
    (folder / "tokens.json").write_text("[\n" + ",\n".join(samples) + "\n]\n")


def write_gemma3(path, config, weights):
    """A Gemma 3 file of exactly the given values: bf16 matrices, and norms with the 1 already added."""
    c = config
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_key_length(c.head_dim)
    writer.add_value_length(c.head_dim)
    full, sliding = (c.rope_parameters[kind] for kind in ("full_attention", "sliding_attention"))
    writer.add_rope_freq_base(full["rope_theta"])
    writer.add_rope_freq_base_swa(sliding["rope_theta"])
    writer.add_sliding_window(c.sliding_window)
    # What published files do not need to say.
    if c.query_pre_attn_scalar != c.head_dim:
        writer.add_attention_scale(c.query_pre_attn_scalar**-0.5)
    if "factor" in full:
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(full["factor"])
    if c.final_logit_softcapping is not None:
        writer.add_final_logit_softcapping(c.final_logit_softcapping)
    kinds = [kind == "sliding_attention" for kind in c.layer_types]
    if kinds != [(layer + 1) % 6 != 0 for layer in range(c.num_hidden_layers)]:
        writer.add_sliding_window_pattern(kinds)
    rows = vocabulary()
    if len(rows) == c.vocab_size:
        add_tokenizer(writer, rows)
    for name, value in sorted(weights.items()):
        is_norm = name.endswith("norm.weight")
        kind = Type.F32 if is_norm else Type.BF16
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(value + 1.0 if is_norm else value, kind), raw_dtype=kind)
    finish(writer)


def write_published(path):
    """Metadata alone, with the value types of E2B files in circulation: a float number of sharing layers,
    one FFN width, and no theta for the sliding layers."""
    writer = gguf.GGUFWriter(path, "gemma3n")
    writer.add_context_length(32768)
    writer.add_embedding_length(2048)
    writer.add_block_count(30)
    writer.add_feed_forward_length(8192)
    writer.add_head_count(8)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_key_length(256)
    writer.add_value_length(256)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_sliding_window(512)
    writer.add_altup_active_idx(0)
    writer.add_altup_num_inputs(4)
    writer.add_embedding_length_per_layer_input(256)
    writer.add_float32("gemma3n.attention.shared_kv_layers", 10.0)
    writer.add_activation_sparsity_scale([sparsity_scale(0.95)] * 10 + [float("-inf")] * 20)
    writer.add_sliding_window_pattern([(layer + 1) % 5 != 0 for layer in range(30)])
    finish(writer)


def read_weights(path):
    """Every tensor of a GGUF, dequantised by the gguf package, under its name after `model.`."""
    names = {}
    for old, new in GLOBAL.items():
        names[f"{new}.weight"] = f"{old}.weight"
    weights = {}
    for tensor in gguf.GGUFReader(path).tensors:
        value = np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if tensor.name in ("altup_proj.weight", "altup_unembd_proj.weight"):
            stem = names[tensor.name].removesuffix(".weight")
            weights |= {f"{stem}.{i}.weight": part for i, part in enumerate(value)}
        elif tensor.name.startswith("blk."):
            _, layer, kind, _ = tensor.name.split(".")
            rest = next(old for old, new in LAYER.items() if new == kind)
            suffix = "" if rest.endswith("correct_output_scale") else ".weight"
            weights[f"layers.{layer}.{rest}{suffix}"] = value
        else:
            weights[names[tensor.name]] = value
    return weights
