//! Writes GGUF version 3: any metadata and tensors, and a whole model from a [`Config`] and [`Weights`].
//!
//! Tensors are streamed row by row, so a model is never in memory. Reading a written model back gives the identical
//! configuration; where llama.cpp has no key for a field, a `gemma3n.` key of our own carries it. A layer that uses
//! another layer's keys and values is written without any, which llama.cpp does not accept.

use std::io::{self, Write};

use gemma_hal::block::{dequantise_row, quantise_row};
use gemma_hal::{DType, Weight};

use super::super::names::{self, ALTUP_PROJECTIONS, ALTUP_UNEMBED};
use super::config::keys;
use super::metadata::Kind;
use super::tensors::type_number;
use super::{DEFAULT_ALIGNMENT, MAGIC};
use crate::{Config, LayerKind, Weights};

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

    /// Writes the file; `fill` is called once for each tensor, in the order they were added, and must write exactly
    /// its bytes.
    ///
    /// # Errors
    /// Those of `out` and `fill`; [`io::ErrorKind::InvalidInput`] when `fill` wrote another number of bytes.
    pub fn write(
        &self,
        out: &mut dyn Write,
        fill: &mut dyn FnMut(usize, &mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut out = Counting { out, written: 0 };
        self.write_header(&mut out)?;
        out.pad()?;
        for (index, tensor) in self.tensors.iter().enumerate() {
            let start = out.written;
            fill(index, &mut out)?;
            if out.written - start != tensor.bytes {
                let problem = format!(
                    "{} bytes written for {}, not {}",
                    out.written - start,
                    tensor.name,
                    tensor.bytes
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
            }
            out.pad()?;
        }
        out.flush()
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
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            write_string(out, &tensor.name)?;
            out.write_all(&(tensor.dimensions.len() as u32).to_le_bytes())?;
            for dimension in &tensor.dimensions {
                out.write_all(&dimension.to_le_bytes())?;
            }
            out.write_all(&type_number(tensor.dtype).to_le_bytes())?;
            out.write_all(&offset.to_le_bytes())?;
            offset = (offset + tensor.bytes).next_multiple_of(DEFAULT_ALIGNMENT);
        }
        Ok(())
    }
}

/// Writes a model. `dtype` chooses the type of each matrix by its canonical name; a matrix whose rows do not end on a
/// block of that type keeps its own (F16 where they do not end on a block of that either), and norms and coefficients
/// are always f32. `further` entries, such as the tokenizer's, follow those of the configuration; an entry that the
/// configuration has made already is left out.
///
/// # Errors
/// Those of `out`.
pub fn write_model(
    out: &mut dyn Write,
    config: &Config,
    weights: &Weights,
    dtype: &dyn Fn(&str) -> DType,
    further: &[(String, MetadataValue)],
) -> io::Result<()> {
    let mut writer = GgufWriter::default();
    for (key, value) in config_metadata(config) {
        writer.metadata(key, value);
    }
    for (key, value) in further {
        if writer.metadata.iter().all(|(present, _)| present != key) {
            writer.metadata(key, value.clone());
        }
    }
    let contents = contents(config, weights, dtype);
    for content in &contents {
        writer.tensor(&content.name, &content.dimensions(), content.dtype);
    }
    writer.write(out, &mut |index, out| contents[index].write(out))
}

