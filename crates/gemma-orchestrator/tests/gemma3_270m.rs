//! The published Gemma 3 270M, where a copy is at hand: runs only when `GEMMA3_270M` names its GGUF file (docs/testing.md
//! says how to get it).
//!
//! gemma3_270m.json holds what llama.cpp (ggml 0.25.3) makes of texts and prompts, and what transformers 5.23.0 makes of
//! the prompts in f32 from the file's dequantised weights.

use std::path::PathBuf;
use std::sync::Arc;

use gemma_cpu::simd::Activations;
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::{DType, Deadline};
use gemma_matformer::ModelFamily;
use gemma_orchestrator::{Engine, EngineOptions, Model, Session, evaluate};
use gemma_text::SpecialTokens;
use serde_json::Value;

const VARIABLE: &str = "GEMMA3_270M";
/// Best two logits that are closer than this may change places between engines.
const TIE: f32 = 1e-2;

/// The model, or nothing where nobody has named it.
fn model() -> Option<Model> {
    let Some(path) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
        eprintln!("{VARIABLE} is not set: nothing to test");
        return None;
    };
    Some(Model::open(&path, None).unwrap())
}

fn expected() -> Value {
    serde_json::from_str(include_str!("gemma3_270m.json")).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn the_file_says_what_it_is() {
    let Some(model) = model() else { return };
    let config = &model.config;
    assert_eq!((config.family, config.layers(), config.hidden), (ModelFamily::Gemma3, 18, 640));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (4, 1, 256));
    assert_eq!((config.query_scale, config.softcap, config.window), (1.0 / 16.0, None, 512));
    assert_eq!(model.weights.parameters(), 268_098_176);
    assert_eq!(model.checkpoint().skipped(), []);
}

#[test]
fn texts_become_the_tokens_of_llama_cpp() {
    let Some(model) = model() else { return };
    let tokenizer = model.tokenizer().unwrap();
    for sample in expected()["texts"].as_array().unwrap() {
        let text = sample["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, SpecialTokens::AsText).unwrap(), ids(&sample["ids"]), "{text:?}");
        // U+2581 in a text cannot be told from a space any more.
        assert_eq!(tokenizer.decode(&ids(&sample["ids"])), text.replace('\u{2581}', " "));
    }
}

#[test]
fn greedy_texts_are_those_of_transformers() {
    let Some(model) = model() else { return };
    // Transformers computes in f32: activations rounded to 8 bits decide otherwise where two tokens are near each other.
    let options = CpuOptions { activations: Activations::Float32, ..CpuOptions::detect(1 << 32).unwrap() };
    let device = Arc::new(CpuDevice::new(options).unwrap());
    let options = EngineOptions { context: 256, chunk: 128, cache_dtype: DType::F32 };
    let mut engine = Engine::new(model.config.clone(), model.weights.clone(), options, vec![device]).unwrap();
    let tokenizer = model.tokenizer().unwrap();
    for prompt in expected()["prompts"].as_array().unwrap() {
        let text = prompt["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode_prompt(text).unwrap(), ids(&prompt["ids"]), "{text}");
        let (expected, peer) = (ids(&prompt["transformers"]), ids(&prompt["llama_cpp"]));
        let mut session = Session::new(&engine).unwrap();
        session.extend(&mut engine, &ids(&prompt["ids"]), &Deadline::never()).unwrap();
        for (step, id) in expected.iter().enumerate() {
            let logits = session.logits();
            let found = evaluate::argmax(logits);
            let behind = logits[found as usize] - logits[*id as usize];
            assert!(behind < TIE, "{text}, step {step}: {found} is {behind} before {id}");
            session.extend(&mut engine, &[*id], &Deadline::never()).unwrap();
        }
        let same = expected.iter().zip(&peer).take_while(|(a, b)| a == b).count();
        eprintln!("{text}: as transformers; as llama.cpp for {same} of {} tokens", expected.len());
    }
}
