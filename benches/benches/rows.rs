//! Element-wise work on one token's row at Gemma 3n E2B's widths, on one thread, in values a second.
//!
//! Rows stay in the first caches, as they do between the products of a decode step.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gemma_cpu::simd::{Isa, gaussian_cut, gelu_multiply, rms_norm, soft_cap};

/// Values of a hidden row, of an FFN's row, and of the logits.
const HIDDEN: usize = 2048;
const FFN: usize = 8192;
const VOCABULARY: usize = 262_144;

/// Values from −2 to 2 in no order.
fn row(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 7919 % 4001) as f32 / 1000.0 - 2.0).collect()
}

/// One kernel over `count` values, for every instruction set that there is; `run` may overwrite the row.
fn kernel(criterion: &mut Criterion, name: &str, count: usize, mut run: impl FnMut(Isa, &mut [f32])) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(count as u64));
    let fresh = row(count);
    let mut values = fresh.clone();
    for isa in Isa::available() {
        group.bench_function(BenchmarkId::from_parameter(isa.name()), |bencher| {
            bencher.iter(|| {
                values.copy_from_slice(&fresh);
                run(isa, black_box(&mut values));
            });
        });
    }
}

fn rows(criterion: &mut Criterion) {
    let (weight, up) = (row(HIDDEN), row(FFN));
    let mut normed = vec![0.0; HIDDEN];
    kernel(criterion, "copy", HIDDEN, |_, x| {
        black_box(x);
    });
    kernel(criterion, "rms_norm", HIDDEN, |isa, x| {
        rms_norm(isa, x, Some(&weight), 1e-6, black_box(&mut normed));
    });
    kernel(criterion, "gelu_multiply", FFN, |isa, gate| gelu_multiply(isa, gate, &up));
    kernel(criterion, "gaussian_cut", FFN, |isa, gate| gaussian_cut(isa, gate, 1.645));
    kernel(criterion, "soft_cap", VOCABULARY, |isa, logits| soft_cap(isa, logits, 30.0));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_millis(500));
    targets = rows
}
criterion_main!(benches);
