//! `gemma perplexity`: the loss of a text.

use std::io::{IsTerminal, Write};

use anyhow::Context;
use gemma_orchestrator::{Session, evaluate};
use gemma_text::SpecialTokens;
use serde::Serialize;

use crate::args::PerplexityArgs;
use crate::failure::Failure;
use crate::{model, output, settings};

#[derive(Serialize)]
struct Report {
    file: String,
    window: usize,
    tokens: usize,
    nats_per_token: f64,
    perplexity: f64,
    device: String,
}

/// Runs the verb.
pub(crate) fn perplexity(args: PerplexityArgs) -> Result<(), Failure> {
    let name = args.file.display().to_string();
    let text = if name == "-" {
        super::run::read_text(std::io::stdin().lock(), "standard input")?
    } else {
        super::run::read_text(std::fs::File::open(&args.file).with_context(|| name.clone())?, &name)?
    };
    let mut setup = settings::setup(args.setup)?;
    setup.prefer_cpu();
    let model = model::open(&setup)?;
    let tokenizer = model.tokenizer()?;
    let tokens = tokenizer.encode(&text, SpecialTokens::AsText).map_err(anyhow::Error::from)?;
    if args.window < 2 || tokens.len() < 2 {
        return Err(anyhow::anyhow!("{name}: a window and the text need at least two tokens").into());
    }
    setup.context.get_or_insert(args.window.min(model.config.max_context));
    let mut engine = model::engine(&model, &setup)?.engine;
    let mut session = Session::new(&engine)?;
    let bos = tokenizer.bos_id().filter(|_| tokenizer.adds_bos());
    let shows = std::io::stderr().is_terminal();
    let mut progress = |window: usize, so_far: evaluate::Loss| {
        if shows {
            eprint!("\rwindow {}: perplexity {:.4} ", window + 1, so_far.perplexity());
        }
    };
    let loss = evaluate::windowed_loss(&mut engine, &mut session, &tokens, bos, args.window, &mut progress)?;
    if shows {
        eprintln!();
    }
    if loss.tokens == 0 {
        return Err(anyhow::anyhow!("{name}: a window of one token predicts nothing; raise --context").into());
    }
    let report = Report {
        file: name,
        window: args.window.min(engine.options().context),
        tokens: loss.tokens,
        nats_per_token: loss.mean(),
        perplexity: loss.perplexity(),
        device: engine.device().id.clone(),
    };
    if args.json {
        return output::print_json(&report);
    }
    Ok(writeln!(
        std::io::stdout().lock(),
        "{}: {} predicted tokens in windows of {}, {:.4} nats a token, perplexity {:.4}",
        report.file,
        report.tokens,
        report.window,
        report.nats_per_token,
        report.perplexity
    )?)
}
