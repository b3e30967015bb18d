//! Layers with a cutoff in plans of one token, and what plans and slices of one checkpoint share on the GPU.

mod common;

use std::sync::Arc;

use common::{Machine, options};
use gemma_hal::conformance::nmse;
use gemma_hal::random::SplitMix64;
use gemma_hal::{
    CacheLayout, Call, DType, Deadline, Device, Executable, Op, Outputs, Plan, PlanBuilder, Rows, Storage,
    Weight, block,
};
use gemma_hip::{Activations, HipDevice, HipOptions};

const HIDDEN: usize = 256;
const UNITS: usize = 1024;
const TOKENS: usize = 6;

/// Q4_0 has 18 bytes for 32 values, turned or not; planes begin on 256 bytes.
const MATRIX: u64 = (HIDDEN * UNITS / 32 * 18) as u64;

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

fn run(device: &HipDevice, executable: &mut dyn Executable) -> Vec<f32> {
    let tokens: Vec<u32> = (0..TOKENS as u32).collect();
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

#[test]
fn one_token_by_one_gives_what_many_give() {
    let (machine, network) = (Machine::new(), Network::new());
    for (activations, bound) in [(Activations::Float32, 1e-9), (Activations::Rounded, 1e-3)] {
        let device = machine.device(activations);
        // None, a sixth, and all units stay.
        for (units, cutoff) in [(UNITS, 100.0), (UNITS, 1.0), (UNITS / 2, 1.0), (UNITS, -100.0)] {
            let mut many = device.prepare(network.plan(TOKENS, units, cutoff)).unwrap();
            let expected = run(&device, many.as_mut());
            let mut one = device.prepare(network.plan(1, units, cutoff)).unwrap();
            let found = run(&device, one.as_mut());
            let error = nmse(&found, &expected);
            assert!(error <= bound, "{activations:?}, {units} units, cutoff {cutoff}: {error:.1e}");
            assert_eq!(run(&device, one.as_mut()), found, "the same again, recorded or not");
        }
    }
}

#[test]
fn without_room_for_a_turned_copy_the_same_comes_out() {
    let (machine, plan) = (Machine::new(), Network::new().plan(1, UNITS, 1.5));
    let roomy = machine.device_with(&options());
    let mut with = roomy.prepare(Arc::clone(&plan)).unwrap();
    let held = roomy.memory().used;
    // Enough for all, but not for the copy within three quarters.
    let tight = machine.device_with(&HipOptions { memory: held, ..options() });
    let mut without = tight.prepare(plan).unwrap();
    assert!(tight.memory().used <= held - MATRIX);
    assert!(nmse(&run(&tight, without.as_mut()), &run(&roomy, with.as_mut())) < 1e-9);
}

#[test]
fn plans_and_slices_share_matrices_and_the_last_one_frees_them() {
    let (machine, network) = (Machine::new(), Network::new());
    let device = machine.device_with(&options());
    let used = || device.memory().used;
    let many = device.prepare(network.plan(2, UNITS, 1.5)).unwrap();
    let matrices = used();
    assert!(matrices > 3 * MATRIX);
    let first = device.prepare(network.plan(1, UNITS, 1.5)).unwrap();
    let with_copy = used() - matrices;
    assert!(
        (MATRIX..2 * MATRIX).contains(&with_copy),
        "matrices are shared, and a copy is made: {with_copy}"
    );
    let second = device.prepare(network.plan(1, UNITS, 1.5)).unwrap();
    assert!(used() - matrices < 2 * with_copy - MATRIX, "so is the copy");
    drop(second);
    // Rows of a slice are the first ones of a matrix, columns are not; and of a turned copy they are.
    let slice = device.prepare(network.plan(1, UNITS / 2, 1.5)).unwrap();
    let of_slice = used() - matrices - with_copy;
    assert!((MATRIX / 2..MATRIX).contains(&of_slice), "half of down, and activations: {of_slice}");
    drop((many, first));
    assert!(used() > 3 * MATRIX, "what the slice needs stays");
    drop(slice);
    assert_eq!(used(), 0);
    drop(device);
    assert_eq!(machine.count("allocations"), 0);
}
