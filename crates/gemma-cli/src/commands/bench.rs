//! `gemma bench`: prefill and decode, measured against the bandwidth measured beside them.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::anyhow;
use gemma_hal::{Cost, DType, Deadline};
use gemma_matformer::{Config, synthetic};
use gemma_orchestrator::{Engine, EngineOptions, Session};
use serde::Serialize;

use crate::args::BenchArgs;
use crate::failure::Failure;
use crate::settings::Setup;
use crate::{devices, model, output, settings};

#[derive(Serialize)]
struct Report {
    shape: String,
    #[serde(rename = "type")]
    dtype: String,
    slice: Option<String>,
    context: usize,
    chunk: usize,
    cache_type: &'static str,
    results: Vec<Measured>,
    load_s: f64,
    peak_rss_bytes: Option<u64>,
    device: String,
    features: Vec<String>,
    threads: usize,
    /// Read bandwidth measured in this run, in GB/s; a roofline fraction is relative to it.
    measured_gb_per_s: f64,
}

#[derive(Serialize)]
struct Measured {
    phase: &'static str,
    tokens: usize,
    depth: usize,
    tokens_per_s: Spread,
    /// By the plan's bytes and the median time.
    gb_per_s: f64,
    /// By the plan's operations and the median time.
    gflop_per_s: f64,
    /// The part of the measured read bandwidth that the median run used.
    roofline_fraction: f64,
}

#[derive(Clone, Copy, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

/// Runs the verb.
pub(crate) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    if args.repeat == 0 {
        return Err(anyhow!("--repeat 0: measure at least once").into());
    }
    let mut setup = settings::setup(args.setup.clone())?;
    let begin = Instant::now();
    let (mut engine, dtype) = open(args, &mut setup)?;
    let load_s = begin.elapsed().as_secs_f64();
    let mut session = Session::new(&engine)?;
    let mut runs = Vec::new();
    for tokens in args.prefill.iter().copied().filter(|tokens| *tokens > 0) {
        runs.push(prefill(&mut engine, &mut session, tokens, args.repeat)?);
    }
    for tokens in args.decode.iter().copied().filter(|tokens| *tokens > 0) {
        runs.push(decode(&mut engine, &mut session, tokens, args)?);
    }
    let mut peak_rss_bytes = None;
    let bandwidth = output::measured_bandwidth(&engine, &mut peak_rss_bytes)
        .ok_or_else(|| anyhow!("the read bandwidth of this machine cannot be measured"))?;
    let results = runs.into_iter().map(|runs| runs.measured(bandwidth)).collect();
    let device = engine.device();
    let report = Report {
        shape: args.shape.clone(),
        dtype,
        slice: setup.slice,
        context: engine.options().context,
        chunk: engine.options().chunk,
        cache_type: engine.options().cache_dtype.name(),
        results,
        load_s,
        peak_rss_bytes,
        device: format!("{} ({})", device.id, device.name),
        features: device.features.clone(),
        threads: device.units,
        measured_gb_per_s: bandwidth / 1e9,
    };
    if args.json { output::print_json(&report) } else { Ok(print(&report)?) }
}

/// A model made in memory, or one from files, and the type of its weights.
fn open(args: &BenchArgs, setup: &mut Setup) -> Result<(Engine, String), Failure> {
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
            let mut types = Vec::new();
            model.weights.for_each(&mut |_, weight| types.push(weight.dtype()));
            types.sort_unstable();
            types.dedup();
            let types: Vec<&str> = types.into_iter().map(DType::name).collect();
            return Ok((model::engine(&model, setup)?, types.join("+")));
        }
    };
    let dtype = DType::from_name(&args.dtype)
        .ok_or_else(|| anyhow!("--type {}: choose f32, f16, bf16, q8_0 or q4_0", args.dtype))?;
    let weights = synthetic::weights(&config, dtype, 1).map_err(anyhow::Error::from)?;
    let (config, weights) = match setup.slice.as_deref() {
        None => (config, weights),
        Some(name) => {
            let slice = gemma_matformer::Slice::resolve(name, &config).map_err(anyhow::Error::from)?;
            weights.slice(&config, &slice).map_err(anyhow::Error::from)?
        }
    };
    let usual = EngineOptions::for_model(&config);
    let options = EngineOptions {
        context,
        chunk: setup.chunk.unwrap_or(usual.chunk),
        cache_dtype: setup.cache_dtype.unwrap_or(usual.cache_dtype),
    };
    let engine = Engine::new(config, weights, options, devices::open(setup)?)?;
    Ok((engine, dtype.name().to_owned()))
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

