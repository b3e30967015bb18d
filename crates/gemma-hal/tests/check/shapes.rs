//! Sizes of buffers and weights that do not fit the operation.

use crate::support::*;
use crate::{assert_refusals, key_value, part, projections, query};

#[test]
fn widths_of_buffers() {
    assert_refusals(&[
        (embed, change!(Embed.output = |d| d.buffer("odd", 7)), "columns of table is 6, expected 7"),
        (
            per_layer_embed,
            change!(PerLayerEmbed.input = |d| d.input("odd", 7)),
            "columns of projection is 6, expected 7",
        ),
        (
            per_layer_embed,
            change!(PerLayerEmbed.output = |d| d.buffer("odd", 7)),
            "width of odd is 7, expected 8",
        ),
        (altup_init, change!(AltUpInit.input = |d| d.input("odd", 7)), "width of streams is 18, expected 21"),
        (altup_init, change!(AltUpInit.streams = |d| d.buffer("odd", 17)), "width of odd is 17, expected 18"),
        (
            altup_predict,
            change!(AltUpPredict.streams = |d| d.input("odd", 17)),
            "width of odd is 17, expected 12",
        ),
        (
            altup_predict,
            change!(AltUpPredict.normed = |d| d.buffer("odd", 9)),
            "columns of router_norm is 6, expected 9",
        ),
        (rms_norm, change!(RmsNorm.input = |d| d.input("odd", 7)), "width of output is 6, expected 7"),
        (rms_norm, change!(RmsNorm.output = |d| d.buffer("odd", 7)), "width of odd is 7, expected 6"),
        (add_norm, change!(AddNorm.input = |d| d.input("odd", 7)), "width of odd is 7, expected 6"),
        (add_norm, change!(AddNorm.residual = |d| d.input("odd", 7)), "width of input is 6, expected 7"),
        (add_norm, change!(AddNorm.normed = |d| d.buffer("odd", 7)), "width of odd is 7, expected 6"),
        (linear, change!(Linear.input = |d| d.input("odd", 7)), "columns of a is 6, expected 7"),
        (linear, |d, op| part(op).output = d.buffer("odd", 7), "rows of b is 5, expected 7"),
        (rotary, |d, op| query(op).query = d.input("odd", 7), "width of odd is 7, expected 16"),
        (rotary, |d, op| key_value(op).key = d.input("odd", 7), "width of odd is 7, expected 8"),
        (rotary, |d, op| key_value(op).value = d.input("odd", 7), "width of odd is 7, expected 8"),
        (attention, change!(Attention.query = |d| d.input("odd", 7)), "width of odd is 7, expected 16"),
        (attention, change!(Attention.output = |d| d.buffer("odd", 7)), "width of odd is 7, expected 16"),
        (
            attention_residual,
            change!(AttentionResidual.streams = |d| d.input("odd", 17)),
            "width of odd is 17, expected 12",
        ),
        (
            attention_residual,
            change!(AttentionResidual.normed = |d| d.input("odd", 9)),
            "width of attended is 6, expected 9",
        ),
        (
            attention_residual,
            change!(AttentionResidual.attended = |d| d.input("odd", 7)),
            "width of odd is 7, expected 6",
        ),
        (
            attention_residual,
            change!(AttentionResidual.laurel = |d| d.input("odd", 7)),
            "width of odd is 7, expected 6",
        ),
        (
            attention_residual,
            change!(AttentionResidual.residual = |d| d.buffer("odd", 7)),
            "width of odd is 7, expected 6",
        ),
        (
            attention_residual,
            change!(AttentionResidual.ffn_input = |d| d.buffer("odd", 7)),
            "width of odd is 7, expected 6",
        ),
        (
            feed_forward,
            change!(FeedForward.input = |d| d.input("odd", 7)),
            "columns of gate is 6, expected 7",
        ),
        (feed_forward, change!(FeedForward.gated = |d| d.buffer("odd", 7)), "width of odd is 7, expected 10"),
        (
            feed_forward,
            change!(FeedForward.hidden = |d| d.buffer("odd", 7)),
            "rows of gate is 10, expected 7",
        ),
        (feed_forward, change!(FeedForward.output = |d| d.buffer("odd", 7)), "width of odd is 7, expected 6"),
        (
            altup_correct,
            change!(AltUpCorrect.streams = |d| d.input("odd", 17)),
            "width of odd is 17, expected 12",
        ),
        (
            altup_correct,
            change!(AltUpCorrect.residual = |d| d.input("odd", 9)),
            "width of ffn is 6, expected 9",
        ),
        (altup_correct, change!(AltUpCorrect.ffn = |d| d.input("odd", 7)), "width of odd is 7, expected 6"),
        (
            per_layer_input,
            change!(PerLayerInput.streams = |d| d.input("odd", 17)),
            "width of odd is 17, expected 12",
        ),
        (
            per_layer_input,
            change!(PerLayerInput.scaled = |d| d.buffer("odd", 9)),
            "columns of scale is 6, expected 9",
        ),
        (
            per_layer_input,
            change!(PerLayerInput.gated = |d| d.buffer("odd", 3)),
            "rows of gate is 4, expected 3",
        ),
        (
            select_outputs,
            change!(SelectOutputs.input = |d| d.input("odd", 7)),
            "width of output is 6, expected 7",
        ),
        (
            altup_merge,
            change!(AltUpMerge.streams = |d| d.input("odd", 17)),
            "width of odd is 17, expected 18",
        ),
        (
            altup_merge,
            change!(AltUpMerge.projected = |d| d.buffer("odd", 7)),
            "width of odd is 7, expected 12",
        ),
        (
            altup_merge,
            change!(AltUpMerge.output = |d| d.buffer("odd", 7)),
            "width of streams is 18, expected 21",
        ),
        (unembed, change!(Unembed.input = |d| d.input("odd", 7)), "columns of table is 6, expected 7"),
        (unembed, change!(Unembed.output = |d| d.buffer("odd", 7)), "rows of table is 20, expected 7"),
    ]);
}

