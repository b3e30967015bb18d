//! The whole model against Hugging Face transformers, on random tiny models (`cargo xtask goldens` makes them).
//!
//! For every prompt a golden has the logits of all positions, the norms of all streams behind every layer, and a greedy continuation. Norm weights are far from 1 and routers far from 0, so that a dropped term shows.

#[path = "../../gemma-igpu/tests/common/mod.rs"]
mod vulkan;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gemma_cpu::reference::ReferenceDevice;
use gemma_cpu::simd::{Activations, Isa};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::conformance::nmse;
use gemma_hal::{BufferId, DType, Deadline, Device, Op, Probe, Step};
use gemma_orchestrator::{Engine, EngineOptions, Model, Phase, Session, evaluate};
use safetensors::SafeTensors;

/// The most that a logit (between −30 and 30) may differ from transformers'.
const LOGIT_BOUND: f32 = 5e-3;
/// The most that the norm of a stream may differ, relative to it.
const NORM_BOUND: f32 = 1e-4;

/// A model, the golden that belongs to it, and the slice to take.
const CASES: &[(&str, &str, Option<&str>)] = &[
    ("four-layers", "four-layers", None),
    ("ten-layers", "ten-layers", None),
    ("thirty-layers", "thirty-layers", None),
    ("sliced-parent", "sliced-parent", None),
    ("sliced-parent", "sliced-child", Some("sliced-child/slice.toml")),
    ("multimodal-layout", "four-layers", None),
    ("four-layers-gguf/model.gguf", "four-layers-gguf", None),
    ("gemma3-one-key", "gemma3-one-key", None),
    ("gemma3-one-key/model.gguf", "gemma3-one-key", None),
    ("gemma3-long-window", "gemma3-long-window", None),
    ("gemma3-long-window/model.gguf", "gemma3-long-window", None),
];

struct Golden {
    prompts: Vec<GoldenPrompt>,
}

struct GoldenPrompt {
    ids: Vec<u32>,
    logits: Vec<f32>,
    /// `[layers, T, streams]`.
    norms: Vec<f32>,
    greedy: Vec<u32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gemma-matformer/tests/goldens")
}

