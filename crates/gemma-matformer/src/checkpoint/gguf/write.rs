//! Writes the front of a GGUF version 3 file: metadata and tensor directory, of anything or of a [`Config`].
//!
//! Reading a written model back gives the identical configuration; where llama.cpp has no key for a field, a
//! `gemma3n.` key of our own carries it. Tensors themselves are written by [`crate::export`].

use std::io::{self, Write};

use gemma_hal::DType;

use super::config::keys;
use super::metadata::Kind;
use super::tensors::type_number;
use super::{DEFAULT_ALIGNMENT, MAGIC};
use crate::{Config, LayerKind};

const VERSION: u32 = 3;
/// ggml's version of its block formats.
const QUANTIZATION_VERSION: u32 = 2;

/// A metadata value to write.
#[derive(Clone, Debug, PartialEq)]
pub enum MetadataValue {
    /// An unsigned 32-bit number.
    U32(u32),
    /// A number.
    F32(f32),
    /// A flag.
    Bool(bool),
    /// A text.
    String(String),
    /// A list of unsigned 32-bit numbers.
    U32s(Vec<u32>),
    /// A list of signed 32-bit numbers.
    I32s(Vec<i32>),
    /// A list of numbers.
    F32s(Vec<f32>),
    /// A list of flags.
    Bools(Vec<bool>),
    /// A list of texts.
    Strings(Vec<String>),
}

/// A GGUF file in the making: its metadata and its tensor directory.
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    metadata: Vec<(String, MetadataValue)>,
    tensors: Vec<Tensor>,
}

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    /// Fastest first: columns, rows, matrices.
    dimensions: Vec<u64>,
    dtype: DType,
    bytes: u64,
}

impl GgufWriter {
    /// Adds a metadata entry.
    pub fn metadata(&mut self, key: &str, value: MetadataValue) {
        self.metadata.push((key.to_owned(), value));
    }

    /// Whether there is an entry of this key.
    pub fn has(&self, key: &str) -> bool {
        self.metadata.iter().any(|(present, _)| present == key)
    }

    /// Adds a tensor; `dimensions` are in GGUF's order, columns first.
    ///
    /// # Panics
    /// When a row does not end on a block of `dtype`, or the size overflows.
    pub fn tensor(&mut self, name: &str, dimensions: &[u64], dtype: DType) {
        let columns = dimensions.first().copied().unwrap_or(1);
        let row = dtype.row_bytes(columns as usize).expect("a row ends on a block") as u64;
        let bytes = dimensions.iter().skip(1).try_fold(row, |bytes, count| bytes.checked_mul(*count));
        self.tensors.push(Tensor {
            name: name.to_owned(),
            dimensions: dimensions.to_vec(),
            dtype,
            bytes: bytes.expect("the size of a tensor in memory"),
        });
    }

    /// Everything before the first tensor, padding included.
    pub fn header(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_header(&mut bytes).expect("memory takes all bytes");
        bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
        bytes
    }

    /// First byte, from the end of the header, and bytes of every tensor, in the order they were added. Zeros fill
    /// the gaps, and the file up to a multiple of 32 bytes.
    pub fn places(&self) -> Vec<(u64, u64)> {
        let mut offset = 0_u64;
        let place = |tensor: &Tensor| {
            let place = (offset, tensor.bytes);
            offset = (offset + tensor.bytes).next_multiple_of(DEFAULT_ALIGNMENT);
            place
        };
        self.tensors.iter().map(place).collect()
    }

    fn write_header(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        write_length(out, self.tensors.len())?;
        write_length(out, self.metadata.len())?;
        for (key, value) in &self.metadata {
            write_string(out, key)?;
            value.write(out)?;
        }
        for (tensor, (offset, _)) in self.tensors.iter().zip(self.places()) {
            write_string(out, &tensor.name)?;
            out.write_all(&(tensor.dimensions.len() as u32).to_le_bytes())?;
            for dimension in &tensor.dimensions {
                out.write_all(&dimension.to_le_bytes())?;
            }
            out.write_all(&type_number(tensor.dtype).to_le_bytes())?;
            out.write_all(&offset.to_le_bytes())?;
        }
        Ok(())
    }
}

