//! `gemma eval` in the form that scripts and other engines rely on, against transformers' numbers.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{golden, run, run_in_f32, text};

/// The most that a logit may differ from transformers'.
const LOGIT_BOUND: f32 = 5e-3;

struct Golden {
    ids: Vec<Vec<u32>>,
    logits: Vec<Vec<f32>>,
    greedy: Vec<Vec<u32>>,
}

impl Golden {
    fn read(name: &str) -> Self {
        let bytes = fs::read(golden(name).join("golden.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let words =
            |name: String| tensors.tensor(&name).ok().map(|tensor| tensor.data().as_chunks::<4>().0.to_vec());
        let all = |kind: &str| (0..).map_while(|i| words(format!("p{i}.{kind}"))).collect::<Vec<_>>();
        let ids = |kind| {
            all(kind).into_iter().map(|words| words.into_iter().map(u32::from_le_bytes).collect()).collect()
        };
        let logits =
            all("logits").into_iter().map(|words| words.into_iter().map(f32::from_le_bytes).collect());
        Self { ids: ids("ids"), logits: logits.collect(), greedy: ids("greedy") }
    }
}

fn write_prompts(folder: &Path, prompts: &Value) -> String {
    let path = folder.join("prompts.json");
    fs::write(&path, prompts.to_string()).unwrap();
    text(&path).to_owned()
}

/// −log p of every token but the first, in f64.
fn nll(logits: &[f32], ids: &[u32]) -> f64 {
    let rows = logits.chunks_exact(logits.len() / ids.len());
    let loss = |(row, next): (&[f32], &u32)| {
        let total: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
        total.ln() - f64::from(row[*next as usize])
    };
    rows.zip(&ids[1..]).map(loss).sum()
}

#[test]
fn greedy_tokens_losses_and_logits_are_transformers() {
    let slice = golden("sliced-child/slice.toml");
    for (model, expected, more) in [
        ("four-layers", "four-layers", &[][..]),
        ("four-layers", "four-layers", &["--device", "reference"]),
        ("four-layers-gguf/model.gguf", "four-layers-gguf", &[]),
        ("sliced-parent", "sliced-child", &["--slice", text(&slice)]),
    ] {
        let expected = Golden::read(expected);
        let folder = TempDir::new().unwrap();
        let prompts = write_prompts(folder.path(), &json!(expected.ids));
        let logits = folder.path().join("logits.safetensors");
        let new = expected.greedy[0].len().to_string();
        let (model_path, out) = (golden(model), text(&logits));
        let arguments = [
            "eval",
            "--model",
            text(&model_path),
            "--tokens",
            &prompts,
            "--new",
            &new,
            "--out-logits",
            out,
            "--json",
        ];
        let report = run_in_f32(&[&arguments[..], more].concat()).json();

        let items = report["items"].as_array().unwrap();
        assert_eq!(items.len(), expected.ids.len(), "{model}");
        let bytes = fs::read(&logits).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.len(), expected.ids.len(), "{model}");
        for (index, (item, ids)) in items.iter().zip(&expected.ids).enumerate() {
            let what = format!("{model} {more:?}, prompt {index}");
            assert_eq!(item.as_object().unwrap().len(), 3, "{what}: prompt, greedy, nll");
            assert_eq!(item["prompt"], json!(ids), "{what}");
            assert_eq!(item["greedy"], json!(expected.greedy[index]), "{what}");
            let off = (item["nll"].as_f64().unwrap() - nll(&expected.logits[index], ids)).abs();
            assert!(off <= 2.0 * f64::from(LOGIT_BOUND) * ids.len() as f64, "{what}: nll is off by {off}");

            let tensor = tensors.tensor(&format!("p{index}.logits")).unwrap();
            let vocabulary = expected.logits[index].len() / ids.len();
            assert_eq!(
                (tensor.dtype(), tensor.shape()),
                (Dtype::F32, &[ids.len(), vocabulary][..]),
                "{what}"
            );
            let found = tensor.data().as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word));
            for (found, expected) in found.zip(&expected.logits[index]) {
                assert!((found - expected).abs() <= LOGIT_BOUND, "{what}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn end_tokens_do_not_stop_it() {
    let folder = TempDir::new().unwrap();
    let prompts = write_prompts(folder.path(), &json!([[2, 1], [2]]));
    let report = run(&["eval", "--tokens", &prompts, "--new", "40", "--json"]).json();
    for item in report["items"].as_array().unwrap() {
        assert_eq!(item["greedy"].as_array().unwrap().len(), 40, "{item}");
    }
    assert_eq!(report["items"][1]["nll"], 0.0, "one token predicts nothing");
}

#[test]
fn the_text_form_has_the_same_numbers() {
    let folder = TempDir::new().unwrap();
    let prompts = write_prompts(folder.path(), &json!([[2, 5, 9]]));
    let arguments = ["eval", "--tokens", &prompts, "--new", "2"];
    let report = run(&[&arguments[..], &["--json"]].concat()).json();
    let item = &report["items"][0];
    let expected = format!(
        "prompt 0: 3 tokens, {:.4} nats, greedy [{}, {}]\n",
        item["nll"].as_f64().unwrap(),
        item["greedy"][0],
        item["greedy"][1]
    );
    assert_eq!(run(&arguments).ok(), expected);
}

#[test]
fn prompts_that_cannot_be_run() {
    let late_id: Vec<u32> = (0..33).map(|i| if i == 32 { 5000 } else { 5 }).collect();
    for (prompts, more, message) in [
        (json!([[]]), &[][..], "prompt 0 is empty; a prompt has at least one token"),
        (json!([[1, "two"]]), &[], "not a list of lists of token ids"),
        (json!([[-1]]), &[], "not a list of lists of token ids"),
        (json!({"a": 1}), &[], "not a list of lists of token ids"),
        (json!([[5, 320]]), &[], "token 320 is outside of the vocabulary of 320"),
        // Beyond the first chunk, where its loss is looked up before it is run.
        (json!([late_id]), &[], "token 5000 is outside of the vocabulary of 320"),
        (json!([vec![5; 513]]), &[], "the context holds 512"),
        (json!([[5]]), &["--new", "513"], "need 513 positions, but the context holds 512"),
        (json!([[5]]), &["--new", "18446744073709551615"], "but the context holds 512"),
        (json!([[5, 6]]), &["--new", "4", "-c", "4"], "need 5 positions, but the context holds 4"),
        (json!([[5]]), &["--out-logits", "/no/such/folder/logits"], "/no/such/folder/logits: "),
    ] {
        let folder = TempDir::new().unwrap();
        let path = write_prompts(folder.path(), &prompts);
        let model = golden("four-layers");
        let arguments = [&["eval", "-m", text(&model), "--tokens", &path], more].concat();
        let stderr = run(&arguments).fails(2);
        assert!(stderr.contains(message), "{more:?}: {stderr}");
    }
}

#[test]
fn no_prompts_are_no_items() {
    let folder = TempDir::new().unwrap();
    let prompts = write_prompts(folder.path(), &json!([]));
    assert_eq!(run(&["eval", "--tokens", &prompts, "--json"]).json(), json!({ "items": [] }));
}