fn golden(name: &str) -> Golden {
    let bytes = std::fs::read(folder().join(name).join("golden.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let words =
        |name: String| -> Vec<[u8; 4]> { tensors.tensor(&name).unwrap().data().as_chunks::<4>().0.to_vec() };
    let floats = |name: String| words(name).into_iter().map(f32::from_le_bytes).collect();
    let ids = |name: String| words(name).into_iter().map(u32::from_le_bytes).collect();
    let count = (0..64).take_while(|i| tensors.tensor(&format!("p{i}.ids")).is_ok()).count();
    assert!(count >= 4, "{name}: {count} prompts");
    let prompts = (0..count).map(|i| GoldenPrompt {
        ids: ids(format!("p{i}.ids")),
        logits: floats(format!("p{i}.logits")),
        norms: floats(format!("p{i}.layer_norms")),
        greedy: ids(format!("p{i}.greedy")),
    });
    Golden { prompts: prompts.collect() }
}

fn model(name: &str, slice: Option<&str>) -> Model {
    let path = folder().join(name);
    let slice = slice.map(|slice| folder().join(slice).display().to_string());
    Model::open(&path, slice.as_deref()).unwrap()
}

fn engine(model: &Model, device: &Arc<dyn Device>, chunk: usize) -> Engine {
    let options = EngineOptions { context: 64, chunk, cache_dtype: DType::F32 };
    Engine::new(model.config.clone(), model.weights.clone(), options, vec![Arc::clone(device)]).unwrap()
}

fn devices() -> Vec<Arc<dyn Device>> {
    let mut devices: Vec<Arc<dyn Device>> = vec![Arc::new(ReferenceDevice::new(1 << 30))];
    for isa in Isa::available() {
        devices.push(cpu(isa, Activations::Float32));
    }
    devices.push(Arc::new(vulkan::device()));
    devices
}

fn cpu(isa: Isa, activations: Activations) -> Arc<dyn Device> {
    let options = CpuOptions { threads: 1, isa, activations, memory: 1 << 30 };
    Arc::new(CpuDevice::new(options).unwrap())
}

fn names(device: &dyn Device) -> String {
    let info = device.info();
    format!("{} {}", info.id, info.features.join(" "))
}

fn for_each_case(check: impl Fn(&str, &Model, &Golden, &Arc<dyn Device>)) {
    for (name, golden_name, slice) in CASES {
        let (model, golden) = (model(name, *slice), golden(golden_name));
        for device in devices() {
            let what = format!("{name} as {golden_name} on {}", names(device.as_ref()));
            check(&what, &model, &golden, &device);
        }
    }
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
    differences.fold(0.0, |largest, next| if next.is_nan() { f32::INFINITY } else { next.max(largest) })
}

#[test]
fn logits_of_every_position_are_transformers() {
    for_each_case(|what, model, golden, device| {
        let mut engine = engine(model, device, 32);
        let mut session = Session::new(&engine).unwrap();
        for (index, prompt) in golden.prompts.iter().enumerate() {
            let mut logits = Vec::new();
            let mut collect = |_, row: &[f32]| logits.extend_from_slice(row);
            session.score(&mut engine, &prompt.ids, &Deadline::never(), &mut collect).unwrap();
            let error = largest_difference(&logits, &prompt.logits);
            // Shown with `--nocapture`: the table in docs/testing.md comes from here.
            eprintln!("{what}, prompt {index} of {} tokens: logits within {error:.1e}", prompt.ids.len());
            assert!(error <= LOGIT_BOUND, "{what}, prompt {index}: {error}");
        }
    });
}

/// The most that rounding activations to 8 bits may add, as squared error relative to the squared size of the logits.
const ROUNDED_BOUND: f64 = 5e-3;

#[test]
fn rounded_activations_stay_near() {
    let (model, golden) = (model("four-layers-gguf/model.gguf", None), golden("four-layers-gguf"));
    for isa in Isa::available() {
        let device = cpu(isa, Activations::Int8);
        let mut engine = engine(&model, &device, 32);
        let mut session = Session::new(&engine).unwrap();
        for (index, prompt) in golden.prompts.iter().enumerate() {
            let mut logits = Vec::new();
            let mut collect = |_, row: &[f32]| logits.extend_from_slice(row);
            session.score(&mut engine, &prompt.ids, &Deadline::never(), &mut collect).unwrap();
            let error = nmse(&logits, &prompt.logits);
            eprintln!(
                "{}, prompt {index} of {} tokens: NMSE {error:.1e}",
                names(device.as_ref()),
                prompt.ids.len()
            );
            assert!(error <= ROUNDED_BOUND, "{}, prompt {index}: {error}", names(device.as_ref()));
        }
    }
}

/// Norms of the streams behind each layer.
#[derive(Default)]
struct StreamNorms {
    hidden: usize,
    /// Whether the step before was a feed-forward network.
    behind_network: bool,
    /// Rows of norms by layer, in the order of the runs.
    layers: HashMap<u16, Vec<f32>>,
}

impl Probe for StreamNorms {
    fn after(&mut self, _index: usize, step: &Step, read: &dyn Fn(BufferId) -> Vec<f32>) {
        // What ends a layer: in Gemma 3n its per-layer input, in Gemma 3 the norm behind its feed-forward network.
        let behind_network =
            std::mem::replace(&mut self.behind_network, matches!(step.op, Op::FeedForward { .. }));
        let (streams, layer) = match (&step.op, step.layer) {
            (Op::PerLayerInput { streams, .. }, Some(layer)) => (streams, layer),
            (Op::AddNorm { residual, .. }, Some(layer)) if behind_network => (residual, layer),
            _ => return,
        };
        let norm = |stream: &[f32]| stream.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt() as f32;
        self.layers.entry(layer).or_default().extend(read(*streams).chunks_exact(self.hidden).map(norm));
    }
}

#[test]
fn every_layer_s_streams_are_transformers() {
    for_each_case(|what, model, golden, device| {
        let mut engine = engine(model, device, 32);
        for (index, prompt) in golden.prompts.iter().enumerate() {
            let mut session = Session::new(&engine).unwrap();
            let mut probe = StreamNorms { hidden: model.config.hidden, ..StreamNorms::default() };
            for chunk in prompt.ids.chunks(32) {
                session.watch(&mut engine, Phase::AllLogits, chunk, &mut probe).unwrap();
            }
            let per_layer = prompt.ids.len() * model.config.altup_streams;
            assert_eq!(prompt.norms.len(), per_layer * model.config.layers());
            for (layer, expected) in prompt.norms.chunks_exact(per_layer).enumerate() {
                let found = &probe.layers[&(layer as u16)];
                assert_eq!(found.len(), expected.len());
                let off = found.iter().zip(expected).map(|(f, e)| (f - e).abs() / e).fold(0.0, f32::max);
                assert!(off <= NORM_BOUND, "{what}, prompt {index}, layer {layer}: {off}");
            }
        }
    });
}

#[test]
fn greedy_continuations_are_transformers() {
    for_each_case(|what, model, golden, device| {
        for chunk in [1, 5, 32] {
            let mut engine = engine(model, device, chunk);
            let mut session = Session::new(&engine).unwrap();
            for (index, prompt) in golden.prompts.iter().enumerate() {
                session.reset();
                session.extend(&mut engine, &prompt.ids, &Deadline::never()).unwrap();
                let found = evaluate::greedy(&mut engine, &mut session, prompt.greedy.len()).unwrap();
                assert_eq!(found, prompt.greedy, "{what}, prompt {index}, in chunks of {chunk}");
            }
        }
    });
}

#[test]
fn cached_runs_give_the_logits_of_full_ones() {
    for_each_case(|what, model, golden, device| {
        for chunk in [1, 3, 11] {
            let mut engine = engine(model, device, chunk);
            let mut session = Session::new(&engine).unwrap();
            for (index, prompt) in golden.prompts.iter().enumerate() {
                session.reset();
                session.extend(&mut engine, &prompt.ids, &Deadline::never()).unwrap();
                let last = &prompt.logits[prompt.logits.len() - model.config.vocabulary..];
                let error = largest_difference(session.logits(), last);
                assert!(error <= LOGIT_BOUND, "{what}, prompt {index}, chunks of {chunk}: {error}");
            }
        }
    });
}

#[test]
fn the_same_values_from_either_format_give_the_same_bits() {
    for name in ["gemma3-one-key", "gemma3-long-window"] {
        for device in devices() {
            let logits = |path: &str| {
                let mut engine = engine(&model(path, None), &device, 32);
                let mut session = Session::new(&engine).unwrap();
                let mut logits = Vec::new();
                for prompt in golden(name).prompts {
                    session.reset();
                    session.extend(&mut engine, &prompt.ids, &Deadline::never()).unwrap();
                    logits.extend_from_slice(session.logits());
                }
                logits
            };
            let gguf = logits(&format!("{name}/model.gguf"));
            assert!(logits(name) == gguf, "{name} on {}", names(device.as_ref()));
        }
    }
}

#[test]
fn gemma_3_has_no_slices() {
    for slice in ["full", "1/2", "e2b", "slice.toml"] {
        let error = Model::open(&folder().join("gemma3-one-key"), Some(slice)).map(|_| ()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Gemma 3 models have no slices, only Gemma 3n models do; leave --slice out"
        );
    }
}
