//! Our merging against that of the `tokenizers` crate: the same ids, whatever the vocabulary and the text.
//!
//! `GEMMA_TOKENIZER_JSON` names a published tokenizer.json to hold both against too (docs/testing.md says where from).

use std::collections::HashMap;

use gemma_text::{SpecialTokens, Tokenizer, Vocabulary};
use proptest::collection::{hash_set, vec};
use proptest::prelude::*;
use serde_json::json;
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};

const VARIABLE: &str = "GEMMA_TOKENIZER_JSON";

const NORMAL: i32 = 1;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Pieces with what else is said of each, in any order, behind the byte tokens and the unknown token.
fn pieces<T: std::fmt::Debug>(other: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<(String, T)>> {
    // Few characters, so that they often merge. What is not among the pieces becomes bytes or unknown.
    let texts = hash_set("[abc▁é日]{1,5}", 1..80).prop_map(|texts| texts.into_iter().collect());
    (texts, vec(other, 80))
        .prop_map(|(texts, others): (Vec<String>, _)| texts.into_iter().zip(others).collect())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![9 => "[abc é日\u{e9}x<>0A]{0,60}", 1 => "\\PC{0,30}"]
}

fn byte_tokens() -> Vec<String> {
    (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect()
}

/// The ids that the library gives to a whole text.
fn expected(bpe: &BPE, text: &str) -> Vec<u32> {
    bpe.tokenize(&text.replace(' ', "▁")).unwrap().iter().map(|token| token.id).collect()
}

/// As transformers' `generate_merges`, word for word.
fn generate_merges(tokens: &[String], types: &[i32], scores: &[f32]) -> Vec<(String, String)> {
    let id = |piece: &str| (0..tokens.len()).find(|id| tokens[*id] == piece && types[*id] == NORMAL);
    let mut merges = Vec::new();
    for whole in (0..tokens.len()).filter(|id| types[*id] == NORMAL) {
        let mut local = Vec::new();
        for (cut, _) in tokens[whole].char_indices().skip(1) {
            let (left, right) = tokens[whole].split_at(cut);
            if let (Some(left_id), Some(right_id)) = (id(left), id(right)) {
                local.push((left_id, right_id, left, right));
            }
        }
        local.sort_by_key(|(left_id, right_id, ..)| (*left_id, *right_id));
        merges.extend(local.into_iter().map(|(.., left, right)| (scores[whole], left, right)));
    }
    let characters = |piece: &str| piece.chars().count();
    merges.sort_by(|a, b| {
        let lengths = |merge: &(f32, &str, &str)| (characters(merge.1), characters(merge.2));
        b.0.partial_cmp(&a.0).unwrap().then(lengths(b).cmp(&lengths(a)))
    });
    merges.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn scores_merge_as_the_merges_derived_from_them(
        pieces in pieces((-4_i32..3, prop_oneof![9 => Just(NORMAL), 1 => Just(UNUSED)])),
        texts in vec(text(), 8),
    ) {
        let mut vocabulary = Vocabulary { name: "test.gguf".to_owned(), tokens: byte_tokens(), ..Vocabulary::default() };
        vocabulary.token_types = vec![BYTE; 256];
        let mut scores = vec![0.0; 256];
        for (text, (score, kind)) in pieces {
            vocabulary.tokens.push(text);
            vocabulary.token_types.push(kind);
            scores.push(score as f32 / 2.0);
        }
        let merges = generate_merges(&vocabulary.tokens, &vocabulary.token_types, &scores);
        let ids: Vocab = vocabulary.tokens.iter().cloned().zip(0..).collect();
        let bpe = BpeBuilder::new().byte_fallback(true).fuse_unk(true).vocab_and_merges(ids, merges).build().unwrap();
        vocabulary.scores = Some(scores);
        let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
        for text in texts {
            prop_assert_eq!(tokenizer.encode(&text, SpecialTokens::AsText).unwrap(), expected(&bpe, &text));
        }
    }

    #[test]
    fn lists_of_merges_merge_as_the_library_does(
        pieces in pieces(Just(())),
        order in vec(any::<prop::sample::Index>(), 0..120),
        (byte_fallback, fuse_unk, as_lines) in any::<(bool, bool, bool)>(),
        texts in vec(text(), 8),
    ) {
        let mut tokens = vec!["<unk>".to_owned()];
        tokens.extend(byte_tokens());
        tokens.extend(pieces.into_iter().map(|(text, ())| text));
        // A byte token can be part of a merge too, odd as it is.
        tokens.push("<0xC3><0x89>".to_owned());
        let ids: HashMap<String, u32> = tokens.iter().cloned().zip(0..).collect();
        let cuts = tokens.iter().flat_map(|whole| whole.char_indices().skip(1).map(|(cut, _)| whole.split_at(cut)));
        let possible: Vec<_> =
            cuts.filter(|(left, right)| ids.contains_key(*left) && ids.contains_key(*right)).collect();
        // In any order, some of them left out and some twice.
        let chosen = if possible.is_empty() { Vec::new() } else { order };
        let merges: Vec<(String, String)> = chosen.iter().map(|index| {
            let (left, right) = index.get(&possible);
            ((*left).to_owned(), (*right).to_owned())
        }).collect();
        let written: Vec<_> = merges.iter().map(|(left, right)| {
            if as_lines { json!(format!("{left} {right}")) } else { json!([left, right]) }
        }).collect();
        let file = json!({
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": fuse_unk, "byte_fallback": byte_fallback,
                      "vocab": ids, "merges": written},
        });
        let tokenizer = Tokenizer::from_json(file.to_string().as_bytes(), "tokenizer.json").unwrap();
        let bpe = BpeBuilder::new().byte_fallback(byte_fallback).fuse_unk(fuse_unk).unk_token("<unk>".to_owned())
            .vocab_and_merges(ids.into_iter().collect::<Vocab>(), merges).build().unwrap();
        for text in texts {
            prop_assert_eq!(tokenizer.encode(&text, SpecialTokens::AsText).unwrap(), expected(&bpe, &text));
        }
    }
}

#[test]
fn a_merge_that_stands_twice_has_its_last_place() {
    let file = |merges| {
        json!({
            "decoder": {"type": "Fuse"},
            "model": {"unk_token": "u", "vocab": {"u": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "bc": 5}, "merges": merges},
        })
    };
    for (merges, expected) in [(json!(["a b", "b c"]), [4, 3]), (json!(["a b", "b c", "a b"]), [1, 5])] {
        let tokenizer = Tokenizer::from_json(file(merges).to_string().as_bytes(), "tokenizer.json").unwrap();
        assert_eq!(tokenizer.encode("abc", SpecialTokens::AsText).unwrap(), expected);
    }
}

/// Texts of many languages, code, emoji, long runs, and what is no text at all.
fn samples() -> Vec<String> {
    let mut samples: Vec<String> = [
        "",
        " ",
        "  a  b   c ",
        "Hello, world!",
        "The quick brown fox jumps over the lazy dog.",
        "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
        "Voix ambiguë d'un cœur qui préfère les jattes de kiwis.",
        "Съешь ещё этих мягких французских булок, да выпей чаю.",
        "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
        "いろはにほへと ちりぬるを 色は匂へど散りぬるを",
        "視野無限廣,窗外有藍天。中文分词测试",
        "다람쥐 헌 쳇바퀴에 타고파",
        "صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت",
        "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
        "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण",
        "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
        "Þetta reddast; ğüşiöç; năm điều; Zażółć gęślą jaźń",
        "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪e\u{301}\u{1F3FD}",
        "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋ ½ ² ﬁ",
        "fn main() {\n    let mut x: Vec<u32> = vec![1, 2, 3];\n\tprintln!(\"{x:?}\");\n}\n",
        "<div class=\"a\">\r\n\t<p>x &amp; y</p>\r\n</div>",
        "SELECT * FROM t WHERE a >= 10.25 AND b != 'x''y';",
        "1234567890 3.14159e-10 0xDEADBEEF",
        "▁already ▁▁escaped▁",
        "a\u{0}b\u{1}\u{7f}\u{80}\u{FFFD}\u{10FFFF}",
        "<0x0A><0x41>",
        "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
        "<unused7> [multimodal] <mask>",
    ]
    .map(str::to_owned)
    .into();
    let mut random = 1_u64;
    let mut bytes = |count: usize| -> Vec<u8> {
        let next = |_| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 56) as u8
        };
        (0..count).map(next).collect()
    };
    samples.extend((0..200).map(|size| String::from_utf8_lossy(&bytes(size * 7)).into_owned()));
    let letters = |bytes: Vec<u8>| bytes.into_iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    samples.extend((1..50).map(|size| letters(bytes(size * 11))));
    for character in [" ", "\n", "\t", "a", "▁", "=", "-", "\r\n", " \n", "é", "日", "👍"] {
        samples.extend([1, 2, 15, 16, 30, 31, 32, 33, 63, 64, 1000].map(|count| character.repeat(count)));
    }
    let all = samples.concat();
    samples.push(all.chars().cycle().take(600_000).collect());
    samples
}

