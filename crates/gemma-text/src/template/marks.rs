//! Marks that stand for what messages say while a template runs, so that its text and theirs can be told apart.

use std::collections::HashSet;

use super::Message;
use crate::{Segment, SpecialTokens};

/// Marks that stand for what messages say.
pub(super) struct Marks {
    /// In neither the template nor any message. No case, no spaces, not removed by any sane filter.
    open: String,
}

const MARK_OPEN: char = '\u{F8FF}';
const MARK_END: char = '\u{F8FD}';
const MARK_CLOSE: char = '\u{F8FE}';

/// Numbers of all marks that stand in a text already, in one pass.
fn numbers(text: &str) -> impl Iterator<Item = u64> + '_ {
    let parts = text.split(MARK_OPEN).skip(1);
    parts.filter_map(|part| match part.split_once(MARK_END)?.0 {
        "" => Some(0),
        number => number.parse().ok(),
    })
}

impl Marks {
    pub(super) fn new(source: &str, messages: &[Message]) -> Self {
        let texts = messages.iter().map(|message| message.content.as_str()).chain([source]);
        let taken: HashSet<u64> = texts.flat_map(numbers).collect();
        // Of one number more than there are taken ones, at least one is free.
        let free = (0..=taken.len() as u64).find(|number| !taken.contains(number)).unwrap_or_default();
        // The usual mark, number 0, is as short as can be: templates may cut a message after a few characters.
        let number = if free == 0 { String::new() } else { free.to_string() };
        let open = format!("{MARK_OPEN}{number}{MARK_END}");
        Self { open }
    }

    /// The message with a mark for its text; the spaces around stay, as templates trim them.
    pub(super) fn mark(&self, index: usize, message: &Message) -> Message {
        let core = message.content.trim();
        let mut content = String::new();
        if !core.is_empty() {
            let (before, after) = around(&message.content);
            content = format!("{before}{}{index}{MARK_CLOSE}{after}", self.open);
        }
        Message { role: message.role, content }
    }

    /// Cuts a marked text at the marks and fills them in; also says which messages were seen.
    pub(super) fn cut(&self, text: &str, messages: &[Message]) -> (Vec<Segment>, Vec<bool>) {
        let mut seen: Vec<bool> = messages.iter().map(|message| message.content.trim().is_empty()).collect();
        let mut segments = Vec::new();
        let mut add = |text: &str, special| segments.push(Segment { text: text.to_owned(), special });
        let mut parts = text.split(self.open.as_str());
        add(parts.next().unwrap_or_default(), SpecialTokens::Parse);
        for part in parts {
            let digits = part.find(|each: char| !each.is_ascii_digit()).unwrap_or(part.len());
            let after = &part[digits..];
            // A template may have cut the end off; then the result is not what it writes for the message itself.
            let after = after.strip_prefix(MARK_CLOSE).unwrap_or(after);
            if let Some((index, message)) =
                part[..digits].parse().ok().and_then(|at: usize| Some((at, messages.get(at)?)))
            {
                seen[index] = true;
                add(message.content.trim(), SpecialTokens::AsText);
            }
            add(after, SpecialTokens::Parse);
        }
        (segments, seen)
    }
}

/// The spaces before and after a text that is not only spaces.
fn around(text: &str) -> (&str, &str) {
    let before = text.len() - text.trim_start().len();
    (&text[..before], &text[text.trim_end().len()..])
}