/// The metadata from which the configuration is read back.
pub(crate) fn config_metadata(config: &Config) -> Vec<(&'static str, MetadataValue)> {
    use MetadataValue::{Bools, F32, F32s, String, U32, U32s};
    let count = |count: usize| U32(count as u32);
    let first = config.ffn_widths[0];
    let one_width = config.ffn_widths.iter().all(|width| *width == first);
    let scale = |layer| config.sparsity_multiplier(layer).unwrap_or(f32::NEG_INFINITY);
    let mut entries = vec![
        (keys::ARCHITECTURE, String("gemma3n".to_owned())),
        ("general.quantization_version", U32(QUANTIZATION_VERSION)),
        (keys::CONTEXT, count(config.max_context)),
        (keys::HIDDEN, count(config.hidden)),
        (keys::LAYERS, count(config.layers())),
        (
            keys::FFN,
            if one_width {
                count(first)
            } else {
                U32s(config.ffn_widths.iter().map(|width| *width as u32).collect())
            },
        ),
        (keys::HEADS, count(config.heads)),
        (keys::KV_HEADS, count(config.kv_heads)),
        (keys::HEAD_DIM, count(config.head_dim)),
        (keys::VALUE_DIM, count(config.head_dim)),
        (keys::EPS, F32(config.rms_eps)),
        (keys::WINDOW, count(config.window)),
        (keys::PATTERN, Bools(config.layer_kinds.iter().map(|kind| *kind == LayerKind::Sliding).collect())),
        (keys::SHARED_KV, count(config.shared_kv_layers)),
        (keys::ROPE, F32(config.rope_theta)),
        (keys::ROPE_LOCAL, F32(config.rope_local_theta)),
        (keys::SOFTCAP, F32(config.softcap)),
        (keys::STREAMS, count(config.altup_streams)),
        (keys::ACTIVE, U32(0)),
        (keys::PLE_WIDTH, count(config.ple_width)),
        (keys::SPARSITY_SCALE, F32s((0..config.layers()).map(scale).collect())),
        (keys::BOS, U32(config.bos)),
        (keys::PLE_VOCABULARY, count(config.ple_vocabulary)),
        (keys::SPARSITY, F32s(config.sparsity.clone())),
        (keys::LAUREL_RANK, count(config.laurel_rank)),
        (keys::ENDS, U32s(config.eos.clone())),
    ];
    for (key, id) in [keys::EOS, keys::EOT].into_iter().zip(&config.eos) {
        entries.push((key, U32(*id)));
    }
    entries
}

impl MetadataValue {
    fn kind(&self) -> (Kind, Option<Kind>) {
        match self {
            Self::U32(_) => (Kind::U32, None),
            Self::F32(_) => (Kind::F32, None),
            Self::Bool(_) => (Kind::Bool, None),
            Self::String(_) => (Kind::String, None),
            Self::U32s(_) => (Kind::Array, Some(Kind::U32)),
            Self::I32s(_) => (Kind::Array, Some(Kind::I32)),
            Self::F32s(_) => (Kind::Array, Some(Kind::F32)),
            Self::Bools(_) => (Kind::Array, Some(Kind::Bool)),
            Self::Strings(_) => (Kind::Array, Some(Kind::String)),
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (kind, element) = self.kind();
        out.write_all(&(kind as u32).to_le_bytes())?;
        if let Some(element) = element {
            out.write_all(&(element as u32).to_le_bytes())?;
        }
        match self {
            Self::U32(value) => out.write_all(&value.to_le_bytes()),
            Self::F32(value) => out.write_all(&value.to_le_bytes()),
            Self::Bool(value) => out.write_all(&[u8::from(*value)]),
            Self::String(value) => write_string(out, value),
            Self::U32s(values) => write_list(out, values, |out, value| out.write_all(&value.to_le_bytes())),
            Self::I32s(values) => write_list(out, values, |out, value| out.write_all(&value.to_le_bytes())),
            Self::F32s(values) => write_list(out, values, |out, value| out.write_all(&value.to_le_bytes())),
            Self::Bools(values) => write_list(out, values, |out, value| out.write_all(&[u8::from(*value)])),
            Self::Strings(values) => write_list(out, values, |out, value| write_string(out, value)),
        }
    }
}

fn write_list<T>(
    out: &mut dyn Write,
    values: &[T],
    write: impl Fn(&mut dyn Write, &T) -> io::Result<()>,
) -> io::Result<()> {
    write_length(out, values.len())?;
    values.iter().try_for_each(|value| write(out, value))
}

fn write_string(out: &mut dyn Write, text: &str) -> io::Result<()> {
    write_length(out, text.len())?;
    out.write_all(text.as_bytes())
}

fn write_length(out: &mut dyn Write, length: usize) -> io::Result<()> {
    out.write_all(&(length as u64).to_le_bytes())
}
