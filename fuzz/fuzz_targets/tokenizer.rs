//! A tokenizer of any bytes, then a text through it: no panic, and no special token out of plain text.
//!
//! Up to the first NUL stands a tokenizer.json, or after a `v` ggml's arrays, a token a line: its type, its score as
//! a byte, its text. The text to encode follows.
#![no_main]

use gemma_text::{SpecialTokens, Tokenizer, Vocabulary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (file, text) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let tokenizer = match file.strip_prefix(b"v") {
        Some(lines) => Tokenizer::from_vocabulary(&vocabulary(lines)),
        None => Tokenizer::from_json(file, "fuzz"),
    };
    let Ok(tokenizer) = tokenizer else { return };
    let _ = tokenizer.encode_bytes(text, "fuzz", SpecialTokens::Parse);
    let text = String::from_utf8_lossy(text);
    if let Ok(ids) = tokenizer.encode(&text, SpecialTokens::AsText) {
        let special = |id: &&u32| tokenizer.is_special(**id) && tokenizer.unknown_id() != Some(**id);
        assert_eq!(ids.iter().find(special), None, "{text:?} became {ids:?}");
        let _ = tokenizer.decode(&ids);
    }
    let every: Vec<u32> = (0..=tokenizer.vocab_size().min(4096) as u32).collect();
    let _ = tokenizer.decode(&every);
});

fn vocabulary(lines: &[u8]) -> Vocabulary {
    let mut vocabulary = Vocabulary { name: "fuzz".to_owned(), add_bos: true, ..Vocabulary::default() };
    let mut scores = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let (kind, score, text) = match line {
            [kind, score, text @ ..] => (i32::from(*kind) - i32::from(b'0'), f32::from(*score as i8), text),
            short => (1, 0.0, short),
        };
        let id = Some(vocabulary.tokens.len() as u32);
        vocabulary.tokens.push(String::from_utf8_lossy(text).into_owned());
        vocabulary.token_types.push(kind);
        scores.push(score);
        match text {
            b"<bos>" => vocabulary.bos = id,
            b"<eos>" => vocabulary.eos = id,
            b"<unk>" => vocabulary.unk = id,
            _ => {}
        }
    }
    vocabulary.scores = Some(scores);
    vocabulary
}
