//! Products over the simulated array against the formula, for random tiles, shapes and orders of events.

mod common;

use std::collections::BTreeSet;

use common::{Random, matrices, product};
use gemma_npu_kernels::design::{Command, Copy, Design, Dimension, Step};
use gemma_npu_kernels::gemm::{DESIGNS, Gemm};
use gemma_npu_kernels::kernels::{Plain, Product, Shape};
use gemma_npu_kernels::simulate::{Report, SimulationError, Simulator};
use proptest::prelude::*;

/// Runs a product twice, as two calls on an NPU, and compares all of both results.
fn run(gemm: &Gemm, seed: u64) -> Report {
    let design = gemm.design().unwrap();
    let kernels = Plain { product: gemm.product, tile: gemm.tile };
    let mut simulator = Simulator::new(&design, kernels, seed).unwrap();
    let mut random = Random::new(seed);
    let mut report = Report::default();
    for _ in 0..2 {
        let [a, b] = matrices(gemm.product, gemm.shape, &mut random);
        let mut arguments = vec![a, b, random.bytes(gemm.shape.rows * gemm.shape.columns * 4)];
        report = simulator.run(&mut arguments).unwrap();
        let wanted = product(gemm.product, gemm.shape, &arguments[0], &arguments[1]);
        assert!(arguments[2] == wanted, "{gemm:?}: a wrong product");
    }
    report
}

fn shapes() -> impl Strategy<Value = Gemm> {
    let product = prop_oneof![Just(Product::I8), Just(Product::Bf16)];
    (product, [1..=3_u64, 1..=4, 1..=3], [1..=3_u64, 1..=3, 1..=3]).prop_map(|(product, tile, times)| {
        let block = product.block();
        let tile = Shape::new(2 * block.rows * tile[0], block.depth * tile[1], 2 * block.columns * tile[2]);
        let shape =
            Shape::new(4 * tile.rows * times[0], 2 * tile.depth * times[1], 4 * tile.columns * times[2]);
        Gemm { product, shape, tile }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_shape_has_the_product(gemm in shapes(), seed: u64) {
        run(&gemm, seed);
    }
}

#[test]
fn tiles_that_are_built_have_the_product() {
    for product in Product::ALL {
        let tile = product.tile();
        // Two blocks of rows, two tiles of columns for each core.
        let shape = Shape::new(8 * tile.rows, 2 * tile.depth, 8 * tile.columns);
        let report = run(&Gemm::new(product, shape), 1);
        // Each core clears four tiles and adds two products to each.
        assert_eq!(report.calls, 16 * 4 * 3);
    }
}

#[test]
fn the_depths_that_are_built_have_the_product() {
    for depth in BTreeSet::from(DESIGNS.map(|gemm| gemm.shape.depth)) {
        let tile = Shape::new(8, Product::I8.tile().depth, 16);
        let shape = Shape::new(4 * tile.rows, depth, 4 * tile.columns);
        run(&Gemm { product: Product::I8, shape, tile }, depth);
    }
}

/// A small product, changed, and what comes of it.
fn changed(change: impl Fn(&mut Design)) -> String {
    let tile = Shape::new(8, 16, 16);
    let gemm = Gemm { product: Product::I8, shape: Shape::new(96, 32, 64), tile };
    let mut design = gemm.design().unwrap();
    change(&mut design);
    let [a, b] = matrices(gemm.product, gemm.shape, &mut Random::new(7));
    let wanted = product(gemm.product, gemm.shape, &a, &b);
    let mut arguments = vec![a, b, vec![0; 96 * 64 * 4]];
    let run = Simulator::new(&design, Plain { product: gemm.product, tile }, 7)
        .and_then(|mut simulator| simulator.run(&mut arguments));
    match run {
        Err(error) => error.to_string(),
        Ok(_) if arguments[2] == wanted => "right".to_owned(),
        Ok(_) => "wrong".to_owned(),
    }
}

#[test]
fn what_goes_wrong_in_time_is_found() {
    fn copy(design: &mut Design, of: &str, change: impl Fn(usize, &mut Copy)) {
        let mut number = 0;
        for command in &mut design.sequence.commands {
            if let Command::Copy(copy) = command
                && copy.fifo == of
            {
                change(number, copy);
                number += 1;
            }
        }
    }
    type Change = fn(&mut Design);
    let cases: [(Change, &str); 6] = [
        // Nobody waits for the block before: its descriptors are still in use.
        (
            |design| {
                let waits = |command: &Command| matches!(command, Command::Wait(_));
                design.sequence.commands.sort_by_key(waits);
            },
            "while it is in use",
        ),
        (
            |design| copy(design, "a_to_memory_0", |number, copy| copy.descriptor = 9 + number as u32 % 2),
            "right",
        ),
        // Half of the depth never comes.
        (
            |design| {
                copy(design, "b_to_memory_1", |_, copy| {
                    copy.dimensions[1] = Dimension { size: 1, stride: 0 }
                });
            },
            "waits for b_to_cores_1",
        ),
        // More comes than anybody takes.
        (
            |design| {
                for column in 0..4 {
                    copy(design, &format!("c_to_shim_{column}"), |_, copy| copy.dimensions[2].size = 31);
                }
            },
            "no whole number of objects",
        ),
        (
            |design| {
                copy(design, "a_to_memory_2", |number, copy| {
                    if number == 2 {
                        copy.dimensions[0].size = 2;
                    }
                });
            },
            "the sequence has ended, but",
        ),
        // One core works on the sums before it clears them.
        (
            |design| {
                let Step::Repeat { steps, .. } = &mut design.cores[5].steps[0] else { panic!("no loop") };
                steps.swap(1, 2);
            },
            "wrong",
        ),
    ];
    for (change, wanted) in cases {
        let found = changed(change);
        assert!(found.contains(wanted), "{found}, not {wanted}");
    }
}

#[test]
fn a_wrong_order_gives_a_wrong_product() {
    for (fifo, first, second) in [("a_to_cores_3", 0, 1), ("b_to_cores_0", 1, 2), ("c_to_shim_2", 1, 2)] {
        let found = changed(|design| {
            let fifo = design.fifos.iter_mut().find(|of| of.name == fifo).unwrap();
            fifo.to_stream.swap(first, second);
        });
        assert_eq!(found, "wrong", "{fifo}");
    }
}

#[test]
fn other_buffers_are_refused() {
    let gemm = Gemm { product: Product::I8, shape: Shape::new(32, 16, 64), tile: Shape::new(8, 8, 16) };
    let design = gemm.design().unwrap();
    let mut simulator = Simulator::new(&design, Plain { product: gemm.product, tile: gemm.tile }, 1).unwrap();
    for buffers in [vec![], vec![vec![0; 512], vec![0; 1024], vec![0; 8]]] {
        let error = simulator.run(&mut buffers.clone()).unwrap_err();
        assert!(matches!(error, SimulationError::Arguments { .. }), "{error}");
    }
}
