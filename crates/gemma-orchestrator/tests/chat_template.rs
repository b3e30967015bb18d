//! Which texts a chat template writes where a text begins and ends: those of the model's own files.

use std::fs;
use std::path::Path;

use gemma_orchestrator::Model;
use gemma_text::Message;
use serde_json::json;
use tempfile::TempDir;

/// Writes both names and what a message says.
const TEMPLATE: &str = "{{ bos_token }}|{{ messages[0].content }}|{{ eos_token }}";

/// The smallest model of the goldens with a tokenizer whose texts are not Gemma's, and `files` besides.
fn rendered(files: &[(&str, String)]) -> String {
    let folder = TempDir::new().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gemma-matformer/tests/goldens/four-layers");
    for name in ["config.json", "model.safetensors"] {
        fs::copy(golden.join(name), folder.path().join(name)).unwrap();
    }
    let special: Vec<_> = ["<unk>", "<s>", "</s>", "<begin>", "<end>"]
        .iter()
        .enumerate()
        .map(|(id, text)| json!({ "id": id, "content": text, "special": true }))
        .collect();
    let tokenizer = json!({
        "added_tokens": special,
        "normalizer": { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " }, { "type": "Fuse" }] },
        "model": { "type": "BPE", "unk_token": "<unk>", "vocab": { "<unk>": 0, "a": 5 }, "merges": [] },
    });
    fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let template = Model::open(folder.path(), None).unwrap().chat_template().unwrap();
    template.render_text(&[Message::user("a")], true).unwrap()
}

#[test]
fn a_template_writes_the_tokens_of_the_model_s_own_files() {
    let file = || ("chat_template.jinja", TEMPLATE.to_owned());
    let config = |value: serde_json::Value| ("tokenizer_config.json", value.to_string());
    let both = json!({ "bos_token": "<begin>", "eos_token": { "content": "<end>" } });
    let one = json!({ "bos_token": "<begin>" });
    let inside = json!({ "eos_token": "<end>", "chat_template": TEMPLATE });
    let other = json!({ "bos_token": "<begin>", "eos_token": "<end>", "chat_template": "not this one" });
    for (files, expected) in [
        (vec![file()], "<s>|a|</s>"),
        (vec![file(), config(both)], "<begin>|a|<end>"),
        (vec![file(), config(one)], "<begin>|a|</s>"),
        (vec![config(inside)], "<s>|a|<end>"),
        (vec![file(), config(other)], "<begin>|a|<end>"),
        (vec![config(json!({}))], "<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n"),
        (vec![], "<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n"),
    ] {
        assert_eq!(rendered(&files), expected, "{files:?}");
    }
}