#[test]
fn shapes_of_weights() {
    assert_refusals(&[
        (embed, change!(Embed.table = |d| d.weight("odd", 20, 7)), "columns of odd is 7, expected 6"),
        (
            per_layer_embed,
            change!(PerLayerEmbed.projection = |d| d.weight("odd", 20, 7)),
            "columns of odd is 7, expected 6",
        ),
        (
            per_layer_embed,
            change!(PerLayerEmbed.table = |d| d.weight("odd", 18, 24)),
            "columns of odd is 24, expected 20",
        ),
        (
            per_layer_embed,
            change!(PerLayerEmbed.norm = |d| d.norm("odd", 7)),
            "columns of odd is 7, expected 4",
        ),
        (altup_init, |d, op| projections(op)[1] = d.weight("odd", 7, 6), "rows of odd is 7, expected 6"),
        (
            altup_predict,
            change!(AltUpPredict.router.norm = |d| d.norm("odd", 7)),
            "columns of odd is 7, expected 6",
        ),
        (
            altup_predict,
            change!(AltUpPredict.router.weight = |d| d.weight("odd", 4, 6)),
            "rows of odd is 4, expected 3",
        ),
        (
            altup_predict,
            change!(AltUpPredict.coefficients = |d| d.weight("odd", 3, 3)),
            "rows of odd is 3, expected 9",
        ),
        (
            altup_predict,
            change!(AltUpPredict.input_norm = |d| d.weight("odd", 6, 1)),
            "rows of odd is 6, expected 1",
        ),
        (rms_norm, change!(RmsNorm.norm = |d| d.norm("odd", 7)), "columns of odd is 7, expected 6"),
        (add_norm, change!(AddNorm.post_norm = |d| d.norm("odd", 7)), "columns of odd is 7, expected 6"),
        (add_norm, change!(AddNorm.next_norm = |d| d.norm("odd", 7)), "columns of odd is 7, expected 6"),
        (linear, |d, op| part(op).weight = d.weight("odd", 6, 5), "rows of odd is 6, expected 5"),
        (rotary, |d, op| query(op).norm = d.norm("odd", 16), "columns of odd is 16, expected 4"),
        (rotary, |d, op| key_value(op).norm = d.norm("odd", 8), "columns of odd is 8, expected 4"),
        (
            attention_residual,
            change!(AttentionResidual.post_norm = |d| d.norm("odd", 7)),
            "columns of odd is 7, expected 6",
        ),
        (
            attention_residual,
            change!(AttentionResidual.laurel_norm = |d| d.norm("odd", 7)),
            "columns of odd is 7, expected 6",
        ),
        (
            attention_residual,
            change!(AttentionResidual.ffn_norm = |d| d.norm("odd", 7)),
            "columns of odd is 7, expected 6",
        ),
        (
            feed_forward,
            change!(FeedForward.gate = |d| d.weight("odd", 9, 6)),
            "rows of odd is 9, expected 10",
        ),
        (
            feed_forward,
            change!(FeedForward.up = |d| d.weight("odd", 10, 7)),
            "columns of odd is 7, expected 6",
        ),
        (
            feed_forward,
            change!(FeedForward.down = |d| d.weight("odd", 10, 6)),
            "rows of odd is 10, expected 6",
        ),
        (
            altup_correct,
            change!(AltUpCorrect.post_norm = |d| d.norm("odd", 7)),
            "columns of odd is 7, expected 6",
        ),
        (
            altup_correct,
            change!(AltUpCorrect.router.norm = |d| d.norm("odd", 7)),
            "columns of odd is 7, expected 6",
        ),
        (
            altup_correct,
            change!(AltUpCorrect.router.weight = |d| d.weight("odd", 3, 7)),
            "columns of odd is 7, expected 6",
        ),
        (
            altup_correct,
            change!(AltUpCorrect.coefficients = |d| d.weight("odd", 9, 3)),
            "rows of odd is 9, expected 3",
        ),
        (
            per_layer_input,
            change!(PerLayerInput.scale = |d| Some(d.norm("odd", 7))),
            "columns of odd is 7, expected 6",
        ),
        (
            per_layer_input,
            change!(PerLayerInput.gate = |d| d.weight("odd", 6, 4)),
            "rows of odd is 6, expected 4",
        ),
        (
            per_layer_input,
            change!(PerLayerInput.projection = |d| d.weight("odd", 4, 6)),
            "rows of odd is 4, expected 6",
        ),
        (
            per_layer_input,
            change!(PerLayerInput.norm = |d| d.norm("odd", 7)),
            "columns of odd is 7, expected 6",
        ),
        (altup_merge, |d, op| projections(op)[0] = d.weight("odd", 6, 7), "columns of odd is 7, expected 6"),
        (altup_merge, change!(AltUpMerge.norm = |d| d.norm("odd", 7)), "columns of odd is 7, expected 6"),
        (unembed, change!(Unembed.table = |d| d.weight("odd", 20, 7)), "columns of odd is 7, expected 6"),
    ]);
}
