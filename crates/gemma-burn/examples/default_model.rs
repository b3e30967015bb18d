//! The whole built-in model, or a Gemma 3n of yours, in plain Burn: a greedy continuation, on the CPU with f32 matrices or on
//! a GPU with quantised ones.
//!
//! `cargo run --release -p gemma-burn --example default_model -- [flex|vulkan] [PROMPT] [MODEL]`
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use gemma_burn::{Cache, Decoder, Place};
use gemma_igpu::{IgpuDevice, IgpuOptions, adapters};
use gemma_orchestrator::{Model, evaluate};

/// Most bytes of weights on the GPU.
const MEMORY: u64 = 8 << 30;
/// Tokens that are written at most.
const TOKENS: usize = 40;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().unwrap_or_else(|| "flex".to_owned());
    let prompt = arguments.next().unwrap_or_else(|| "Once upon a time".to_owned());
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano-q8_0.gguf");
    let model = Model::open(&arguments.next().map_or(built_in, PathBuf::from), None)?;
    match place.as_str() {
        "flex" => tell(&model, Place::Dense(&Device::flex()), &prompt),
        "vulkan" => {
            let adapter = adapters().into_iter().next().context("no Vulkan adapter; see docs/testing.md")?;
            tell(&model, Place::Quantised(&IgpuDevice::new(&adapter, IgpuOptions::new(MEMORY))?), &prompt)
        }
        other => bail!("{other} is neither flex nor vulkan"),
    }
}

/// Prints `prompt` and what the model goes on with.
fn tell(model: &Model, place: Place<'_>, prompt: &str) -> Result<()> {
    let tokenizer = model.tokenizer()?;
    let decoder = Decoder::load(&model.config, &model.weights, place)?;
    let (mut cache, mut next) = (Cache::default(), tokenizer.encode_prompt(prompt)?);
    let (mut tokens, begun) = (next.clone(), Instant::now());
    for _ in 0..TOKENS {
        let logits = decoder.forward(&next, &mut cache)?;
        let last = logits.slice(next.len() - 1..next.len());
        let token = evaluate::argmax(&last.into_data().try_to_vec::<f32>()?);
        if model.config.eos.contains(&token) {
            break;
        }
        next = vec![token];
        tokens.push(token);
    }
    println!("{}", tokenizer.decode(&tokens));
    println!("[{} tokens in {:.1} s]", tokens.len(), begun.elapsed().as_secs_f64());
    Ok(())
}
