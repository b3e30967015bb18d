//! Penalties on tokens that were just used, and the logit bias.

use std::collections::BTreeMap;

use super::SamplerConfig;
use crate::SamplingError;

/// How often each token of the window occurs.
pub(super) type Counts = BTreeMap<u32, u32>;

/// Changes `logits` in place; tokens that are masked stay masked.
pub(super) fn apply(
    config: &SamplerConfig,
    counts: &mut Counts,
    history: &[u32],
    logits: &mut [f32],
) -> Result<(), SamplingError> {
    if config.penalises() {
        count(counts, &history[history.len().saturating_sub(config.penalty_window)..], logits.len())?;
        for (token, count) in counts.iter() {
            penalise(config, f64::from(*count), &mut logits[*token as usize]);
        }
    }
    for (token, bias) in &config.logit_bias {
        let logit = &mut logits[*token as usize];
        *logit = bounded(f64::from(*logit) + f64::from(*bias));
    }
    Ok(())
}

fn count(counts: &mut Counts, window: &[u32], vocab_size: usize) -> Result<(), SamplingError> {
    counts.clear();
    for token in window {
        if *token as usize >= vocab_size {
            return Err(SamplingError::HistoryToken { token: *token, last: vocab_size.saturating_sub(1) });
        }
        *counts.entry(*token).or_insert(0) += 1;
    }
    Ok(())
}

fn penalise(config: &SamplerConfig, count: f64, logit: &mut f32) {
    let penalty = f64::from(config.repetition_penalty);
    let value = f64::from(*logit);
    let value = if value > 0.0 { value / penalty } else { value * penalty };
    *logit =
        bounded(value - count * f64::from(config.frequency_penalty) - f64::from(config.presence_penalty));
}

/// As f32, with -infinity for masked tokens only.
fn bounded(value: f64) -> f32 {
    if value == f64::NEG_INFINITY {
        f32::NEG_INFINITY
    } else {
        value.clamp(f32::MIN.into(), f32::MAX.into()) as f32
    }
}
