//! `gemma chat`: a conversation in the terminal, with history.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use gemma_orchestrator::{Engine, Finish, Model, Request, Session};
use gemma_text::template::check_history;
use gemma_text::{ChatTemplate, Message, Role, TemplateError, Tokenizer};
use serde::{Deserialize, Serialize};

use super::run::{self, Printer};
use crate::args::ChatArgs;
use crate::choice::Choice;
use crate::failure::Failure;
use crate::model::{self, Ready};
use crate::signals::Late;
use crate::{output, settings};

/// Tokens of an answer unless told otherwise.
const DEFAULT_MAX_TOKENS: usize = 1024;

const HELP: &str = "\
/reset          forget the conversation (the system text stays)
/save FILE      write the conversation as JSON
/load FILE      go on with one that was written
/stats          show or hide the statistics after each answer
/help           this
/exit           leave; so does end of input";

/// A conversation as a file: the messages as most programs write them.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    messages: Vec<SavedMessage>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedMessage {
    role: String,
    content: String,
}

struct Chat<'a> {
    model: &'a Model,
    engine: Engine,
    session: Session,
    tokenizer: &'a Tokenizer,
    template: ChatTemplate,
    request: Request,
    messages: Vec<Message>,
    stats: bool,
    choice: Option<Choice>,
}

/// What a line that was typed leads to.
enum Next {
    Read,
    Leave,
}

/// Runs the verb.
pub(crate) fn chat(args: ChatArgs) -> Result<(), Failure> {
    let setup = settings::setup(args.generation.setup)?;
    let sampling = settings::sampling(args.generation.sampling, setup.model.is_none())?;
    if sampling.sampler.logprobs.is_some() {
        return Err(anyhow!("--logprobs: a chat shows text; use `gemma run --template --logprobs N`").into());
    }
    let model = model::open(&setup)?;
    let tokenizer = model.tokenizer()?;
    let Ready { engine, choice } = model::engine(&model, &setup)?;
    let mut chat = Chat {
        model: &model,
        session: Session::new(&engine)?,
        tokenizer: &tokenizer,
        template: model.chat_template()?,
        request: run::request(&sampling, run::stop_rules(&model, &tokenizer, &sampling), DEFAULT_MAX_TOKENS),
        messages: args.system.map(Message::system).into_iter().collect(),
        stats: args.generation.stats || (!args.generation.no_stats && io::stderr().is_terminal()),
        engine,
        choice,
    };
    if let Some(path) = &args.load {
        chat.load(path)?;
    }
    if output::is_interactive() {
        greet(&model, &chat.engine);
    }
    chat.talk()
}

fn greet(model: &Model, engine: &Engine) {
    let (name, device) = (model.checkpoint().name(), engine.device());
    output::tell(format_args!(
        "{name} on {} ({}). /help shows what else can be typed.",
        device.id, device.name
    ));
}

