//! safetensors: the directory of one file, and of the shards that an index names.
//!
//! The `safetensors` crate checks the header (overlaps, holes, sizes, overflow); the checks here are what it leaves
//! to its caller: the header cap before parsing, the file's true length, and the paths that an index may name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use gemma_hal::{DType, Storage, Weight};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde::Deserialize;

use super::file::{MappedFile, read_large_text};
use super::{CheckpointError, FoundTensor, Unusable};

/// Largest header that is parsed, in bytes; the reference implementation's own limit.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Most shards that an index may name.
pub const MAX_SHARDS: usize = 1024;

const LENGTH_BYTES: u64 = 8;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Whether the bytes can be a safetensors file: a plausible header length, then a JSON object.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

/// Every tensor of one file.
pub(crate) fn directory(storage: &Storage) -> Result<Vec<FoundTensor>, CheckpointError> {
    let bytes = storage.bytes();
    let fail = |problem: String| CheckpointError::Safetensors { file: storage.name().to_owned(), problem };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(fail(format!("the file has {} bytes, too few for a header", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(fail(format!("{length} bytes long, but at most {MAX_HEADER_BYTES} are read")));
    }
    let Some((header, data)) = rest.split_at_checked(length as usize) else {
        return Err(fail(format!("{length} bytes long, but the file ends after {}", rest.len())));
    };
    // A copy, because the parser borrows texts that it has checked, and the mapped file may change meanwhile.
    let header = header.to_vec();
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| fail(error.to_string()))?;
    if metadata.data_len() != data.len() {
        return Err(fail(format!(
            "describes {} bytes of tensors, but the file has {}",
            metadata.data_len(),
            data.len()
        )));
    }
    let start = (LENGTH_BYTES + length) as usize;
    let mut found = Vec::new();
    for (name, info) in metadata.tensors() {
        let (rows, columns) = match info.shape.as_slice() {
            [] => (1, 1),
            [columns] => (1, *columns),
            [rows @ .., columns] => (rows.iter().product(), *columns),
        };
        let bytes = (info.data_offsets.1 - info.data_offsets.0) as u64;
        let weight = match dtype(info.dtype) {
            Some(dtype) => {
                let offset = start + info.data_offsets.0;
                Weight::new(storage.clone(), offset, rows, columns, dtype)
                    .map_err(|error| Unusable::Place(error.to_string()))
            }
            None => Err(Unusable::Type(format!("{:?}", info.dtype))),
        };
        found.push(FoundTensor { name, bytes, weight });
    }
    Ok(found)
}

/// The shards that `index` names, opened, and the tensors it promises of each.
pub(crate) fn shards(index: &Path) -> Result<(Vec<MappedFile>, BTreeMap<String, String>), CheckpointError> {
    let fail = |problem: String| CheckpointError::Index { path: index.to_owned(), problem };
    let text = read_large_text(index)?;
    let Index { weight_map } =
        serde_json::from_slice(&text).map_err(|error| fail(format!("not an index: {error}")))?;
    let names: BTreeSet<&String> = weight_map.values().collect();
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(fail(format!("names {} shards, not between 1 and {MAX_SHARDS}", names.len())));
    }
    let folder = index.parent().unwrap_or(Path::new("."));
    let mut paths = Vec::new();
    for name in &names {
        if !is_plain_name(name) {
            return Err(fail(format!("the shard {name:?} is not a plain file name")));
        }
        paths.push(folder.join(name));
    }
    let missing: Vec<&PathBuf> = paths.iter().filter(|path| !path.exists()).collect();
    if let Some(first) = missing.first() {
        return Err(CheckpointError::MissingShards {
            path: index.to_owned(),
            missing: missing.len(),
            total: paths.len(),
            first: first.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        });
    }
    let files = paths.iter().map(|path| MappedFile::open(path)).collect::<Result<_, _>>()?;
    Ok((files, weight_map))
}

/// Whether the name stays in the folder of the index.
fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.contains(['/', '\\'])
}

fn dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}
