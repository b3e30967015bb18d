//! `gemma bench`: prefill and decode, measured; on the CPU against its peaks, measured beside them.
//!
//! Here the model is opened and the phases are run; the other files compute, compare and show.

mod compare;
mod html;
mod input;
mod profile;
mod report;
mod stats;
#[cfg(test)]
mod tests;
mod work;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, anyhow};
use gemma_cpu::measure::Peaks;
use gemma_cpu::pool::{Pool, PoolOptions};
use gemma_cpu::simd::Isa;
use gemma_hal::{DType, Deadline, DeviceKind};
use gemma_matformer::export::type_names;
use gemma_matformer::{Config, Weights, synthetic};
use gemma_orchestrator::{Engine, Model, Session};
use gemma_text::{Sampler, SamplerConfig};

use crate::args::BenchArgs;
use crate::choice::Choice;
use crate::failure::Failure;
use crate::model::{self, Ready};
use crate::settings::Setup;
use crate::{output, settings, vulkan};
use compare::{Comparison, Older};
use report::{Report, Runs};
use work::Work;

/// A model that is ready to run.
struct Opened {
    engine: Engine,
    choice: Option<Choice>,
    dtype: String,
    /// Where it came from files.
    model: Option<Model>,
}

/// Files that go with the run.
struct Files {
    older: Option<Older>,
    peers: Vec<input::Peer>,
}

/// Runs the verb.
pub(crate) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    if args.repeat == 0 {
        return Err(anyhow!("--repeat 0: measure at least once").into());
    }
    if args.profile && args.decode.iter().all(|tokens| *tokens == 0) {
        return Err(anyhow!("--profile takes decode steps apart, and --decode says none").into());
    }
    // What is wrong with a file shall be known before minutes of measuring, not behind them.
    let files = files(args)?;
    let report = measure(args, &files)?;
    if let Some(path) = &args.report {
        let page = html::page(&report, &files.peers);
        fs::write(path, page).with_context(|| format!("--report {}", path.display()))?;
    }
    if args.json {
        output::print_json(&report)?;
    } else {
        report::print(&report, &mut std::io::stdout().lock())?;
    }
    let regressed = report.comparison.as_ref().is_some_and(Comparison::has_regression);
    if args.fail_on_regression && regressed { Err(Failure::Invalid) } else { Ok(()) }
}

fn files(args: &BenchArgs) -> Result<Files, Failure> {
    let older = args.compare.as_deref().map(Older::read).transpose()?;
    let peers = args.peers.as_deref().map(input::peers).transpose()?.unwrap_or_default();
    if let Some(path) = &args.report {
        let writable = OpenOptions::new().create(true).append(true).open(path);
        writable.with_context(|| format!("--report {}", path.display()))?;
    }
    Ok(Files { older, peers })
}