impl Chat<'_> {
    fn talk(&mut self) -> Result<(), Failure> {
        let mut lines = io::stdin().lock();
        loop {
            if output::is_interactive() {
                eprint!("> ");
            }
            let Some(line) = read_line(&mut lines)? else { return Ok(()) };
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let next = if line.starts_with('/') { self.command(line) } else { self.turn(line) };
            match next {
                Ok(Next::Read) => {}
                Ok(Next::Leave) => return Ok(()),
                // In a terminal a turn that fails is told and the next one may work.
                Err(Failure::Error(error)) if output::is_interactive() => {
                    output::tell(format_args!("gemma: {error:#}"));
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    fn command(&mut self, line: &str) -> Result<Next, Failure> {
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let file = || match rest.trim() {
            "" => Err(anyhow!("{name}: name a file")),
            file => Ok(Path::new(file)),
        };
        match name {
            "/exit" | "/quit" | "/bye" => return Ok(Next::Leave),
            "/help" => output::tell(HELP),
            "/reset" => {
                self.messages.retain(|message| message.role == Role::System);
                self.session.reset();
            }
            "/save" => self.save(file()?)?,
            "/load" => self.load(file()?)?,
            "/stats" => self.stats = !self.stats,
            _ => return Err(anyhow!("{name}: no such command; /help shows them").into()),
        }
        Ok(Next::Read)
    }

    fn turn(&mut self, text: &str) -> Result<Next, Failure> {
        self.messages.push(Message::user(text));
        let answered = self.answer();
        if answered.is_err() {
            self.messages.pop();
        }
        answered
    }

    fn answer(&mut self) -> Result<Next, Failure> {
        let rendered = self.template.render_tokens(self.tokenizer, &self.messages, true);
        let prompt = rendered.map_err(anyhow::Error::from)?;
        self.model.checkpoint().still_whole().map_err(anyhow::Error::from)?;
        let mut out = Printer::new(self.tokenizer, false, Late::Wait);
        let done = out.generate(&mut self.engine, &mut self.session, &prompt, &self.request)?;
        out.end()?;
        run::show_stats(&done, &self.engine, self.choice.as_ref(), self.stats, !self.stats);
        match done.finish {
            Finish::Context => {
                output::tell("gemma: the context is full; /reset, or start with a larger --context");
            }
            Finish::Cancelled if !output::is_interactive() => return Err(Failure::Interrupted),
            _ => {}
        }
        self.messages.push(Message::assistant(done.text));
        Ok(Next::Read)
    }

    fn save(&self, path: &Path) -> anyhow::Result<()> {
        let messages = self.messages.iter().map(|message| SavedMessage {
            role: message.role.name().to_owned(),
            content: message.content.clone(),
        });
        let text = serde_json::to_string_pretty(&Saved { messages: messages.collect() })?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())
    }

    /// Goes on with the conversation in a file; one that is refused leaves ours as it was.
    fn load(&mut self, path: &Path) -> anyhow::Result<()> {
        self.messages = self.read(path)?;
        Ok(())
    }

    fn read(&self, path: &Path) -> anyhow::Result<Vec<Message>> {
        let name = path.display().to_string();
        let text = run::read_text(std::fs::File::open(path).with_context(|| name.clone())?, &name)?;
        let saved: Saved = serde_json::from_str(&text)
            .with_context(|| format!("{name}: not a conversation written by /save"))?;
        let message = |saved: SavedMessage| match Role::from_name(&saved.role) {
            Some(role) => Ok(Message { role, content: saved.content }),
            None => Err(anyhow!("{name}: no role is called {:?}", saved.role)),
        };
        let messages: Vec<Message> = saved.messages.into_iter().map(message).collect::<Result<_, _>>()?;
        self.accept(&messages).with_context(|| name)?;
        Ok(messages)
    }

    /// Whether the chat template takes these messages before a user's next one.
    fn accept(&self, messages: &[Message]) -> Result<(), TemplateError> {
        check_history(messages)?;
        if messages.last().is_some_and(|message| message.role == Role::Assistant) {
            self.template.render_text(messages, false)?;
        }
        Ok(())
    }
}

/// The next line; none at the end of the input. A line and not all of the input, so [`crate::input`] is of no use.
fn read_line(from: &mut impl BufRead) -> Result<Option<String>, Failure> {
    let mut line = String::new();
    match from.take(run::MAX_PROMPT_BYTES + 1).read_line(&mut line) {
        Ok(0) => {
            if output::is_interactive() {
                let _ = writeln!(io::stderr());
            }
            Ok(None)
        }
        Ok(read) if read as u64 > run::MAX_PROMPT_BYTES => {
            Err(anyhow!("standard input: a line longer than {} bytes", run::MAX_PROMPT_BYTES).into())
        }
        Ok(_) => Ok(Some(line)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(anyhow!("standard input: not UTF-8").into())
        }
        Err(error) => Err(error.into()),
    }
}
