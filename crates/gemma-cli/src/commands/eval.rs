//! `gemma eval`: logits, losses and greedy continuations of given tokens, in a fixed form for scripts.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use gemma_cpu::simd::Activations;
use gemma_hal::DType;
use gemma_orchestrator::{Session, evaluate};
use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;

use crate::args::EvalArgs;
use crate::failure::Failure;
use crate::{input, model, output, settings};

/// Largest file of prompts.
const MAX_PROMPTS_BYTES: u64 = 64 << 20;

#[derive(Serialize)]
struct Report {
    items: Vec<Item>,
}

#[derive(Serialize)]
struct Item {
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    /// Nats, summed over every token of the prompt but the first.
    nll: f64,
}

/// Runs the verb.
pub(crate) fn eval(args: EvalArgs) -> Result<(), Failure> {
    let prompts = read_prompts(&args.tokens)?;
    let mut setup = settings::setup(args.setup)?;
    setup.prefer_cpu();
    let model = model::open(&setup)?;
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    // Comparisons want the model's own numbers, not those of a smaller cache or of rounded activations.
    setup.cache_dtype.get_or_insert(DType::F32);
    setup.activations.get_or_insert(Activations::Float32);
    // The last new token is chosen but not run.
    let needed = longest.saturating_add(args.new.saturating_sub(1));
    let context = *setup.context.get_or_insert(needed.clamp(1, model.config.max_context));
    if needed > context {
        return Err(anyhow!(
            "a prompt of {longest} tokens and --new {} need {needed} positions, but the context holds {context} (this model: up to {})",
            args.new,
            model.config.max_context
        )
        .into());
    }
    if args.out_logits.is_some() {
        fits(&prompts, model.config.vocabulary, setup.memory)?;
    }
    let mut engine = model::engine(&model, &setup)?.engine;
    let mut session = Session::new(&engine)?;
    let mut items = Vec::new();
    let mut logits = BTreeMap::new();
    for (index, prompt) in prompts.into_iter().enumerate() {
        let mut rows: Vec<f32> = Vec::new();
        let wanted = args.out_logits.is_some();
        let loss = evaluate::loss(&mut engine, &mut session, &prompt, &mut |_, row| {
            if wanted {
                rows.extend_from_slice(row);
            }
        })?;
        let greedy = evaluate::greedy(&mut engine, &mut session, args.new)?;
        logits.insert(format!("p{index}.logits"), (prompt.len(), rows));
        items.push(Item { prompt, greedy, nll: loss.nats });
    }
    if let Some(path) = &args.out_logits {
        write_logits(path, &logits, model.config.vocabulary)?;
    }
    if args.json {
        return output::print_json(&Report { items });
    }
    let mut out = std::io::stdout().lock();
    for (index, item) in items.iter().enumerate() {
        let (tokens, nll) = (item.prompt.len(), item.nll);
        writeln!(out, "prompt {index}: {tokens} tokens, {nll:.4} nats, greedy {:?}", item.greedy)?;
    }
    Ok(())
}

fn read_prompts(path: &Path) -> anyhow::Result<Vec<Vec<u32>>> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| name.clone())?;
    let bytes = input::read_bytes(file, &name, MAX_PROMPTS_BYTES)?;
    let prompts: Vec<Vec<u32>> = serde_json::from_slice(&bytes)
        .with_context(|| format!("{name}: not a list of lists of token ids"))?;
    match prompts.iter().position(Vec::is_empty) {
        Some(index) => Err(anyhow!("{name}: prompt {index} is empty; a prompt has at least one token")),
        None => Ok(prompts),
    }
}

/// Logits are held until all prompts have run; refuses what would not fit.
fn fits(prompts: &[Vec<u32>], vocabulary: usize, memory: u64) -> anyhow::Result<()> {
    let tokens: u64 = prompts.iter().map(|prompt| prompt.len() as u64).sum();
    let bytes = tokens.saturating_mul(vocabulary as u64 * 4);
    if bytes > memory {
        let size = output::size(bytes);
        bail!(
            "--out-logits: logits of {tokens} tokens take {size}; evaluate fewer prompts at once or raise --memory"
        );
    }
    Ok(())
}

fn write_logits(
    path: &Path,
    logits: &BTreeMap<String, (usize, Vec<f32>)>,
    vocabulary: usize,
) -> anyhow::Result<()> {
    let views = logits.iter().map(|(name, (tokens, rows))| {
        // In this machine's order of bytes, which is the file's: kernels read stored weights the same way.
        let view = TensorView::new(Dtype::F32, vec![*tokens, vocabulary], bytemuck::cast_slice(rows));
        view.map(|view| (name.clone(), view))
    });
    let views = views.collect::<Result<BTreeMap<_, _>, _>>()?;
    safetensors::serialize_to_file(views, None, path).with_context(|| path.display().to_string())
}