#[test]
fn a_published_tokenizer_gives_the_ids_of_the_library() {
    let Some(path) = std::env::var_os(VARIABLE) else {
        eprintln!("{VARIABLE} is not set: nothing to test");
        return;
    };
    let bytes = std::fs::read(path).unwrap();
    let tokenizer = Tokenizer::from_json(&bytes, "tokenizer.json").unwrap();
    // The arrays with scores, from which the order of merging follows, and those with merges.
    let with_merges = Vocabulary::from_json(&bytes, "tokenizer.json").unwrap();
    let with_scores = Vocabulary { merges: None, ..with_merges.clone() };
    let arrays =
        [with_merges, with_scores].map(|vocabulary| Tokenizer::from_vocabulary(&vocabulary).unwrap());
    let library = tokenizers::Tokenizer::from_bytes(&bytes).unwrap();
    for text in samples() {
        let start: String = text.chars().take(60).collect();
        let expected = library.encode(text.as_str(), false).unwrap();
        let ids = tokenizer.encode(&text, SpecialTokens::Parse).unwrap();
        assert_eq!(ids, expected.get_ids(), "{start:?}");
        // Arrays have runs of spaces as pieces like any other; a tokenizer.json has what a text spells with U+2581 as
        // tokens of their own.
        let spaces = text.replace('▁', " ");
        let ids = tokenizer.encode(&spaces, SpecialTokens::Parse).unwrap();
        for arrays in &arrays {
            assert_eq!(arrays.encode(&spaces, SpecialTokens::Parse).unwrap(), ids, "{start:?}");
        }
        let plain = tokenizer.encode(&text, SpecialTokens::AsText).unwrap();
        assert_eq!(tokenizer.decode(&plain), text.replace('▁', " "), "{start:?}");
    }
}
