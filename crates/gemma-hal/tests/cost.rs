//! Operations and bytes of every operation, worked out by hand for the sizes of `support`.

mod support;

use gemma_hal::op::{Heads, LinearPart, Op, RotaryKeyValue};
use gemma_hal::{Cost, DType, Outputs, Plan, Rows, Storage, Weight};
use support::*;

/// Tokens of a run, and the position of the first.
const RUN: (usize, usize) = (2, 3);

/// A plan that ends with the operation of `make`.
fn plan(make: impl Fn(&mut Draft) -> Op) -> Plan {
    let mut draft = Draft::new(8, Outputs::None);
    let op = make(&mut draft);
    draft.push(op);
    draft.finish(None).unwrap()
}

fn last_cost(plan: &Plan, (tokens, start): (usize, usize)) -> Cost {
    plan.op_cost(&plan.steps().last().unwrap().op, tokens, start)
}

fn cost(flops: u64, weight_bytes: u64, cache_bytes: u64) -> Cost {
    Cost { flops, weight_bytes, cache_bytes }
}

#[test]
fn every_operation_for_two_tokens() {
    let cases: [(Make, Cost); 16] = [
        // 6 values scaled a token; a row of 24 bytes each.
        (embed, cost(2 * 6, 2 * 24, 0)),
        // 8 of 20 rows of 6: 48 values, once. 8 of 20 values of a table row, each token. A norm of 4.
        (per_layer_embed, cost(2 * 2 * 48, 4 * 48 + 2 * 4 * 8 + 4 * 4, 0)),
        // 2 projections of 36 values.
        (altup_init, cost(2 * 2 * 72, 4 * 72, 0)),
        // Norms 6 + 6, router 18, coefficients 27; then 3 streams from 3, of 6 values.
        (altup_predict, cost(2 * (2 * 57 + 2 * 3 * 3 * 6), 4 * 57, 0)),
        // 4 operations for each value of 2 buffers of 6; a norm.
        (rms_norm, cost(2 * 4 * 12, 4 * 6, 0)),
        // 4 operations for each value of 3 buffers of 6; two norms.
        (add_norm, cost(2 * 4 * 18, 4 * 12, 0)),
        // 10 and 5 outputs from 6 inputs.
        (linear, cost(2 * 2 * 90, 4 * 90, 0)),
        // 4 operations for each of 16 + 8 + 8 values; two norms of 4; a key and a value of 8 halves, each token.
        (rotary, cost(2 * 4 * 32, 4 * 8, 2 * 2 * 8 * 2)),
        // Queries of 16 at positions 3 and 4 see 4 and 5 positions: products with keys, sums of values.
        (attention, cost(2 * 2 * 16 * (4 + 5), 0, 5 * 2 * 8 * 2)),
        // 4 operations for each value of 3 streams and 5 buffers of 6; three norms.
        (attention_residual, cost(2 * 4 * (18 + 30), 4 * 18, 0)),
        (feed_forward, cost(2 * 2 * 180, 4 * 180, 0)),
        // Norms 6 + 6, router 18, coefficients 9.
        (altup_correct, cost(2 * (2 * 39 + 2 * 3 * 3 * 6), 4 * 39, 0)),
        // Scale and norm 6 + 6, gate and projection 24 + 24.
        (per_layer_input, cost(2 * 2 * 60, 4 * 60, 0)),
        (select_outputs, cost(0, 0, 0)),
        // 2 projections of 36 and a norm of 6.
        (altup_merge, cost(2 * 2 * 78, 4 * 78, 0)),
        (unembed, cost(2 * 2 * 120, 4 * 120, 0)),
    ];
    for (make, expected) in cases {
        let plan = plan(make);
        let op = plan.steps().last().unwrap().op.name();
        assert_eq!(last_cost(&plan, RUN), expected, "{op}");
        assert_eq!(last_cost(&plan, (0, 3)), Cost::default(), "{op}, no tokens");
    }
}

