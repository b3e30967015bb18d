//! The plain Burn decoder beside the engine: on Flex, which shares no arithmetic with it, and on a GPU with quantised layers.

#[path = "../../gemma-igpu/tests/common/mod.rs"]
mod vulkan;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use gemma_burn::{Cache, Decoder, DecoderError, Place};
use gemma_cpu::reference::ReferenceDevice;
use gemma_hal::conformance::nmse;
use gemma_hal::{DType, Deadline};
use gemma_orchestrator::{Engine, EngineOptions, Model, Session, evaluate};
use safetensors::SafeTensors;

const PROMPT: &str = "Once upon a time, there was a fox who";
/// Tokens of a greedy continuation.
const TOKENS: usize = 24;
/// The most that the logits of a token may differ from the reference's: squared, relative to their squares.
const ERROR_BOUND: f64 = 1e-9;
/// The most that one logit, between −30 and 30, may differ from the reference's.
const LOGIT_BOUND: f32 = 1e-3;
/// The most that a logit may differ from that of transformers, as in the engine's own comparison.
const GOLDEN_BOUND: f32 = 5e-3;

/// Models of Gemma 3n among the goldens: the model, its golden, and the slice to take.
const GOLDENS: [(&str, &str, Option<&str>); 5] = [
    ("four-layers", "four-layers", None),
    ("ten-layers", "ten-layers", None),
    ("thirty-layers", "thirty-layers", None),
    ("sliced-parent", "sliced-child", Some("sliced-child/slice.toml")),
    ("four-layers-gguf/model.gguf", "four-layers-gguf", None),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gemma-matformer/tests/goldens")
}

/// The story model that is part of the program.
fn built_in() -> Model {
    Model::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano-q8_0.gguf"), None).unwrap()
}

fn decoder(model: &Model, place: Place<'_>) -> Decoder {
    Decoder::load(&model.config, &model.weights, place).unwrap()
}

/// The logits of every token of `tokens`, run at once.
fn all_logits(decoder: &Decoder, tokens: &[u32]) -> Vec<f32> {
    decoder.forward(tokens, &mut Cache::default()).unwrap().into_data().try_to_vec().unwrap()
}

/// The likeliest tokens behind `prompt`, one a run, and the logits they were taken from.
fn greedy(decoder: &Decoder, prompt: &[u32], count: usize) -> (Vec<u32>, Vec<Vec<f32>>) {
    let (mut cache, mut next) = (Cache::default(), prompt.to_vec());
    let (mut tokens, mut logits) = (Vec::new(), Vec::new());
    while tokens.len() < count {
        let all: Vec<f32> = decoder.forward(&next, &mut cache).unwrap().into_data().try_to_vec().unwrap();
        let last = all[all.len() / next.len() * (next.len() - 1)..].to_vec();
        next = vec![evaluate::argmax(&last)];
        tokens.push(next[0]);
        logits.push(last);
    }
    (tokens, logits)
}

/// The reference device behind the engine, with keys and values as they are.
fn reference(model: &Model) -> (Engine, Session) {
    let options = EngineOptions { context: 64, chunk: 64, cache_dtype: DType::F32 };
    let device = Arc::new(ReferenceDevice::new(1 << 30));
    let engine = Engine::new(model.config.clone(), model.weights.clone(), options, vec![device]).unwrap();
    let session = Session::new(&engine).unwrap();
    (engine, session)
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    differences.fold(0.0, |largest, next| if next.is_nan() { f32::INFINITY } else { next.max(largest) })
}

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    let (error, difference) = (nmse(found, expected), largest_difference(found, expected));
    assert!(error <= ERROR_BOUND && difference <= LOGIT_BOUND, "{what}: error {error:.1e}, {difference:.1e}");
}

#[test]
fn the_built_in_model_has_the_reference_s_logits_and_story() {
    let model = built_in();
    let prompt = model.tokenizer().unwrap().encode_prompt(PROMPT).unwrap();
    let (mut engine, mut session) = reference(&model);
    session.advance_to(&mut engine, &prompt, &Deadline::never()).unwrap();
    let story = evaluate::greedy(&mut engine, &mut session, TOKENS).unwrap();
    let whole: Vec<u32> = prompt.iter().chain(&story).copied().collect();
    let mut expected = Vec::new();
    session.reset();
    session
        .score(&mut engine, &whole, &Deadline::never(), &mut |_, row| expected.push(row.to_vec()))
        .unwrap();

    let decoder = decoder(&model, Place::Dense(&Device::flex()));
    let at_once = all_logits(&decoder, &whole);
    for (index, (found, expected)) in at_once.chunks_exact(model.config.vocabulary).zip(&expected).enumerate()
    {
        assert_close(&format!("position {index}, all at once"), found, expected);
    }
    let (tokens, logits) = greedy(&decoder, &prompt, TOKENS);
    assert_eq!(tokens, story);
    for (index, found) in logits.iter().enumerate() {
        assert_close(&format!("token {index}, one by one"), found, &expected[prompt.len() - 1 + index]);
    }
}

#[test]
fn models_of_every_kind_have_the_logits_of_transformers() {
    for (name, golden, slice) in GOLDENS {
        let slice = slice.map(|slice| folder().join(slice).display().to_string());
        let model = Model::open(&folder().join(name), slice.as_deref()).unwrap();
        let decoder = decoder(&model, Place::Dense(&Device::flex()));
        let bytes = std::fs::read(folder().join(golden).join("golden.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let words = |name: &str| tensors.tensor(name).ok().map(|t| t.data().as_chunks::<4>().0.to_vec());
        let mut prompts = 0;
        while let Some(ids) = words(&format!("p{prompts}.ids")) {
            let ids: Vec<u32> = ids.into_iter().map(u32::from_le_bytes).collect();
            let logits = words(&format!("p{prompts}.logits")).unwrap();
            let expected: Vec<f32> = logits.into_iter().map(f32::from_le_bytes).collect();
            let difference = largest_difference(&all_logits(&decoder, &ids), &expected);
            assert!(difference <= GOLDEN_BOUND, "{name} as {golden}, prompt {prompts}: {difference:.1e}");
            prompts += 1;
        }
        assert!(prompts >= 4, "{golden}: {prompts} prompts");
    }
}

#[test]
fn the_built_in_model_runs_on_a_gpu_with_quantised_layers() {
    let gpu = vulkan::device();
    let model = built_in();
    let prompt = model.tokenizer().unwrap().encode_prompt(PROMPT).unwrap();
    let found = all_logits(&decoder(&model, Place::Quantised(&gpu)), &prompt);
    let expected = all_logits(&decoder(&model, Place::Dense(&Device::flex())), &prompt);
    assert_close("Vulkan beside Flex", &found, &expected);
}

#[test]
fn what_cannot_be_run_is_refused_and_leaves_the_cache() {
    let model = built_in();
    let decoder = decoder(&model, Place::Dense(&Device::flex()));
    let mut cache = Cache::default();
    assert_eq!(decoder.forward(&[], &mut cache).unwrap_err(), DecoderError::NoTokens);
    let unknown = decoder.forward(&[2, 4096], &mut cache).unwrap_err();
    assert_eq!(unknown, DecoderError::Token { token: 4096, vocabulary: 4096 });
    assert!(cache.is_empty());
    let gemma3 = Model::open(&folder().join("gemma3-one-key"), None).unwrap();
    let refused = Decoder::load(&gemma3.config, &gemma3.weights, Place::Dense(&Device::flex())).unwrap_err();
    assert_eq!(refused, DecoderError::Family("Gemma 3"));
}
