//! The tensor directory: names, shapes, types and places, each checked against the file before anyone uses it.

use std::collections::BTreeSet;

use gemma_hal::{DType, Storage, Weight};

use super::super::names::{ALTUP_PROJECTIONS, ALTUP_UNEMBED, from_gguf, in_stack};
use super::super::{FoundTensor, Unusable};
use super::reader::{Fault, Reader, Size};
use super::{Gguf, MAX_NAME_BYTES};

/// Most tensors.
pub const MAX_TENSORS: u64 = 65_536;

const MAX_DIMENSIONS: u32 = 4;

/// A tensor's entry; rows and columns are of the matrix that the first dimension and all others make.
#[derive(Debug)]
pub(super) struct TensorEntry {
    pub(super) name: String,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Matrices that are stacked in it: the third dimension.
    stacked: usize,
    kind: &'static TensorType,
    /// First byte, from the start of the file.
    offset: usize,
    bytes: usize,
}

/// One of ggml's types: values and bytes of a block, and our name for those that are read.
#[derive(Debug)]
struct TensorType {
    number: u32,
    name: &'static str,
    block: u64,
    bytes: u64,
    dtype: Option<DType>,
}

pub(super) fn directory(
    reader: &mut Reader<'_>,
    count: u64,
    alignment: u64,
    storage: &Storage,
) -> Result<Vec<TensorEntry>, Fault> {
    let (mut entries, mut places, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for _ in 0..count {
        let start = reader.clone();
        let (entry, offset, length) = entry(reader, alignment)?;
        if !names.insert(entry.name.clone()) {
            return start.fail(format!("the tensor {:?} stands there twice", entry.name));
        }
        places.push((offset, length, start, entries.len()));
        entries.push(entry);
    }
    let Some(data) = Size(reader.at() as u64).aligned(Size(alignment)) else {
        return reader.fail("the start of the tensors is past the end of all files");
    };
    places.sort_by_key(|(offset, length, ..)| (*offset, *length));
    let mut end_before = Size(0);
    for (offset, length, start, index) in places {
        let name = &entries[index].name;
        let end = offset.plus(length);
        let in_file = |size: Size| data.plus(size).filter(|end| end.0 <= storage.len() as u64);
        let (Some(end), Some(first), Some(_)) = (end, in_file(offset), end.and_then(in_file)) else {
            return start.fail(format!("the tensor {name:?} ends past the end of the file"));
        };
        if offset < end_before {
            return start.fail(format!("the tensor {name:?} overlaps another"));
        }
        end_before = end;
        // Both are inside of the file, which is in memory.
        entries[index].offset = first.0 as usize;
        entries[index].bytes = length.0 as usize;
    }
    Ok(entries)
}

/// An entry without its place, its offset from the start of the tensors, and its length.
fn entry(reader: &mut Reader<'_>, alignment: u64) -> Result<(TensorEntry, Size, Size), Fault> {
    let name = reader.string("a tensor name", MAX_NAME_BYTES)?;
    let start = reader.clone();
    let dimensions = reader.u32()?;
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return start
            .fail(format!("the tensor {name:?} has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}"));
    }
    let mut shape = [Size(1); MAX_DIMENSIONS as usize];
    for dimension in &mut shape[..dimensions as usize] {
        *dimension = Size(reader.u64()?);
    }
    let number = reader.clone().u32()?;
    let Some(kind) = TYPES.iter().find(|kind| kind.number == number) else {
        return reader.fail(format!("the tensor {name:?} has the unknown type {number}"));
    };
    reader.u32()?;
    let offset = Size(reader.u64()?);
    if !offset.0.is_multiple_of(alignment) {
        return start.fail(format!("the tensor {name:?} does not start at a multiple of {alignment} bytes"));
    }
    if !shape[0].0.is_multiple_of(kind.block) {
        return start.fail(format!(
            "the tensor {name:?} has rows of {} values, which do not end on a block of {} ({})",
            shape[0].0, kind.block, kind.name
        ));
    }
    let rows = shape[1].times(shape[2]).and_then(|rows| rows.times(shape[3]));
    let row_bytes = Size(shape[0].0 / kind.block).times(Size(kind.bytes));
    let bytes = row_bytes.and_then(|row| row.times(rows?));
    let sizes = (rows.and_then(Size::to_usize), shape[0].to_usize(), shape[2].to_usize());
    let ((Some(rows), Some(columns), Some(stacked)), Some(bytes)) = (sizes, bytes) else {
        return start.fail(format!("the shape of the tensor {name:?} overflows"));
    };
    Ok((TensorEntry { name, rows, columns, stacked, kind, offset: 0, bytes: 0 }, offset, bytes))
}

