"""Makes the goldens of crates/gemma-matformer/tests/goldens.

Random tiny Gemma 3n and Gemma 3 models run through Hugging Face transformers in float64 on
the CPU; every case is checked against the formulas in oracle.py before it is
written. Seeds are fixed and one thread is used, so a second run with the
versions in requirements.txt gives the same bytes. goldens/README.md says what
each file holds.
"""

import argparse
import contextlib
import json
import shutil
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import DynamicCache, Gemma3ForCausalLM, Gemma3nForCausalLM, Gemma3nTextConfig, Gemma3TextConfig
from transformers.utils import logging

import block_golden
import gguf_golden
from oracle import Gemma3Oracle, Oracle

GOLDENS = Path(__file__).resolve().parents[2] / "crates/gemma-matformer/tests/goldens"
NEW_TOKENS = 12
LONG_PROMPT = 37
# What a term must move the logits by when it is taken away: ten times what a test allows.
VISIBLE = 5e-2
S, F = "sliding_attention", "full_attention"
PATTERN = [S, S, S, S, F]
# By model_type: the class of transformers, the second decoder, and what a norm's weight is when it does nothing.
FAMILIES = {
    "gemma3n_text": (Gemma3nForCausalLM, Oracle, 1.0),
    "gemma3_text": (Gemma3ForCausalLM, Gemma3Oracle, 0.0),
}


def text_config(**changes):
    values = {
        "vocab_size": 288,
        "vocab_size_per_layer_input": 256,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "sliding_window": 16,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
        "max_position_embeddings": 512,
        "dtype": "bfloat16",
        "architectures": ["Gemma3nForCausalLM"],
    }
    return Gemma3nTextConfig(**(values | changes))


def thetas(full, sliding):
    return {F: {"rope_type": "default", "rope_theta": full}, S: {"rope_type": "default", "rope_theta": sliding}}


def cases():
    return {
        "four-layers": text_config(
            vocab_size=320,
            vocab_size_per_layer_input=288,
            hidden_size=64,
            head_dim=32,
            num_hidden_layers=4,
            intermediate_size=[64, 128, 96, 32],
            activation_sparsity_pattern=[0.95, 0.0, 0.6, 0.0],
            layer_types=[S, F, S, F],
            num_kv_shared_layers=2,
            sliding_window=8,
            hidden_size_per_layer_input=16,
            rope_parameters=thetas(500_000.0, 10_000.0),
        ),
        "ten-layers": text_config(
            hidden_size=96,
            num_hidden_layers=10,
            intermediate_size=64,
            activation_sparsity_pattern=[0.95, 0.95, 0.95, 0.95] + [0.0] * 6,
            layer_types=PATTERN * 2,
            num_kv_shared_layers=3,
            rope_parameters=thetas(300_000.0, 5_000.0),
        ),
        "thirty-layers": text_config(
            num_hidden_layers=30,
            intermediate_size=64,
            layer_types=PATTERN * 6,
            num_kv_shared_layers=10,
        ),
        "sliced-parent": text_config(
            num_hidden_layers=35,
            intermediate_size=128,
            layer_types=PATTERN * 7,
            num_kv_shared_layers=15,
        ),
    }


def gemma3_cases():
    common = {"max_position_embeddings": 512, "dtype": "bfloat16", "architectures": ["Gemma3ForCausalLM"]}
    return {
        # One key for all queries, heads wider than the model, an uneven pattern that ends on a sliding layer.
        "gemma3-one-key": Gemma3TextConfig(
            vocab_size=320,
            hidden_size=64,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=32,
            intermediate_size=96,
            layer_types=[S, F, S, S, F, S],
            sliding_window=8,
            query_pre_attn_scalar=20,
            rope_parameters=thetas(500_000.0, 5_000.0),
            **common,
        ),
        # The published 5+1 pattern, a key for each query, a window longer than any prompt, linear rope scaling, a soft cap.
        "gemma3-long-window": Gemma3TextConfig(
            vocab_size=200,
            hidden_size=48,
            num_hidden_layers=7,
            num_attention_heads=3,
            num_key_value_heads=3,
            head_dim=16,
            intermediate_size=80,
            sliding_window=40,
            query_pre_attn_scalar=16,
            final_logit_softcapping=25.0,
            rope_parameters=thetas(1_000_000.0, 10_000.0)
            | {F: {"rope_type": "linear", "factor": 4.0, "rope_theta": 1_000_000.0}},
            **common,
        ),
    }


