//! A feed-forward block in ordinary Burn whose three matrices stay quantised: those of the built-in model's first layer, on
//! the first GPU that Vulkan has.
//!
//! `cargo run --release -p gemma-burn --example quantised_linear`
#![allow(clippy::print_stdout)]

use std::path::Path;

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::activation::gelu_approximate;
use burn::tensor::{Distribution, Tensor};
use gemma_burn::{QuantisedLinear, burn_device};
use gemma_igpu::{IgpuDevice, IgpuOptions, adapters};
use gemma_matformer::{Checkpoint, LayerWeights};

/// Most bytes of weights on the GPU.
const MEMORY: u64 = 1 << 30;

#[derive(Module, Debug)]
struct FeedForward {
    gate: QuantisedLinear,
    up: QuantisedLinear,
    down: QuantisedLinear,
}

impl FeedForward {
    fn load(gpu: &IgpuDevice, weights: &LayerWeights) -> Result<Self> {
        Ok(Self {
            gate: QuantisedLinear::new(gpu, "gate", &weights.gate)?,
            up: QuantisedLinear::new(gpu, "up", &weights.up)?,
            down: QuantisedLinear::new(gpu, "down", &weights.down)?,
        })
    }

    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.down.forward(gelu_approximate(self.gate.forward(x.clone())) * self.up.forward(x))
    }
}

fn main() -> Result<()> {
    let adapter = adapters().into_iter().next().context("no Vulkan adapter; see docs/testing.md")?;
    // Opened by the engine first; Burn computes on the same runtime.
    let gpu = IgpuDevice::new(&adapter, IgpuOptions::new(MEMORY))?;
    let device = burn_device(&gpu);

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano-q8_0.gguf");
    let weights = Checkpoint::open(&file)?.weights()?;
    let block = FeedForward::load(&gpu, &weights.layers[0])?;

    let x = Tensor::<3>::random([2, 5, block.gate.inputs()], Distribution::Normal(0.0, 1.0), &device);
    let y = block.forward(x.clone()) + x;
    println!("{} on {}", weights.layers[0].gate.dtype(), adapter.name);
    println!("{block}");
    println!("{y}");
    Ok(())
}
