//! Synthetic weights take no memory for the PLE table. Alone in its process: what is resident counts for all of it.

#![cfg(target_os = "linux")]

mod checkpoint_support;

use checkpoint_support::{own, tiny};
use gemma_hal::DType;
use gemma_matformer::{Config, synthetic};

#[test]
fn the_ple_table_takes_no_memory() {
    let resident_pages = || -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let before = resident_pages();
    let config = Config { ple_vocabulary: 1 << 20, ple_width: 1024, ..tiny() };
    let weights = synthetic::weights(&config, DType::F16, 1).unwrap();
    assert_eq!(own(&weights).ple_table.bytes(), 8 << 30);
    assert!(own(&weights).ple_table.row((1 << 20) - 1).iter().all(|byte| *byte == 0));
    let after = resident_pages();
    assert!(after < before + 10_000, "{before} pages before, {after} after");
}
