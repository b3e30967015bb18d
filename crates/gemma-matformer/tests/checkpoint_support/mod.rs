//! A small model of uneven layers and the files it can be stored in, for the tests of model files.

#![allow(dead_code, reason = "every test file uses a part of this")]
#![allow(unreachable_pub, reason = "a module of several test programs")]

use std::fs;
use std::path::Path;

use gemma_hal::block::dequantise_row;
use gemma_hal::{DType, Storage, Weight};
use gemma_matformer::checkpoint::gguf::write::MetadataValue;
use gemma_matformer::export::{Export, Filling};
use gemma_matformer::{Checkpoint, CheckpointError, Config, LayerKind, Weights, synthetic};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Four layers of which the last two share, each different from the next.
pub fn tiny() -> Config {
    Config {
        hidden: 64,
        ffn_widths: vec![64, 96, 128, 160],
        sparsity: vec![0.95, 0.5, 0.0, 0.8],
        layer_kinds: vec![LayerKind::Sliding, LayerKind::Full, LayerKind::Sliding, LayerKind::Full],
        heads: 4,
        kv_heads: 2,
        head_dim: 32,
        ple_width: 32,
        ple_vocabulary: 40,
        vocabulary: 48,
        altup_streams: 3,
        laurel_rank: 32,
        window: 8,
        shared_kv_layers: 2,
        rope_theta: 500_000.0,
        rope_local_theta: 5_000.0,
        rms_eps: 1e-5,
        softcap: 20.0,
        max_context: 256,
        eos: vec![1, 7, 9],
        bos: 3,
    }
}

/// [`tiny`], or a wider one where rows of that would end inside a block of `dtype`.
pub fn tiny_for(dtype: DType) -> Config {
    let tiny = tiny();
    if tiny.hidden.is_multiple_of(dtype.block_len()) {
        return tiny;
    }
    let ffn_widths = vec![256, 512, 256, 768];
    Config { hidden: 256, ffn_widths, head_dim: 64, ple_width: 256, laurel_rank: 256, ..tiny }
}

/// The config.json of [`tiny`] in the text-only layout.
pub fn config_json() -> Value {
    let config = tiny();
    json!({
        "model_type": "gemma3n_text",
        "hidden_size": config.hidden,
        "num_hidden_layers": config.layers(),
        "intermediate_size": config.ffn_widths,
        "activation_sparsity_pattern": config.sparsity,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "hidden_size_per_layer_input": config.ple_width,
        "vocab_size_per_layer_input": config.ple_vocabulary,
        "vocab_size": config.vocabulary,
        "altup_num_inputs": config.altup_streams,
        "laurel_rank": config.laurel_rank,
        "sliding_window": config.window,
        "num_kv_shared_layers": config.shared_kv_layers,
        "rope_theta": config.rope_theta,
        "rope_local_base_freq": config.rope_local_theta,
        "rms_norm_eps": config.rms_eps,
        "final_logit_softcapping": config.softcap,
        "max_position_embeddings": config.max_context,
        "eos_token_id": config.eos,
        "bos_token_id": config.bos,
    })
}

pub fn tiny_weights(dtype: DType) -> Weights {
    synthetic::weights(&tiny(), dtype, 7).unwrap()
}

/// A GGUF file of [`tiny`].
pub fn tiny_gguf(dtype: DType, further: &[(String, MetadataValue)]) -> Vec<u8> {
    gguf_bytes(&tiny(), &tiny_weights(DType::F32), dtype, further)
}

/// A GGUF file of `weights` with matrices of `dtype`.
pub fn gguf_bytes(
    config: &Config,
    weights: &Weights,
    dtype: DType,
    further: &[(String, MetadataValue)],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let export = Export::with_types(config, weights, &|_| dtype, further, Filling::default());
    export.write_to(&mut bytes).unwrap();
    assert_eq!(export.bytes(), bytes.len() as u64);
    bytes
}

/// A tensor for a safetensors file: name, type, shape, bytes.
pub type Entry = (String, Dtype, Vec<usize>, Vec<u8>);

/// Every tensor of `weights`, with `prefix` before its name.
pub fn entries(weights: &Weights, prefix: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    weights.for_each(&mut |name, weight| {
        let dtype = match weight.dtype() {
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            _ => Dtype::F32,
        };
        let vector = weight.rows() == 1;
        let shape = if vector { vec![weight.columns()] } else { vec![weight.rows(), weight.columns()] };
        entries.push((format!("{prefix}{name}"), dtype, shape, weight.span().to_vec()));
    });
    entries
}

pub fn safetensors_bytes(entries: &[Entry]) -> Vec<u8> {
    let views = entries.iter().map(|(name, dtype, shape, bytes)| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// Puts [`tiny`] into `folder` as config.json and model.safetensors.
pub fn write_folder(folder: &Path, entries: &[Entry]) {
    fs::write(folder.join("config.json"), config_json().to_string()).unwrap();
    fs::write(folder.join("model.safetensors"), safetensors_bytes(entries)).unwrap();
}

/// Puts [`tiny`] into `folder` as two shards and their index.
pub fn write_shards(folder: &Path) {
    let entries = entries(&tiny_weights(DType::BF16), "model.");
    let (first, second) = entries.split_at(entries.len() / 2);
    let mut map = serde_json::Map::new();
    for (name, part) in [("a.safetensors", first), ("b.safetensors", second)] {
        fs::write(folder.join(name), safetensors_bytes(part)).unwrap();
        map.extend(part.iter().map(|entry| (entry.0.clone(), json!(name))));
    }
    fs::write(folder.join("config.json"), config_json().to_string()).unwrap();
    write_index(folder, &Value::Object(map));
}

pub fn write_index(folder: &Path, weight_map: &Value) {
    let index = json!({ "weight_map": weight_map }).to_string();
    fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
}

/// Opens the model and loads its weights.
pub fn load(path: &Path) -> Result<(Checkpoint, Weights), CheckpointError> {
    let checkpoint = Checkpoint::open(path)?;
    let weights = checkpoint.weights()?;
    Ok((checkpoint, weights))
}

/// The error of loading `path`, with `folder` written as DIR.
pub fn error_of(path: &Path, folder: &Path) -> String {
    let error = load(path).expect_err("the model is broken");
    error.to_string().replace(&folder.display().to_string(), "DIR")
}

pub fn storage(bytes: &[u8]) -> Storage {
    // The start of a vector of words is aligned for every type.
    let mut words = vec![0_u64; bytes.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    Storage::new("memory", Words(words, bytes.len()))
}

struct Words(Vec<u64>, usize);

impl AsRef<[u8]> for Words {
    fn as_ref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.0)[..self.1]
    }
}

pub fn values(weight: &Weight) -> Vec<f32> {
    let mut values = vec![0.0; weight.rows() * weight.columns()];
    for (row, out) in values.chunks_exact_mut(weight.columns()).enumerate() {
        dequantise_row(weight.dtype(), weight.row(row), out);
    }
    values
}

/// Fails unless both have the same tensors with the same shapes and values.
pub fn assert_same(a: &Weights, b: &Weights) {
    let collect = |weights: &Weights| {
        let mut all = Vec::new();
        weights.for_each(&mut |name, weight| all.push((name.to_owned(), weight.rows(), values(weight))));
        all
    };
    for (a, b) in collect(a).into_iter().zip(collect(b)) {
        assert_eq!((&a.0, a.1), (&b.0, b.1));
        assert!(a.2 == b.2, "{} differs", a.0);
    }
}
