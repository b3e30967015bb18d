//! [`Source`]: a Rust file with its comments, its code and its texts told apart, line by line.
//!
//! A scanner, not a parser: it knows comments, strings and characters, so that rules never trip over a brace in a
//! text or a word in a comment. It judges nothing.

use std::iter::Peekable;
use std::ops::RangeInclusive;
use std::str::Chars;

/// A Rust file. Lines are counted from 0.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Each line without comments; what stands in strings and characters is written as `x`.
    pub(super) code: Vec<String>,
    /// The comments of each line.
    pub(super) comments: Vec<String>,
}

/// A function found in a file.
#[derive(Debug, PartialEq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) lines: RangeInclusive<usize>,
}

/// Where the scanner writes the next character.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Comment,
    Text,
}

impl Source {
    pub(super) fn read(text: &str) -> Self {
        let mut scanner = Scanner { characters: text.chars().peekable(), source: Self::default() };
        scanner.line();
        scanner.run();
        scanner.source
    }

    /// Whether the line has code, which a line that only closes a string has too.
    pub(super) fn has_code(&self, line: usize) -> bool {
        !self.code[line].trim().is_empty()
    }

    /// Lines of code that are not in a `#[cfg(test)]` module.
    pub(super) fn lines_of_code(&self) -> usize {
        let tests = self.test_modules();
        (0..self.code.len())
            .filter(|line| self.has_code(*line) && !tests.iter().any(|tests| tests.contains(line)))
            .count()
    }

    /// Modules marked `#[cfg(test)]`, from the mark to the closing brace.
    pub(super) fn test_modules(&self) -> Vec<RangeInclusive<usize>> {
        let marked = (0..self.code.len()).filter(|line| self.code[*line].trim() == "#[cfg(test)]");
        marked.filter_map(|mark| Some(mark..=*self.body(mark + 1, 0)?.end())).collect()
    }

    /// Functions with a body, and the lines from `fn` to the closing brace.
    pub(super) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for (line, code) in self.code.iter().enumerate() {
            for at in words(code, "fn") {
                let name: String = code[at + 2..]
                    .trim_start()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if let (false, Some(lines)) = (name.is_empty(), self.body(line, at)) {
                    functions.push(Function { name, lines });
                }
            }
        }
        functions
    }

    /// The lines from this place to the brace that closes the first block; `None` where a `;` comes first.
    fn body(&self, line: usize, column: usize) -> Option<RangeInclusive<usize>> {
        let (mut braces, mut brackets) = (0_usize, 0_usize);
        for (at, code) in self.code.iter().enumerate().skip(line) {
            for character in code.chars().skip(if at == line { column } else { 0 }) {
                match character {
                    '(' | '[' => brackets += 1,
                    ')' | ']' => brackets = brackets.saturating_sub(1),
                    ';' if braces == 0 && brackets == 0 => return None,
                    '{' => braces += 1,
                    '}' if braces <= 1 => return Some(line..=at),
                    '}' => braces -= 1,
                    _ => {}
                }
            }
        }
        None
    }
}

/// Where `word` stands in the line as a word of its own.
pub(super) fn words<'a>(line: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_word = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).map(|(at, _)| at).filter(move |at| {
        !part_of_word(line[..*at].chars().next_back())
            && !part_of_word(line[at + word.len()..].chars().next())
    })
}

struct Scanner<'a> {
    characters: Peekable<Chars<'a>>,
    source: Source,
}

