//! Launches every kernel of decode and prefill on the first Vulkan adapter, so that its driver compiles them all.
//!
//! Models have the widths of Gemma 3n E2B and E4B and of Gemma 3 270M, few layers of each kind, and zeros for weights. `cargo xtask
//! radv` runs this where a driver compiles and computes nothing: outputs are not looked at. Ends when its standard input does,
//! so that whoever reads the compilation log of the runtime, which is written behind, can wait for all of it. With the argument
//! `chunk` only chunks of a prompt run, with activations as matrix units take them.
#![expect(clippy::print_stdout, reason = "a program that says what it runs")]

use std::error::Error;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gemma_hal::{CACHE_DTYPES, Call, DType, Deadline, Device, Executable, Outputs, Storage, Weight};
use gemma_igpu::{Activations, Adapter, IgpuDevice, IgpuOptions, adapters};
use gemma_matformer::plan::{self, PlanOptions};
use gemma_matformer::{
    Config, Gemma3nLayerWeights, Gemma3nWeights, KvWeights, LayerKind, LayerWeights, ModelFamily, Weights,
};

/// Tokens of a chunk of a prompt.
const CHUNK: usize = 128;

/// Positions of the cache: more than a window, as many as the program makes room for.
const CONTEXT: usize = 4096;

/// Time for one run.
const LIMIT: Duration = Duration::from_mins(2);

/// Enough for any of the models here in F32.
const MEMORY: u64 = 8 << 30;

fn main() -> Result<(), Box<dyn Error>> {
    let adapters = adapters();
    let adapter = adapters.first().ok_or("no Vulkan adapter")?;
    println!("{}, {}", adapter.name, adapter.driver);
    let only_chunks = std::env::args().any(|argument| argument == "chunk");
    for dtype in DType::ALL {
        run(adapter, "E2B", &e2b(), dtype, &[DType::F16], only_chunks)?;
    }
    if !only_chunks {
        run(adapter, "E4B", &e4b(), DType::Q4_0, &[DType::F16], false)?;
        run(adapter, "270M", &gemma3(), DType::Q8_0, &CACHE_DTYPES, false)?;
    }
    println!("done");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Decode of a token and prefill of a chunk, with each kind of activations and each type of cache.
fn run(
    adapter: &Adapter,
    name: &str,
    config: &Config,
    dtype: DType,
    caches: &[DType],
    only_chunks: bool,
) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let weights = zeros(config, dtype);
    let all = [Activations::Rounded, Activations::Float32];
    for activations in all.into_iter().take(if only_chunks { 1 } else { all.len() }) {
        let device = IgpuDevice::new(adapter, IgpuOptions { activations, ..IgpuOptions::new(MEMORY) })?;
        for cache_dtype in caches {
            // The plan of a chunk is kept until that of a token is there, so that they share matrices.
            let _chunk = launch(&device, config, &weights, *cache_dtype, CHUNK)?;
            if !only_chunks {
                launch(&device, config, &weights, *cache_dtype, 1)?;
            }
        }
    }
    println!("{name} in {dtype}: {:.1} s", began.elapsed().as_secs_f32());
    Ok(())
}

/// One run of `tokens` tokens.
fn launch(
    device: &IgpuDevice,
    config: &Config,
    weights: &Weights,
    cache_dtype: DType,
    tokens: usize,
) -> Result<Box<dyn Executable>, Box<dyn Error>> {
    let options =
        PlanOptions { name: "run".to_owned(), max_tokens: tokens, outputs: Outputs::Last, cache_dtype };
    let plan = Arc::new(plan::build(config, weights, &options)?);
    let mut executable = device.prepare(Arc::clone(&plan))?;
    let mut cache = device.create_cache(plan.cache(), CONTEXT, CHUNK)?;
    let tokens: Vec<u32> = (0..tokens as u32).collect();
    let deadline = Deadline::after(LIMIT);
    executable.run(Call { tokens: &tokens, cache: cache.as_mut(), deadline, probe: None })?;
    Ok(executable)
}

/// E2B with one layer of each kind: sliding and full, sparse and dense, with keys and values of its own and without.
fn e2b() -> Config {
    Config {
        ffn_widths: vec![8192; 3],
        sparsity: vec![0.95, 0.0, 0.0],
        layer_kinds: vec![LayerKind::Sliding, LayerKind::Full, LayerKind::Sliding],
        shared_kv_layers: 1,
        // Enough rows for kernels that differ by their number; the real one takes the same.
        vocabulary: 16_384,
        ple_vocabulary: 16_384,
        ..Config::e2b()
    }
}