SKIPPED = [20, 21, 22, 23, 24]
CHILD_WIDTHS = [128 if layer in (4, 9, 25) else 96 if layer in (3, 13) else 64 for layer in range(30)]


def draw(name, shape, layers, seed):
    """One weight, rounded to bf16. Norms sit far from 1 and AltUp far from 0, so a dropped term shows.

    Branches (`post_*` norms) stay smaller than the residual and attention stays soft: a random deep
    network is otherwise chaotic, and f32 rounding alone would move its logits by whole units.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    hidden, kind, deep = shape[-1], name.removesuffix(".weight").split(".")[-1], layers > 10
    ranges = {"norm": (5.0, 16.0), "q_norm": (0.3, 0.85), "k_norm": (0.3, 0.85)}
    scales = {
        "embed_tokens": 1.0 / hidden**0.5,
        "embed_tokens_per_layer": 0.4,
        "modality_router": (0.2 if deep else 0.25) * hidden**0.5,
        "prediction_coefs": 0.1 if deep else 0.25,
        "correction_coefs": 0.2 if deep else 0.25,
    }
    if name.endswith(("norm.weight", "correct_output_scale")):
        value = rng.uniform(*ranges.get(kind, (0.15, 0.6) if kind.startswith("post_") else (0.5, 2.0)), shape)
        if kind == "norm":
            # Tied embeddings would otherwise make each token choose itself for ever.
            value *= rng.choice([-1.0, 1.0], shape)
    else:
        value = rng.normal(0.0, scales.get(kind, hidden**-0.5), shape)
    return torch.from_numpy(value).to(torch.float32).to(torch.bfloat16)


def draw_gemma3(name, shape, layers, seed):
    """As `draw`; norms without the 1 that is added to them, and far from 0. Attention is sharper, as it is scaled."""
    value = draw(name, shape, layers, seed).float()
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        value *= 2.5
    if name.endswith("norm.weight"):
        value -= 1.0
    return value.to(torch.bfloat16)


def shapes(config):
    """Names after `model.` and shapes of every stored tensor; the head is tied and not stored."""
    with torch.device("meta"):
        state = FAMILIES[config.model_type][0](config).model.state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def prompts(config, seed):
    """Shorter than the window, exactly it, beyond twice it, and with ids beyond the PLE vocabulary."""
    rng = np.random.default_rng([seed, 7])
    vocab, window = config.vocab_size, config.sliding_window
    # Gemma 3 has no PLE vocabulary; its last ids are then nothing special.
    ple = getattr(config, "vocab_size_per_layer_input", vocab - 16)
    texts = [rng.integers(3, ple, length) for length in (5, window, LONG_PROMPT)]
    beyond = rng.integers(3, ple, 12)
    beyond[[1, 4, 5, 11]] = [ple, vocab - 1, ple + 5, ple + 1]
    return [text.tolist() for text in (*texts, beyond)]


def layer_norms(model, ids):
    """All logits of one full forward, and the L2 norm of each stream after each layer."""
    norms = []

    def hook(_module, _inputs, out):
        streams = out[:, 0] if out.dim() == 4 else out
        norms.append(torch.linalg.vector_norm(streams, dim=-1).T)

    hooks = [layer.register_forward_hook(hook) for layer in model.model.layers]
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    return logits, torch.stack(norms)


@contextlib.contextmanager
def double_throughout():
    """Undoes the float32 islands in transformers (norms, softmax, rotary angles), to compare formulas alone."""
    to_float, softmax = torch.Tensor.float, torch.nn.functional.softmax
    torch.Tensor.float = torch.Tensor.double
    torch.nn.functional.softmax = lambda x, dim, dtype: softmax(x, dim=dim)
    yield
    torch.Tensor.float, torch.nn.functional.softmax = to_float, softmax


def greedy(model, ids):
    """Greedy tokens by a full forward a token, their top-2 margins, and the largest gap to cached decoding."""
    ids, tokens, margins, gap = list(ids), [], [], 0.0
    cache = DynamicCache(config=model.config)
    cached = model(torch.tensor([ids]), past_key_values=cache, use_cache=True).logits[0, -1]
    for _ in range(NEW_TOKENS):
        last = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        gap = max(gap, (cached - last).abs().max().item())
        top = torch.topk(last, 2)
        tokens.append(int(top.indices[0]))
        margins.append((top.values[0] - top.values[1]).item())
        assert tokens[-1] == int(cached.argmax()), "cached decoding chose another token"
        ids.append(tokens[-1])
        cached = model(torch.tensor([ids[-1:]]), past_key_values=cache, use_cache=True).logits[0, -1]
    return tokens, margins, gap


def neutral(name, value, idle_norm):
    is_gain = name.endswith(("norm.weight", "correct_output_scale"))
    return np.full_like(value, idle_norm) if is_gain else np.zeros_like(value)


def sensitivity(config, weights, ids):
    """The tensor whose removal moves the logits least, and by how much."""
    _, decoder, idle_norm = FAMILIES[config["model_type"]]
    oracle = decoder(config, weights)
    base, _ = oracle.forward(ids)
    moves = {}
    for name, value in oracle.weights.items():
        oracle.weights[name] = neutral(name, value, idle_norm)
        moves[name] = np.abs(oracle.forward(ids)[0] - base).max()
        oracle.weights[name] = value
    weakest = min(moves, key=moves.get)
    return moves[weakest], weakest


def golden(case, model, weights, texts):
    """Computes, checks and reports one case; returns the tensors of golden.safetensors."""
    config = model.config.to_dict()
    causal, decoder, _ = FAMILIES[config["model_type"]]
    oracle = decoder(config, weights)
    single = causal(model.config).eval()
    single.set_attn_implementation("eager")
    single.load_state_dict({name: value.float() for name, value in model.state_dict().items()})
    tensors, worst, exact, worst_f32, gap, margin = {}, 0.0, 0.0, 0.0, 0.0, []
    for i, ids in enumerate(texts):
        logits, norms = layer_norms(model, ids)
        expected, expected_norms = oracle.forward(ids)
        worst = max(worst, np.abs(expected - logits.numpy()).max())
        assert np.allclose(expected_norms, norms.numpy(), rtol=1e-4), f"{case}: layer norms disagree"
        with double_throughout():
            exact = max(exact, np.abs(expected - layer_norms(model, ids)[0].numpy()).max())
        worst_f32 = max(worst_f32, (layer_norms(single, ids)[0] - logits).abs().max().item())
        tokens, margins, cached_gap = greedy(model, ids)
        gap, margin = max(gap, cached_gap), margin + margins
        tensors |= {
            f"p{i}.ids": torch.tensor(ids, dtype=torch.int32),
            f"p{i}.logits": logits.float(),
            f"p{i}.layer_norms": norms.float().contiguous(),
            f"p{i}.greedy": torch.tensor(tokens, dtype=torch.int32),
            f"p{i}.margin": torch.tensor(margins, dtype=torch.float32),
        }
    assert exact < 1e-4, f"{case}: the formulas and transformers in float64 throughout differ by {exact}"
    assert worst < 1e-3, f"{case}: the formulas and transformers differ by {worst}"
    assert gap < 1e-4, f"{case}: cached and full forward differ by {gap}"
    weakest, name = sensitivity(config, weights, texts[2])
    assert weakest > VISIBLE, f"{case}: dropping {name} moves the logits by only {weakest}"
    every = torch.cat([tensors[f"p{i}.logits"].flatten() for i in range(len(texts))])
    print(
        f"{case:16} |oracle - transformers| {worst:.1e}, f64 throughout {exact:.1e}  "
        f"f32 {worst_f32:.1e}  cached {gap:.1e}  "
        f"logits {every.min():.1f}..{every.max():.1f} sd {every.std():.1f}  "
        f"margin min {min(margin):.4f}  weakest term {weakest:.2f} ({name})"
    )
    return tensors


def load(folder, causal=Gemma3nForCausalLM):
    return causal.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()


def build(config, weights):
    """A float64 model of the given tensors, without a checkpoint on disk."""
    torch.set_default_dtype(torch.float64)
    model = Gemma3nForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    model.set_attn_implementation("eager")
    state = {f"model.{name}": value.double() for name, value in weights.items()}
    model.load_state_dict(state | {"lm_head.weight": state["model.embed_tokens.weight"]})
    return model


def as_arrays(weights):
    return {name: value.to(torch.float64).numpy() for name, value in weights.items()}


def write_model(folder, config, weights):
    """A text-only checkpoint as transformers lays it out."""
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    named = {f"model.{name}": value for name, value in weights.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})


def slice_of(config, weights, skipped, widths):
    """The checkpoint that MatFormer's rule takes out of a parent: a prefix of each width, some layers gone."""
    kept = [layer for layer in range(config.num_hidden_layers) if layer not in skipped]
    first_sharing = config.num_hidden_layers - config.num_kv_shared_layers
    width = config.hidden_size_per_layer_input
    blocks = torch.cat([torch.arange(layer * width, (layer + 1) * width) for layer in kept])
    child = text_config(
        num_hidden_layers=len(kept),
        intermediate_size=widths,
        layer_types=[config.layer_types[layer] for layer in kept],
        activation_sparsity_pattern=[config.activation_sparsity_pattern[layer] for layer in kept],
        num_kv_shared_layers=config.num_kv_shared_layers - sum(layer >= first_sharing for layer in skipped),
    )
    taken = {}
    for name, value in weights.items():
        if name.startswith("layers."):
            _, layer, rest = name.split(".", 2)
            if int(layer) in skipped:
                continue
            new = kept.index(int(layer))
            if "mlp.down_proj" in rest:
                value = value[:, : widths[new]]
            elif "mlp." in rest:
                value = value[: widths[new]]
            name = f"layers.{new}.{rest}"
        elif name == "embed_tokens_per_layer.weight":
            value = value[:, blocks]
        elif name == "per_layer_model_projection.weight":
            value = value[blocks]
        taken[name] = value.contiguous()
    return child, taken


