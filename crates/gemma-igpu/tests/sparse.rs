//! Layers with a cutoff in plans of one token: runs against those of plans for many, turned copies and their memory.

mod common;

use std::sync::Arc;

use common::{device, device_with, device_with_memory};
use gemma_hal::conformance::nmse;
use gemma_hal::random::SplitMix64;
use gemma_hal::{
    CacheLayout, Call, DType, Deadline, Device, Executable, Op, Outputs, Plan, PlanBuilder, Rows, Storage,
    Weight, block,
};
use gemma_igpu::{Activations, IgpuDevice};

const HIDDEN: usize = 512;
const UNITS: usize = 2048;
const TOKENS: usize = 8;

/// Q4_0 has 18 bytes for 32 values, turned or not.
const COPY: u64 = (HIDDEN * UNITS / 32 * 18) as u64;

/// The weights of a network, to be shared by plans.
struct Network {
    table: Weight,
    gate: Weight,
    up: Weight,
    down: Weight,
}

fn weight(dtype: DType, rows: usize, columns: usize, seed: u64) -> Weight {
    let mut random = SplitMix64::new(seed);
    let values: Vec<f32> = (0..rows * columns).map(|_| random.next_unit() - 0.5).collect();
    let rows_of = values.chunks_exact(columns);
    let bytes: Vec<u8> = rows_of.flat_map(|row| block::quantise_row(dtype, row)).collect();
    Weight::new(Storage::new("weight", bytes), 0, rows, columns, dtype).unwrap()
}

impl Network {
    fn new() -> Self {
        Self {
            table: weight(DType::F32, TOKENS, HIDDEN, 1),
            gate: weight(DType::Q4_0, UNITS, HIDDEN, 2),
            up: weight(DType::Q4_0, UNITS, HIDDEN, 3),
            down: weight(DType::Q4_0, HIDDEN, UNITS, 4),
        }
    }

    /// With the first `units` units.
    fn plan(&self, max_tokens: usize, units: usize, cutoff: f32) -> Arc<Plan> {
        let layout = CacheLayout { layers: Vec::new(), dtype: DType::F16 };
        let mut plan = PlanBuilder::new("network", max_tokens, Outputs::All, 1e-6, layout);
        let table = plan.weight("table", self.table.clone());
        let gate = plan.weight("gate", self.gate.rows_view(0, units).unwrap());
        let up = plan.weight("up", self.up.rows_view(0, units).unwrap());
        let down = plan.weight("down", self.down.columns_view(units).unwrap());
        let input = plan.buffer("input", Rows::Tokens, HIDDEN);
        let gated = plan.buffer("gated", Rows::Tokens, units);
        let hidden = plan.buffer("hidden", Rows::Tokens, units);
        let output = plan.buffer("output", Rows::Tokens, HIDDEN);
        plan.push(None, Op::Embed { table, scale: 1.0, output: input });
        let cutoff = Some(cutoff);
        plan.push(None, Op::FeedForward { input, gate, up, down, cutoff, gated, hidden, output });
        Arc::new(plan.finish(Some(output)).unwrap())
    }
}

fn run(device: &IgpuDevice, executable: &mut dyn Executable, tokens: &[u32]) -> Vec<f32> {
    let layout = executable.plan().cache().clone();
    let mut cache = device.create_cache(&layout, TOKENS, TOKENS).unwrap();
    let mut all = Vec::new();
    for tokens in tokens.chunks(executable.plan().max_tokens()) {
        let call = Call { tokens, cache: cache.as_mut(), deadline: Deadline::never(), probe: None };
        executable.run(call).unwrap();
        all.extend_from_slice(executable.output());
    }
    all
}

/// Cutoffs at which none, 2 %, a sixth, most and all units stay.
const CUTOFFS: [f32; 5] = [100.0, 2.0, 1.0, -0.5, -100.0];

#[test]
fn one_token_by_one_gives_what_many_give() {
    let tokens: Vec<u32> = (0..TOKENS as u32).collect();
    let network = Network::new();
    for (activations, bound) in [(Activations::Float32, 1e-9), (Activations::Rounded, 1e-3)] {
        let device = device_with(activations);
        for units in [UNITS, UNITS / 2] {
            for cutoff in CUTOFFS {
                let mut many = device.prepare(network.plan(TOKENS, units, cutoff)).unwrap();
                let expected = run(&device, many.as_mut(), &tokens);
                let mut one = device.prepare(network.plan(1, units, cutoff)).unwrap();
                let found = run(&device, one.as_mut(), &tokens);
                let error = nmse(&found, &expected);
                assert!(error <= bound, "{activations:?}, {units} units, cutoff {cutoff}: {error:.1e}");
                assert_eq!(run(&device, one.as_mut(), &tokens), found, "the same again, recorded or not");
            }
        }
    }
}

#[test]
fn without_room_for_a_copy_the_same_comes_out() {
    let plan = Network::new().plan(1, UNITS, 1.5);
    let roomy = device();
    let mut with = roomy.prepare(Arc::clone(&plan)).unwrap();
    let held = roomy.memory().used;
    // Enough for all, but not for the copy within three quarters.
    let tight = device_with_memory(Activations::Float32, held);
    let mut without = tight.prepare(plan).unwrap();
    assert_eq!(tight.memory().used, held - COPY);
    let (found, expected) = (run(&tight, without.as_mut(), &[7]), run(&roomy, with.as_mut(), &[7]));
    assert!(nmse(&found, &expected) < 1e-9);
}

#[test]
fn plans_and_slices_share_a_copy_and_the_last_one_frees_it() {
    let network = Network::new();
    let device = device_with(Activations::Rounded);
    let many = device.prepare(network.plan(2, UNITS, 1.5)).unwrap();
    let before = device.memory().used;
    let first = device.prepare(network.plan(1, UNITS, 1.5)).unwrap();
    let one = device.memory().used - before;
    let second = device.prepare(network.plan(1, UNITS, 1.5)).unwrap();
    assert_eq!(device.memory().used, before + 2 * one - COPY, "the second plan has the first one's copy");
    drop(second);
    // Its matrices are others, its copy is the beginning of the first one's.
    let slice = device.prepare(network.plan(1, UNITS / 2, 1.5)).unwrap();
    let with_slice = device.memory().used - before - one;
    drop(first);
    assert!(device.memory().used > before + with_slice, "the copy is still needed");
    drop(slice);
    assert_eq!(device.memory().used, before);
    let slice = device.prepare(network.plan(1, UNITS / 2, 1.5)).unwrap();
    assert_eq!(device.memory().used, before + with_slice + COPY / 2, "alone it has half a copy");
    drop((slice, many));
    assert_eq!(device.memory().used, 0);
}
