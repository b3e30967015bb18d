//! Log-probabilities of the model's own distribution.

use super::{Candidate, filters};

/// The log-probability of `token` and the `count` likeliest tokens with theirs.
pub(super) fn of(logits: &[f32], token: u32, count: usize) -> (Option<f32>, Vec<(u32, f32)>) {
    let best = logits.iter().fold(f32::NEG_INFINITY, |best, logit| best.max(*logit));
    let candidate = |(id, logit): (usize, &f32)| Candidate { id: id as u32, logit: *logit };
    let total: f64 = logits.iter().enumerate().map(|each| filters::weight(candidate(each), best, 1.0)).sum();
    let logprob = |logit: f32| (f64::from(logit) - f64::from(best) - total.ln()) as f32;
    let mut top = Vec::with_capacity(count + 1);
    if count > 0 {
        for each in logits.iter().enumerate() {
            filters::insert(&mut top, candidate(each), count);
        }
    }
    top.retain(|candidate| candidate.logit > f32::NEG_INFINITY);
    let chosen = logits.get(token as usize).map(|logit| logprob(*logit));
    (chosen, top.into_iter().map(|candidate| (candidate.id, logprob(candidate.logit))).collect())
}