#[test]
fn attention_grows_with_the_position_up_to_the_window() {
    let layer = |layer: usize| {
        plan(move |d| {
            let mut op = attention(d);
            let Op::Attention { cache_layer, .. } = &mut op else { unreachable!() };
            *cache_layer = layer;
            op
        })
    };
    let (windowed, full) = (layer(0), layer(1));
    // A pair of a query and a position costs 4 · 16 operations; a position is 2 · 8 halves.
    let expected = |pairs: u64, positions: u64| cost(64 * pairs, 0, 32 * positions);
    for (run, in_window, in_full) in [
        ((1, 0), (1, 1), (1, 1)),
        ((8, 0), (1 + 2 + 3 + 4 + 5 * 4, 8), (36, 8)),
        ((1, 4), (5, 5), (5, 5)),
        ((1, 5), (5, 5), (6, 6)),
        ((1, 1000), (5, 5), (1001, 1001)),
        ((2, 1000), (10, 6), (1001 + 1002, 1002)),
    ] {
        assert_eq!(last_cost(&windowed, run), expected(in_window.0, in_window.1), "{run:?}, window");
        assert_eq!(last_cost(&full, run), expected(in_full.0, in_full.1), "{run:?}, full");
    }
}

#[test]
fn a_cache_in_blocks_counts_their_scales() {
    let heads = Heads { query: 4, key_value: 2, dim: 32 };
    let mut draft = Draft::with_cache(8, Outputs::None, heads, DType::Q8_0);
    let query = draft.input("query", heads.query_width());
    let (key, value) = (draft.input("key", 64), draft.input("value", 64));
    let key_value = Some(RotaryKeyValue { key, value, norm: draft.norm("norm", 32), value_norm: true });
    draft.push(Op::Rotary { heads, theta: 1e4, stretch: 1.0, cache_layer: 1, query: None, key_value });
    let output = draft.buffer("output", heads.query_width());
    draft.push(Op::Attention { heads, cache_layer: 1, query, output });
    let plan = draft.finish(None).unwrap();
    // A key and a value are two blocks of 34 bytes each. Two tokens are written, and five positions seen.
    let position = 2 * 2 * 34;
    let bytes: Vec<u64> = plan.steps().iter().map(|step| plan.op_cost(&step.op, 2, 3).cache_bytes).collect();
    assert_eq!(bytes, [0, 0, 0, 2 * position, 5 * position]);
}

#[test]
fn stored_blocks_and_views_count_their_own_bytes() {
    for (dtype, row) in [(DType::BF16, 128), (DType::Q8_0, 68), (DType::Q4_0, 36)] {
        let plan = plan(|d| {
            let bytes = dtype.row_bytes(96).unwrap() * 10;
            let parent = Weight::new(Storage::new("zeros", vec![0; bytes]), 0, 10, 96, dtype).unwrap();
            // 7 rows of 64 values, 96 apart.
            let view = parent.rows_view(2, 7).unwrap().columns_view(64).unwrap();
            let input = d.input("input", 64);
            let part = LinearPart { weight: d.plan.weight("view", view), output: d.buffer("output", 7) };
            Op::Linear { input, parts: vec![part] }
        });
        assert_eq!(last_cost(&plan, (3, 0)), cost(3 * 2 * 7 * 64, 7 * row, 0), "{dtype}");
    }
}

#[test]
fn rows_of_outputs_cost_as_many_as_there_are() {
    for (outputs, rows) in [(Outputs::None, 0), (Outputs::Last, 1), (Outputs::All, 8)] {
        let mut draft = Draft::new(8, outputs);
        let input = draft.selected("input", 6);
        let output = draft.plan.buffer("output", Rows::Outputs, 5);
        let parts = vec![LinearPart { weight: draft.weight("weight", 5, 6), output }];
        draft.push(Op::Linear { input, parts });
        let plan = draft.finish((outputs != Outputs::None).then_some(output)).unwrap();
        let bytes = if rows == 0 { 0 } else { 4 * 30 };
        assert_eq!(last_cost(&plan, (8, 0)), cost(rows * 2 * 30, bytes, 0), "{outputs:?}");
    }
}

#[test]
fn a_plan_costs_what_its_operations_cost() {
    let plan = plan(rotary);
    // Three inputs of 16, 8 and 8 values in front.
    let inputs = cost(2 * 32, 2 * 4 * 32, 0);
    assert_eq!(plan.cost(RUN.0, RUN.1), inputs + last_cost(&plan, RUN));
    assert_eq!(cost(1, 2, 3) + cost(10, 20, 30), cost(11, 22, 33));
    assert_eq!([cost(1, 2, 3); 3].into_iter().sum::<Cost>(), cost(3, 6, 9));
    assert_eq!(cost(1, 2, 3).bytes(), 5);
}
