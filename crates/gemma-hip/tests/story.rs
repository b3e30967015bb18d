//! The built-in model from its file to its text, on the emulated GPU beside the CPU.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::Machine;
use gemma_cpu::simd::Activations as CpuActivations;
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::{Deadline, Device};
use gemma_hip::Activations;
use gemma_orchestrator::{Engine, EngineOptions, Model, Session, evaluate};

const PROMPT: &str = "Once upon a time, there was a fox who";
/// Tokens of a greedy continuation.
const TOKENS: usize = 24;

/// The story model that is part of the program.
fn model() -> Model {
    Model::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano-q8_0.gguf"), None).unwrap()
}

fn cpu() -> Arc<dyn Device> {
    let options = CpuOptions { activations: CpuActivations::Float32, ..CpuOptions::detect(1 << 30).unwrap() };
    Arc::new(CpuDevice::new(options).unwrap())
}

/// The greedy continuation of the prompt by an engine on `devices`; and the device that it ended on.
fn greedy(model: &Model, devices: Vec<Arc<dyn Device>>, between: impl FnOnce()) -> (Vec<u32>, String) {
    let options = EngineOptions { context: 128, chunk: 8, cache_dtype: gemma_hal::DType::F16 };
    let mut engine = Engine::new(model.config.clone(), model.weights.clone(), options, devices).unwrap();
    let mut session = Session::new(&engine).unwrap();
    let prompt = model.tokenizer().unwrap().encode_prompt(PROMPT).unwrap();
    session.advance_to(&mut engine, &prompt, &Deadline::never()).unwrap();
    between();
    let tokens = evaluate::greedy(&mut engine, &mut session, TOKENS).unwrap();
    (tokens, engine.device().id.clone())
}

#[test]
fn the_built_in_model_tells_the_same_story_from_replayed_graphs() {
    let (model, machine) = (model(), Machine::new());
    let device = Arc::new(machine.device(Activations::Float32));
    let (expected, _) = greedy(&model, vec![cpu()], || ());
    let (found, id) = greedy(&model, vec![device.clone()], || ());
    let tokenizer = model.tokenizer().unwrap();
    assert_eq!(found, expected, "{:?} and {:?}", tokenizer.decode(&found), tokenizer.decode(&expected));
    assert_eq!(id, "hip:0");
    // All steps but the first of each plan and cache.
    assert!(machine.count("graphs") >= TOKENS as u64 - 2, "{} graphs", machine.count("graphs"));
    assert_eq!(device.memory().used, 0);
    drop(device);
    assert_eq!(machine.count("allocations"), 0);
}

#[test]
fn a_session_whose_gpu_is_lost_goes_on_with_the_cpu() {
    let model = model();
    let (expected, _) = greedy(&model, vec![cpu()], || ());
    // In the first step behind the prompt, which is some 150 launches, and in the middle of the text, where a step is one.
    for (launch, is_replayed) in [(3, false), (165, true)] {
        let machine = Machine::new();
        let gpu: Arc<dyn Device> = Arc::new(machine.device(Activations::Float32));
        let lose = || machine.set(&format!("lose-device={launch}"));
        let (found, id) = greedy(&model, vec![gpu, cpu()], lose);
        assert_eq!((&found, id.as_str()), (&expected, "cpu"), "launch {launch}");
        assert_eq!(machine.count("graphs") > 0, is_replayed, "launch {launch}");
    }
}
