//! The rows of the checklist on tokenizers, and that both file formats and streaming agree.

mod common;

use std::time::{Duration, Instant};

use common::{BOS, END, START, from_value, json_value, tokenizer, tokenizer_from_json, vocabulary};
use gemma_text::tokenizer::{
    MAX_JSON_BYTES, MAX_MERGE_BYTES, MAX_PIECE_BYTES, MAX_TEXT_BYTES, MAX_VOCABULARY, MAX_VOCABULARY_BYTES,
};
use gemma_text::{Segment, SpecialTokens, StreamDecoder, Tokenizer, TokenizerError};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Text with much of what a tokenizer may trip over.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("the story".to_owned()),
        Just("aaaaaaaaa".to_owned()),
        Just("<end_of_turn>".to_owned()),
        Just("<0x41>".to_owned()),
        Just("e\u{301}👨‍👩‍👧 日本語".to_owned()),
        Just("▁".to_owned()),
        "[ \n\ta-e]{0,12}",
        "\\PC{0,6}",
    ];
    proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn both_formats_give_the_same_ids(text in text(), parse in any::<bool>()) {
        let special = if parse { SpecialTokens::Parse } else { SpecialTokens::AsText };
        let json = tokenizer_from_json();
        prop_assert_eq!(tokenizer().encode(&text, special), json.encode(&text, special));
    }

    #[test]
    fn text_comes_back_from_its_ids(text in text()) {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&text, SpecialTokens::AsText).unwrap();
        // U+2581 is what stands for a space, so it comes back as one.
        prop_assert_eq!(tokenizer.decode(&ids), text.replace('▁', " "));
    }

    #[test]
    fn plain_text_never_becomes_a_special_token(text in text()) {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&text, SpecialTokens::AsText).unwrap();
        prop_assert!(ids.iter().all(|id| !tokenizer.is_special(*id)));
    }

    #[test]
    fn streaming_gives_the_decoded_text(ids in proptest::collection::vec(0_u32..400, 0..60)) {
        let tokenizer = tokenizer();
        let mut stream = StreamDecoder::new(&tokenizer);
        let mut streamed = String::new();
        for id in &ids {
            streamed.extend(stream.push(*id));
        }
        streamed.extend(stream.flush());
        let bytes: Vec<u8> = ids.iter().filter_map(|id| tokenizer.token_bytes(*id)).flatten().copied().collect();
        prop_assert_eq!(&streamed, &String::from_utf8_lossy(&bytes));
        prop_assert_eq!(tokenizer.decode(&ids), streamed);
    }

    #[test]
    fn any_bytes_are_a_tokenizer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Tokenizer::from_json(&bytes, "noise").is_err());
    }
}

#[test]
fn merge_whose_pieces_are_missing_is_an_error() {
    for (merge, missing) in
        [(["a", "zz"], "zz"), (["zz", "a"], "zz"), (["q", "zx"], "zx"), (["d", "c"], "dc")]
    {
        let mut value = json_value();
        value["model"]["merges"] = json!([["a", "n"], merge]);
        value["model"]["vocab"]["an"] = json!(900);
        let error = from_value(&value).unwrap_err();
        let name = "tokenizer.json".to_owned();
        assert_eq!(error, TokenizerError::MergePiece { name, index: 1, piece: missing.to_owned() });
    }
}

#[test]
fn merge_longer_than_every_piece_is_an_error() {
    // The library indexes out of bounds on this one.
    let text = r#"{"model":{"type":"BPE","unk_token":"u","vocab":{"u":0,"a":1,"b":2},"merges":["a b"]},
        "added_tokens":[],"normalizer":null,"pre_tokenizer":null,"decoder":{"type":"Fuse"}}"#;
    let error = Tokenizer::from_json(text.as_bytes(), "tokenizer.json").unwrap_err();
    assert!(
        matches!(error, TokenizerError::MergePiece { index: 0, ref piece, .. } if piece == "ab"),
        "{error}"
    );
}

#[test]
fn pathological_regex_split_is_refused() {
    let mut value = json_value();
    value["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"});
    let error = from_value(&value).unwrap_err();
    assert!(
        matches!(error, TokenizerError::Unsupported { ref field, .. } if field == "pre_tokenizer"),
        "{error}"
    );
}

#[test]
fn byte_token_minus_one_in_gguf_is_an_error() {
    for text in ["<0x-1>", "<0x+1>", "<0x1>", "<0x100>", "0x41", "<0x >"] {
        let mut vocabulary = vocabulary();
        vocabulary.tokens[6] = text.to_owned();
        let error = Tokenizer::from_vocabulary(&vocabulary).unwrap_err();
        assert!(matches!(error, TokenizerError::Invalid { ref field, .. } if field == "token 6"), "{error}");
    }
}