def write_multimodal(folder, config, weights, seed):
    """The same text model as a published multimodal checkpoint has it: nested config, old rope keys,
    two shards, towers, and K/V weights that the sharing layers never use."""
    text = config.to_dict()
    rope = text.pop("rope_parameters")
    for key in ("architectures", "transformers_version", "dtype", "tie_word_embeddings"):
        text.pop(key, None)
    text |= {
        "rope_theta": rope[F]["rope_theta"],
        "rope_local_base_freq": rope[S]["rope_theta"],
        "rope_scaling": None,
        "query_pre_attn_scalar": config.head_dim,
        "torch_dtype": "bfloat16",
    }
    nested = {
        "architectures": ["Gemma3nForConditionalGeneration"],
        "audio_config": {"hidden_size": 1536, "model_type": "gemma3n_audio", "vocab_offset": 304, "vocab_size": 16},
        "audio_soft_tokens_per_image": 188,
        "audio_token_id": 305,
        "eos_token_id": [1, 5],
        "image_token_id": 289,
        "initializer_range": 0.02,
        "model_type": "gemma3n",
        "text_config": text,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.53.0",
        "vision_config": {
            "architecture": "mobilenetv5_300m_enc",
            "hidden_size": 2048,
            "model_type": "gemma3n_vision",
            "vocab_offset": 288,
            "vocab_size": 16,
        },
        "vision_soft_tokens_per_image": 256,
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(nested, indent=2) + "\n")

    tensors = {f"model.language_model.{name}": value for name, value in weights.items()}
    first_sharing = config.num_hidden_layers - config.num_kv_shared_layers
    extra = {
        "model.vision_tower.timm_model.conv_stem.conv.weight": (8, 3, 3, 3),
        "model.audio_tower.conformer.0.attention.attn.q_proj.weight": (16, 16),
        "model.embed_vision.embedding.weight": (16, 16),
        "model.embed_audio.embedding_projection.weight": (64, 16),
    }
    for layer in range(first_sharing, config.num_hidden_layers):
        for name in ("k_proj", "v_proj", "k_norm"):
            shape = tuple(weights[f"layers.0.self_attn.{name}.weight"].shape)
            extra[f"model.language_model.layers.{layer}.self_attn.{name}.weight"] = shape
    tensors |= {name: draw(name, shape, config.num_hidden_layers, seed + 1) for name, shape in extra.items()}

    names, index = sorted(tensors), {}
    for part, chosen in enumerate((names[0::2], names[1::2]), start=1):
        shard = f"model-{part:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in chosen}, folder / shard, metadata={"format": "pt"})
        index |= dict.fromkeys(chosen, shard)
    total = sum(value.numel() * value.element_size() for value in tensors.values())
    listing = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listing, indent=2) + "\n")
    (folder / "golden_of.txt").write_text("four-layers\n")


