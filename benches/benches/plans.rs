//! Whole plans on the CPU device: a decode step and a prefill chunk of a decoder with E2B's layers, four of them.
//!
//! Four layers keep the weights beyond every cache and the bench within seconds; the head's vocabulary is cut.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::{Cache, Call, DType, Deadline, Device, Outputs};
use gemma_matformer::plan::{self, PlanOptions};
use gemma_matformer::{Config, LayerKind, synthetic};

/// Positions of the context; the cache is emptied when they are used up.
const CONTEXT: usize = 1024;

fn config() -> Config {
    let mut config = Config::e2b();
    config.layer_kinds = vec![LayerKind::Sliding, LayerKind::Full, LayerKind::Sliding, LayerKind::Full];
    config.ffn_widths.truncate(4);
    config.sparsity = vec![0.95, 0.95, 0.0, 0.0];
    config.shared_kv_layers = 2;
    (config.vocabulary, config.ple_vocabulary) = (32_768, 32_768);
    config
}

fn plans(criterion: &mut Criterion) {
    let config = config();
    let device = CpuDevice::new(CpuOptions::detect(1 << 30).expect("a forced instruction set is there"))
        .expect("threads can be started");
    let mut group = criterion.benchmark_group("plans");
    group.sample_size(10);
    for dtype in [DType::BF16, DType::Q8_0, DType::Q4_0] {
        let weights = synthetic::weights(&config, dtype, 1).expect("the configuration is sound");
        for (name, max_tokens) in [("decode", 1), ("prefill", 128)] {
            let outputs = Outputs::Last;
            let options = PlanOptions { name: name.to_owned(), max_tokens, outputs, cache_dtype: DType::F16 };
            let plan = Arc::new(plan::build(&config, &weights, &options).expect("the weights fit"));
            let mut executable = device.prepare(Arc::clone(&plan)).expect("within the budget");
            let mut cache =
                device.create_cache(plan.cache(), CONTEXT, max_tokens).expect("within the budget");
            let tokens: Vec<u32> = (0..max_tokens as u32).collect();
            group.throughput(Throughput::Elements(max_tokens as u64));
            group.bench_function(BenchmarkId::new(name, dtype), |bencher| {
                bencher.iter(|| {
                    if cache.len() + max_tokens > CONTEXT {
                        cache.truncate(0);
                    }
                    let cache: &mut dyn Cache = cache.as_mut();
                    let call = Call { tokens: &tokens, cache, deadline: Deadline::never(), probe: None };
                    executable.run(call).expect("a run within the context");
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, plans);
criterion_main!(benches);
