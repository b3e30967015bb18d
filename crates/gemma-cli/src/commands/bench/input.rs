//! JSON files that `gemma bench` is given: older reports, and peers' figures.
//!
//! They come from outside: a file has a limit, and a rate that cannot be is refused by name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow};
use serde::de::DeserializeOwned;

use super::compare::Rated;
use crate::failure::Failure;

/// Largest JSON file; a report has a few kilobytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Another engine's figures on this machine.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peer {
    pub(super) name: String,
    /// How they were measured.
    #[serde(default)]
    pub(super) command: Option<String>,
    pub(super) results: Vec<Rated>,
}

/// Reads `path` as JSON; `what` says what it should be.
///
/// # Errors
/// When it cannot be read, is too large, or is something else.
pub(super) fn json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).with_context(|| name.clone())?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).with_context(|| name.clone())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(anyhow!("{name}: larger than {MAX_FILE_BYTES} bytes, so not {what}").into());
    }
    Ok(serde_json::from_slice(&bytes).with_context(|| format!("{name}: is not {what}"))?)
}

/// Reads a list of peers.
///
/// # Errors
/// As [`json`], and for rates that cannot be.
pub(super) fn peers(path: &Path) -> Result<Vec<Peer>, Failure> {
    let peers: Vec<Peer> = json(path, "a list of peers ({\"name\", \"command\", \"results\"})")?;
    peers.iter().try_for_each(|peer| check(path, &peer.results))?;
    Ok(peers)
}

/// Refuses rates that are not positive, finite and in order.
///
/// # Errors
/// Names the file and the phase.
pub(super) fn check(path: &Path, results: &[Rated]) -> Result<(), Failure> {
    match results.iter().find(|result| !result.tokens_per_s.is_sound()) {
        None => Ok(()),
        Some(Rated { phase, tokens, .. }) => {
            let name = path.display();
            let rule = "0 < min ≤ median ≤ max";
            Err(anyhow!("{name}: tokens_per_s of {phase} {tokens} is not a rate ({rule})").into())
        }
    }
}