def check_multimodal(folder, model, weights, texts):
    """The nested config with old rope keys must mean the same model."""
    text = json.loads((folder / "config.json").read_text())["text_config"]
    other = build(Gemma3nTextConfig(**text), weights)
    gap = (layer_norms(other, texts[2])[0] - layer_norms(model, texts[2])[0]).abs().max().item()
    assert gap < 1e-9, f"multimodal-layout: old rope keys mean another model ({gap})"


def make(out):
    for seed, (case, config) in enumerate(cases().items(), start=1):
        weights = {name: draw(name, shape, config.num_hidden_layers, seed) for name, shape in shapes(config).items()}
        write_model(out / case, config, weights)
        model, texts = load(out / case), prompts(config, seed)
        save_file(golden(case, model, as_arrays(weights), texts), out / case / "golden.safetensors")
        if case == "four-layers":
            write_multimodal(out / "multimodal-layout", config, weights, seed)
            check_multimodal(out / "multimodal-layout", model, weights, texts)
            make_gguf(out / "four-layers-gguf", config, weights, texts, seed)
        if case == "sliced-parent":
            make_child(out / "sliced-child", config, weights, texts)
    for seed, (case, config) in enumerate(gemma3_cases().items(), start=21):
        make_gemma3(out / case, config, seed)
    block_golden.write(out / "blocks")


