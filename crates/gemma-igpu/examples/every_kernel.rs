//! Launches every kernel of decode and prefill on the first Vulkan adapter, so that its driver compiles them all.
//!
//! Models have the widths of Gemma 3n E2B and E4B and of Gemma 3 270M, few layers of each kind, and random weights. `cargo xtask
//! radv` runs this where a driver compiles and computes nothing: outputs are not looked at. Ends when its standard input does,
//! so that whoever reads the compilation log of the runtime, which is written behind, can wait for all of it.
#![expect(clippy::print_stdout, reason = "a program that says what it runs")]

use std::error::Error;
use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gemma_hal::{CACHE_DTYPES, Call, DType, Deadline, Device, Outputs};
use gemma_igpu::{Activations, Adapter, IgpuDevice, IgpuOptions, adapters};
use gemma_matformer::plan::{self, PlanOptions};
use gemma_matformer::{Config, LayerKind, ModelFamily, synthetic};

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
    for activations in [Activations::Rounded, Activations::Float32] {
        for dtype in DType::ALL {
            run(adapter, activations, "E2B", &e2b(), dtype, &[DType::F16])?;
        }
        run(adapter, activations, "E4B", &e4b(), DType::Q4_0, &[DType::F16])?;
        run(adapter, activations, "270M", &gemma3(), DType::Q8_0, &CACHE_DTYPES)?;
    }
    println!("done");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Decode of a token and prefill of a chunk with each type of cache.
fn run(
    adapter: &Adapter,
    activations: Activations,
    name: &str,
    config: &Config,
    dtype: DType,
    caches: &[DType],
) -> Result<(), Box<dyn Error>> {
    let device = IgpuDevice::new(adapter, IgpuOptions { activations, ..IgpuOptions::new(MEMORY) })?;
    let began = Instant::now();
    let weights = synthetic::weights(config, dtype, 1)?;
    for cache_dtype in caches {
        for max_tokens in [1, CHUNK] {
            let options = PlanOptions {
                name: "run".to_owned(),
                max_tokens,
                outputs: Outputs::Last,
                cache_dtype: *cache_dtype,
            };
            let plan = Arc::new(plan::build(config, &weights, &options)?);
            let mut executable = device.prepare(Arc::clone(&plan))?;
            let mut cache = device.create_cache(plan.cache(), CONTEXT, CHUNK)?;
            let tokens: Vec<u32> = (0..max_tokens as u32).collect();
            let deadline = Deadline::after(LIMIT);
            executable.run(Call { tokens: &tokens, cache: cache.as_mut(), deadline, probe: None })?;
        }
    }
    println!("{name} in {dtype}, {activations:?}: {:.1} s", began.elapsed().as_secs_f32());
    Ok(())
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
