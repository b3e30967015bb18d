//! Filters over the candidates and the draw.
//!
//! None sorts the whole vocabulary unless the answer needs it: top-k keeps a small sorted set while it scans, and
//! the filters by probability mass order one block of the best after another until the mass is reached.

use super::{Candidate, CounterRng};
use crate::SamplingError;

/// Up to this k, top-k is one scan with a small heap; beyond, a selection.
pub(super) const SMALL_K: usize = 256;
/// Candidates ordered first when a filter needs the best by mass.
const FIRST_BLOCK: usize = 128;
/// Logits looked at before the best of them is located.
const SCAN_CHUNK: usize = 1024;
/// How much larger each following block is.
const BLOCK_GROWTH: usize = 8;

/// The likeliest token, the lowest id of equals. Fails on NaN and +infinity, and when all are -infinity.
pub(super) fn best(logits: &[f32]) -> Result<Candidate, SamplingError> {
    let mut best = Candidate { id: 0, logit: f32::NEG_INFINITY };
    for (index, chunk) in logits.chunks(SCAN_CHUNK).enumerate() {
        let (largest, sound) = scan(chunk);
        let at = |wanted: fn(f32, f32) -> bool| {
            let offset = chunk.iter().position(|logit| wanted(*logit, largest)).unwrap_or(0);
            Candidate { id: (index * SCAN_CHUNK + offset) as u32, logit: chunk[offset] }
        };
        if !sound {
            let bad = at(|logit, _| logit.is_nan() || logit == f32::INFINITY);
            return Err(SamplingError::BadLogit { token: bad.id, value: bad.logit });
        }
        if largest > best.logit {
            best = at(|logit, largest| logit == largest);
        }
    }
    if best.logit == f32::NEG_INFINITY { Err(SamplingError::AllMasked) } else { Ok(best) }
}

/// The largest logit, and whether all are below +infinity. Lanes, so that it becomes vector code.
fn scan(logits: &[f32]) -> (f32, bool) {
    const LANES: usize = 16;
    let (mut largest, mut sound) = ([f32::NEG_INFINITY; LANES], [true; LANES]);
    let (groups, rest) = logits.as_chunks::<LANES>();
    for group in groups {
        for lane in 0..LANES {
            largest[lane] = if group[lane] > largest[lane] { group[lane] } else { largest[lane] };
            sound[lane] &= group[lane] < f32::INFINITY;
        }
    }
    let all = largest.iter().chain(rest);
    let best = all.fold(f32::NEG_INFINITY, |best, logit| if *logit > best { *logit } else { best });
    (best, sound.iter().all(|sound| *sound) && rest.iter().all(|logit| *logit < f32::INFINITY))
}

/// Fills `candidates` with the `top_k` likeliest tokens, best first, or with all in the order of their ids where
/// `top_k` is 0 or no limit. Masked tokens are left out.
pub(super) fn gather(candidates: &mut Vec<Candidate>, logits: &[f32], top_k: usize) {
    candidates.clear();
    let all = logits
        .iter()
        .enumerate()
        .filter(|(_, logit)| **logit > f32::NEG_INFINITY)
        .map(|(id, logit)| Candidate { id: id as u32, logit: *logit });
    if (1..=SMALL_K).contains(&top_k) && top_k < logits.len() {
        for candidate in all {
            insert(candidates, candidate, top_k);
        }
        return;
    }
    candidates.extend(all);
    if top_k > 0 && top_k < candidates.len() {
        candidates.select_nth_unstable_by(top_k - 1, Candidate::order);
        candidates.truncate(top_k);
        candidates.sort_unstable_by(Candidate::order);
    }
}

/// Keeps `best` sorted and at most `limit` long. A candidate that comes later loses against an equal one.
pub(super) fn insert(best: &mut Vec<Candidate>, candidate: Candidate, limit: usize) {
    if best.len() == limit {
        if best.last().is_some_and(|last| candidate.logit <= last.logit) {
            return;
        }
        best.pop();
    }
    let at = best.partition_point(|other| other.logit >= candidate.logit);
    best.insert(at, candidate);
}