fn measure(args: &BenchArgs, files: &Files) -> Result<Report, Failure> {
    let mut setup = settings::setup(args.setup.clone())?;
    let begin = Instant::now();
    let Opened { mut engine, choice, dtype, model } = open(args, &mut setup)?;
    let load_s = begin.elapsed().as_secs_f64();
    let mut session = Session::new(&engine)?;
    let (mut first_token_s, mut tokenizer_s) = (None, None);
    if let Some(model) = &model {
        first_token(&mut engine, &mut session)?;
        first_token_s = Some(begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        tokenizer_s = model.tokenizer().is_ok().then(|| begin.elapsed().as_secs_f64());
    }
    let runs = phases(&mut engine, &mut session, args)?;
    let profile = match args.decode.iter().copied().max() {
        Some(steps) if args.profile => {
            let ids = ids(&engine, args.depth + steps);
            Some(profile::decode(&mut engine, &mut session, &ids, args.depth)?)
        }
        _ => None,
    };
    // Measuring takes memory of its own.
    let peak_rss_bytes = gemma_orchestrator::stats::peak_rss();
    let peaks = peaks(&engine)?;
    let read = peaks.as_ref().map(|peaks| peaks.read_bandwidth).or_else(|| gpu_bandwidth(&engine));
    let device = engine.device();
    let mut report = Report {
        shape: args.shape.clone(),
        dtype: model.as_ref().map_or(dtype, |model| types(&model.weights)),
        slice: setup.slice,
        context: engine.options().context,
        chunk: engine.options().chunk,
        cache_type: engine.options().cache_dtype.name(),
        repeat: args.repeat,
        results: runs.into_iter().map(|runs| runs.measured(peaks.as_ref(), read)).collect(),
        load_s,
        first_token_s,
        tokenizer_s,
        peak_rss_bytes,
        device: format!("{} ({})", device.id, device.name),
        features: device.features.clone(),
        threads: output::threads(device),
        measured_gb_per_s: read.map(|read| read / 1e9),
        peaks: peaks.as_ref().map(Into::into),
        profile,
        choice,
        comparison: None,
        version: env!("CARGO_PKG_VERSION"),
        command: command(),
    };
    report.comparison = files
        .older
        .as_ref()
        .zip(args.compare.as_deref())
        .map(|(older, path)| Comparison::of(&report, older, path));
    Ok(report)
}

/// All lengths that are asked for, one after the other.
fn phases(engine: &mut Engine, session: &mut Session, args: &BenchArgs) -> Result<Vec<Runs>, Failure> {
    let mut runs = Vec::new();
    for tokens in args.prefill.iter().copied().filter(|tokens| *tokens > 0) {
        runs.push(prefill(engine, session, tokens, args.repeat)?);
    }
    for tokens in args.decode.iter().copied().filter(|tokens| *tokens > 0) {
        runs.push(decode(engine, session, tokens, args)?);
    }
    Ok(runs)
}

/// A model made in memory, or one from files.
fn open(args: &BenchArgs, setup: &mut Setup) -> Result<Opened, Failure> {
    let longest = args.prefill.iter().copied().max().unwrap_or(0);
    let deepest = args.depth.saturating_add(args.decode.iter().copied().max().unwrap_or(0));
    let needed = longest.max(deepest).max(1);
    let context = setup.context.unwrap_or(needed);
    if context < needed {
        return Err(anyhow!("--context {context}: these lengths need {needed} positions").into());
    }
    let config = match args.shape.to_lowercase().as_str() {
        "e2b" => Config::e2b(),
        "e4b" => Config::e4b(),
        "nano" => {
            let built_in = Setup { model: None, slice: None, ..setup.clone() };
            model::open(&built_in)?.config
        }
        _ => {
            setup.model = Some(PathBuf::from(&args.shape));
            setup.context = Some(context);
            let model = model::open(setup)?;
            let Ready { engine, choice } = model::engine(&model, setup)?;
            return Ok(Opened { engine, choice, dtype: String::new(), model: Some(model) });
        }
    };
    let dtype = DType::from_name(&args.dtype)
        .ok_or_else(|| anyhow!("--type {}: choose {}", args.dtype, type_names()))?;
    let weights = synthetic::weights(&config, dtype, 1).map_err(anyhow::Error::from)?;
    let (config, weights) = match setup.slice.as_deref() {
        None => (config, weights),
        Some(name) => {
            let slice = gemma_matformer::Slice::resolve(name, &config).map_err(anyhow::Error::from)?;
            weights.slice(&config, &slice).map_err(anyhow::Error::from)?
        }
    };
    let Ready { engine, choice } = model::engine_of(config, weights, context, setup)?;
    Ok(Opened { engine, choice, dtype: dtype.name().to_owned(), model: None })
}

/// The types of a model's weights: `f32+q4_0`.
fn types(weights: &Weights) -> String {
    let mut types = Vec::new();
    weights.for_each(&mut |_, weight| types.push(weight.dtype()));
    types.sort_unstable();
    types.dedup();
    types.into_iter().map(DType::name).collect::<Vec<_>>().join("+")
}

/// Token ids that look like text: all over the vocabulary, the same every time.
fn ids(engine: &Engine, count: usize) -> Vec<u32> {
    // Ids without a per-layer embedding are not text.
    let config = engine.config();
    let vocabulary = match config.ple_vocabulary {
        0 => config.vocabulary,
        with_embedding => config.vocabulary.min(with_embedding),
    } as u64;
    (0..count as u64).map(|i| ((i * 7919 + 13) % vocabulary) as u32).collect()
}

/// Likeliest ids among which a token is drawn.
const TOP_K: usize = 64;

/// A prompt of one token, and a token sampled behind it with Gemma's recommended settings.
fn first_token(engine: &mut Engine, session: &mut Session) -> Result<(), Failure> {
    let prompt = ids(engine, 1);
    session.extend(engine, &prompt, &Deadline::never())?;
    let config = SamplerConfig { top_k: TOP_K, top_p: 0.95, ..SamplerConfig::default() };
    let mut sampler = Sampler::new(config, engine.config().vocabulary).map_err(anyhow::Error::from)?;
    sampler.sample(session.logits(), &prompt).map_err(anyhow::Error::from)?;
    Ok(())
}

fn prefill(
    engine: &mut Engine,
    session: &mut Session,
    tokens: usize,
    repeat: usize,
) -> Result<Runs, Failure> {
    let ids = ids(engine, tokens);
    let (mut seconds, before) = (Vec::new(), engine.sparsity());
    session.want_likeliest(TOP_K);
    for run in 0..=repeat {
        session.reset();
        let begin = Instant::now();
        session.extend(engine, &ids, &Deadline::never())?;
        // The first run touches memory that later ones find in place.
        if run > 0 {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let work = Work::of_prompt(engine, tokens)?;
    let sparsity = engine.sparsity().since(before);
    Ok(Runs { phase: "prefill", tokens, depth: 0, seconds, work: work.without(sparsity, repeat + 1) })
}

fn decode(
    engine: &mut Engine,
    session: &mut Session,
    tokens: usize,
    args: &BenchArgs,
) -> Result<Runs, Failure> {
    let ids = ids(engine, args.depth + tokens);
    let (before, decoded) = ids.split_at(args.depth);
    let (mut seconds, counted) = (Vec::new(), engine.sparsity());
    for run in 0..=args.repeat {
        session.reset();
        if !before.is_empty() {
            session.extend(engine, before, &Deadline::never())?;
        }
        // As many as sampling usually looks at.
        session.want_likeliest(TOP_K);
        let begin = Instant::now();
        for id in decoded {
            session.extend(engine, &[*id], &Deadline::never())?;
        }
        if run > 0 {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let plan = engine.plan(gemma_orchestrator::Phase::Decode)?;
    let works = (0..tokens).map(|i| Work::of(&plan, 1, args.depth + i));
    let work = works.fold(Work::default(), |sum, work| sum + work);
    let sparsity = engine.sparsity().since(counted);
    let work = work.without(sparsity, args.repeat + 1);
    Ok(Runs { phase: "decode", tokens, depth: args.depth, seconds, work })
}

/// The CPU's peaks with the engine's number of threads; none when the engine is on another device, which they say
/// nothing about.
fn peaks(engine: &Engine) -> Result<Option<Peaks>, Failure> {
    if engine.device().kind != DeviceKind::Cpu {
        return Ok(None);
    }
    let isa = Isa::from_env().map_err(anyhow::Error::from)?;
    let measured = PoolOptions::for_machine(engine.device().units.max(1))
        .and_then(Pool::with_options)
        .and_then(|pool| Peaks::measure(isa, &pool));
    Ok(Some(measured.context("the peaks of this machine cannot be measured")?))
}

/// Bytes a second that a GPU reads, measured beside the model; none where it cannot be measured, or on another device.
fn gpu_bandwidth(engine: &Engine) -> Option<f64> {
    let device = engine.device();
    if !vulkan::is_name(&device.id) {
        return None;
    }
    let measured = vulkan::read_bandwidth(&device.id);
    let told = |reason: String| output::tell(format_args!("gemma: no bandwidth of {}: {reason}", device.id));
    measured.map_err(told).ok()
}

/// What was typed, as a shell would take it again.
fn command() -> String {
    let quoted = |argument: String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=:+%@".contains(c);
        if !argument.is_empty() && argument.chars().all(plain) {
            return argument;
        }
        format!("'{}'", argument.replace('\'', "'\\''"))
    };
    let mut arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let program = arguments.next().unwrap_or_default();
    let program =
        Path::new(&program).file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    std::iter::once(program).chain(arguments).map(quoted).collect::<Vec<_>>().join(" ")
}
