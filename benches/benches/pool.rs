//! What a parallel region costs when there is nothing to do in it, and how many of them a decode step of E2B has.
//!
//! Their product is the time that threads spend on each other rather than on the model. With one thread there is no
//! barrier, so its figure is the price of the call.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use gemma_cpu::pool::{Pool, PoolOptions, default_threads};
use gemma_cpu::simd::{Activations, Isa};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::{Call, DType, Deadline, Device, Outputs};
use gemma_matformer::plan::{self, PlanOptions};
use gemma_matformer::{Config, synthetic};

/// An empty region at 1, 2, 4, ... threads up to one a core; pinned and floating.
fn region(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("empty region");
    let counts = std::iter::successors(Some(1), |threads| Some(threads * 2));
    for threads in counts.take_while(|threads| *threads <= default_threads()) {
        for pin in [false, true] {
            let options = PoolOptions { pin, ..PoolOptions::new(threads) };
            let pool = Pool::with_options(options).expect("threads");
            let name = if pin { "pinned" } else { "floating" };
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter(|| {
                    pool.run(|index, _| {
                        black_box(index);
                    });
                });
            });
        }
    }
}

/// Barriers of a decode step, counted: E2B's 30 layers at their widths, with a small vocabulary.
fn barriers(criterion: &mut Criterion) {
    let mut config = Config::e2b();
    (config.vocabulary, config.ple_vocabulary) = (32_768, 32_768);
    let weights = synthetic::weights(&config, DType::Q4_0, 1).expect("the configuration is sound");
    let options = PlanOptions {
        name: "decode".to_owned(),
        max_tokens: 1,
        outputs: Outputs::Last,
        cache_dtype: DType::F16,
    };
    let plan = Arc::new(plan::build(&config, &weights, &options).expect("the weights fit"));
    let threads = default_threads().max(2);
    let device = CpuDevice::new(CpuOptions {
        threads,
        isa: Isa::detect(),
        activations: Activations::Int8,
        memory: 1 << 30,
    })
    .expect("threads");
    let mut executable = device.prepare(Arc::clone(&plan)).expect("within the budget");
    let mut cache = device.create_cache(plan.cache(), 256, 1).expect("within the budget");
    let mut step = || {
        if cache.len() == 256 {
            cache.truncate(0);
        }
        let call = Call { tokens: &[1], cache: cache.as_mut(), deadline: Deadline::never(), probe: None };
        let before = device.pool().rounds();
        executable.run(call).expect("a run within the context");
        device.pool().rounds() - before
    };
    let barriers = step();
    eprintln!(
        "a decode step of E2B: {} operations, {barriers} barriers on {threads} threads",
        plan.steps().len()
    );
    let mut group = criterion.benchmark_group("decode step");
    group.sample_size(10);
    group.bench_function(BenchmarkId::new("E2B, small vocabulary", threads), |bencher| {
        bencher.iter(&mut step);
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    targets = region, barriers
}
criterion_main!(benches);
