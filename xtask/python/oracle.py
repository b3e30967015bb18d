"""Plain numpy float64 decoders of Gemma 3n and Gemma 3, written from the formulas alone.

They share no code with transformers and none with the Rust crates, so that the
goldens rest on two independent readings of each model. They never cache and never
fuse: one prompt in, all logits out. Linear weights are [out, in].
"""

import math
from statistics import NormalDist

import numpy as np

FULL = "full_attention"


def rms(x, weight=None, eps=1e-6):
    y = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    return y if weight is None else y * weight


def magnitude(x):
    return np.sqrt(np.mean(x * x, axis=-1, keepdims=True))


def match(y, target):
    return y * target / np.sqrt(np.maximum(np.mean(y * y, axis=-1, keepdims=True), 1e-5))


def gelu(x):
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def rope(x, theta, stretch=1.0):
    """Rotate-half rotary embedding of [T, heads, head_dim], its angles divided by `stretch`."""
    half = x.shape[-1] // 2
    frequency = theta ** (-np.arange(half) / half) / stretch
    angle = np.arange(x.shape[0])[:, None, None] * frequency
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=-1)


def attend(query, key, value, window):
    """Causal attention of [T, H, hd] over [T, K, hd]; `window` is None on full layers."""
    group = query.shape[1] // key.shape[1]
    key, value = np.repeat(key, group, axis=1), np.repeat(value, group, axis=1)
    score = np.einsum("qhd,khd->hqk", query, key)
    position = np.arange(query.shape[0])
    hidden = position[None, :] > position[:, None]
    if window is not None:
        hidden |= position[None, :] <= position[:, None] - window
    score = np.where(hidden, -np.inf, score)
    score = np.exp(score - score.max(axis=-1, keepdims=True))
    score /= score.sum(axis=-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", score, value)


def sparsify(gate, sparsity):
    cut = gate.mean(axis=-1, keepdims=True) + NormalDist().inv_cdf(sparsity) * gate.std(axis=-1, keepdims=True)
    return np.maximum(gate - cut, 0.0)


class Oracle:
    """`config` is the text config as a dict, `weights` maps names after `model.` to arrays."""

    def __init__(self, config, weights):
        self.config = config
        self.weights = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T

    def norm(self, name, x):
        return rms(x, self.weights[f"{name}.weight"], self.config["rms_norm_eps"])

    def per_layer_inputs(self, ids, x0):
        c = self.config
        width, layers = c["hidden_size_per_layer_input"], c["num_hidden_layers"]
        row = np.where(ids < c["vocab_size_per_layer_input"], ids, 0)
        token = self.weights["embed_tokens_per_layer.weight"][row] * math.sqrt(width)
        context = self.linear("per_layer_model_projection", x0) / math.sqrt(c["hidden_size"])
        context = self.norm("per_layer_projection_norm", context.reshape(-1, layers, width))
        return (context + token.reshape(-1, layers, width)) / math.sqrt(2.0)

    def router(self, layer, x):
        x = self.norm(f"{layer}.altup.router_norm", x) / self.config["hidden_size"]
        return np.tanh(self.linear(f"{layer}.altup.modality_router", x))

    def kv_source(self, index):
        types = self.config["layer_types"]
        first_sharing = len(types) - self.config["num_kv_shared_layers"]
        if index < first_sharing:
            return index
        return max(i for i in range(first_sharing) if types[i] == types[index])

    def attention(self, index, x, cache):
        c, name = self.config, f"layers.{index}.self_attn"
        kind, head_dim = c["layer_types"][index], c["head_dim"]
        theta, tokens = c["rope_parameters"][kind]["rope_theta"], x.shape[0]
        source = self.kv_source(index)
        if source == index:
            key = self.norm(f"{name}.k_norm", self.linear(f"{name}.k_proj", x).reshape(tokens, -1, head_dim))
            value = self.linear(f"{name}.v_proj", x).reshape(tokens, -1, head_dim)
            cache[index] = rope(key, theta), rms(value, None, c["rms_norm_eps"])
        query = self.norm(f"{name}.q_norm", self.linear(f"{name}.q_proj", x).reshape(tokens, -1, head_dim))
        window = None if kind == FULL else c["sliding_window"]
        out = attend(rope(query, theta), *cache[source], window)
        return self.linear(f"{name}.o_proj", out.reshape(tokens, -1))

    def feed_forward(self, index, x):
        name, sparsity = f"layers.{index}.mlp", self.config["activation_sparsity_pattern"][index]
        gate = self.linear(f"{name}.gate_proj", x)
        if sparsity > 0.0:
            gate = sparsify(gate, sparsity)
        return self.linear(f"{name}.down_proj", gelu(gate) * self.linear(f"{name}.up_proj", x))

    def layer(self, index, streams, per_layer, cache):
        """`streams` is [A, T, d]; `per_layer` is this layer's [T, p]."""
        name, active = f"layers.{index}", self.config["altup_active_idx"]
        count, tokens = streams.shape[:2]
        coefficients = self.linear(f"{name}.altup.prediction_coefs", self.router(name, streams[active]))
        coefficients = coefficients.reshape(tokens, count, count)
        predicted = streams + np.einsum("tji,itd->jtd", coefficients, streams)

        a = predicted[active]
        h = self.norm(f"{name}.input_layernorm", a)
        low_rank = self.linear(f"{name}.laurel.linear_right", self.linear(f"{name}.laurel.linear_left", h))
        laurel = h + self.norm(f"{name}.laurel.post_laurel_norm", low_rank)
        attention = self.norm(f"{name}.post_attention_layernorm", self.attention(index, h, cache))
        y = (a + attention + laurel) / math.sqrt(2.0)
        m = self.feed_forward(index, self.norm(f"{name}.pre_feedforward_layernorm", y))
        z = y + self.norm(f"{name}.post_feedforward_layernorm", m)

        gain = self.linear(f"{name}.altup.correction_coefs", self.router(name, z)) + 1.0
        corrected = predicted + gain.T[:, :, None] * (z - a)
        u = corrected[active] * self.weights[f"{name}.altup.correct_output_scale"]
        e = gelu(self.linear(f"{name}.per_layer_input_gate", u)) * per_layer
        e = self.norm(f"{name}.post_per_layer_input_norm", self.linear(f"{name}.per_layer_projection", e))
        others = [j for j in range(count) if j != active]
        corrected[others] += e
        return corrected

    def forward(self, ids):
        """Logits [T, vocab] and the L2 norm of each stream after each layer [L, T, A]."""
        c, ids = self.config, np.asarray(ids)
        count, cache, norms = c["altup_num_inputs"], {}, []
        x0 = self.weights["embed_tokens.weight"][ids] * math.sqrt(c["hidden_size"])
        per_layer = self.per_layer_inputs(ids, x0)
        target = magnitude(x0)
        streams = np.stack([x0] + [match(self.linear(f"altup_projections.{i}", x0), target) for i in range(count - 1)])
        for index in range(c["num_hidden_layers"]):
            streams = self.layer(index, streams, per_layer[:, index], cache)
            norms.append(np.linalg.norm(streams, axis=-1).T)
        target = magnitude(streams[0])
        heads = [match(self.linear(f"altup_unembed_projections.{i}", streams[i + 1]), target) for i in range(count - 1)]
        h = self.norm("norm", (streams[0] + sum(heads)) / count)
        cap = c["final_logit_softcapping"]
        return cap * np.tanh(h @ self.weights["embed_tokens.weight"].T / cap), np.stack(norms)


class Gemma3Oracle(Oracle):
    """Gemma 3: one plain residual stream. Norm weights are stored without the 1 that is added to them."""

    def norm(self, name, x):
        return rms(x, 1.0 + self.weights[f"{name}.weight"], self.config["rms_norm_eps"])

    def attention(self, index, x):
        c, name = self.config, f"layers.{index}.self_attn"
        kind, head_dim, tokens = c["layer_types"][index], c["head_dim"], x.shape[0]
        angles = c["rope_parameters"][kind]
        theta, stretch = angles["rope_theta"], angles.get("factor", 1.0)
        query, key, value = (
            self.linear(f"{name}.{part}_proj", x).reshape(tokens, -1, head_dim) for part in ("q", "k", "v")
        )
        query = rope(self.norm(f"{name}.q_norm", query), theta, stretch) / math.sqrt(c["query_pre_attn_scalar"])
        key = rope(self.norm(f"{name}.k_norm", key), theta, stretch)
        out = attend(query, key, value, None if kind == FULL else c["sliding_window"])
        return self.linear(f"{name}.o_proj", out.reshape(tokens, -1))

    def feed_forward(self, name, x):
        gate, up = self.linear(f"{name}.mlp.gate_proj", x), self.linear(f"{name}.mlp.up_proj", x)
        return self.linear(f"{name}.mlp.down_proj", gelu(gate) * up)

    def forward(self, ids):
        """Logits [T, vocab] and the L2 norm of the stream after each layer [L, T, 1]."""
        c, norms = self.config, []
        x = self.weights["embed_tokens.weight"][np.asarray(ids)] * math.sqrt(c["hidden_size"])
        for index in range(c["num_hidden_layers"]):
            name = f"layers.{index}"
            h = self.attention(index, self.norm(f"{name}.input_layernorm", x))
            x = x + self.norm(f"{name}.post_attention_layernorm", h)
            h = self.feed_forward(name, self.norm(f"{name}.pre_feedforward_layernorm", x))
            x = x + self.norm(f"{name}.post_feedforward_layernorm", h)
            norms.append(np.linalg.norm(x, axis=-1, keepdims=True))
        logits = self.norm("norm", x) @ self.weights["embed_tokens.weight"].T
        cap = c["final_logit_softcapping"]
        return (logits if cap is None else cap * np.tanh(logits / cap)), np.stack(norms)