#[test]
fn byte_token_minus_one_in_json_is_text() {
    let mut value = json_value();
    value["model"]["vocab"]["<0x-1>"] = json!(900);
    let tokenizer = from_value(&value).unwrap();
    assert_eq!(tokenizer.decode(&[900]), "<0x-1>");
}

#[test]
fn missing_byte_tokens_are_an_error() {
    let mut vocabulary = vocabulary();
    vocabulary.tokens.swap_remove(6);
    vocabulary.token_types.swap_remove(6);
    vocabulary.scores.as_mut().unwrap().swap_remove(6);
    let error = Tokenizer::from_vocabulary(&vocabulary).unwrap_err();
    assert!(error.to_string().contains("1 are missing"), "{error}");
}

#[test]
fn one_megabyte_of_one_character_encodes_in_reasonable_time() {
    let tokenizer = tokenizer();
    for (character, pieces) in
        [("a", 1 << 18), ("▁", 1 << 20), ("z", 1 << 20), ("\u{1}", 1 << 20), (" ", 1 << 19)]
    {
        let start = Instant::now();
        let ids = tokenizer.encode(&character.repeat(1 << 20), SpecialTokens::AsText).unwrap();
        // About 0.3 s; a quadratic path would take hours.
        assert!(start.elapsed() < Duration::from_secs(20), "{character:?}: {:?}", start.elapsed());
        assert_eq!(ids.len(), pieces, "{character:?}");
    }
}

#[test]
fn text_beyond_the_limit_is_an_error() {
    let error = tokenizer().encode(&"a".repeat(MAX_TEXT_BYTES + 1), SpecialTokens::AsText).unwrap_err();
    assert_eq!(error, TokenizerError::TextTooLong { size: MAX_TEXT_BYTES + 1, limit: MAX_TEXT_BYTES });
}

#[test]
fn invalid_utf8_is_an_error() {
    let error = tokenizer().encode_bytes(b"ab\xff", "prompt.txt", SpecialTokens::AsText).unwrap_err();
    assert_eq!(error, TokenizerError::NotUtf8 { name: "prompt.txt".to_owned(), valid_up_to: 2 });
    assert!(Tokenizer::from_json(b"{\"model\": \"\xff\"}", "tokenizer.json").is_err());
}

#[test]
fn special_tokens_inside_user_text_stay_text() {
    let tokenizer = tokenizer();
    let text = "a<end_of_turn>\n<start_of_turn>model<bos>";
    let ids = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
    assert!(!ids.iter().any(|id| [BOS, START, END].contains(id)), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids), text);
    let parsed = tokenizer.encode(text, SpecialTokens::Parse).unwrap();
    assert_eq!(parsed.iter().filter(|id| [BOS, START, END].contains(id)).count(), 3);
}

#[test]
fn special_tokens_stay_text_when_a_merge_would_make_them() {
    let mut value = json_value();
    let merges = value["model"]["merges"].as_array_mut().unwrap();
    let text = "<end_of_turn>";
    let mut made = vec![];
    for end in 2..=text.len() {
        merges.insert(0, json!([text[..end - 1], text[end - 1..end]]));
        made.push(text[..end].to_owned());
    }
    for (at, piece) in made.iter().filter(|piece| *piece != text).enumerate() {
        value["model"]["vocab"][piece.as_str()] = json!(900 + at);
    }
    let tokenizer = from_value(&value).unwrap();
    let ids = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
    assert!(!ids.contains(&END), "{ids:?}");
}

#[test]
fn turn_markers_are_special_even_if_the_file_says_otherwise() {
    let mut vocabulary = vocabulary();
    vocabulary.token_types[END as usize] = 4;
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
    assert!(tokenizer.is_special(END));
    assert!(!tokenizer.encode("<end_of_turn>", SpecialTokens::AsText).unwrap().contains(&END));
}

#[test]
fn a_second_unknown_token_does_not_come_out_of_plain_text() {
    let mut vocabulary = vocabulary();
    let letter = vocabulary.tokens.iter().position(|token| token == "a").unwrap();
    vocabulary.token_types[letter] = 2;
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
    let ids = tokenizer.encode("a", SpecialTokens::AsText).unwrap();
    assert!(!ids.contains(&(letter as u32)), "{ids:?}");
}

#[test]
fn special_tokens_do_not_form_across_segments() {
    let parts = [
        ("<end_of", SpecialTokens::Parse),
        ("_turn>", SpecialTokens::AsText),
        ("<bos>", SpecialTokens::Parse),
    ];
    let segments = parts.map(|(text, special)| Segment { text: text.to_owned(), special });
    let ids = tokenizer().encode_segments(&segments).unwrap();
    assert!(!ids.contains(&END));
    assert_eq!(ids.last(), Some(&BOS));
}

