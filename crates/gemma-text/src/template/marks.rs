//! Marks that stand for what messages say while a template runs, so that its text and theirs can be told apart.

use std::collections::BTreeSet;

use super::Message;
use crate::{Segment, SpecialTokens};

/// Marks that stand for what messages say.
pub(super) struct Marks {
    /// In neither the template nor any message. No case, no spaces, not removed by any sane filter.
    open: String,
}

const MARK_OPEN: char = '\u{F8FF}';
const MARK_CLOSE: char = '\u{F8FE}';

impl Marks {
    pub(super) fn new(source: &str, messages: &[Message]) -> Self {
        let texts = || std::iter::once(source).chain(messages.iter().map(|message| message.content.as_str()));
        let taken: BTreeSet<usize> =
            texts().flat_map(|text| text.split(MARK_OPEN).skip(1)).filter_map(leading_number).collect();
        // One of these is free. A number, not a longer run, keeps marks short whatever the messages hold.
        let number = (0..=taken.len()).find(|number| !taken.contains(number)).unwrap_or(taken.len());
        let number = if number == 0 { String::new() } else { number.to_string() };
        Self { open: format!("{MARK_OPEN}{number}\u{F8FD}") }
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

/// The number that the text begins with, 0 without digits; `None` beyond any that a mark has.
fn leading_number(text: &str) -> Option<usize> {
    let digits = text.find(|each: char| !each.is_ascii_digit()).unwrap_or(text.len());
    if digits == 0 { Some(0) } else { text[..digits].parse().ok() }
}

/// The spaces before and after a text that is not only spaces.
fn around(text: &str) -> (&str, &str) {
    let before = text.len() - text.trim_start().len();
    (&text[..before], &text[text.trim_end().len()..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;

    #[test]
    fn marks_are_new_and_short_whatever_messages_hold() {
        for (text, open) in [
            ("plain 0".to_owned(), "\u{F8FF}\u{F8FD}"),
            ("\u{F8FF}".repeat(1 << 20), "\u{F8FF}1\u{F8FD}"),
            ("\u{F8FF}\u{F8FD} \u{F8FF}2".to_owned(), "\u{F8FF}1\u{F8FD}"),
            ("\u{F8FF}0\u{F8FF}1\u{F8FF}99999999999999999999".to_owned(), "\u{F8FF}2\u{F8FD}"),
        ] {
            let marks = Marks::new("", &[Message { role: Role::User, content: text }]);
            assert_eq!(marks.open, open);
        }
        assert_eq!(Marks::new("\u{F8FF}", &[]).open, "\u{F8FF}1\u{F8FD}");
    }
}
