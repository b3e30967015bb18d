//! `gemma run`: one prompt, one answer, streamed.

use std::io::{self, IsTerminal, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use gemma_orchestrator::{Engine, Finish, Generation, Model, Piece, Request, Session, generate};
use gemma_text::{Message, StopRules, Tokenizer};
use serde_json::json;

use crate::args::{ChatArgs, RunArgs};
use crate::choice::Choice;
use crate::failure::Failure;
use crate::model::{self, Ready};
use crate::progress::Waiting;
use crate::settings::{self, Sampling};
use crate::signals::{self, Late};
use crate::{input, output};

/// Tokens of an answer unless told otherwise.
const DEFAULT_MAX_TOKENS: usize = 256;
/// Longest prompt in bytes; far beyond what any context holds.
pub(crate) const MAX_PROMPT_BYTES: u64 = 16 << 20;

impl RunArgs {
    /// Whether nothing at all was said about a prompt.
    pub(crate) fn is_bare(&self) -> bool {
        self.prompt.is_none() && self.prompt_flag.is_none() && self.file.is_none()
    }

    /// The same settings for a chat.
    pub(crate) fn into_chat(self) -> ChatArgs {
        ChatArgs { system: self.system, load: None, generation: self.generation }
    }
}

/// Runs the verb.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let prompt = read_prompt(args)?;
    let setup = settings::setup(args.generation.setup.clone())?;
    let built_in = setup.model.is_none();
    let sampling = settings::sampling(args.generation.sampling.clone(), built_in)?;
    let model = model::open(&setup)?;
    let tokenizer = model.tokenizer()?;
    let raw = args.raw || (built_in && !args.template && args.system.is_none());
    let ids = prompt_ids(&model, &tokenizer, &prompt, args.system.as_deref(), raw)?;
    let Ready { mut engine, choice } = model::engine(&model, &setup)?;
    let mut session = Session::new(&engine)?;
    let request = request(&sampling, stop_rules(&model, &tokenizer, &sampling), DEFAULT_MAX_TOKENS);
    let mut out = Printer::new(&tokenizer, sampling.sampler.logprobs.is_some(), Late::End);
    if raw {
        out.echo(&prompt);
    }
    let done = out.generate(&mut engine, &mut session, &ids, &request)?;
    out.end()?;
    show_stats(&done, &engine, choice.as_ref(), args.generation.stats, args.generation.no_stats);
    match done.finish {
        Finish::Cancelled if signals::cancelled() => return Err(Failure::Interrupted),
        Finish::Context => {
            let context = engine.options().context;
            output::tell(format_args!(
                "gemma: the context of {context} tokens is full; --context makes it larger"
            ));
        }
        _ => {}
    }
    Ok(())
}

fn read_prompt(args: &RunArgs) -> Result<String, Failure> {
    let text = args.prompt.as_ref().filter(|prompt| *prompt != "-").or(args.prompt_flag.as_ref());
    if let Some(text) = text {
        return Ok(text.clone());
    }
    if let Some(path) = args.file.as_deref().filter(|path| *path != Path::new("-")) {
        let name = path.display().to_string();
        let file = std::fs::File::open(path).with_context(|| name.clone())?;
        return Ok(read_text(file, &name)?);
    }
    if args.is_bare() && io::stdin().is_terminal() {
        return Err(Failure::Error(anyhow!(
            "no prompt: give one as argument, with --file, or on standard input"
        )));
    }
    Ok(read_text(io::stdin().lock(), "standard input")?)
}

/// Reads a prompt, or another text as long as one.
pub(crate) fn read_text(from: impl Read, name: &str) -> anyhow::Result<String> {
    input::read_text(from, name, MAX_PROMPT_BYTES)
}

fn prompt_ids(
    model: &Model,
    tokenizer: &Tokenizer,
    prompt: &str,
    system: Option<&str>,
    raw: bool,
) -> Result<Vec<u32>, Failure> {
    if raw {
        return Ok(tokenizer.encode_prompt(prompt).map_err(anyhow::Error::from)?);
    }
    let messages: Vec<Message> =
        system.map(Message::system).into_iter().chain([Message::user(prompt)]).collect();
    let template = model.chat_template()?;
    Ok(template.render_tokens(tokenizer, &messages, true).map_err(anyhow::Error::from)?)
}

