//! One decoder layer of the built-in model in plain Burn, on the CPU with f32 matrices, and beside it, where Vulkan has an
//! adapter, the same module with the quantised ones.
//!
//! `cargo run --release -p gemma-burn --example decoder_layer -- [LAYER]`
#![allow(clippy::print_stdout)]

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};
use gemma_burn::{Cache, DecoderLayer, Place, Reach};
use gemma_igpu::{Activations, IgpuDevice, IgpuOptions, adapters};
use gemma_matformer::{Checkpoint, Config, Weights};

/// Most bytes of weights on the GPU.
const MEMORY: u64 = 1 << 30;
/// Tokens that go through the layer.
const TOKENS: usize = 7;

fn main() -> Result<()> {
    let index = std::env::args().nth(1).map_or(Ok(0), |layer| layer.parse::<usize>())?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano-q8_0.gguf");
    let checkpoint = Checkpoint::open(&file)?;
    let (config, weights) = (checkpoint.config(), checkpoint.weights()?);
    let owners = config.first_shared_layer();
    anyhow::ensure!(index < owners, "layers 0 to {} have keys and values of their own", owners - 1);

    let on_cpu = run(config, &weights, index, Place::Dense(&Device::flex()))?;
    println!("layer {index} on Flex: {} values, first {:?}", on_cpu.len(), &on_cpu[..4]);
    let Some(adapter) = adapters().into_iter().next() else { return Ok(()) };
    let options = IgpuOptions { activations: Activations::Float32, ..IgpuOptions::new(MEMORY) };
    let gpu = IgpuDevice::new(&adapter, options)?;
    let on_gpu = run(config, &weights, index, Place::Quantised(&gpu))?;
    let difference = on_cpu.iter().zip(&on_gpu).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("on {}: largest difference {difference:.1e}", adapter.name);
    Ok(())
}

/// The streams that layer `index` makes of waves.
fn run(config: &Config, weights: &Weights, index: usize, place: Place<'_>) -> Result<Vec<f32>> {
    let layer = &weights.layers[index];
    let own = layer.gemma3n.as_ref().context("not a Gemma 3n")?;
    let layer = DecoderLayer::load(place, config, index, layer, own)?;

    let device = place.device();
    let wave = |shape: [usize; 3]| {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.37).sin()).collect();
        Tensor::<3>::from_data(TensorData::new(values, shape), &device)
    };
    let streams = wave([TOKENS, config.altup_streams, config.hidden]);
    let per_layer = wave([TOKENS, 1, config.ple_width]).squeeze_dim::<2>(1);
    let reach = Reach::new(config, config.layer_kinds[index], 0, TOKENS, &device);
    let streams = layer.forward(streams, per_layer, &reach, &mut Cache::default());
    Ok(streams.into_data().try_to_vec()?)
}
