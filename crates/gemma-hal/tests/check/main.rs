//! Plans with one thing wrong, each with the words that say what.
//!
//! Every case takes a sound operation and changes one field; that the sound one passes is a test of its own.

#[path = "../support/mod.rs"]
mod support;

use gemma_hal::op::{Heads, Op, RotaryKeyValue};
use gemma_hal::{BufferId, DType, Outputs, PlanError, Rows};
use support::*;

/// A change of one field: `change!(Op.field = |draft| value)`.
macro_rules! change {
    ($op:ident.$field:ident $(.$inner:ident)* = |$draft:ident| $value:expr) => {
        |$draft, op| {
            let gemma_hal::Op::$op { $field, .. } = op else { unreachable!("the case is of another operation") };
            let value = $value;
            change!(@set $field $(.$inner)*, value);
        }
    };
    (@set $field:ident, $value:ident) => { *$field = $value };
    (@set $field:ident .$inner:ident, $value:ident) => { $field.$inner = $value };
}

mod shapes;

type Change = fn(&mut Draft, &mut Op);

const SOUND: &[(&str, Make)] = &[
    ("embed", embed),
    ("per_layer_embed", per_layer_embed),
    ("altup_init", altup_init),
    ("altup_predict", altup_predict),
    ("rms_norm", rms_norm),
    ("add_norm", add_norm),
    ("linear", linear),
    ("rotary", rotary),
    ("attention", attention),
    ("attention_residual", attention_residual),
    ("feed_forward", feed_forward),
    ("altup_correct", altup_correct),
    ("per_layer_input", per_layer_input),
    ("select_outputs", select_outputs),
    ("altup_merge", altup_merge),
    ("unembed", unembed),
];

#[test]
fn sound_operations_pass() {
    for (name, make) in SOUND {
        let mut draft = Draft::new(8, Outputs::None);
        let op = make(&mut draft);
        assert_eq!(op.name(), *name);
        draft.push(op);
        draft.finish(None).unwrap();
    }
}

#[test]
fn heads_end_on_a_block_of_the_cache() {
    for (dim, sound) in [(32, true), (96, true), (48, false), (16, false)] {
        let heads = Heads { dim, ..HEADS };
        let mut draft = Draft::with_cache(8, Outputs::None, heads, DType::Q8_0);
        let width = heads.key_value_width();
        let (key, value) = (draft.input("key", width), draft.input("value", width));
        let key_value = Some(RotaryKeyValue { key, value, norm: draft.norm("norm", dim), value_norm: true });
        draft.push(Op::Rotary { heads, theta: 1e4, stretch: 1.0, cache_layer: 1, query: None, key_value });
        let problem = "a head does not end on a block of the cache's type";
        let expected = if sound { Ok(()) } else { Err(PlanError::Field { step: 2, op: "rotary", problem }) };
        assert_eq!(draft.finish(None).map(|_| ()), expected, "heads of {dim}");
    }
}

/// What `make` with `change` is refused for, without the name of the step.
fn refusal(make: Make, change: Change) -> String {
    let mut draft = Draft::new(8, Outputs::None);
    let mut op = make(&mut draft);
    change(&mut draft, &mut op);
    let (step, name) = (draft.steps, op.name());
    draft.push(op);
    let error = draft.finish(None).map(|_| ()).unwrap_err().to_string();
    let prefix = format!("step {step} ({name}): ");
    error.strip_prefix(&prefix).unwrap_or_else(|| panic!("{error} does not begin with {prefix}")).to_owned()
}

