//! `gemma info`: a model, its slice, and what its plans ask of a device.

use std::collections::BTreeMap;
use std::io::Write;

use gemma_hal::{Cost, Plan, Weight};
use gemma_matformer::checkpoint::SkipReason;
use gemma_matformer::{Gemma3nWeights, LayerKind};
use gemma_orchestrator::{Engine, Model, Phase};
use serde::Serialize;

use crate::args::InfoArgs;
use crate::choice::Choice;
use crate::failure::Failure;
use crate::model::{self, Ready};
use crate::vulkan::{self, Adapter};
use crate::{output, settings};

#[derive(Serialize)]
struct Report {
    model: String,
    slice: SliceReport,
    config: ConfigReport,
    /// Parameters of the slice, tables included.
    parameters: u64,
    weight_bytes: u64,
    ple_table_bytes: u64,
    weight_types: BTreeMap<&'static str, u64>,
    skipped: Vec<SkippedReport>,
    context: usize,
    cache_bytes: u64,
    device: String,
    /// How the device was chosen, where there was a choice.
    choice: Option<Choice>,
    /// Vulkan adapters with what they have; none where this build lacks the backend.
    adapters: Option<Vec<String>>,
    phases: Vec<PhaseReport>,
}

#[derive(Serialize)]
struct SliceReport {
    skip_layers: Vec<usize>,
    ffn_widths: Vec<usize>,
}

#[derive(Serialize)]
struct ConfigReport {
    family: &'static str,
    layers: usize,
    full_layers: Vec<usize>,
    kv_layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ple_width: usize,
    vocabulary: usize,
    ple_vocabulary: usize,
    laurel_rank: usize,
    altup_streams: usize,
    window: usize,
    sparsity: Vec<f32>,
    max_context: usize,
}

#[derive(Serialize)]
struct SkippedReport {
    reason: &'static str,
    tensors: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct PhaseReport {
    phase: &'static str,
    tokens: usize,
    position: usize,
    flops: u64,
    weight_bytes: u64,
    cache_bytes: u64,
    arena_bytes: u64,
    operations: usize,
    by_operation: Vec<OperationReport>,
}

#[derive(Serialize)]
struct OperationReport {
    operation: &'static str,
    count: usize,
    flops: u64,
    weight_bytes: u64,
    cache_bytes: u64,
}

/// Runs the verb.
pub(crate) fn info(args: InfoArgs) -> Result<(), Failure> {
    let setup = settings::setup(args.setup)?;
    let model = model::open(&setup)?;
    let Ready { engine, choice } = model::engine(&model, &setup)?;
    let prefill = args.prefill.clamp(1, engine.options().chunk);
    let position = args.position.min(engine.options().context - 1);
    let phases = [
        phase(&engine.plan(Phase::Decode)?, 1, position),
        phase(&engine.plan(Phase::Prefill)?, prefill, position),
        phase(&engine.plan(Phase::PrefillOnly)?, prefill, position),
    ];
    let report = report(&model, &engine, choice, phases.into());
    if args.json { output::print_json(&report) } else { Ok(print(&report)?) }
}

fn report(model: &Model, engine: &Engine, choice: Option<Choice>, phases: Vec<PhaseReport>) -> Report {
    let config = &model.config;
    let slice = model.slice.clone();
    let mut weight_types = BTreeMap::new();
    let mut weight_bytes = 0;
    let own = model.weights.gemma3n.as_ref();
    let ple_table_bytes = own.map_or(0, |own| ple_share(own, &own.ple_table));
    model.weights.for_each(&mut |_, weight| {
        let is = |other: &Weight| std::ptr::eq(other, weight);
        let ple = own.filter(|own| is(&own.ple_table) || is(&own.ple_projection));
        let bytes = ple.map_or(weight.bytes(), |own| ple_share(own, weight));
        *weight_types.entry(weight.dtype().name()).or_insert(0) += bytes;
        weight_bytes += bytes;
    });
    Report {
        model: model.checkpoint().name().to_owned(),
        slice: SliceReport {
            skip_layers: slice.map(|slice| slice.skip_layers).unwrap_or_default(),
            ffn_widths: config.ffn_widths.clone(),
        },
        config: ConfigReport {
            family: config.family.name(),
            layers: config.layers(),
            full_layers: (0..config.layers())
                .filter(|layer| config.layer_kinds[*layer] == LayerKind::Full)
                .collect(),
            kv_layers: config.first_shared_layer(),
            hidden: config.hidden,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            ple_width: config.ple_width,
            vocabulary: config.vocabulary,
            ple_vocabulary: config.ple_vocabulary,
            laurel_rank: config.laurel_rank,
            altup_streams: config.altup_streams,
            window: config.window,
            sparsity: config.sparsity.clone(),
            max_context: config.max_context,
        },
        parameters: model.weights.parameters(),
        weight_bytes,
        ple_table_bytes,
        weight_types,
        skipped: skipped(model),
        context: engine.options().context,
        cache_bytes: engine.cache_bytes(),
        device: engine.device().id.clone(),
        choice,
        adapters: vulkan::adapters().map(|all| all.iter().map(Adapter::describe).collect()),
        phases,
    }
}

/// The part of a PLE tensor's bytes that belongs to the slice's layers.
fn ple_share(own: &Gemma3nWeights, weight: &Weight) -> u64 {
    let kept = own.ple_blocks.len() * own.ple_norm.columns();
    weight.bytes() * kept as u64 / own.ple_projection.rows() as u64
}

fn skipped(model: &Model) -> Vec<SkippedReport> {
    let mut sums: BTreeMap<SkipReason, (usize, u64)> = BTreeMap::new();
    for skipped in model.checkpoint().skipped() {
        let sum = sums.entry(skipped.reason).or_default();
        *sum = (sum.0 + 1, sum.1 + skipped.bytes);
    }
    let report = |(reason, (tensors, bytes))| SkippedReport { reason: reason_text(reason), tensors, bytes };
    sums.into_iter().map(report).collect()
}

const fn reason_text(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Vision => "vision tower",
        SkipReason::Audio => "audio tower",
        SkipReason::SharedKv => "keys and values of layers that share another's",
        SkipReason::TiedHead => "output matrix (the embedding is used)",
        SkipReason::Unknown => "not part of the text model",
    }
}

