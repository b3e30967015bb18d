//! Greedy decode of a model on the first Vulkan adapter beside the CPU: where the likeliest token differs, and by which margin the
//! CPU had chosen its own.
//!
//! Both are given the CPU's tokens, so that one difference does not make all later ones. Arguments: a model file, and how many tokens
//! (128 unless said). Fails when a difference stands at a margin beyond what the logits of the two differ by.
#![expect(clippy::print_stdout, reason = "a program that prints a table")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use gemma_cpu::{CpuDevice, CpuOptions, simd};
use gemma_hal::{DType, Deadline, Device};
use gemma_igpu::{Activations, IgpuDevice, IgpuOptions, adapters};
use gemma_orchestrator::{Engine, EngineOptions, Model, Session};

/// Most bytes on either device.
const MEMORY: u64 = 16 << 30;

/// Tokens of the prompt.
const PROMPT: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which model file?")?;
    let tokens = arguments.next().map_or(Ok(128), |text| text.parse())?;
    let model = Model::open(Path::new(&path), None)?;
    let adapters = adapters();
    let adapter = adapters.first().ok_or("no Vulkan adapter")?;
    println!("{path} on {} beside the CPU, {tokens} tokens behind {PROMPT}", adapter.name);
    let kinds = [
        ("8 bits", simd::Activations::Int8, Activations::Rounded),
        ("f32", simd::Activations::Float32, Activations::Float32),
    ];
    for (name, on_cpu, on_gpu) in kinds {
        let options = CpuOptions { activations: on_cpu, ..CpuOptions::detect(MEMORY)? };
        let cpu: Arc<dyn Device> = Arc::new(CpuDevice::new(options)?);
        let options = IgpuOptions { activations: on_gpu, ..IgpuOptions::new(MEMORY) };
        let gpu: Arc<dyn Device> = Arc::new(IgpuDevice::new(adapter, options)?);
        compare(name, &model, cpu, gpu, tokens)?;
    }
    Ok(())
}

/// Decodes on both and prints what differs.
fn compare(
    name: &str,
    model: &Model,
    cpu: Arc<dyn Device>,
    gpu: Arc<dyn Device>,
    tokens: usize,
) -> Result<(), Box<dyn Error>> {
    let options = EngineOptions { context: PROMPT + tokens, chunk: PROMPT, cache_dtype: DType::F16 };
    let engine = |device| Engine::new(model.config.clone(), model.weights.clone(), options, vec![device]);
    let (mut cpu, mut gpu) = (engine(cpu)?, engine(gpu)?);
    let (mut on_cpu, mut on_gpu) = (Session::new(&cpu)?, Session::new(&gpu)?);
    let vocabulary = model.config.vocabulary as u32;
    let mut next: Vec<u32> = (1..=PROMPT as u32).map(|i| i * 7919 % vocabulary).collect();
    let (mut differing, mut worst, mut farthest, mut tightest) = (0, 0.0_f32, 0.0_f32, f32::INFINITY);
    for _ in 0..tokens {
        on_cpu.extend(&mut cpu, &next, &Deadline::never())?;
        on_gpu.extend(&mut gpu, &next, &Deadline::never())?;
        let (first, margin) = likeliest(on_cpu.logits());
        tightest = tightest.min(margin);
        let apart = on_cpu.logits().iter().zip(on_gpu.logits()).map(|(a, b)| (a - b).abs());
        farthest = apart.fold(farthest, f32::max);
        if likeliest(on_gpu.logits()).0 != first {
            differing += 1;
            worst = worst.max(margin);
        }
        next = vec![first];
    }
    println!(
        "activations in {name}: {differing} of {tokens} differ, at margins up to {worst:.5}; smallest margin of all {tightest:.5}, \
         largest difference of a logit {farthest:.5}"
    );
    if worst > 2.0 * farthest {
        return Err(format!("a margin of {worst} is more than rounding explains").into());
    }
    Ok(())
}

/// The index of the largest value, and how far the next one is behind it.
fn likeliest(logits: &[f32]) -> (u32, f32) {
    let (mut first, mut second) = ((0, f32::NEG_INFINITY), f32::NEG_INFINITY);
    for (index, &value) in logits.iter().enumerate() {
        if value > first.1 {
            second = first.1;
            first = (index as u32, value);
        } else if value > second {
            second = value;
        }
    }
    (first.0, first.1 - second)
}