def make_gemma3(folder, config, seed):
    """A text-only checkpoint and its golden, and beside it the same values as GGUF."""
    layers = config.num_hidden_layers
    weights = {name: draw_gemma3(name, shape, layers, seed) for name, shape in shapes(config).items()}
    write_model(folder, config, weights)
    model = load(folder, Gemma3ForCausalLM)
    save_file(golden(folder.name, model, as_arrays(weights), prompts(config, seed)), folder / "golden.safetensors")
    arrays = {name: value.float().numpy() for name, value in weights.items()}
    gguf_golden.write_gemma3(folder / "model.gguf", config, arrays)


def make_child(folder, config, weights, texts):
    child, taken = slice_of(config, weights, SKIPPED, CHILD_WIDTHS)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        write_model(Path(scratch), child, taken)
        model = load(scratch)
    save_file(golden("sliced-child", model, as_arrays(taken), texts), folder / "golden.safetensors")
    child.save_pretrained(folder)
    (folder / "slice.toml").write_text(
        "# sliced-parent without its layers 20 to 24 and with mixed widths.\n"
        f"skip_layers = {SKIPPED}\nffn_widths = {CHILD_WIDTHS}\n"
    )


def make_gguf(folder, config, weights, texts, seed):
    folder.mkdir(parents=True)
    dead = {}
    for layer in range(config.num_hidden_layers - config.num_kv_shared_layers, config.num_hidden_layers):
        for name in ("k_proj", "v_proj", "k_norm"):
            shape = tuple(weights[f"layers.0.self_attn.{name}.weight"].shape)
            full = f"layers.{layer}.self_attn.{name}.weight"
            dead[full] = draw(full, shape, config.num_hidden_layers, seed + 1)
    gguf_golden.write_model(folder, config, {k: v.float().numpy() for k, v in (weights | dead).items()})
    stored = gguf_golden.read_weights(folder / "model.gguf")
    # The file says nothing of a smaller PLE vocabulary: its table has a row, of zeros, for every id.
    changed = Gemma3nTextConfig(**(config.to_dict() | {"vocab_size_per_layer_input": config.vocab_size}))
    live = {name: value for name, value in stored.items() if name not in dead}
    model = build(changed, {name: torch.from_numpy(value) for name, value in live.items()})
    save_file(golden("four-layers-gguf", model, live, texts), folder / "golden.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=GOLDENS, help="folder to write (default: the committed one)")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for case in [*cases(), *gemma3_cases(), "multimodal-layout", "four-layers-gguf", "sliced-child", "blocks"]:
        shutil.rmtree(out / case, ignore_errors=True)
    make(out)


if __name__ == "__main__":
    main()
