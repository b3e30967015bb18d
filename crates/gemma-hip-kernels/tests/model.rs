//! A whole small Gemma 3n on the emulated kernels, against the reference: the steps that go together in one launch do so here.

mod support;

use std::sync::Arc;

use gemma_cpu::reference::ReferenceDevice;
use gemma_hal::conformance::nmse;
use gemma_hal::{Call, DType, Deadline, Device, Outputs, Plan};
use gemma_hip_kernels::Activations;
use gemma_matformer::plan::{self, PlanOptions};
use gemma_matformer::{Config, LayerKind, synthetic};
use support::device::EmulatedDevice;

/// Tokens of a prompt, and those that follow one by one.
const PROMPT: &[u32] = &[3, 14, 159, 2, 65, 35, 89];
const LATER: &[u32] = &[79, 32, 384];

/// Four layers with every operation, sparse and dense, sliding and full, owning and sharing.
fn config() -> Config {
    let mut config = Config::e2b();
    config.layer_kinds = (0..4).map(|layer| [LayerKind::Sliding, LayerKind::Full][layer % 2]).collect();
    (config.ffn_widths, config.sparsity) = (vec![512; 4], vec![0.9, 0.9, 0.0, 0.0]);
    (config.hidden, config.heads, config.kv_heads, config.head_dim) = (256, 4, 2, 64);
    (config.ple_width, config.laurel_rank, config.shared_kv_layers) = (32, 32, 2);
    (config.vocabulary, config.ple_vocabulary, config.window) = (500, 490, 6);
    config
}

/// The logits of the prompt's last token and of each later one.
fn logits(device: &dyn Device, prefill: &Arc<Plan>, decode: &Arc<Plan>) -> Vec<f32> {
    let mut cache = device.create_cache(prefill.cache(), 64, PROMPT.len()).unwrap();
    let mut all = Vec::new();
    let mut run = |plan: &Arc<Plan>, runs: &[&[u32]]| {
        let mut executable = device.prepare(Arc::clone(plan)).unwrap();
        for tokens in runs {
            let call = Call { tokens, cache: cache.as_mut(), deadline: Deadline::never(), probe: None };
            executable.run(call).unwrap();
            all.extend_from_slice(executable.output());
        }
    };
    run(prefill, &[PROMPT]);
    run(decode, &LATER.chunks(1).collect::<Vec<_>>());
    all
}

/// With turned copies of what can be turned, or without any.
fn agrees(dtype: DType, activations: Activations, turns: bool, bound: f64) {
    let config = config();
    let weights = synthetic::weights(&config, dtype, 1).unwrap();
    let build = |max_tokens| {
        let name = "run".to_owned();
        let options = PlanOptions { name, max_tokens, outputs: Outputs::Last, cache_dtype: DType::F16 };
        Arc::new(plan::build(&config, &weights, &options).unwrap())
    };
    let (prefill, decode) = (build(PROMPT.len()), build(1));
    let device = EmulatedDevice::new(activations, turns);
    device.supports(&prefill).unwrap();
    let found = logits(&device, &prefill, &decode);
    let expected = logits(&ReferenceDevice::new(1 << 30), &prefill, &decode);
    let error = nmse(&found, &expected);
    assert!(error <= bound, "{dtype} {activations:?}: error {error:.1e}, at most {bound:.1e}");
    // A layer of decode is few launches: nothing of it is done step by step.
    let kernels = device.kernels();
    let mut expected =
        vec!["products_", "attention_step_f16", "sparse_cut_2", "sparse_up_", "per_layer_gate_", "gated_"];
    expected.extend(turns.then_some("sparse_down_"));
    for together in expected {
        assert!(kernels.iter().any(|kernel| kernel.starts_with(together)), "{together} in {kernels:?}");
    }
}

#[test]
fn a_model_with_activations_as_they_are() {
    agrees(DType::Q8_0, Activations::Float32, true, 1e-6);
}

#[test]
fn a_model_with_rounded_activations() {
    agrees(DType::Q4_0, Activations::Rounded, true, 1e-2);
}

#[test]
fn a_model_without_turned_copies() {
    agrees(DType::Q5_0, Activations::Float32, false, 1e-6);
}

#[test]
fn a_layer_of_published_widths_is_supported() {
    let mut config = Config::e4b();
    (config.layer_kinds, config.ffn_widths, config.sparsity) =
        (vec![LayerKind::Full], vec![16_384], vec![0.95]);
    (config.shared_kv_layers, config.vocabulary, config.ple_vocabulary) = (0, 500, 490);
    let weights = synthetic::weights(&config, DType::Q4_0, 1).unwrap();
    for max_tokens in [1, 512] {
        let name = "run".to_owned();
        let options = PlanOptions { name, max_tokens, outputs: Outputs::Last, cache_dtype: DType::F16 };
        let plan = plan::build(&config, &weights, &options).unwrap();
        assert_eq!(gemma_hip_kernels::prepare::unsupported(&plan), None);
    }
}
