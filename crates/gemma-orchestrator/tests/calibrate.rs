//! Importance of inputs: the same on every device, of every matrix, and of use to the quantiser.

use std::path::Path;
use std::sync::Arc;

use gemma_cpu::reference::ReferenceDevice;
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::{DType, Device};
use gemma_matformer::export::Importance;
use gemma_orchestrator::{Engine, EngineOptions, Model, calibrate};

const TOKENS: [u32; 12] = [5, 9, 14, 20, 3, 7, 31, 8, 40, 41, 42, 11];

fn model() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gemma-matformer/tests/goldens");
    Model::open(&folder.join("ten-layers"), None).unwrap()
}

fn importance(device: Arc<dyn Device>, window: usize) -> Importance {
    let model = model();
    let options = EngineOptions { context: 32, chunk: 5, cache_dtype: DType::F32 };
    let mut engine = Engine::new(model.config, model.weights, options, vec![device]).unwrap();
    calibrate::importance(&mut engine, &TOKENS, Some(2), window, &mut |_| true).unwrap()
}

fn reference() -> Arc<dyn Device> {
    Arc::new(ReferenceDevice::new(1 << 30))
}

#[test]
fn every_matrix_with_inputs_has_one_weight_a_column() {
    let found = importance(reference(), 32);
    model().weights.for_each(&mut |name, weight| {
        let excepted = ["embed_tokens_per_layer", "modality_router"].iter().any(|part| name.contains(part));
        if weight.rows() == 1 || name.contains("_coefs") || excepted {
            assert!(!found.contains_key(name), "{name}");
            return;
        }
        let values = found.get(name).unwrap_or_else(|| panic!("{name} has none"));
        assert_eq!(values.len(), weight.columns(), "{name}");
        assert!(values.iter().all(|value| value.is_finite() && *value >= 0.0), "{name}");
        assert!(values.iter().any(|value| *value > 0.0), "{name}");
    });
}

#[test]
fn devices_agree() {
    let expected = importance(reference(), 7);
    let options = CpuOptions { threads: 2, ..CpuOptions::detect(1 << 30).unwrap() };
    let found = importance(Arc::new(CpuDevice::new(options).unwrap()), 7);
    assert_eq!(found.len(), expected.len());
    for (name, values) in &expected {
        let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(*value));
        for (found, value) in found[name].iter().zip(values) {
            assert!((found - value).abs() <= 1e-3 * largest, "{name}: {found}, not {value}");
        }
    }
}

#[test]
fn norms_make_the_mean_square_of_the_first_layer_s_inputs() {
    // The input of q is rms(x) · w, so the mean over columns of (importance / w²) is the mean square of rms(x): 1.
    let model = model();
    let norm = &model.weights.layers[0].input_norm;
    let mut scale = vec![0.0; norm.columns()];
    gemma_hal::block::dequantise_row(norm.dtype(), norm.row(0), &mut scale);
    let found = importance(reference(), 32);
    let squares = found["layers.0.self_attn.q_proj.weight"].iter().zip(&scale);
    let mean = squares.map(|(square, scale)| square / (scale * scale)).sum::<f32>() / scale.len() as f32;
    assert!((mean - 1.0).abs() < 1e-3, "{mean}");
}