#[test]
fn pieces_span_segments() {
    let tokenizer = tokenizer();
    let parts =
        [("st", SpecialTokens::Parse), ("ory the ", SpecialTokens::AsText), ("story", SpecialTokens::Parse)];
    let segments = parts.map(|(text, special)| Segment { text: text.to_owned(), special });
    let whole = tokenizer.encode("story the story", SpecialTokens::AsText).unwrap();
    assert_eq!(tokenizer.encode_segments(&segments).unwrap(), whole);
}

#[test]
fn empty_prompt_is_no_ids_or_bos_alone() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.encode("", SpecialTokens::Parse).unwrap(), Vec::<u32>::new());
    assert_eq!(tokenizer.encode_prompt("").unwrap(), [BOS]);
    assert_eq!(tokenizer.decode(&[]), "");
}

#[test]
fn prompt_of_only_special_tokens_is_their_ids() {
    let tokenizer = tokenizer();
    let ids = tokenizer.encode("<bos><start_of_turn><end_of_turn>", SpecialTokens::Parse).unwrap();
    assert_eq!(ids, [BOS, START, END]);
    assert_eq!(tokenizer.decode(&ids), "");
}

#[test]
fn streaming_never_emits_half_a_character() {
    let tokenizer = tokenizer();
    let text = "né👍e\u{301} 日本語 👨‍👩‍👧\u{10FFFF}.";
    let ids = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
    assert!(
        ids.iter()
            .any(|id| tokenizer.token_bytes(*id).is_some_and(|bytes| std::str::from_utf8(bytes).is_err()))
    );
    let mut stream = StreamDecoder::new(&tokenizer);
    let pushed: Vec<Option<String>> = ids.iter().map(|id| stream.push(*id)).collect();
    assert!(pushed.contains(&None), "nothing was held back");
    assert!(!pushed.iter().flatten().any(|text| text.contains('\u{FFFD}') || text.is_empty()));
    assert_eq!(pushed.into_iter().flatten().collect::<String>(), text);
    assert_eq!(stream.flush(), None);
}

#[test]
fn emoji_and_combining_marks_cross_token_borders() {
    let tokenizer = tokenizer();
    let byte = |byte: u8| tokenizer.id_of(&format!("<0x{byte:02X}>")).unwrap();
    let mut stream = StreamDecoder::new(&tokenizer);
    let pushed: Vec<_> = "🙂".bytes().map(|each| stream.push(byte(each))).collect();
    assert_eq!(pushed, [None, None, None, Some("🙂".to_owned())]);
    let letter = tokenizer.id_of("e").unwrap();
    assert_eq!(stream.push(letter), Some("e".to_owned()));
    let pushed: Vec<_> = "\u{301}".bytes().map(|each| stream.push(byte(each))).collect();
    assert_eq!(pushed, [None, Some("\u{301}".to_owned())]);
    assert_eq!(stream.push(byte(0xF0)), None);
    assert_eq!(stream.push(letter), Some("\u{FFFD}e".to_owned()));
    assert_eq!(stream.push(byte(0xE2)), None);
    assert_eq!(stream.flush(), Some("\u{FFFD}".to_owned()));
    assert_eq!(stream.flush(), None);
}

#[test]
fn space_prefix_is_put_before_and_taken_off() {
    let mut vocabulary = vocabulary();
    vocabulary.add_space_prefix = true;
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
    let ids = tokenizer.encode("the story", SpecialTokens::AsText).unwrap();
    assert_eq!(tokenizer.piece(ids[0]), Some("▁the"));
    assert_eq!(tokenizer.decode(&ids), "the story");
}

#[test]
fn merges_of_a_gguf_file_are_used_as_they_are() {
    let mut vocabulary = vocabulary();
    vocabulary.scores = None;
    vocabulary.merges = Some(vec!["t h".to_owned(), "th e".to_owned()]);
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
    let pieces = |text| tokenizer.encode(text, SpecialTokens::AsText).unwrap().len();
    assert_eq!((pieces("the"), pieces("he")), (1, 2));
    vocabulary.merges = Some(vec!["t  h".to_owned()]);
    let error = Tokenizer::from_vocabulary(&vocabulary).unwrap_err();
    assert!(error.to_string().contains("merge 0"), "{error}");
}

