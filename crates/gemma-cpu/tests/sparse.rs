//! Feed-forward networks with a cutoff: sparse products against dense ones, the copies and their memory, the counts.

use std::sync::Arc;

use gemma_cpu::pool::Pool;
use gemma_cpu::simd::{
    Activations, ActiveUnits, Isa, Kernels, Turned, linear, linear_columns, linear_columns_rounded,
};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::block::quantise_row;
use gemma_hal::{
    CacheLayout, Call, DType, Deadline, Device, Executable, Op, Outputs, Plan, PlanBuilder, Rows, Storage,
    Weight,
};

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn weight(dtype: DType, rows: usize, columns: usize, seed: u64) -> Weight {
    let mut bytes = vec![0xff; 2];
    for row in values(rows * columns, seed).chunks(columns) {
        bytes.extend(quantise_row(dtype, row));
    }
    Weight::new(Storage::new("test", bytes), 2, rows, columns, dtype).unwrap()
}

/// A row in which the given fraction of the values is not zero.
fn gate(columns: usize, fraction: f32, seed: u64) -> Vec<f32> {
    let chosen = values(columns, seed + 1);
    values(columns, seed)
        .iter()
        .zip(chosen)
        .map(|(value, x)| if x < 2.0 * fraction - 1.0 { *value } else { 0.0 })
        .collect()
}

fn assert_same_bits(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{what}: {a} and {b} at {i}");
    }
}

/// Rows, columns and the columns of the parent that the weight is the left part of.
fn shapes(dtype: DType) -> Vec<(usize, usize, usize)> {
    match dtype.block_len() {
        1 => vec![
            (96, 224, 288),
            (33, 1056, 1056),
            (45, 1, 3),
            (31, 1025, 1025),
            (64, 77, 80),
            (700, 2080, 2080),
        ],
        32 => vec![(96, 224, 288), (33, 1056, 1056), (1, 32, 32), (700, 2080, 2080)],
        _ => vec![(96, 512, 768), (33, 1280, 1280), (1, 256, 256), (700, 2304, 2304)],
    }
}

#[test]
fn sums_over_columns_have_the_bits_of_the_dense_product() {
    for dtype in DType::ALL {
        for (rows, columns, parent) in shapes(dtype) {
            let weight = weight(dtype, rows, parent, 1).columns_view(columns).unwrap();
            for threads in [1, 3] {
                let pool = Pool::new(threads).unwrap();
                let turned = Turned::new(&pool, &weight);
                assert!(Turned::size(&weight) >= weight.bytes(), "{dtype} {rows}x{columns}");
                for isa in Isa::available() {
                    for fraction in [0.0, 0.002, 0.05, 0.4, 1.0] {
                        compare(isa, &pool, &weight, &turned, fraction);
                    }
                }
            }
        }
    }
}

/// The products of both kinds of activations, for an input of which the given fraction is not zero.
fn compare(isa: Isa, pool: &Pool, weight: &Weight, turned: &Turned, fraction: f32) {
    let (dtype, rows, columns) = (weight.dtype(), weight.rows(), weight.columns());
    let what = format!("{} {dtype} {rows}x{columns}, {fraction} of the units", isa.name());
    let input = gate(columns, fraction, 3);
    let mut active = ActiveUnits::with_capacity(columns);
    let count = active.find(isa, &input);
    assert_eq!(count, input.iter().filter(|x| **x != 0.0).count());
    let chosen: Vec<f32> = active.units().iter().map(|unit| input[*unit as usize]).collect();
    let (mut sparse, mut dense) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
    linear_columns(isa, pool, turned, &active, &chosen, &mut sparse);
    linear(isa, pool, weight, &input, 1, &mut dense);
    assert_same_bits(&what, &sparse, &dense);
    let kernels = Kernels { isa, activations: Activations::Int8 };
    if kernels.rounds_for(dtype) {
        sparse.fill(f32::NAN);
        linear_columns_rounded(isa, pool, turned, &input, &mut sparse);
        linear(kernels, pool, weight, &input, 1, &mut dense);
        assert_same_bits(&format!("{what}, rounded"), &sparse, &dense);
    }
}

const HIDDEN: usize = 256;
const UNITS: usize = 1280;
const TOKENS: usize = 8;

/// The weights of a network, to be shared by plans.
struct Network {
    table: Weight,
    gate: Weight,
    up: Weight,
    down: Weight,
}

impl Network {
    fn new(dtype: DType) -> Self {
        Self {
            table: weight(DType::F32, TOKENS, HIDDEN, 1),
            gate: weight(dtype, UNITS, HIDDEN, 2),
            up: weight(dtype, UNITS, HIDDEN, 3),
            down: weight(dtype, HIDDEN, UNITS, 4),
        }
    }

    fn plan(&self, max_tokens: usize, cutoff: f32) -> Arc<Plan> {
        let layout = CacheLayout { layers: Vec::new(), dtype: DType::F16 };
        let mut plan = PlanBuilder::new("network", max_tokens, Outputs::All, 1e-6, layout);
        let table = plan.weight("table", self.table.clone());
        let (gate, up) = (plan.weight("gate", self.gate.clone()), plan.weight("up", self.up.clone()));
        let down = plan.weight("down", self.down.clone());
        let input = plan.buffer("input", Rows::Tokens, HIDDEN);
        let (gated, hidden) =
            (plan.buffer("gated", Rows::Tokens, UNITS), plan.buffer("hidden", Rows::Tokens, UNITS));
        let output = plan.buffer("output", Rows::Tokens, HIDDEN);
        plan.push(None, Op::Embed { table, scale: 1.0, output: input });
        plan.push(
            None,
            Op::FeedForward { input, gate, up, down, cutoff: Some(cutoff), gated, hidden, output },
        );
        Arc::new(plan.finish(Some(output)).unwrap())
    }
}

