//! Measuring a model: the loss of given tokens, and greedy continuations.

use gemma_hal::Deadline;

use crate::{Engine, EngineError, Session};

/// Negative log-likelihood of a run of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Sum over the predicted tokens, in nats.
    pub nats: f64,
    /// Predicted tokens.
    pub tokens: usize,
}

impl Loss {
    /// Nats a token.
    pub fn mean(self) -> f64 {
        self.nats / self.tokens as f64
    }

    /// `exp` of [`Loss::mean`].
    pub fn perplexity(self) -> f64 {
        self.mean().exp()
    }

    /// This and another text together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { nats: self.nats + other.nats, tokens: self.tokens + other.tokens }
    }
}

/// `−log p(token)` under `softmax(logits)`, summed in f64.
pub fn surprise(logits: &[f32], token: u32) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    total.ln() - f64::from(logits[token as usize] - largest)
}

/// The index of the largest logit; the lowest of equal ones.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    best as u32
}

/// The loss of every token of `tokens` but the first. `each` sees every row of logits.
///
/// # Errors
/// As [`Session::score`].
pub fn loss(
    engine: &mut Engine,
    session: &mut Session,
    tokens: &[u32],
    each: &mut dyn FnMut(usize, &[f32]),
) -> Result<Loss, EngineError> {
    let mut loss = Loss::default();
    session.score(engine, tokens, &Deadline::never(), &mut |index, logits| {
        // A token outside of the vocabulary is refused by the device when its own run comes.
        if let Some(next) = tokens.get(index + 1).filter(|next| (**next as usize) < logits.len()) {
            loss = loss.and(Loss { nats: surprise(logits, *next), tokens: 1 });
        }
        each(index, logits);
    })?;
    Ok(loss)
}

/// The `count` likeliest tokens, one after the other, behind what `session` holds. Nothing stops it but the context.
///
/// # Errors
/// The device's.
pub fn greedy(engine: &mut Engine, session: &mut Session, count: usize) -> Result<Vec<u32>, EngineError> {
    let mut tokens = Vec::with_capacity(count);
    while tokens.len() < count {
        let next = argmax(session.logits());
        tokens.push(next);
        if tokens.len() < count {
            session.extend(engine, &[next], &Deadline::never())?;
        }
    }
    Ok(tokens)
}

/// The loss of a long text, in windows of `window` tokens that do not overlap, each begun with `bos`.
///
/// # Errors
/// As [`Session::score`].
pub fn windowed_loss(
    engine: &mut Engine,
    session: &mut Session,
    tokens: &[u32],
    bos: Option<u32>,
    window: usize,
    progress: &mut dyn FnMut(usize, Loss),
) -> Result<Loss, EngineError> {
    let room = window.min(engine.options().context).saturating_sub(bos.iter().len()).max(1);
    let mut total = Loss::default();
    for (index, chunk) in tokens.chunks(room).enumerate() {
        let tokens: Vec<u32> = bos.into_iter().chain(chunk.iter().copied()).collect();
        total = total.and(loss(engine, session, &tokens, &mut |_, _| ())?);
        progress(index, total);
    }
    Ok(total)
}