/// E4B differs in the width of its feed-forward network.
fn e4b() -> Config {
    Config { ffn_widths: vec![16_384; 3], ..e2b() }
}

/// Gemma 3 270M with a layer of each kind.
fn gemma3() -> Config {
    Config {
        family: ModelFamily::Gemma3,
        hidden: 640,
        ffn_widths: vec![2048; 2],
        sparsity: vec![0.0; 2],
        layer_kinds: vec![LayerKind::Sliding, LayerKind::Full],
        heads: 4,
        kv_heads: 1,
        ple_width: 0,
        ple_vocabulary: 0,
        vocabulary: 16_384,
        altup_streams: 1,
        laurel_rank: 0,
        shared_kv_layers: 0,
        query_scale: 1.0 / 16.0,
        softcap: None,
        ..Config::e2b()
    }
}

/// Weights that are all the same zeros, so that a device uploads each shape once. Matrices have one type, or bf16 where their rows
/// do not end on a block of it.
struct Zeros {
    storage: Storage,
    dtype: DType,
}

impl Zeros {
    fn matrix(&self, rows: usize, columns: usize) -> Weight {
        let fits = columns.is_multiple_of(self.dtype.block_len());
        self.view(rows, columns, if fits { self.dtype } else { DType::BF16 })
    }

    fn small(&self, rows: usize, columns: usize) -> Weight {
        self.view(rows, columns, DType::F32)
    }

    fn view(&self, rows: usize, columns: usize, dtype: DType) -> Weight {
        let weight = Weight::new(self.storage.clone(), 0, rows, columns, dtype);
        weight.expect("there are as many zeros as the largest weight has")
    }
}

/// Weights of `config` with matrices in `dtype`.
fn zeros(config: &Config, dtype: DType) -> Weights {
    let (d, p) = (config.hidden, config.ple_width);
    let blocks = config.layers() * p;
    let widest = config.ffn_widths.iter().copied().max().unwrap_or(0);
    let most = (config.ple_vocabulary * blocks).max(config.vocabulary * d).max(widest * d);
    let of = Zeros { storage: Storage::new("zeros", vec![0; 4 * most]), dtype };
    let squares = || (1..config.altup_streams).map(|_| of.matrix(d, d)).collect();
    Weights {
        embed: of.matrix(config.vocabulary, d),
        norm: of.small(1, d),
        layers: (0..config.layers()).map(|index| layer(&of, config, index)).collect(),
        gemma3n: (config.family == ModelFamily::Gemma3n).then(|| Gemma3nWeights {
            ple_table: of.matrix(config.ple_vocabulary, blocks),
            ple_projection: of.matrix(blocks, d),
            ple_norm: of.small(1, p),
            altup_projections: squares(),
            altup_unembed: squares(),
            ple_blocks: (0..config.layers()).collect(),
        }),
    }
}

fn layer(of: &Zeros, config: &Config, index: usize) -> LayerWeights {
    let (d, p, streams) = (config.hidden, config.ple_width, config.altup_streams);
    LayerWeights {
        input_norm: of.small(1, d),
        q: of.matrix(config.query_width(), d),
        q_norm: of.small(1, config.head_dim),
        kv: config.owns_kv(index).then(|| KvWeights {
            k: of.matrix(config.kv_width(), d),
            k_norm: of.small(1, config.head_dim),
            v: of.matrix(config.kv_width(), d),
        }),
        unused_kv: None,
        o: of.matrix(d, config.query_width()),
        post_attention_norm: of.small(1, d),
        pre_ffn_norm: of.small(1, d),
        gate: of.matrix(config.ffn_widths[index], d),
        up: of.matrix(config.ffn_widths[index], d),
        down: of.matrix(d, config.ffn_widths[index]),
        post_ffn_norm: of.small(1, d),
        gemma3n: (config.family == ModelFamily::Gemma3n).then(|| Gemma3nLayerWeights {
            router: of.matrix(streams, d),
            router_norm: of.small(1, d),
            prediction: of.small(streams * streams, streams),
            correction: of.small(streams, streams),
            correct_scale: of.small(1, d),
            laurel_left: of.matrix(config.laurel_rank, d),
            laurel_right: of.matrix(d, config.laurel_rank),
            laurel_norm: of.small(1, d),
            ple_gate: of.matrix(p, d),
            ple_out: of.matrix(d, p),
            post_ple_norm: of.small(1, d),
        }),
    }
}
