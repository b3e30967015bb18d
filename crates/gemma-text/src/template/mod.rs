//! Chat templates: a conversation to the text and the tokens that a model was trained on.
//!
//! Templates are Jinja from the model's files, never from a request, and run on a budget. What users wrote is kept
//! apart from what the template wrote: only the template's own text may hold special tokens.

mod config;
mod marks;
mod restrict;

use crate::{Segment, SpecialTokens, TemplateError, Tokenizer};
pub use config::TokenizerConfig;
use marks::Marks;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, ErrorKind, State, context};

/// Longest template source.
pub const MAX_TEMPLATE_BYTES: usize = 256 << 10;
/// Longest tokenizer_config.json; Gemma's has 1.2 MB, mostly the list of added tokens.
pub const MAX_CONFIG_BYTES: usize = 16 << 20;
/// Most messages of a conversation.
pub const MAX_MESSAGES: usize = 16_384;
/// Longest text of all messages together.
pub const MAX_CONTENT_BYTES: usize = crate::tokenizer::MAX_TEXT_BYTES;

/// Steps of a rendering, whatever the conversation. minijinja counts an instruction or 64 bytes made as one.
const BASE_FUEL: u64 = 200_000;
/// More steps for each message.
const FUEL_A_MESSAGE: u64 = 2_000;
/// Bytes of content for one more step: room for some 16 copies of everything.
const CONTENT_BYTES_A_STEP: u64 = 4;
/// Messages missing from a text that are looked into, each at the price of a rendering.
const MAX_UNSEEN: usize = 16;
/// Depth of macros and nested loops.
const MAX_RECURSION: usize = 64;
/// Marks an error as made by the template's author.
const RAISED: &str = "raise_exception: ";

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions, before the first user message.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said. Special tokens in it are text.
    pub content: String,
}

/// A chat template, checked for syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatTemplate {
    source: String,
    bos_token: String,
    eos_token: String,
    built_in: bool,
}

/// Gemma's own chat format, for files that carry no template.
const GEMMA: &str = r"{{ bos_token }}
{%- if messages[0].role == 'system' -%}
    {%- set prefix = messages[0].content + '\n\n' -%}
    {%- set turns = messages[1:] -%}
{%- else -%}
    {%- set prefix = '' -%}
    {%- set turns = messages -%}
{%- endif -%}
{%- for message in turns -%}
    {%- set role = 'model' if message.role == 'assistant' else message.role -%}
    {{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else '') }}
    {{- message.content | trim }}
    {{- '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\n' }}
{%- endif -%}";

impl Role {
    /// The name that templates know.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }

    /// The role of a name; `model` is an assistant.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "system" | "developer" => Some(Self::System),
            "user" => Some(Self::User),
            "assistant" | "model" => Some(Self::Assistant),
            _ => None,
        }
    }
}

impl Message {
    /// A message of the person.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: Role::User, content: content.into() }
    }

    /// A message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: Role::Assistant, content: content.into() }
    }

    /// Instructions.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: Role::System, content: content.into() }
    }
}

impl ChatTemplate {
    /// Gemma's own format: `<bos><start_of_turn>user\n...<end_of_turn>\n<start_of_turn>model\n`.
    pub fn gemma() -> Self {
        let token = str::to_owned;
        Self { source: token(GEMMA), bos_token: token("<bos>"), eos_token: token("<eos>"), built_in: true }
    }

    /// The template `default` of a `tokenizer_config.json`, or the only one it has; Gemma's own where it has none.
    pub fn from_config(config: &TokenizerConfig) -> Result<Self, TemplateError> {
        let templates = &config.chat_templates;
        let chosen = templates.iter().find(|(name, _)| name == "default");
        match chosen.or(templates.first().filter(|_| templates.len() == 1)) {
            Some((_, source)) => Self::from_source(
                source,
                config.bos_token.as_deref().unwrap_or("<bos>"),
                config.eos_token.as_deref().unwrap_or("<eos>"),
            ),
            None if templates.is_empty() => Ok(Self::gemma()),
            None => Err(TemplateError::Config {
                name: "tokenizer_config.json".to_owned(),
                field: "chat_template",
                detail: "there are several templates and none is called \"default\"".to_owned(),
            }),
        }
    }

