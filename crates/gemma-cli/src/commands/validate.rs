//! `gemma validate`: reads a model to the last byte and says what is wrong with it.

use std::io::Write;

use gemma_orchestrator::Model;
use gemma_text::Tokenizer;
use serde::Serialize;

use crate::args::ValidateArgs;
use crate::failure::Failure;
use crate::{model, output, settings};

#[derive(Serialize)]
struct Report {
    model: String,
    valid: bool,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Check {
    what: &'static str,
    problem: Option<String>,
}

/// Runs the verb.
pub(crate) fn validate(args: ValidateArgs) -> Result<(), Failure> {
    let setup = settings::model(args.setup)?;
    let name = setup.model.as_ref().map_or_else(|| "built-in".to_owned(), |path| path.display().to_string());
    let mut checks = Vec::new();
    let mut check = |what, result: Result<(), String>| checks.push(Check { what, problem: result.err() });
    match model::open(&setup) {
        Err(Failure::Error(error)) => check("files, configuration, tensors", Err(format!("{error:#}"))),
        Err(other) => return Err(other),
        Ok(model) => {
            check("files, configuration, tensors", Ok(()));
            check("every value is finite", model.weights.check_finite().map_err(|error| error.to_string()));
            let unused = model.checkpoint().check_unused();
            check("what the text model does not use", unused.map_err(|error| error.to_string()));
            let tokenizer = model.tokenizer();
            if let Ok(tokenizer) = &tokenizer {
                check("every token has a row", every_token_has_a_row(tokenizer, &model));
            }
            check("tokenizer", tokenizer.map(|_| ()).map_err(|error| error.to_string()));
            check("chat template", model.chat_template().map(|_| ()).map_err(|error| error.to_string()));
            check("files unchanged", model.checkpoint().still_whole().map_err(|error| error.to_string()));
        }
    }
    let report = Report { model: name, valid: checks.iter().all(|check| check.problem.is_none()), checks };
    if args.json {
        output::print_json(&report)?;
    } else {
        let mut out = std::io::stdout().lock();
        for check in &report.checks {
            writeln!(out, "{}: {}", check.what, check.problem.as_deref().unwrap_or("ok"))?;
        }
    }
    if report.valid { Ok(()) } else { Err(Failure::Invalid) }
}

/// Whether the embedding has a row for every token. It may have more, as Gemma 3n's has, for what is not text.
fn every_token_has_a_row(tokenizer: &Tokenizer, model: &Model) -> Result<(), String> {
    let (tokens, rows) = (tokenizer.vocab_size(), model.weights.embed.rows());
    if tokens <= rows {
        return Ok(());
    }
    Err(format!(
        "{}: the tokenizer has {tokens} tokens, but the embedding {rows} rows; use the tokenizer that belongs to these weights",
        model.checkpoint().name()
    ))
}