/// What ends an answer: the model's own end tokens, the chat format's, and the user's strings.
pub(crate) fn stop_rules(model: &Model, tokenizer: &Tokenizer, sampling: &Sampling) -> StopRules {
    let mut stop = StopRules::chat(tokenizer);
    stop.tokens.extend(&model.config.eos);
    stop.tokens.sort_unstable();
    stop.tokens.dedup();
    stop.strings.clone_from(&sampling.stop);
    stop
}

/// A request with the settings' values.
pub(crate) fn request(sampling: &Sampling, stop: StopRules, max_tokens: usize) -> Request {
    Request {
        sampler: sampling.sampler.clone(),
        stop,
        max_tokens: sampling.max_tokens.unwrap_or(max_tokens),
        cancel: Arc::clone(signals::cancel_flag()),
    }
}

/// Shows the statistics on standard error: when asked to, or when somebody looks.
pub(crate) fn show_stats(
    done: &Generation,
    engine: &Engine,
    choice: Option<&Choice>,
    wanted: bool,
    unwanted: bool,
) {
    if wanted || (!unwanted && io::stderr().is_terminal()) {
        let mut peak_rss = None;
        let bandwidth = output::measured_bandwidth(engine, &mut peak_rss);
        output::tell(output::stats_line(&done.stats, engine, bandwidth, peak_rss, choice));
    }
}

/// Streams a generation to standard output, as text or as JSON lines with log-probabilities.
pub(crate) struct Printer<'a> {
    tokenizer: &'a Tokenizer,
    logprobs: bool,
    /// What happens when a GPU is too busy to honour Ctrl-C.
    late: Late,
    /// Goes before the first text.
    pending: String,
    ends_with_newline: bool,
}

impl<'a> Printer<'a> {
    /// A printer at the start of a line.
    pub(crate) fn new(tokenizer: &'a Tokenizer, logprobs: bool, late: Late) -> Self {
        Self { tokenizer, logprobs, late, pending: String::new(), ends_with_newline: true }
    }

    /// Repeats the prompt before the first text, so that the whole can be read; a run that fails prints nothing.
    fn echo(&mut self, prompt: &str) {
        if !self.logprobs {
            prompt.clone_into(&mut self.pending);
        }
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let text = std::mem::take(&mut self.pending) + text;
        if !text.is_empty() {
            self.ends_with_newline = text.ends_with('\n');
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Generates and prints.
    pub(crate) fn generate(
        &mut self,
        engine: &mut Engine,
        session: &mut Session,
        prompt: &[u32],
        request: &Request,
    ) -> Result<Generation, Failure> {
        let tokenizer = self.tokenizer;
        let mut closed = None;
        let preparing = "preparing the GPU: kernels for this model are compiled";
        let mut waiting = output::is_gpu(engine.device()).then(|| Waiting::for_work(preparing)).flatten();
        let late = if output::is_gpu(engine.device()) { self.late } else { Late::Wait };
        let mut emit = |piece: &Piece<'_>| {
            drop(waiting.take());
            let text = if self.logprobs { self.json_line(piece) } else { piece.text.to_owned() };
            match self.write(&text) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    closed = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let listening = signals::listen(late);
        let done = generate(engine, session, tokenizer, prompt, request, &mut emit)?;
        drop(listening);
        closed.map_or(Ok(done), |error| Err(error.into()))
    }

    fn json_line(&self, piece: &Piece<'_>) -> String {
        let named = |id: u32, logprob: Option<f32>| json!({ "id": id, "piece": self.tokenizer.piece(id), "logprob": logprob });
        let line = match piece.sampled {
            None => json!({ "text": piece.text }),
            Some(sampled) => json!({
                "text": piece.text,
                "token": named(sampled.token, sampled.logprob),
                "top": sampled.top.iter().map(|(id, logprob)| named(*id, Some(*logprob))).collect::<Vec<_>>(),
            }),
        };
        format!("{line}\n")
    }

    /// Ends the last line.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        self.write("")?;
        if self.ends_with_newline { Ok(()) } else { Ok(self.write("\n")?) }
    }
}
