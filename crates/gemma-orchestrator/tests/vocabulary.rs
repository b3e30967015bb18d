//! A tokenizer.json as the arrays of a GGUF file: no more is written than it takes to read the same tokenizer back.

use gemma_matformer::checkpoint::GgufVocabulary;
use gemma_orchestrator::vocabulary::{from_gguf, from_json};
use gemma_text::{SpecialTokens, Tokenizer};
use serde_json::{Value, json};

const SPECIAL: [&str; 5] = ["<pad>", "<eos>", "<bos>", "<unk>", "<end_of_turn>"];
const PIECES: [&str; 14] = [
    "\u{2581}",
    "a",
    "b",
    "c",
    "\n",
    "ab",
    "bc",
    "abc",
    "\u{2581}a",
    "\u{2581}ab",
    "▁▁",
    "▁▁▁",
    "▁▁▁▁",
    "\n\n",
];
const TEXTS: [&str; 6] = ["abcab  bc", "   a", "a    abc     b", "\n\n\nab é😀", " ", "<bos>ab<end_of_turn>"];

/// A tokenizer.json in Gemma's layout, with these merges.
fn tokenizer_json(merges: &[[&str; 2]]) -> Value {
    let bytes = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"));
    let pieces = SPECIAL.iter().map(ToString::to_string).chain(bytes).chain(PIECES.map(str::to_owned));
    let ids: Vec<String> = pieces.collect();
    let id = |piece: &str| ids.iter().position(|other| other == piece).unwrap();
    let special = SPECIAL.iter().map(|text| json!({"id": id(text), "content": text, "special": true}));
    let whole = ["\n\n", "▁▁", "▁▁▁", "▁▁▁▁"];
    let whole = whole.iter().map(|text| json!({"id": id(text), "content": text, "special": false}));
    let vocabulary: serde_json::Map<String, Value> =
        ids.iter().map(|piece| (piece.clone(), json!(id(piece)))).collect();
    json!({
        "added_tokens": special.chain(whole).collect::<Vec<_>>(),
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<bos>", "type_id": 0}}]},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                  "vocab": vocabulary, "merges": merges},
    })
}

/// Every cut of every piece, as converters of SentencePiece models write them: runs of spaces have one score.
const ALL_CUTS: [[&str; 2]; 14] = [
    ["▁▁▁", "▁"],
    ["▁▁", "▁▁"],
    ["▁▁", "▁"],
    ["▁", "▁▁▁"],
    ["▁", "▁▁"],
    ["▁", "▁"],
    ["\n", "\n"],
    ["a", "b"],
    ["ab", "c"],
    ["a", "bc"],
    ["▁", "a"],
    ["b", "c"],
    ["▁a", "b"],
    ["▁", "ab"],
];

fn written(json: &Value) -> GgufVocabulary {
    from_json(json.to_string().as_bytes(), "tokenizer.json").unwrap()
}

#[track_caller]
fn assert_reads_back(json: &Value, written: &GgufVocabulary) {
    let expected = Tokenizer::from_json(json.to_string().as_bytes(), "tokenizer.json").unwrap();
    let found = Tokenizer::from_vocabulary(&from_gguf(written, "model.gguf").unwrap()).unwrap();
    for text in TEXTS {
        for special in [SpecialTokens::AsText, SpecialTokens::Parse] {
            let ids = expected.encode(text, special).unwrap();
            assert_eq!(found.encode(text, special).unwrap(), ids, "{text:?}");
            assert_eq!(found.decode(&ids), expected.decode(&ids), "{text:?}");
        }
    }
    assert_eq!(found.encode_prompt("ab").unwrap(), expected.encode_prompt("ab").unwrap());
}

#[test]
fn merges_that_scores_give_again_are_left_out() {
    let json = tokenizer_json(&ALL_CUTS);
    let written = written(&json);
    assert_eq!((written.merges.len(), written.huggingface_json.as_deref()), (0, None));
    assert_reads_back(&json, &written);
}

#[test]
fn merges_that_scores_do_not_give_are_kept() {
    let order = [7, 11, 8, 10, 12, 5, 2, 0];
    for (name, merges) in [
        ("one cut a piece", order.map(|index| ALL_CUTS[index]).to_vec()),
        ("a short left part first", ALL_CUTS.iter().rev().copied().collect()),
    ] {
        let json = tokenizer_json(&merges);
        let written = written(&json);
        assert_eq!(written.merges.len(), merges.len(), "{name}");
        assert_eq!(written.huggingface_json, None, "{name}");
        assert_reads_back(&json, &written);
    }
}

#[test]
fn what_arrays_cannot_say_stays_as_json() {
    let mut spaces = tokenizer_json(&ALL_CUTS);
    spaces["normalizer"] = Value::Null;
    let mut unknown = tokenizer_json(&ALL_CUTS);
    unknown["model"]["byte_fallback"] = json!(false);
    for (name, json) in [("spaces stay", spaces), ("no bytes", unknown)] {
        let kept = written(&json).huggingface_json.unwrap_or_else(|| panic!("{name}: the JSON is gone"));
        assert_eq!(serde_json::from_str::<Value>(&kept).unwrap(), json, "{name}");
    }
}
