//! The archive: a gzipped tar file of one folder. The same files give the same bytes, whoever packs them, when and where.

use anyhow::Context as _;
use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

/// A file of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name in the folder, with `/` between parts.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// Whether it is a program.
    pub(super) runs: bool,
}

/// Packs files into a folder, in the order of their names, as nobody's and of the given time.
///
/// # Errors
/// When a name is too long or leads out of the folder.
pub(super) fn archive(folder: &str, entries: &[Entry], time: u64) -> anyhow::Result<Vec<u8>> {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    // Without a time and a name of its own.
    let packed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    let mut builder = Builder::new(packed);
    for Entry { name, bytes, runs } in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(if *runs { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(time);
        builder
            .append_data(&mut header, format!("{folder}/{name}"), bytes.as_slice())
            .with_context(|| name.clone())?;
    }
    Ok(builder.into_inner()?.finish()?)
}