fn assert_refusals(cases: &[(Make, Change, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(index, (make, change, expected))| (index, refusal(*make, *change), expected))
        .filter(|(_, found, expected)| found != **expected)
        .map(|(index, found, expected)| format!("case {index}: {found:?}, expected {expected:?}"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn values_of_fields() {
    assert_refusals(&[
        (
            per_layer_embed,
            change!(PerLayerEmbed.blocks = |_d| vec![1, 5]),
            "a block lies outside of the projection",
        ),
        (per_layer_embed, change!(PerLayerEmbed.table = |d| d.weight("odd", 0, 20)), "the table has no rows"),
        (per_layer_embed, no_width, "a block lies outside of the projection"),
        (altup_predict, change!(AltUpPredict.active = |_d| A), "the active stream does not exist"),
        (attention_residual, change!(AttentionResidual.active = |_d| A), "the active stream does not exist"),
        (altup_correct, change!(AltUpCorrect.active = |_d| A), "the active stream does not exist"),
        (per_layer_input, change!(PerLayerInput.active = |_d| A), "the active stream does not exist"),
        (per_layer_input, change!(PerLayerInput.block = |_d| 2), "the block lies outside of the embeddings"),
        (linear, change!(Linear.parts = |_d| Vec::new()), "a product without parts"),
        (rotary, change!(Rotary.theta = |_d| 0.0), "theta is not positive"),
        (rotary, change!(Rotary.theta = |_d| f32::NAN), "theta is not positive"),
        (rotary, change!(Rotary.theta = |_d| f32::INFINITY), "theta is not positive"),
        (rotary, change!(Rotary.stretch = |_d| 0.0), "the stretch is not positive"),
        (rotary, change!(Rotary.stretch = |_d| f32::NAN), "the stretch is not positive"),
        (rotary, |_, op| query(op).scale = 0.0, "the query's scale is not positive"),
        (rotary, |_, op| query(op).scale = f32::INFINITY, "the query's scale is not positive"),
        (rotary, nothing_to_turn, "neither queries nor keys and values"),
        (rotary, outputs_only, "keys and values are not those of every token"),
        (rotary, change!(Rotary.cache_layer = |_d| 2), "the cache has no such layer"),
        (attention, change!(Attention.cache_layer = |_d| 2), "the cache has no such layer"),
        (attention, change!(Attention.heads = |_d| Heads { dim: 3, ..HEADS }), "the head's size is not even"),
        (attention, change!(Attention.heads = |_d| Heads { dim: 0, ..HEADS }), "the head's size is not even"),
        (
            attention,
            change!(Attention.heads = |_d| Heads { query: 3, ..HEADS }),
            "query heads are not a multiple of key/value heads",
        ),
        (
            attention,
            change!(Attention.heads = |_d| Heads { query: 0, ..HEADS }),
            "query heads are not a multiple of key/value heads",
        ),
        (
            attention,
            change!(Attention.heads = |_d| Heads { key_value: 0, ..HEADS }),
            "query heads are not a multiple of key/value heads",
        ),
        (
            attention,
            change!(Attention.heads = |_d| Heads { key_value: 1, ..HEADS }),
            "width of cache layer 0 is 8, expected 4",
        ),
        (rotary, change!(Rotary.heads = |_d| Heads { dim: 5, ..HEADS }), "the head's size is not even"),
        (feed_forward, change!(FeedForward.cutoff = |_d| Some(f32::INFINITY)), "the cutoff is not finite"),
        (feed_forward, change!(FeedForward.cutoff = |_d| Some(f32::NAN)), "the cutoff is not finite"),
        (unembed, change!(Unembed.softcap = |_d| Some(0.0)), "the soft cap is not positive"),
        (unembed, change!(Unembed.softcap = |_d| Some(-30.0)), "the soft cap is not positive"),
        (unembed, change!(Unembed.softcap = |_d| Some(f32::NAN)), "the soft cap is not positive"),
    ]);
}

#[test]
fn uses_of_buffers() {
    assert_refusals(&[
        (unembed, change!(Unembed.input = |d| d.buffer("odd", D)), "buffer odd is read before it is written"),
        (
            altup_predict,
            change!(AltUpPredict.streams = |d| d.buffer("odd", A * D)),
            "buffer odd is read before it is written",
        ),
        (rotary, |d, op| key_value(op).value = d.buffer("odd", 8), "buffer odd is read before it is written"),
        (
            add_norm,
            change!(AddNorm.residual = |d| d.buffer("odd", D)),
            "buffer odd is read before it is written",
        ),
        (add_norm, normed_twice, "buffer residual is used twice"),
        (attention, query_twice, "buffer query is used twice"),
        (rotary, value_twice, "buffer key is used twice"),
        (linear, output_twice, "buffer a is used twice"),
        (feed_forward, room_twice, "buffer gated is used twice"),
        (
            attention,
            change!(Attention.query = |d| d.selected("odd", 16)),
            "buffer odd has other rows than the operation",
        ),
        (attention, |d, op| outputs_of(d, op), "buffer query has other rows than the operation"),
        (
            attention_residual,
            change!(AttentionResidual.laurel = |d| d.selected("odd", D)),
            "buffer odd has other rows than the operation",
        ),
        (
            select_outputs,
            change!(SelectOutputs.input = |d| d.selected("odd", D)),
            "buffer odd has other rows than the operation",
        ),
        (
            select_outputs,
            change!(SelectOutputs.output = |d| d.buffer("odd", D)),
            "buffer odd has other rows than the operation",
        ),
    ]);
}

#[test]
fn a_cache_layer_is_written_before_it_is_read() {
    fn other_layer(d: &mut Draft) -> Op {
        keys_and_values(d, 1)
    }
    fn own_layer(d: &mut Draft) -> Op {
        keys_and_values(d, 0)
    }
    fn queries_only(d: &mut Draft) -> Op {
        let mut op = rotary(d);
        let Op::Rotary { key_value, .. } = &mut op else { unreachable!() };
        *key_value = None;
        op
    }
    let cases: [(&[Make], bool); 6] = [
        (&[reading], false),
        (&[other_layer, reading], false),
        (&[queries_only, reading], false),
        (&[reading, own_layer], false),
        (&[own_layer, reading], true),
        // The second layer shares the first one's keys and values.
        (&[own_layer, reading, queries_only, reading], true),
    ];
    for (index, (makes, sound)) in cases.into_iter().enumerate() {
        let mut draft = Draft::new(8, Outputs::None);
        let mut step = 0;
        for make in makes {
            let op = make(&mut draft);
            if op.name() == "attention" {
                step = draft.steps;
            }
            draft.push(op);
        }
        let problem = "the cache layer is read before the plan writes keys and values to it";
        let expected = if sound { Ok(()) } else { Err(PlanError::Field { step, op: "attention", problem }) };
        assert_eq!(draft.finish(None).map(|_| ()), expected, "case {index}");
    }
}

fn part(op: &mut Op) -> &mut gemma_hal::op::LinearPart {
    let Op::Linear { parts, .. } = op else { unreachable!() };
    &mut parts[1]
}

fn query(op: &mut Op) -> &mut gemma_hal::op::RotaryQuery {
    let Op::Rotary { query: Some(query), .. } = op else { unreachable!() };
    query
}

fn key_value(op: &mut Op) -> &mut gemma_hal::op::RotaryKeyValue {
    let Op::Rotary { key_value: Some(key_value), .. } = op else { unreachable!() };
    key_value
}

fn projections(op: &mut Op) -> &mut [gemma_hal::WeightId] {
    let (Op::AltUpInit { projections, .. } | Op::AltUpMerge { projections, .. }) = op else { unreachable!() };
    projections
}

fn no_width(d: &mut Draft, op: &mut Op) {
    let Op::PerLayerEmbed { norm, width, output, .. } = op else { unreachable!() };
    (*norm, *width, *output) = (d.norm("odd", 0), 0, d.buffer("odd", 0));
}

fn nothing_to_turn(_: &mut Draft, op: &mut Op) {
    let Op::Rotary { query, key_value, .. } = op else { unreachable!() };
    (*query, *key_value) = (None, None);
}

/// Keys and values of the last token alone, with nothing else wrong.
fn outputs_only(d: &mut Draft, op: &mut Op) {
    let Op::Rotary { query, key_value: Some(kv), .. } = op else { unreachable!() };
    *query = None;
    (kv.key, kv.value) = (d.selected("last_key", 8), d.selected("last_value", 8));
}

fn query_twice(_: &mut Draft, op: &mut Op) {
    let Op::Attention { query, output, .. } = op else { unreachable!() };
    *output = *query;
}

fn normed_twice(_: &mut Draft, op: &mut Op) {
    let Op::AddNorm { residual, normed, .. } = op else { unreachable!() };
    *normed = *residual;
}

fn value_twice(_: &mut Draft, op: &mut Op) {
    let kv = key_value(op);
    kv.value = kv.key;
}

fn output_twice(_: &mut Draft, op: &mut Op) {
    let Op::Linear { parts, .. } = op else { unreachable!() };
    parts[1] = parts[0];
}

fn room_twice(_: &mut Draft, op: &mut Op) {
    let Op::FeedForward { gated, hidden, .. } = op else { unreachable!() };
    *hidden = *gated;
}

fn outputs_of(d: &mut Draft, op: &mut Op) {
    let Op::Attention { output, .. } = op else { unreachable!() };
    *output = d.plan.buffer("odd", Rows::Outputs, 16);
}

#[test]
fn whole_plans() {
    type Finish = fn(&mut Draft) -> Option<BufferId>;
    let cases: [(usize, Outputs, Finish, Result<(), &str>); 9] = [
        (8, Outputs::None, |_| None, Ok(())),
        (8, Outputs::All, |d| Some(d.input("logits", D)), Ok(())),
        (8, Outputs::Last, |d| Some(d.selected("logits", D)), Ok(())),
        (1, Outputs::Last, |d| Some(d.input("logits", D)), Ok(())),
        (0, Outputs::None, |_| None, Err("plan: runs of no tokens")),
        (8, Outputs::Last, |_| None, Err("plan: wants outputs but names no output buffer")),
        (
            8,
            Outputs::None,
            |d| Some(d.input("logits", D)),
            Err("plan: wants no outputs but names an output buffer"),
        ),
        (8, Outputs::All, |d| Some(d.buffer("logits", D)), Err("plan: the output buffer is never written")),
        (
            8,
            Outputs::Last,
            |d| Some(d.input("logits", D)),
            Err("plan: wants the last row but the output buffer has one a token"),
        ),
    ];
    for (max_tokens, outputs, output, expected) in cases {
        let mut draft = Draft::new(max_tokens, outputs);
        let output = output(&mut draft);
        let found = draft.finish(output).map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(found, expected.map_err(str::to_owned), "{max_tokens} tokens, {outputs:?}");
    }
}

#[test]
fn the_first_step_that_is_wrong_is_named() {
    let mut draft = Draft::new(8, Outputs::None);
    let sound = embed(&mut draft);
    draft.push(sound);
    for softcap in [0.0, f32::NAN] {
        let mut op = unembed(&mut draft);
        let Op::Unembed { softcap: field, .. } = &mut op else { unreachable!() };
        *field = Some(softcap);
        draft.push(op);
    }
    let error = draft.finish(None).map(|_| ()).unwrap_err();
    let expected = PlanError::Field { step: 2, op: "unembed", problem: "the soft cap is not positive" };
    assert_eq!(error, expected);
}