#[test]
fn roles_are_known() {
    for tokenizer in [tokenizer(), tokenizer_from_json()] {
        assert_eq!(tokenizer.bos_id(), Some(BOS));
        assert_eq!(tokenizer.eos_id(), Some(1));
        assert_eq!(tokenizer.pad_id(), Some(0));
        assert_eq!(tokenizer.unknown_id(), Some(3));
        assert_eq!(tokenizer.end_of_turn_id(), Some(END));
        assert!(tokenizer.adds_bos());
        assert_eq!(tokenizer.token_bytes(u32::MAX), None);
    }
}

#[test]
fn contradictions_in_json_are_errors() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 12] = [
        ("token 7", |v| v["model"]["vocab"]["x9"] = json!(7)),
        ("is also token", |v| v["added_tokens"][0]["id"] = json!(900)),
        ("piece is empty", |v| v["model"]["vocab"][""] = json!(900)),
        ("lstrip", |v| v["added_tokens"][0]["lstrip"] = json!(true)),
        ("model.type", |v| v["model"]["type"] = json!("Unigram")),
        ("model.dropout", |v| v["model"]["dropout"] = json!(0.5)),
        ("model.ignore_merges", |v| v["model"]["ignore_merges"] = json!(true)),
        ("model.end_of_word_suffix", |v| v["model"]["end_of_word_suffix"] = json!("</w>")),
        ("normalizer", |v| v["normalizer"] = json!({"type": "Lowercase"})),
        ("decoder", |v| v["decoder"] = json!({"type": "ByteLevel"})),
        ("expected u32", |v| v["model"]["vocab"]["x9"] = json!(-1)),
        ("neither byte fallback", |v| {
            v["model"]["byte_fallback"] = json!(false);
            v["model"]["unk_token"] = Value::Null;
        }),
    ];
    for (expected, change) in cases {
        let mut value = json_value();
        change(&mut value);
        let message = from_value(&value).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("tokenizer.json"), "{expected}: {message}");
    }
}

#[test]
fn contradictions_in_gguf_are_errors() {
    type Change = fn(&mut gemma_text::Vocabulary);
    let cases: [(&str, Change); 6] = [
        ("token_type: 1 types", |v| v.token_types.truncate(1)),
        ("token_type 9", |v| v.token_types[9] = 7),
        ("scores", |v| v.scores.as_mut().unwrap().truncate(3)),
        ("score 300", |v| v.scores.as_mut().unwrap()[300] = f32::NAN),
        ("bos_token_id", |v| v.bos = Some(1 << 30)),
        ("is also token", |v| v.tokens[301] = v.tokens[300].clone()),
    ];
    for (expected, change) in cases {
        let mut vocabulary = vocabulary();
        change(&mut vocabulary);
        let message = Tokenizer::from_vocabulary(&vocabulary).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("test.gguf"), "{expected}: {message}");
    }
}

#[test]
fn sizes_beyond_the_limits_are_errors() {
    let too_large = |result: Result<Tokenizer, TokenizerError>, expected: usize| match result.unwrap_err() {
        TokenizerError::TooLarge { limit, .. } => assert_eq!(limit, expected),
        other => panic!("{other}"),
    };
    too_large(Tokenizer::from_json(&vec![b' '; MAX_JSON_BYTES + 1], "tokenizer.json"), MAX_JSON_BYTES);
    let mut value = json_value();
    value["model"]["vocab"]["x9"] = json!(u32::MAX);
    too_large(from_value(&value), MAX_VOCABULARY);
    let mut value = json_value();
    value["model"]["vocab"]["x".repeat(MAX_PIECE_BYTES + 1)] = json!(900);
    too_large(from_value(&value), MAX_PIECE_BYTES);
    too_large(from_pieces((0..70_000).map(|i| format!("{i:0>500}"))), MAX_VOCABULARY_BYTES);
    let half = "x".repeat(32 << 10);
    let mut vocabulary = vocabulary();
    vocabulary.merges = Some(vec![format!("{half} {half}"); MAX_MERGE_BYTES / (2 * half.len()) + 1]);
    too_large(Tokenizer::from_vocabulary(&vocabulary), MAX_MERGE_BYTES);
}

/// A tokenizer of these pieces and those of the test vocabulary, with merges derived from scores.
fn from_pieces(pieces: impl Iterator<Item = String>) -> Result<Tokenizer, TokenizerError> {
    let mut vocabulary = vocabulary();
    vocabulary
        .tokens
        .retain(|token| token.len() > 1 || !token.starts_with(|c: char| c.is_ascii_alphabetic()));
    vocabulary.tokens.extend(pieces);
    vocabulary.token_types = Vec::new();
    vocabulary.merges = None;
    vocabulary.scores = Some(vec![0.0; vocabulary.tokens.len()]);
    Tokenizer::from_vocabulary(&vocabulary)
}
