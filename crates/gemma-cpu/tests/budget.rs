//! What a prepared plan takes from the budget, and that it is taken before anything is allocated.

use std::sync::Arc;

use gemma_cpu::simd::{Activations, Isa};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::op::{Heads, Op, RotaryQuery};
use gemma_hal::{CacheLayout, DType, Device, DeviceError, Outputs, Plan, PlanBuilder, Rows, Storage, Weight};

const DIM: usize = 64;

/// An embedding and the rotation of a head, whose norm is stored as bf16.
fn plan(max_tokens: usize) -> Arc<Plan> {
    let cache = CacheLayout { layers: Vec::new(), dtype: DType::F16 };
    let mut plan = PlanBuilder::new("rotation", max_tokens, Outputs::None, 1e-6, cache);
    let storage = Storage::new("zeros", vec![0_u8; 16 * DIM]);
    let weight = |plan: &mut PlanBuilder, rows| {
        plan.weight("zeros", Weight::new(storage.clone(), 0, rows, DIM, DType::BF16).unwrap())
    };
    let (table, norm) = (weight(&mut plan, 8), weight(&mut plan, 1));
    let query = plan.buffer("query", Rows::Tokens, DIM);
    plan.push(None, Op::Embed { table, scale: 1.0, output: query });
    let heads = Heads { query: 1, key_value: 1, dim: DIM };
    let query = Some(RotaryQuery { query, norm, scale: 1.0 });
    plan.push(None, Op::Rotary { heads, theta: 1e4, stretch: 1.0, cache_layer: 0, query, key_value: None });
    Arc::new(plan.finish(None).unwrap())
}

fn device(memory: u64) -> CpuDevice {
    CpuDevice::new(CpuOptions { threads: 1, isa: Isa::detect(), activations: Activations::Float32, memory })
        .unwrap()
}

#[test]
fn arena_angles_and_decoded_norms_are_counted() {
    let plan = plan(10);
    // Half a head of frequencies, a head of angles a token, and the norm as f32.
    let expected = plan.arena().bytes() + 4 * (DIM / 2 + 10 * DIM + DIM) as u64;
    let exact = device(expected);
    let prepared = exact.prepare(Arc::clone(&plan)).unwrap();
    assert_eq!(exact.memory().used, expected);
    drop(prepared);
    assert_eq!(exact.memory().used, 0);
    let refused = device(expected - 1).prepare(plan).map(|_| ()).unwrap_err();
    let (wanted, available) = (expected, expected - 1);
    let what = "activations".to_owned();
    assert_eq!(refused, DeviceError::OutOfMemory { device: "cpu".to_owned(), what, wanted, available });
}

/// Tables of 2^56 bytes: to allocate them first would end the program.
#[test]
fn what_does_not_fit_is_refused_before_it_is_made() {
    let device = device(1 << 30);
    let refused = device.prepare(plan(1 << 48)).map(|_| ()).unwrap_err();
    assert!(matches!(refused, DeviceError::OutOfMemory { available: 0x4000_0000, .. }), "{refused}");
    assert_eq!(device.memory().used, 0);
}