/// A tensor to write and the rows it is made of.
struct Content<'a> {
    name: String,
    dtype: DType,
    /// Written one after the other.
    parts: Vec<&'a Weight>,
    /// Rows, each part's, in blocks of this many: the blocks that are written.
    rows: Option<(usize, &'a [usize])>,
    /// Columns, in blocks of this many: the blocks that are written.
    columns: Option<(usize, &'a [usize])>,
}

fn contents<'a>(config: &Config, weights: &'a Weights, dtype: &dyn Fn(&str) -> DType) -> Vec<Content<'a>> {
    let mut contents: Vec<Content<'a>> = Vec::new();
    weights.for_each(&mut |canonical, weight| {
        let stack = [ALTUP_PROJECTIONS, ALTUP_UNEMBED]
            .into_iter()
            .find(|stack| canonical.strip_prefix(stack.canonical).is_some_and(|rest| rest.starts_with('.')));
        let name = stack.map_or_else(|| names::to_gguf(canonical), |stack| Some(stack.gguf.to_owned()));
        let name = name.expect("every tensor of the model has a GGUF name");
        if let Some(content) = contents.iter_mut().find(|content| content.name == name) {
            content.parts.push(weight);
            return;
        }
        let blocks = Some((config.ple_width, weights.ple_blocks.as_slice()));
        let content = Content {
            name,
            dtype: DType::F32,
            parts: vec![weight],
            rows: blocks.filter(|_| canonical == names::PLE_PROJECTION.canonical),
            columns: blocks.filter(|_| canonical == names::PLE_TABLE.canonical),
        };
        let wanted = if names::is_small(canonical) { DType::F32 } else { dtype(canonical) };
        let fits = |dtype: &DType| content.width().is_multiple_of(dtype.block_len());
        let dtype = [wanted, weight.dtype()].into_iter().find(fits).unwrap_or(DType::F16);
        contents.push(Content { dtype, ..content });
    });
    contents
}

impl Content<'_> {
    /// Columns that are written.
    fn width(&self) -> usize {
        self.columns.map_or(self.parts[0].columns(), |(width, blocks)| width * blocks.len())
    }

    fn dimensions(&self) -> Vec<u64> {
        let rows = self.rows.map_or(self.parts[0].rows(), |(height, blocks)| height * blocks.len());
        let columns = self.width() as u64;
        let stacked = self.name == ALTUP_PROJECTIONS.gguf || self.name == ALTUP_UNEMBED.gguf;
        match (rows, stacked) {
            (_, true) => vec![columns, rows as u64, self.parts.len() as u64],
            (1, false) => vec![columns],
            _ => vec![columns, rows as u64],
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for part in &self.parts {
            match self.rows {
                None => (0..part.rows()).try_for_each(|row| self.write_row(part, row, out))?,
                Some((height, blocks)) => blocks
                    .iter()
                    .flat_map(|block| block * height..(block + 1) * height)
                    .try_for_each(|row| self.write_row(part, row, out))?,
            }
        }
        Ok(())
    }

    fn write_row(&self, weight: &Weight, row: usize, out: &mut dyn Write) -> io::Result<()> {
        let stored = weight.row(row);
        let whole = (weight.columns(), [0].as_slice());
        let (width, blocks) = self.columns.unwrap_or(whole);
        if let (true, Some(bytes)) = (weight.dtype() == self.dtype, self.dtype.row_bytes(width)) {
            return blocks
                .iter()
                .try_for_each(|block| out.write_all(&stored[block * bytes..(block + 1) * bytes]));
        }
        let mut values = vec![0.0; weight.columns()];
        dequantise_row(weight.dtype(), stored, &mut values);
        let kept: Vec<f32> =
            blocks.iter().flat_map(|block| &values[block * width..(block + 1) * width]).copied().collect();
        out.write_all(&quantise_row(self.dtype, &kept))
    }
}

/// The metadata from which the configuration is read back.
fn config_metadata(config: &Config) -> Vec<(&'static str, MetadataValue)> {
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

/// Counts bytes, to pad tensors to the alignment.
struct Counting<'a> {
    out: &'a mut dyn Write,
    written: u64,
}

impl Counting<'_> {
    fn pad(&mut self) -> io::Result<()> {
        let padding = self.written.next_multiple_of(DEFAULT_ALIGNMENT) - self.written;
        self.write_all(&[0; DEFAULT_ALIGNMENT as usize][..padding as usize])
    }
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