    /// A template from its Jinja source, such as GGUF's `tokenizer.chat_template`.
    pub fn from_source(source: &str, bos_token: &str, eos_token: &str) -> Result<Self, TemplateError> {
        within("the length of the chat template in bytes", source.len(), MAX_TEMPLATE_BYTES)?;
        let template = Self {
            source: source.to_owned(),
            bos_token: bos_token.to_owned(),
            eos_token: eos_token.to_owned(),
            built_in: false,
        };
        restrict::check(source)?;
        environment(0).template_from_str(source).map_err(|error| syntax_error(&error))?;
        Ok(template)
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation. With `add_generation_prompt` it ends where the model's answer begins.
    ///
    /// For people to read: encode with [`render_tokens`](Self::render_tokens), which knows what users wrote.
    pub fn render_text(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        check_conversation(messages, add_generation_prompt)?;
        self.render(messages, add_generation_prompt)
    }

    /// The tokens of a conversation; special tokens in the messages stay text.
    pub fn render_tokens(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, TemplateError> {
        if self.built_in {
            for token in ["<bos>", "<start_of_turn>", "<end_of_turn>"] {
                if !tokenizer.id_of(token).is_some_and(|id| tokenizer.is_special(id)) {
                    return Err(TemplateError::MissingSpecial(token));
                }
            }
        }
        let segments = self.render_segments(tokenizer, messages, add_generation_prompt)?;
        Ok(tokenizer.encode_segments(&segments)?)
    }

    /// The text of a conversation, cut into what the template wrote and what the messages say.
    ///
    /// The template runs twice: with the messages and with marks in their place. If filling in the marks gives the
    /// first text, the cuts are right. If not, the template looks into or changes the messages; then nothing tells
    /// the two apart, and a conversation that holds or makes the text of a special token is refused.
    ///
    /// A message is dropped when its mark is nowhere in the text and a longer mark in its place changes nothing: a
    /// template that writes only a message's length has looked into it.
    pub fn render_segments(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Vec<Segment>, TemplateError> {
        check_conversation(messages, add_generation_prompt)?;
        let text = self.render(messages, add_generation_prompt)?;
        let marks = Marks::new(&self.source, messages);
        let marked: Vec<Message> =
            messages.iter().enumerate().map(|(index, each)| marks.mark(index, each)).collect();
        // A template may well fail on the marks alone, by a check of what messages say.
        let marked_text = self.render(&marked, add_generation_prompt).ok();
        let mut expected = None;
        if let Some(marked_text) = marked_text {
            let (segments, seen) = marks.cut(&marked_text, messages);
            if segments.iter().map(|segment| segment.text.as_str()).collect::<String>() == text {
                if seen.iter().all(|seen| *seen) {
                    return Ok(segments);
                }
                if let Some(index) = self.dropped(&marked, &seen, &marked_text, add_generation_prompt) {
                    return Err(TemplateError::Dropped { index, role: messages[index].role.name() });
                }
            }
            let own = segments.iter().filter(|segment| segment.special == SpecialTokens::Parse);
            expected =
                Some(own.flat_map(|segment| tokenizer.special_ids_in(&segment.text)).collect::<Vec<_>>());
        }
        for (index, message) in messages.iter().enumerate() {
            if let Some(token) = tokenizer.find_special(&message.content) {
                return Err(TemplateError::SpecialInContent { index, token: token.to_owned() });
            }
        }
        if expected.is_some_and(|expected| expected != tokenizer.special_ids_in(&text)) {
            return Err(TemplateError::SpecialFromContent);
        }
        Ok(vec![Segment { text, special: SpecialTokens::Parse }])
    }

    /// The first message that was not seen and whose length changes nothing either.
    fn dropped(
        &self,
        marked: &[Message],
        seen: &[bool],
        text: &str,
        add_generation_prompt: bool,
    ) -> Option<usize> {
        let unseen = (0..seen.len()).filter(|index| !seen[*index]).take(MAX_UNSEEN);
        let mut longer = marked.to_vec();
        for index in unseen {
            longer[index].content = marked[index].content.repeat(2);
            if self.render(&longer, add_generation_prompt).is_ok_and(|longer| longer == text) {
                return Some(index);
            }
            longer[index].content.clone_from(&marked[index].content);
        }
        None
    }

    fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, TemplateError> {
        let content: u64 = messages.iter().map(|message| message.content.len() as u64).sum();
        let fuel = BASE_FUEL + messages.len() as u64 * FUEL_A_MESSAGE + content / CONTENT_BYTES_A_STEP;
        let environment = environment(fuel);
        let conversation: Vec<Value> = messages
            .iter()
            .map(|message| context! { role => message.role.name(), content => message.content.as_str() })
            .collect();
        let variables = context! {
            messages => conversation,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
            add_generation_prompt => add_generation_prompt,
        };
        let template = environment.template_from_str(&self.source);
        template.and_then(|template| template.render(variables)).map_err(|error| failure(&error, fuel))
    }
}

/// The engine, set up as transformers sets up Jinja, with a budget.
fn environment(fuel: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax());
    for name in restrict::NO_FILTERS {
        environment.remove_filter(name);
    }
    for name in restrict::NO_FUNCTIONS {
        environment.remove_global(name);
    }
    environment.set_fuel(Some(fuel));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(call_method);
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{message}")))
    });
    environment
}

fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default()
}

fn syntax_error(error: &minijinja::Error) -> TemplateError {
    TemplateError::Syntax { line: error.line().unwrap_or(1), detail: detail_of(error) }
}

/// Python's string, list and dict methods. `str.format` is left out: a width in it makes a text of any length.
fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, minijinja::Error> {
    if value.kind() == ValueKind::String && method == "format" {
        return Err(minijinja::Error::from(ErrorKind::UnknownMethod));
    }
    for list in args.iter().chain([value]) {
        charge_items(state, list)?;
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// Pays for the items of a list, which may be a short one repeated, as the methods do not.
fn charge_items(state: &State<'_, '_>, list: &Value) -> Result<(), minijinja::Error> {
    const BYTES_A_STEP: usize = 64;
    if matches!(list.kind(), ValueKind::Seq | ValueKind::Iterable) {
        for item in list.try_iter()? {
            let length = item.as_str().map_or_else(|| item.len().unwrap_or(0), str::len);
            state.consume_fuel(1 + (length / BYTES_A_STEP) as u64)?;
        }
    }
    Ok(())
}

/// Checks a conversation that a user's message comes next in: sizes, roles in turn, no user without an answer.
///
/// # Errors
/// [`TemplateError::TooLarge`], [`TemplateError::RoleOrder`] or [`TemplateError::Unanswered`] with the message's index.
pub fn check_history(messages: &[Message]) -> Result<(), TemplateError> {
    check_turns(messages)?;
    match messages.last() {
        Some(Message { role: Role::User, .. }) => {
            Err(TemplateError::Unanswered { index: messages.len() - 1 })
        }
        _ => Ok(()),
    }
}

/// Sizes, and whose turn each message is.
fn check_turns(messages: &[Message]) -> Result<(), TemplateError> {
    within("the number of messages", messages.len(), MAX_MESSAGES)?;
    let content = messages.iter().map(|message| message.content.len()).sum();
    within("the length of all messages in bytes", content, MAX_CONTENT_BYTES)?;
    let mut due = "system or user";
    for (index, message) in messages.iter().enumerate() {
        let next = match (message.role, due) {
            (Role::System, "system or user") | (Role::Assistant, "assistant") => "user",
            (Role::User, "system or user" | "user") => "assistant",
            (role, expected) => return Err(TemplateError::RoleOrder { index, found: role.name(), expected }),
        };
        due = next;
    }
    Ok(())
}

fn check_conversation(messages: &[Message], add_generation_prompt: bool) -> Result<(), TemplateError> {
    check_turns(messages)?;
    match messages.last() {
        None | Some(Message { role: Role::System, .. }) => Err(TemplateError::NoMessages),
        Some(Message { role: Role::Assistant, .. }) if add_generation_prompt => {
            let index = messages.len() - 1;
            Err(TemplateError::RoleOrder { index, found: "assistant", expected: "user, before an answer," })
        }
        Some(_) => Ok(()),
    }
}

fn within(what: &'static str, size: usize, limit: usize) -> Result<(), TemplateError> {
    if size > limit { Err(TemplateError::TooLarge { what, size, limit }) } else { Ok(()) }
}

fn failure(error: &minijinja::Error, fuel: u64) -> TemplateError {
    let detail = detail_of(error);
    if let Some((_, raised)) = detail.split_once(RAISED) {
        return TemplateError::Raised(raised.to_owned());
    }
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::OutOfFuel { fuel },
        _ => TemplateError::Failed { line: error.line().unwrap_or(0), detail },
    }
}

fn detail_of(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
