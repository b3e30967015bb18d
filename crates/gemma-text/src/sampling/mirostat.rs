//! Mirostat version 2 (Basu et al. 2021, arXiv:2007.14966): steers the surprise of what is drawn towards a target.

use super::{Candidate, CounterRng, Mirostat, filters};

/// Draws among the candidates that are at most `bound` bits surprising (always the best), and moves `bound`.
pub(super) fn draw(
    mirostat: Mirostat,
    temperature: f64,
    best: Candidate,
    candidates: &mut Vec<Candidate>,
    bound: &mut f64,
    rng: &mut CounterRng,
) -> u32 {
    let weight = |candidate: &Candidate| filters::weight(*candidate, best.logit, temperature);
    let total: f64 = candidates.iter().map(weight).sum();
    candidates.retain(|candidate| candidate.id == best.id || -(weight(candidate) / total).log2() <= *bound);
    let kept: f64 = candidates.iter().map(weight).sum();
    let token = filters::draw(candidates, temperature, rng);
    let drawn = candidates.iter().find(|candidate| candidate.id == token).unwrap_or(&best);
    let surprise = -(weight(drawn) / kept).log2();
    *bound -= f64::from(mirostat.eta) * (surprise - f64::from(mirostat.tau));
    token
}
