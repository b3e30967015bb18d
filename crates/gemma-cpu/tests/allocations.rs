//! A run of a prepared plan allocates nothing, on no thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use gemma_cpu::simd::{Activations, Isa};
use gemma_cpu::{CpuDevice, CpuOptions};
use gemma_hal::{Call, DType, Deadline, Device, Outputs};
use gemma_matformer::plan::{self, PlanOptions};
use gemma_matformer::{Config, LayerKind, synthetic};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The thread that allocated first, by [`thread`]: the test harness's, which prints a line once a test has taken a
/// minute, as it does on an emulator.
static HARNESS: AtomicUsize = AtomicUsize::new(0);

/// An address that only the current thread has.
fn thread() -> usize {
    thread_local! {
        static MARK: u8 = const { 0 };
    }
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

fn count() {
    let own = thread();
    let first = HARNESS.compare_exchange(0, own, Ordering::Relaxed, Ordering::Relaxed);
    if first.is_err_and(|harness| harness != own) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, that is from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Six layers with every operation, sparse and dense, sliding and full, owning and sharing.
fn config() -> Config {
    let mut config = Config::e2b();
    config.layer_kinds = (0..6).map(|layer| [LayerKind::Sliding, LayerKind::Full][layer % 2]).collect();
    (config.ffn_widths, config.sparsity) = (vec![512; 6], vec![0.9, 0.9, 0.0, 0.0, 0.0, 0.0]);
    (config.hidden, config.heads, config.kv_heads, config.head_dim) = (256, 4, 2, 64);
    (config.ple_width, config.laurel_rank, config.shared_kv_layers) = (32, 32, 2);
    (config.vocabulary, config.ple_vocabulary, config.window) = (1000, 990, 16);
    config
}

#[test]
fn prefill_and_decode_allocate_nothing() {
    // On a thread of its own, since the harness may run a test on its first thread.
    std::thread::scope(|scope| scope.spawn(runs_allocate_nothing).join()).unwrap();
}

fn runs_allocate_nothing() {
    let config = config();
    let both = |dtype| Activations::ALL.map(|activations| (dtype, activations));
    let each = |isa| {
        DType::ALL.into_iter().flat_map(both).map(move |(dtype, activations)| (isa, dtype, activations))
    };
    for (isa, dtype, activations) in Isa::available().into_iter().flat_map(each) {
        let weights = synthetic::weights(&config, dtype, 1).unwrap();
        let options = CpuOptions { threads: 2, isa, activations, memory: 1 << 30 };
        let device = CpuDevice::new(options).unwrap();
        for (max_tokens, outputs, cache_dtype) in [
            (1, Outputs::Last, DType::F16),
            (1, Outputs::Last, DType::Q8_0),
            (24, Outputs::Last, DType::Q8_0),
            (24, Outputs::None, DType::F16),
        ] {
            let options = PlanOptions { name: "run".to_owned(), max_tokens, outputs, cache_dtype };
            let plan = Arc::new(plan::build(&config, &weights, &options).unwrap());
            let mut executable = device.prepare(Arc::clone(&plan)).unwrap();
            let mut cache = device.create_cache(plan.cache(), 256, 24).unwrap();
            let tokens: Vec<u32> = (0..max_tokens as u32).collect();
            let mut run = || {
                let deadline = Deadline::never();
                executable.run(Call { tokens: &tokens, cache: cache.as_mut(), deadline, probe: None })
            };
            // The first run may fill what threads keep for themselves.
            run().unwrap();
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            assert!(before > 0, "what was made so far is counted");
            for _ in 0..8 {
                run().unwrap();
            }
            let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert_eq!(made, 0, "{dtype}, {activations:?}, runs of {max_tokens} tokens, {outputs:?}");
        }
    }
}