impl Gguf {
    pub(super) fn tensor(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Every tensor, by canonical name where it has one; stacks are taken apart.
    pub(crate) fn found(&self) -> Vec<FoundTensor> {
        let mut found = Vec::new();
        for tensor in &self.tensors {
            let weight = self.weight(tensor);
            let bytes = tensor.bytes as u64;
            let stack =
                [ALTUP_PROJECTIONS, ALTUP_UNEMBED].into_iter().find(|stack| stack.gguf == tensor.name);
            let Some(stack) = stack.filter(|_| tensor.stacked > 0 && tensor.stacked <= tensor.rows) else {
                let name = from_gguf(&tensor.name).unwrap_or_else(|| tensor.name.clone());
                found.push(FoundTensor { name, bytes, weight });
                continue;
            };
            let rows = tensor.rows / tensor.stacked;
            for index in 0..tensor.stacked.min(MAX_STACKED) {
                let part = weight.clone().and_then(|weight| {
                    weight.rows_view(index * rows, rows).map_err(|error| Unusable::Place(error.to_string()))
                });
                found.push(FoundTensor {
                    name: in_stack(&stack, index),
                    bytes: bytes / tensor.stacked as u64,
                    weight: part,
                });
            }
        }
        found
    }

    fn weight(&self, tensor: &TensorEntry) -> Result<Weight, Unusable> {
        let Some(dtype) = tensor.kind.dtype else {
            return Err(Unusable::Type(tensor.kind.name.to_owned()));
        };
        Weight::new(self.storage.clone(), tensor.offset, tensor.rows, tensor.columns, dtype)
            .map_err(|error| Unusable::Place(error.to_string()))
    }
}

/// Matrices taken out of one stack; more than any configuration has streams.
const MAX_STACKED: usize = crate::config::MAX_ALTUP_STREAMS;

/// The number of a type in files.
pub(super) fn type_number(dtype: DType) -> u32 {
    TYPES.iter().find(|kind| kind.dtype == Some(dtype)).expect("every type is in the table").number
}

const fn read(number: u32, name: &'static str, dtype: DType) -> TensorType {
    let (block, bytes) = (dtype.block_len() as u64, dtype.block_bytes() as u64);
    TensorType { number, name, block, bytes, dtype: Some(dtype) }
}

const fn known(number: u32, name: &'static str, block: u64, bytes: u64) -> TensorType {
    TensorType { number, name, block, bytes, dtype: None }
}

/// ggml's types; those without a [`DType`] are known only to measure and name them.
static TYPES: [TensorType; 34] = [
    read(0, "F32", DType::F32),
    read(1, "F16", DType::F16),
    read(2, "Q4_0", DType::Q4_0),
    read(3, "Q4_1", DType::Q4_1),
    read(6, "Q5_0", DType::Q5_0),
    read(8, "Q8_0", DType::Q8_0),
    read(12, "Q4_K", DType::Q4K),
    read(13, "Q5_K", DType::Q5K),
    read(14, "Q6_K", DType::Q6K),
    read(30, "BF16", DType::BF16),
    known(7, "Q5_1", 32, 24),
    known(9, "Q8_1", 32, 40),
    known(10, "Q2_K", 256, 84),
    known(11, "Q3_K", 256, 110),
    known(15, "Q8_K", 256, 292),
    known(16, "IQ2_XXS", 256, 66),
    known(17, "IQ2_XS", 256, 74),
    known(18, "IQ3_XXS", 256, 98),
    known(19, "IQ1_S", 256, 50),
    known(20, "IQ4_NL", 32, 18),
    known(21, "IQ3_S", 256, 110),
    known(22, "IQ2_S", 256, 82),
    known(23, "IQ4_XS", 256, 136),
    known(24, "I8", 1, 1),
    known(25, "I16", 1, 2),
    known(26, "I32", 1, 4),
    known(27, "I64", 1, 8),
    known(28, "F64", 1, 8),
    known(29, "IQ1_M", 256, 56),
    known(34, "TQ1_0", 256, 54),
    known(35, "TQ2_0", 256, 66),
    known(39, "MXFP4", 32, 17),
    known(40, "NVFP4", 64, 36),
    known(41, "Q1_0", 128, 18),
];