fn phase(plan: &Plan, tokens: usize, position: usize) -> PhaseReport {
    let mut sums: Vec<(&'static str, usize, Cost)> = Vec::new();
    for step in plan.steps() {
        let cost = plan.op_cost(&step.op, tokens, position);
        match sums.iter_mut().find(|(name, ..)| *name == step.op.name()) {
            Some((_, count, sum)) => (*count, *sum) = (*count + 1, *sum + cost),
            None => sums.push((step.op.name(), 1, cost)),
        }
    }
    let total = plan.cost(tokens, position);
    PhaseReport {
        phase: match plan.name() {
            "decode" => "decode",
            "prefill" => "prefill",
            _ => "prefill_only",
        },
        tokens,
        position,
        flops: total.flops,
        weight_bytes: total.weight_bytes,
        cache_bytes: total.cache_bytes,
        arena_bytes: plan.arena().bytes(),
        operations: plan.steps().len(),
        by_operation: sums
            .into_iter()
            .map(|(operation, count, cost)| OperationReport {
                operation,
                count,
                flops: cost.flops,
                weight_bytes: cost.weight_bytes,
                cache_bytes: cost.cache_bytes,
            })
            .collect(),
    }
}

fn print(report: &Report) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let config = &report.config;
    writeln!(out, "model        {}", report.model)?;
    writeln!(
        out,
        "layers       {} of {} ({} full attention, {} with keys and values of their own), hidden {}, {} + {} heads of {}",
        config.layers,
        config.family,
        config.full_layers.len(),
        config.kv_layers,
        config.hidden,
        config.heads,
        config.kv_heads,
        config.head_dim
    )?;
    writeln!(out, "FFN widths   {}", runs(&report.slice.ffn_widths))?;
    if !report.slice.skip_layers.is_empty() {
        writeln!(out, "left out     parent's layers {:?}", report.slice.skip_layers)?;
    }
    writeln!(out, "sparsity     {}", runs(&config.sparsity))?;
    writeln!(
        out,
        "parameters   {:.3} billion in {}{}",
        report.parameters as f64 / 1e9,
        output::size(report.weight_bytes),
        match report.ple_table_bytes {
            0 => String::new(),
            bytes => format!(", of which the PLE table, read row by row, has {}", output::size(bytes)),
        }
    )?;
    let types: Vec<String> =
        report.weight_types.iter().map(|(name, bytes)| format!("{name} {}", output::size(*bytes))).collect();
    writeln!(out, "types        {}", types.join(", "))?;
    for skipped in &report.skipped {
        let size = output::size(skipped.bytes);
        writeln!(out, "not used     {}: {} tensors, {size}", skipped.reason, skipped.tensors)?;
    }
    writeln!(
        out,
        "context      {} of {} positions, KV cache {}",
        report.context,
        config.max_context,
        output::size(report.cache_bytes)
    )?;
    let chosen = report.choice.as_ref().map(|choice| format!(", chosen: {}", choice.reason));
    writeln!(out, "device       {}{}", report.device, chosen.unwrap_or_default())?;
    let mut adapters = report.adapters.iter().flatten();
    adapters.try_for_each(|adapter| writeln!(out, "adapter      {adapter}"))?;
    report.phases.iter().try_for_each(|phase| print_phase(&mut out, phase))
}

fn print_phase(out: &mut impl Write, phase: &PhaseReport) -> std::io::Result<()> {
    writeln!(
        out,
        "\n{} of {} at position {}: {} operations, activations {}",
        phase.phase,
        phase.tokens,
        phase.position,
        phase.operations,
        output::size(phase.arena_bytes)
    )?;
    writeln!(
        out,
        "  {:<20} {:>5} {:>12} {:>12} {:>12}",
        "operation", "count", "MFLOP", "weights", "KV cache"
    )?;
    let mut row = |name: &str, count: usize, flops: u64, weights: u64, cache: u64| {
        let (mflop, weights, cache) = (flops as f64 / 1e6, output::size(weights), output::size(cache));
        writeln!(out, "  {name:<20} {count:>5} {mflop:>12.2} {weights:>12} {cache:>12}")
    };
    for op in &phase.by_operation {
        row(op.operation, op.count, op.flops, op.weight_bytes, op.cache_bytes)?;
    }
    row("sum", phase.operations, phase.flops, phase.weight_bytes, phase.cache_bytes)
}

/// `8192 ×30` instead of thirty numbers.
fn runs<T: PartialEq + std::fmt::Display>(values: &[T]) -> String {
    let run =
        |run: &[T]| if run.len() == 1 { run[0].to_string() } else { format!("{} ×{}", run[0], run.len()) };
    values.chunk_by(|a, b| a == b).map(run).collect::<Vec<_>>().join(", ")
}
