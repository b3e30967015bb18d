//! What a plan needs besides its activations and weights, and what kernels are not made for.

use gemma_hal::{DType, Op, Plan, WeightId};

use super::{feed_forward, heads, linear, words_of};
use crate::arguments::{MOST_CUT, MOST_DIM, MOST_ROW, MOST_STREAMS};

/// Why kernels cannot run `plan`, if they cannot.
pub fn unsupported(plan: &Plan) -> Option<String> {
    plan.steps().iter().find_map(|step| {
        let odd =
            matrices(&step.op).into_iter().map(|id| plan.weight(id)).find(|weight| weight.columns() % 8 != 0);
        if let Some(weight) = odd {
            return Some(format!("a matrix of {} columns (a multiple of 8)", weight.columns()));
        }
        shape(plan, &step.op)
    })
}

/// Shapes of an operation that there is no kernel for.
fn shape(plan: &Plan, op: &Op) -> Option<String> {
    let width = |id| plan.buffer(id).width;
    let row = |width: usize| {
        let fits = width <= MOST_ROW && width.is_multiple_of(4);
        (!fits).then(|| format!("rows of {width} values (at most {MOST_ROW}, a multiple of 4)"))
    };
    let streams = |all: usize, width: usize| {
        let count = all / width;
        let fits = (2..=MOST_STREAMS).contains(&count);
        let problem = (!fits).then(|| format!("{count} AltUp streams (2 to {MOST_STREAMS})"));
        problem.or_else(|| row(width))
    };
    match op {
        Op::Rotary { heads, .. } | Op::Attention { heads, .. } => {
            let block = if plan.cache().dtype == DType::Q8_0 { 32 } else { 8 };
            let fits = heads.dim <= MOST_DIM && heads.dim.is_multiple_of(block);
            (!fits)
                .then(|| format!("heads of {} values (at most {MOST_DIM}, a multiple of {block})", heads.dim))
        }
        Op::RmsNorm { input, .. } | Op::AddNorm { input, .. } => row(width(*input)),
        Op::AltUpInit { input, streams: all, .. } => streams(width(*all), width(*input)),
        Op::AltUpPredict { streams: all, normed, .. } => streams(width(*all), width(*normed)),
        Op::AttentionResidual { streams: all, normed, .. } => streams(width(*all), width(*normed)),
        Op::AltUpCorrect { streams: all, ffn, .. } => streams(width(*all), width(*ffn)),
        Op::AltUpMerge { streams: all, output, .. } => streams(width(*all), width(*output)),
        Op::PerLayerInput { streams: all, scaled, .. } => streams(width(*all), width(*scaled)),
        Op::FeedForward { gated, cutoff: Some(_), .. } => {
            let units = width(*gated);
            let fits = units <= MOST_CUT && units.is_multiple_of(4);
            (!fits).then(|| {
                format!("{units} hidden units behind a cutoff (at most {MOST_CUT}, a multiple of 4)")
            })
        }
        Op::SelectOutputs { input, .. } => {
            let width = width(*input);
            (!width.is_multiple_of(4)).then(|| format!("rows of {width} values (a multiple of 4)"))
        }
        _ => None,
    }
}

/// Matrices that an operation multiplies with.
fn matrices(op: &Op) -> Vec<WeightId> {
    match op {
        Op::PerLayerEmbed { projection, .. } => vec![*projection],
        Op::AltUpInit { projections, .. } | Op::AltUpMerge { projections, .. } => projections.clone(),
        Op::Linear { parts, .. } => parts.iter().map(|part| part.weight).collect(),
        Op::FeedForward { gate, up, down, .. } => vec![*gate, *up, *down],
        Op::PerLayerInput { gate, projection, .. } => vec![*gate, *projection],
        Op::Unembed { table, .. } => vec![*table],
        _ => Vec::new(),
    }
}

/// Bytes that runs of `plan` need between kernels.
pub fn scratch_bytes(plan: &Plan) -> usize {
    let tokens = plan.max_tokens();
    let words = plan.steps().iter().map(|step| {
        let columns = matrices(&step.op).into_iter().map(|id| plan.weight(id).columns()).max().unwrap_or(0);
        let gathered = match &step.op {
            Op::PerLayerEmbed { output, .. } => words_of::<f32>(tokens * plan.buffer(*output).width),
            _ => 0,
        };
        let converted = gathered + linear::converted_words(columns, tokens);
        let sparse = feed_forward::scratch_words(plan, &step.op);
        converted.max(sparse).max(heads::scratch_words(&step.op))
    });
    4 * words.max().unwrap_or(0)
}

/// Words of zeros that blocks of one launch count each other by.
pub fn counters(plan: &Plan) -> usize {
    let needed = |op: &Op| feed_forward::counters(plan, op).max(heads::counters(op));
    plan.steps().iter().map(|step| needed(&step.op)).max().unwrap_or(0)
}