impl Scanner<'_> {
    fn run(&mut self) {
        while let Some(character) = self.characters.next() {
            match (character, self.characters.peek().copied()) {
                ('/', Some('/')) => self.line_comment(),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.string(),
                ('r', Some('"' | '#')) if !self.inside_word() => self.raw_string(),
                ('\'', _) => self.quote(),
                _ => self.put(character, Kind::Code),
            }
        }
    }

    fn line(&mut self) {
        self.source.code.push(String::new());
        self.source.comments.push(String::new());
    }

    fn put(&mut self, character: char, kind: Kind) {
        let lines = if kind == Kind::Comment { &mut self.source.comments } else { &mut self.source.code };
        match (character, lines.last_mut()) {
            ('\n', _) => self.line(),
            (_, Some(line)) if kind == Kind::Text && !character.is_whitespace() => line.push('x'),
            (_, Some(line)) => line.push(character),
            (_, None) => {}
        }
    }

    /// Whether the last character belongs to a name, so that an `r` here begins no string; `br"` and `cr"` do.
    fn inside_word(&self) -> bool {
        let mut before = self.source.code.last().into_iter().flat_map(|line| line.chars().rev());
        let name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        match before.next() {
            Some('b' | 'c') => name(before.next()),
            last => name(last),
        }
    }

    fn line_comment(&mut self) {
        self.put('/', Kind::Comment);
        while let Some(character) = self.characters.next_if(|c| *c != '\n') {
            self.put(character, Kind::Comment);
        }
    }

    fn block_comment(&mut self) {
        self.put('/', Kind::Comment);
        let mut depth = 0_usize;
        let mut before = '/';
        while let Some(character) = self.characters.next() {
            self.put(character, Kind::Comment);
            // The last character of a mark is not the first one of the next.
            before = match (before, character) {
                ('/', '*') => {
                    depth += 1;
                    ' '
                }
                ('*', '/') if depth <= 1 => return,
                ('*', '/') => {
                    depth -= 1;
                    ' '
                }
                _ => character,
            };
        }
    }

    fn string(&mut self) {
        self.put('"', Kind::Code);
        while let Some(character) = self.characters.next() {
            match character {
                '"' => return self.put('"', Kind::Code),
                '\\' => {
                    self.put('\\', Kind::Text);
                    if let Some(escaped) = self.characters.next() {
                        self.put(escaped, Kind::Text);
                    }
                }
                _ => self.put(character, Kind::Text),
            }
        }
    }

    fn raw_string(&mut self) {
        self.put('r', Kind::Code);
        let mut marks = 0;
        while self.characters.next_if_eq(&'#').is_some() {
            marks += 1;
        }
        // r#name is a name.
        if self.characters.next_if_eq(&'"').is_none() {
            return;
        }
        self.put('"', Kind::Code);
        let mut closing = None;
        while let Some(character) = self.characters.next() {
            closing = match (character, closing) {
                ('"', _) => Some(0),
                ('#', Some(seen)) => Some(seen + 1),
                _ => None,
            };
            self.put(character, Kind::Text);
            if closing == Some(marks) {
                return self.put('"', Kind::Code);
            }
        }
    }

    /// A character, or the start of a lifetime.
    fn quote(&mut self) {
        self.put('\'', Kind::Code);
        let mut ahead = self.characters.clone();
        let lifetime = ahead.next() != Some('\\') && ahead.next() != Some('\'');
        if lifetime {
            return;
        }
        while let Some(character) = self.characters.next() {
            match character {
                '\'' => return self.put('\'', Kind::Code),
                '\\' => {
                    self.characters.next();
                    self.put('x', Kind::Text);
                }
                _ => self.put(character, Kind::Text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_told_from_code() {
        for (text, code) in [
            ("a // b", "a "),
            ("a /* b /* c */ d */ e", "a  e"),
            (r#"a("{ // \" }")"#, "a(\"x xx xx x\")"),
            (r##"a(r#"{" b"#)"##, "a(r\"xx xxx\")"),
            ("br\"{\" ", "br\"xx\" "),
            ("r#type", "rtype"),
            ("'{' 'a '\\'' b'\\\\'", "'x' 'a 'x' b'x'"),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ] {
            assert_eq!(Source::read(text).code, [code], "{text}");
        }
    }

    #[test]
    fn lines_of_comments_blanks_and_tests_are_not_counted() {
        let text = "//! Doc\n\nfn f() {\n    // why\n    g(\"\n  }\n\");\n}\n\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n";
        assert_eq!(Source::read(text).lines_of_code(), 5);
    }

    #[test]
    fn functions_end_at_their_own_brace() {
        let text = "trait T {\n    fn declared(&self, x: [u8; 4]);\n    fn given(\n        &self,\n    ) {\n        {}\n    }\n}\ntype F = fn(u8) -> u8;\n";
        let functions = Source::read(text).functions();
        assert_eq!(functions, [Function { name: "given".to_owned(), lines: 2..=6 }]);
    }
}