/// Locally typical sampling: keeps those whose surprise is nearest the entropy until their mass exceeds `limit`.
pub(super) fn typical(candidates: &mut Vec<Candidate>, limit: f32, best: Candidate) {
    if limit >= 1.0 {
        return;
    }
    let total = mass(candidates, best.logit);
    // Surprise of a candidate is ln(total) - (logit - best).
    let log_total = total.ln();
    let surprise = |candidate: &Candidate| log_total - f64::from(candidate.logit) + f64::from(best.logit);
    let entropy: f64 = candidates
        .iter()
        .map(|candidate| {
            let surprise = surprise(candidate);
            let probability = (-surprise).exp();
            if probability > 0.0 { probability * surprise } else { 0.0 }
        })
        .sum();
    let distance = |candidate: &Candidate| (surprise(candidate) - entropy).abs();
    keep_mass(
        candidates,
        |a, b| distance(a).total_cmp(&distance(b)).then(a.order(b)),
        |candidate| (-surprise(candidate)).exp(),
        |sum| sum > f64::from(limit),
    );
    candidates.sort_unstable_by(Candidate::order);
}

/// Nucleus sampling: keeps the likeliest until their mass reaches `limit`.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, limit: f32) {
    if limit >= 1.0 {
        return;
    }
    let best = largest(candidates);
    let total = mass(candidates, best);
    keep_mass(
        candidates,
        Candidate::order,
        |candidate| weight(*candidate, best, 1.0) / total,
        |sum| sum >= f64::from(limit),
    );
}

/// Keeps those at least `share` times as likely as the likeliest.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, share: f32) {
    if share <= 0.0 {
        return;
    }
    let best = largest(candidates);
    candidates.retain(|candidate| weight(*candidate, best, 1.0) >= f64::from(share));
}

/// Draws one of the candidates, of which there is at least one.
pub(super) fn draw(candidates: &[Candidate], temperature: f64, rng: &mut CounterRng) -> u32 {
    let best = largest(candidates);
    let weight = |candidate: &Candidate| weight(*candidate, best, temperature);
    let mut left = rng.next_unit() * candidates.iter().map(weight).sum::<f64>();
    let mut chosen = 0;
    for candidate in candidates {
        let weight = weight(candidate);
        if weight > 0.0 {
            chosen = candidate.id;
            if left < weight {
                break;
            }
            left -= weight;
        }
    }
    chosen
}

/// Unnormalised probability; the best has 1, so nothing overflows at any temperature.
pub(super) fn weight(candidate: Candidate, best: f32, temperature: f64) -> f64 {
    ((f64::from(candidate.logit) - f64::from(best)) / temperature).exp()
}

pub(super) fn largest(candidates: &[Candidate]) -> f32 {
    candidates.iter().fold(f32::NEG_INFINITY, |best, candidate| best.max(candidate.logit))
}

fn mass(candidates: &[Candidate], best: f32) -> f64 {
    candidates.iter().map(|candidate| weight(*candidate, best, 1.0)).sum()
}

/// Keeps the first candidates by `order` up to the one with which `reached` is true of the summed probabilities.
fn keep_mass(
    candidates: &mut Vec<Candidate>,
    order: impl Fn(&Candidate, &Candidate) -> std::cmp::Ordering,
    probability: impl Fn(&Candidate) -> f64,
    reached: impl Fn(f64) -> bool,
) {
    let (mut done, mut block, mut sum) = (0, FIRST_BLOCK, 0.0);
    while done < candidates.len() {
        let rest = &mut candidates[done..];
        let length = block.min(rest.len());
        if length < rest.len() {
            rest.select_nth_unstable_by(length - 1, &order);
        }
        let ordered = &mut rest[..length];
        ordered.sort_unstable_by(&order);
        for (at, candidate) in ordered.iter().enumerate() {
            sum += probability(candidate);
            if reached(sum) {
                candidates.truncate(done + at + 1);
                return;
            }
        }
        done += length;
        block = block.saturating_mul(BLOCK_GROWTH);
    }
}
