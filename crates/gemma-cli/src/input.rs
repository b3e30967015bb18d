//! Reading files and standard input, never more than a limit.

use std::io::Read;

use anyhow::{Context, Result, anyhow};
use gemma_matformer::bounded;

/// The whole of `from`, which `name` is the name of in errors.
pub(crate) fn read_bytes(from: impl Read, name: &str, limit: u64) -> Result<Vec<u8>> {
    let bytes = bounded::read(from, limit).with_context(|| name.to_owned())?;
    bytes.ok_or_else(|| anyhow!("{name}: longer than {limit} bytes"))
}

/// As [`read_bytes`], for text.
pub(crate) fn read_text(from: impl Read, name: &str, limit: u64) -> Result<String> {
    String::from_utf8(read_bytes(from, name, limit)?).map_err(|error| {
        anyhow!("{name}: not UTF-8 from byte {} on; save it as UTF-8", error.utf8_error().valid_up_to())
    })
}
