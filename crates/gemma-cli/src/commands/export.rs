//! What `gemma convert` and `gemma quantize` share: from an export to a file, its progress and its summary.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, anyhow};
use gemma_hal::DType;
use gemma_matformer::checkpoint::SkipReason;
use gemma_matformer::checkpoint::gguf::write::MetadataValue;
use gemma_matformer::export::{
    Distance, Export, Filling, Importance, Progress, Rule, Run, TypeRules, Written, llama_cpp_limits,
    type_names,
};
use gemma_matformer::{Checkpoint, Config, ExportError};
use gemma_orchestrator::Model;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::ExportArgs;
use crate::failure::Failure;
use crate::output;
use crate::signals::{self, Late};

#[derive(Serialize)]
struct Report {
    output: String,
    tensors: usize,
    values: u64,
    source_bytes: Option<u64>,
    bytes: u64,
    bits_per_value: f64,
    resumed_at: u64,
    seconds: f64,
    types: Vec<TypeReport>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct TypeReport {
    dtype: &'static str,
    tensors: usize,
    values: u64,
    source_bytes: Option<u64>,
    bytes: u64,
    /// Of the values that were converted in this run.
    rmse: Option<f64>,
    relative_rmse: Option<f64>,
}

/// The type that an option names.
pub(crate) fn dtype(option: &str, name: &str) -> Result<DType, Failure> {
    Ok(DType::from_name(name).ok_or_else(|| anyhow!("{option} {name}: choose {}", type_names()))?)
}

/// `rules` with what the options say.
pub(crate) fn rules(rules: &TypeRules, args: &ExportArgs) -> Result<TypeRules, Failure> {
    let named = |option, name: &Option<String>| name.as_deref().map(|name| dtype(option, name)).transpose();
    Ok(TypeRules {
        embedding: named("--embedding-type", &args.embedding_type)?.or(rules.embedding),
        ple_table: named("--ple-type", &args.ple_type)?.or(rules.ple_table),
        rules: args
            .rules
            .iter()
            .map(|rule| Rule::parse(rule))
            .collect::<Result<_, _>>()
            .map_err(anyhow::Error::from)?,
        ..rules.clone()
    })
}

/// Writes `model` with the types of `rules` and the options.
pub(crate) fn model(
    model: &Model,
    rules: &TypeRules,
    importance: Option<&Importance>,
    out: &Path,
    args: &ExportArgs,
) -> Result<(), Failure> {
    let rules = self::rules(rules, args)?;
    let (checkpoint, config) = (model.checkpoint(), &model.config);
    let mut notes = limits(config);
    notes.extend(left_out(checkpoint));
    let about = checkpoint.about().iter();
    let mut metadata: Vec<(String, MetadataValue)> =
        about.map(|(key, text)| (key.clone(), MetadataValue::String(text.clone()))).collect();
    match model.gguf_vocabulary()? {
        Some(vocabulary) => metadata.extend(vocabulary.fitted(config.vocabulary).metadata()),
        None => notes.push("there is no tokenizer beside the weights, so the file has none".to_owned()),
    }
    let filling = Filling { seed: None, importance };
    let file =
        Export::new(config, &model.weights, &rules, &metadata, filling).map_err(anyhow::Error::from)?;
    checkpoint.advise_sequential();
    write(&file, out, Some(checkpoint), args, notes)
}

/// What keeps llama.cpp from running the file.
pub(crate) fn limits(config: &Config) -> Vec<String> {
    let limits = llama_cpp_limits(config);
    let note =
        |limits: &[String]| format!("llama.cpp cannot run this file as it is meant: {}", limits.join("; "));
    (!limits.is_empty()).then(|| note(&limits)).into_iter().collect()
}

/// Parts of the source that a text model does not have.
fn left_out(checkpoint: &Checkpoint) -> Vec<String> {
    let part = |reason, name| {
        let bytes: u64 = checkpoint.skipped().iter().filter(|s| s.reason == reason).map(|s| s.bytes).sum();
        (bytes > 0).then(|| format!("the {name} ({}) is left out", output::size(bytes)))
    };
    [(SkipReason::Vision, "vision tower"), (SkipReason::Audio, "audio tower")]
        .into_iter()
        .filter_map(|(reason, name)| part(reason, name))
        .collect()
}

/// Writes the file and says what was written. `notes` are told in the end.
pub(crate) fn write(
    export: &Export<'_>,
    out: &Path,
    source: Option<&Checkpoint>,
    args: &ExportArgs,
    mut notes: Vec<String>,
) -> Result<(), Failure> {
    let threads = match args.threads {
        Some(0) => return Err(anyhow!("--threads 0: at least one thread is needed").into()),
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let run = Run { source, threads, restart: args.restart, force: args.force, measure: args.report };
    let begin = Instant::now();
    let bar = progress_bar(export.bytes());
    let listening = signals::listen(Late::Wait);
    let written = export.write(out, run, &mut |Progress { done, tensor, .. }| {
        bar.set_position(done);
        bar.set_message(tensor.to_owned());
        !signals::cancelled()
    });
    drop(listening);
    bar.finish_and_clear();
    let written = match written {
        Err(error @ ExportError::Stopped { .. }) => {
            output::tell(format_args!("gemma: {error}"));
            return Err(Failure::Interrupted);
        }
        written => written.map_err(anyhow::Error::from)?,
    };
    notes.extend(unfit(export));
    let report = report(export, out, &written, begin.elapsed().as_secs_f64(), args.report, notes);
    if args.json { output::print_json(&report) } else { print(&report) }
}

/// Drawn on a terminal only.
fn progress_bar(bytes: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let style =
        ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left  {msg}");
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    bar.set_style(style.expect("the template is a constant"));
    bar
}

/// Which tensors got another type than was asked for.
fn unfit(export: &Export<'_>) -> Vec<String> {
    let mut changed: BTreeMap<(DType, DType), Vec<&str>> = BTreeMap::new();
    for tensor in export.tensors() {
        if let Some(wanted) = tensor.unfit {
            changed.entry((wanted, tensor.dtype)).or_default().push(&tensor.name);
        }
    }
    let note = |((wanted, dtype), names): ((DType, DType), Vec<&str>)| {
        let first = names[0];
        format!(
            "{} tensors are {dtype}, because their rows do not end on a block of {wanted}: {first}, ...",
            names.len()
        )
    };
    changed.into_iter().map(note).collect()
}

fn report(
    export: &Export<'_>,
    out: &Path,
    written: &Written,
    seconds: f64,
    measured: bool,
    notes: Vec<String>,
) -> Report {
    let mut types: BTreeMap<DType, (TypeReport, Distance)> = BTreeMap::new();
    for (tensor, distance) in export.tensors().iter().zip(&written.distances) {
        let (of_type, sum) = types.entry(tensor.dtype).or_insert_with(|| {
            let empty = TypeReport {
                dtype: tensor.dtype.name(),
                tensors: 0,
                values: 0,
                source_bytes: Some(0),
                bytes: 0,
                rmse: None,
                relative_rmse: None,
            };
            (empty, Distance::default())
        });
        of_type.tensors += 1;
        of_type.values += tensor.values();
        of_type.source_bytes = of_type.source_bytes.zip(tensor.source_bytes).map(|(sum, bytes)| sum + bytes);
        of_type.bytes += tensor.bytes();
        *sum = sum.and(*distance);
    }
    let types: Vec<TypeReport> = types
        .into_values()
        .map(|(report, distance)| TypeReport {
            rmse: measured.then(|| distance.rmse()),
            relative_rmse: measured.then(|| distance.relative()),
            ..report
        })
        .collect();
    let values = types.iter().map(|of_type| of_type.values).sum();
    Report {
        output: out.display().to_string(),
        tensors: export.tensors().len(),
        values,
        source_bytes: types.iter().map(|of_type| of_type.source_bytes).sum(),
        bytes: export.bytes(),
        bits_per_value: types.iter().map(|t| t.bytes).sum::<u64>() as f64 * 8.0 / values as f64,
        resumed_at: written.resumed_at,
        seconds,
        types,
        notes,
    }
}

fn print(report: &Report) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let measured = report.types.iter().any(|of_type| of_type.rmse.is_some());
    let errors = if measured { "       RMSE  relative" } else { "" };
    writeln!(out, "type   tensors         values        before         after  bits{errors}")?;
    for of_type in &report.types {
        let before = of_type.source_bytes.map_or_else(|| "-".to_owned(), output::size);
        let bits = of_type.bytes as f64 * 8.0 / of_type.values as f64;
        let (name, tensors, values, bytes) =
            (of_type.dtype, of_type.tensors, of_type.values, output::size(of_type.bytes));
        write!(out, "{name:<6} {tensors:>7} {values:>14} {before:>13} {bytes:>13} {bits:>5.2}")?;
        if let (Some(rmse), Some(relative)) = (of_type.rmse, of_type.relative_rmse) {
            write!(out, "  {rmse:>9.2e} {relative:>9.2e}")?;
        }
        writeln!(out)?;
    }
    for note in &report.notes {
        output::tell(format_args!("note: {note}"));
    }
    let before =
        report.source_bytes.map(|bytes| format!(" from {}", output::size(bytes))).unwrap_or_default();
    let resumed = match report.resumed_at {
        0 => String::new(),
        at => format!(", continued at {}", output::size(at)),
    };
    writeln!(
        out,
        "{}: {} tensors, {}{before}, {:.2} bits a value, {:.1} s{resumed}",
        report.output,
        report.tensors,
        output::size(report.bytes),
        report.bits_per_value,
        report.seconds
    )
    .context("standard output")?;
    Ok(())
}