fn device(isa: Isa, threads: usize, memory: u64) -> CpuDevice {
    device_of(Kernels { isa, activations: Activations::Int8 }, threads, memory)
}

fn device_of(kernels: Kernels, threads: usize, memory: u64) -> CpuDevice {
    let Kernels { isa, activations } = kernels;
    CpuDevice::new(CpuOptions { threads, isa, activations, memory }).unwrap()
}

fn run(device: &CpuDevice, executable: &mut dyn Executable, tokens: &[u32]) -> Vec<f32> {
    let layout = executable.plan().cache().clone();
    let mut cache = device.create_cache(&layout, TOKENS, TOKENS).unwrap();
    executable.run(Call { tokens, cache: cache.as_mut(), deadline: Deadline::never(), probe: None }).unwrap();
    executable.output().to_vec()
}

/// Cutoffs at which none, few, a sixth, about a fifth, most and all units stay.
const CUTOFFS: [f32; 6] = [100.0, 2.0, 1.0, 0.8, -0.5, -100.0];

#[test]
fn few_tokens_give_the_bits_that_many_give() {
    let tokens: Vec<u32> = (0..TOKENS as u32).collect();
    for dtype in DType::ALL {
        let network = Network::new(dtype);
        for isa in Isa::available() {
            for (threads, activations) in [1, 3]
                .into_iter()
                .flat_map(|threads| Activations::ALL.map(|activations| (threads, activations)))
            {
                let device = device_of(Kernels { isa, activations }, threads, 1 << 30);
                for cutoff in CUTOFFS {
                    let mut many = device.prepare(network.plan(TOKENS, cutoff)).unwrap();
                    let expected = run(&device, many.as_mut(), &tokens);
                    for rows in [1, 4] {
                        let mut few = device.prepare(network.plan(rows, cutoff)).unwrap();
                        let found: Vec<f32> = tokens
                            .chunks(rows)
                            .flat_map(|tokens| run(&device, few.as_mut(), tokens))
                            .collect();
                        let what = format!(
                            "{} {dtype} {}, cutoff {cutoff}, {rows} tokens",
                            isa.name(),
                            activations.name()
                        );
                        assert_same_bits(&what, &found, &expected);
                    }
                }
            }
        }
    }
}

#[test]
fn without_room_for_a_copy_the_same_comes_out() {
    let network = Network::new(DType::Q4_0);
    let plan = network.plan(1, 1.5);
    let roomy = device(Isa::detect(), 2, 1 << 30);
    let mut with = roomy.prepare(Arc::clone(&plan)).unwrap();
    // Enough for the activations, not for the copy beside them.
    let tight = device(Isa::detect(), 2, Turned::size(&network.down) + 4096);
    let mut without = tight.prepare(plan).unwrap();
    assert!(tight.memory().used < Turned::size(&network.down));
    assert!(roomy.memory().used > Turned::size(&network.down));
    assert_same_bits("no copy", &run(&tight, without.as_mut(), &[7]), &run(&roomy, with.as_mut(), &[7]));
}

#[test]
fn plans_share_a_copy_and_the_last_one_frees_it() {
    let (network, other) = (Network::new(DType::Q4_0), Network::new(DType::Q4_0));
    let device = device(Isa::detect(), 2, 1 << 30);
    let size = Turned::size(&network.down);
    let first = device.prepare(network.plan(1, 1.5)).unwrap();
    let one = device.memory().used;
    let second = device.prepare(network.plan(1, 1.5)).unwrap();
    assert_eq!(device.memory().used, 2 * one - size, "the second plan has the first one's copy");
    let third = device.prepare(other.plan(1, 1.5)).unwrap();
    assert_eq!(device.memory().used, 3 * one - size, "other weights have a copy of their own");
    drop(first);
    drop(third);
    assert_eq!(device.memory().used, one, "a plan is left that needs the copy");
    drop(second);
    assert_eq!(device.memory().used, 0);
    let again = device.prepare(network.plan(1, 1.5)).unwrap();
    assert_eq!(device.memory().used, one);
    drop(again);
}

#[test]
fn active_units_are_counted() {
    for (dtype, (cutoff, whole)) in
        DType::ALL.into_iter().flat_map(|dtype| [(1.0, false), (-100.0, true)].map(|case| (dtype, case)))
    {
        let network = Network::new(dtype);
        let device = device(Isa::detect(), 1, 1 << 30);
        let mut executable = device.prepare(network.plan(4, cutoff)).unwrap();
        run(&device, executable.as_mut(), &[1, 2, 3]);
        let counted = device.sparsity();
        assert_eq!(counted.units, 3 * UNITS as u64);
        let fraction = counted.active_fraction().unwrap();
        // Of normal values 16 % are more than a standard deviation above the mean.
        let expected = if whole { 1.0..1.01 } else { 0.1..0.2 };
        assert!(expected.contains(&fraction), "{dtype}: {fraction} active above {cutoff}");
        let both = (network.up.values() + network.down.values()) as f64 * 3.0;
        let skipped = counted.skipped.flops as f64 / 2.0 / both;
        let wanted = if whole { 0.0 } else { 1.0 - fraction };
        assert!((skipped - wanted).abs() < 1e-9, "{dtype}: {skipped} of the values skipped");
        if dtype == DType::F32 {
            assert_eq!(counted.skipped.weight_bytes, counted.skipped.flops * 2, "four bytes a value");
        }
    }
}
