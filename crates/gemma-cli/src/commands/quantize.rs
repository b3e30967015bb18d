//! `gemma quantize`: a model with smaller types, rounded with regard to a text where one is given.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, anyhow};
use gemma_matformer::export::{Importance, TypeRules};
use gemma_orchestrator::{Model, calibrate};
use gemma_text::SpecialTokens;

use super::export;
use crate::args::{QuantizeArgs, SetupArgs};
use crate::failure::Failure;
use crate::signals::{self, Late};
use crate::{model, settings};

/// Tokens of a window of the text.
const WINDOW: usize = 512;

/// Runs the verb.
pub(crate) fn quantize(args: &QuantizeArgs) -> Result<(), Failure> {
    let rules = TypeRules::quantised(export::dtype("--type", &args.dtype)?);
    // What is wrong with the options is told before the text is run.
    export::rules(&rules, &args.export)?;
    let model = Model::open(&args.input, args.export.slice.as_deref())?;
    let importance = args.imatrix.as_deref().map(|text| importance(&model, text, args)).transpose()?;
    export::model(&model, &rules, importance.as_ref(), &args.output, &args.export)
}

/// What the model's matrices see when it reads `text`.
fn importance(model: &Model, text: &Path, args: &QuantizeArgs) -> Result<Importance, Failure> {
    let name = text.display().to_string();
    let file = std::fs::File::open(text).with_context(|| name.clone())?;
    let text = super::run::read_text(file, &name)?;
    let tokenizer = model.tokenizer()?;
    let mut tokens = tokenizer.encode(&text, SpecialTokens::AsText).map_err(anyhow::Error::from)?;
    tokens.truncate(args.imatrix_tokens);
    if tokens.is_empty() {
        return Err(anyhow!("{name}: there is no text to run").into());
    }
    let mut setup = settings::setup(SetupArgs { threads: args.export.threads, ..SetupArgs::default() })?;
    setup.context = Some(WINDOW.min(model.config.max_context));
    let mut engine = model::engine(model, &setup)?.engine;
    let bos = tokenizer.bos_id().filter(|_| tokenizer.adds_bos());
    let shows = std::io::stderr().is_terminal();
    let listening = signals::listen(Late::Wait);
    let seen = calibrate::importance(&mut engine, &tokens, bos, WINDOW, &mut |done| {
        if shows {
            eprint!("\rcalibrating: {done} of {} tokens ", tokens.len());
        }
        !signals::cancelled()
    })?;
    drop(listening);
    if shows {
        eprintln!();
    }
    if signals::cancelled() {
        return Err(Failure::Interrupted);
    }
    // The run has pulled the weights into memory; the conversion reads them once more, a piece at a time.
    model.weights.for_each(&mut |_, weight| model.checkpoint().release(weight, 0..weight.rows()));
    Ok(seen)
}
