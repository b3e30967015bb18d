//! A chat template of any bytes, rendered for a conversation of any content: an end within its budget, no panic.
//!
//! Up to the first NUL stands the template, what follows is what the user says. The same template is tried inside of a
//! tokenizer_config.json.
#![no_main]

use std::sync::LazyLock;

use gemma_text::{ChatTemplate, Message, SpecialTokens, Tokenizer, TokenizerConfig, Vocabulary};
use libfuzzer_sys::fuzz_target;

const CONTROL: i32 = 3;

/// Special tokens, and every byte.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let special = ["<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"].map(String::from);
    let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = special.into_iter().chain(bytes).collect();
    let token_types = (0..tokens.len()).map(|id| if id < 5 { CONTROL } else { 6 }).collect();
    let scores = Some(vec![0.0; tokens.len()]);
    let (bos, eos, unk) = (Some(1), Some(2), Some(0));
    let vocabulary = Vocabulary { tokens, token_types, scores, bos, eos, unk, ..Vocabulary::default() };
    Tokenizer::from_vocabulary(&vocabulary).expect("a sound vocabulary")
});

fuzz_target!(|data: &[u8]| {
    let _ = TokenizerConfig::from_json(data, "fuzz");
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let (source, content) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (source, content) = (String::from_utf8_lossy(source), String::from_utf8_lossy(content));
    let Ok(template) = ChatTemplate::from_source(&source, "<bos>", "<eos>") else { return };
    let messages = [Message::user(&*content), Message::assistant("Yes."), Message::user("Go on.")];
    let _ = template.render_text(&messages[..1], false);
    let Ok(segments) = template.render_segments(&TOKENIZER, &messages, true) else { return };
    // What the user wrote is in segments of its own, so its special tokens stay text.
    for segment in segments.iter().filter(|segment| segment.special == SpecialTokens::AsText) {
        let ids = TOKENIZER.encode(&segment.text, segment.special).unwrap_or_default();
        assert!(!ids.iter().any(|id| TOKENIZER.is_special(*id)), "{:?}", segment.text);
    }
});
