//! A small tokenizer made on the spot: Gemma's special tokens, all bytes, some characters and words.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::LazyLock;

use gemma_text::{Tokenizer, Vocabulary};
use serde_json::{Value, json};

pub(crate) const BOS: u32 = 2;
pub(crate) const START: u32 = 4;
pub(crate) const END: u32 = 5;

const CONTROL: [&str; 6] = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"];
const USER_DEFINED: [&str; 3] = ["\n\n", "<table>", "  "];
const CHARACTERS: &str =
    "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"<>/_-=éü日本語👍";
const WORDS: [&str; 14] = [
    "▁the", "the", "he", "▁a", "and", "▁and", "user", "model", "turn", "of", "▁story", "aaaa", "日本",
    "hello",
];

/// The arrays of a GGUF file. Each word can be built from left to right.
pub(crate) fn vocabulary() -> Vocabulary {
    let mut tokens: Vec<String> = CONTROL.iter().map(ToString::to_string).collect();
    let mut token_types = vec![3, 3, 3, 2, 3, 3];
    for byte in 0..=255 {
        tokens.push(format!("<0x{byte:02X}>"));
        token_types.push(6);
    }
    for text in USER_DEFINED {
        tokens.push(text.to_owned());
        token_types.push(4);
    }
    tokens.extend(CHARACTERS.chars().map(String::from));
    let first_word = tokens.len();
    for word in WORDS {
        for (end, _) in word.char_indices().skip(2).chain([(word.len(), ' ')]) {
            let piece = word[..end].to_owned();
            if !tokens.contains(&piece) {
                tokens.push(piece);
            }
        }
    }
    token_types.resize(tokens.len(), 1);
    let scores =
        (0..tokens.len()).map(|id| if id < first_word { 0.0 } else { first_word as f32 - id as f32 });
    Vocabulary {
        name: "test.gguf".to_owned(),
        scores: Some(scores.collect()),
        tokens,
        token_types,
        bos: Some(BOS),
        eos: Some(1),
        unk: Some(3),
        pad: Some(0),
        add_bos: true,
        ..Vocabulary::default()
    }
}

/// The same vocabulary as a tokenizer.json, with merges found by trying all pairs of pieces.
pub(crate) fn json_value() -> Value {
    let vocabulary = vocabulary();
    let scores = vocabulary.scores.unwrap();
    let normal = |id: &usize| vocabulary.token_types[*id] == 1;
    let ids: Vec<usize> = (0..vocabulary.tokens.len()).filter(normal).collect();
    let mut merges = Vec::new();
    for left in &ids {
        for right in &ids {
            let (left, right) = (&vocabulary.tokens[*left], &vocabulary.tokens[*right]);
            if let Some(whole) = vocabulary.tokens.iter().position(|token| *token == format!("{left}{right}"))
            {
                merges.push((whole, left.chars().count(), [left.clone(), right.clone()]));
            }
        }
    }
    merges.sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]).then(b.1.cmp(&a.1)));
    let merges: Vec<_> = merges.into_iter().map(|(_, _, pair)| pair).collect();
    let added: Vec<Value> = (0..vocabulary.tokens.len())
        .filter(|id| matches!(vocabulary.token_types[*id], 2..=4))
        .map(|id| json!({"id": id, "content": vocabulary.tokens[id], "special": vocabulary.token_types[id] != 4}))
        .collect();
    let vocab: serde_json::Map<String, Value> =
        vocabulary.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                  "vocab": vocab, "merges": merges},
    })
}

pub(crate) fn tokenizer() -> Tokenizer {
    static MADE: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::from_vocabulary(&vocabulary()).unwrap());
    MADE.clone()
}

/// [`tokenizer`] from its JSON.
pub(crate) fn tokenizer_from_json() -> Tokenizer {
    static MADE: LazyLock<Tokenizer> = LazyLock::new(|| from_value(&json_value()).unwrap());
    MADE.clone()
}

pub(crate) fn from_value(value: &Value) -> Result<Tokenizer, gemma_text::TokenizerError> {
    Tokenizer::from_json(&serde_json::to_vec(value).unwrap(), "tokenizer.json")
}