fn prefill(
    engine: &mut Engine,
    session: &mut Session,
    tokens: usize,
    repeat: usize,
) -> Result<Runs, Failure> {
    let ids = ids(engine, tokens);
    let mut seconds = Vec::new();
    for run in 0..=repeat {
        session.reset();
        let begin = Instant::now();
        session.extend(engine, &ids, &Deadline::never())?;
        // The first run touches memory that later ones find in place.
        if run > 0 {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let cost = engine.cost(tokens, 0)?;
    Ok(Runs { phase: "prefill", tokens, depth: 0, seconds, cost })
}

fn decode(
    engine: &mut Engine,
    session: &mut Session,
    tokens: usize,
    args: &BenchArgs,
) -> Result<Runs, Failure> {
    let ids = ids(engine, args.depth + tokens);
    let (before, decoded) = ids.split_at(args.depth);
    let mut seconds = Vec::new();
    for run in 0..=args.repeat {
        session.reset();
        if !before.is_empty() {
            session.extend(engine, before, &Deadline::never())?;
        }
        let begin = Instant::now();
        for id in decoded {
            session.extend(engine, &[*id], &Deadline::never())?;
        }
        if run > 0 {
            seconds.push(begin.elapsed().as_secs_f64());
        }
    }
    let plan = engine.plan(gemma_orchestrator::Phase::Decode)?;
    let cost: Cost = (0..tokens).map(|i| plan.cost(1, args.depth + i)).sum();
    Ok(Runs { phase: "decode", tokens, depth: args.depth, seconds, cost })
}

/// Repetitions of the same work.
struct Runs {
    phase: &'static str,
    tokens: usize,
    depth: usize,
    seconds: Vec<f64>,
    cost: Cost,
}

impl Runs {
    fn measured(mut self, bandwidth: f64) -> Measured {
        self.seconds.sort_by(f64::total_cmp);
        let (count, middle) = (self.seconds.len(), self.seconds.len() / 2);
        let median = if count % 2 == 1 {
            self.seconds[middle]
        } else {
            self.seconds[middle - 1].midpoint(self.seconds[middle])
        };
        let rate = |seconds: f64| self.tokens as f64 / seconds;
        let moved = self.cost.bytes() as f64 / median;
        Measured {
            phase: self.phase,
            tokens: self.tokens,
            depth: self.depth,
            tokens_per_s: Spread {
                min: rate(self.seconds[count - 1]),
                median: rate(median),
                max: rate(self.seconds[0]),
            },
            gb_per_s: moved / 1e9,
            gflop_per_s: self.cost.flops as f64 / median / 1e9,
            roofline_fraction: moved / bandwidth,
        }
    }
}

fn print(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} {} on {}, {} threads, {}: read bandwidth measured {:.1} GB/s, load {:.2} s{}",
        report.shape,
        report.dtype,
        report.device,
        report.threads,
        report.features.join(" "),
        report.measured_gb_per_s,
        report.load_s,
        report.peak_rss_bytes.map(|rss| format!(", peak RSS {}", output::size(rss))).unwrap_or_default()
    )?;
    for result in &report.results {
        let rate = result.tokens_per_s;
        writeln!(
            out,
            "{:<8} {:>5} tokens at depth {:<5} {:>8.2} tok/s (min {:.2}, max {:.2})  {:>6.2} GB/s = {:.0} % of measured  {:>7.1} GFLOP/s",
            result.phase,
            result.tokens,
            result.depth,
            rate.median,
            rate.min,
            rate.max,
            result.gb_per_s,
            result.roofline_fraction * 100.0,
            result.gflop_per_s
        )?;
    }
    Ok(())
}
