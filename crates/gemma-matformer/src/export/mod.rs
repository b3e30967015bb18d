//! [`Export`]: a model as a GGUF file to be: its metadata, and every tensor with its type and where its rows are.
//!
//! Making one reads no weights; writing one streams them, a few megabytes at a time, whatever the size of the model.
//! Names and metadata are llama.cpp's. What that program wants and ours does not use is written along.

mod error;
mod journal;
mod stream;
mod tensor;
mod types;
mod vocabulary;

use std::collections::BTreeMap;
use std::io::{self, Write};

use gemma_hal::{DType, Weight};

use crate::checkpoint::gguf::write::{GgufWriter, MetadataValue, config_metadata};
use crate::checkpoint::gguf::{keys, published_query_scale};
use crate::checkpoint::tensors::{self as names, ALTUP_PROJECTIONS, ALTUP_UNEMBED, Name};
use crate::config::{default_sparsity, kinds_of_period};
use crate::{CheckpointError, Config, ModelFamily, Weights, synthetic};

pub use error::ExportError;
pub use stream::{Progress, Run, Written};
pub use tensor::{Distance, TensorPlan};
pub use types::{Class, Rule, RuleError, TensorInfo, TypeRules, type_names};
pub use vocabulary::synthetic_vocabulary;

use tensor::{Part, Source};
use types::fitting;

/// What weights are worth: for each matrix, by canonical name, the mean square of each of its inputs.
pub type Importance = BTreeMap<String, Vec<f32>>;

/// A GGUF file to be.
#[derive(Debug)]
pub struct Export<'a> {
    header: Vec<u8>,
    tensors: Vec<TensorPlan<'a>>,
    /// First byte of each tensor in the file, and of what would follow the last.
    starts: Vec<u64>,
    /// Of everything beside the header that decides the bytes.
    options: u64,
}

/// Where the values of an [`Export`] come from, beside the weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filling<'a> {
    /// Random values from this seed instead of the weights'.
    pub seed: Option<u64>,
    /// Which errors matter, for the types that can choose.
    pub importance: Option<&'a Importance>,
}

/// Weights of `config`'s shapes, for a file of random values: they hold nothing and take no memory.
///
/// # Errors
/// [`CheckpointError::Config`] for a config that is not valid, [`CheckpointError::Io`] when there is no room for the
/// addresses.
pub fn shapes(config: &Config) -> Result<Weights, CheckpointError> {
    synthetic::shapes(config)
}

/// Why llama.cpp cannot run `config` as it is meant, one line each; it takes much of the published models for granted.
pub fn llama_cpp_limits(config: &Config) -> Vec<String> {
    let mut limits = match config.family {
        ModelFamily::Gemma3n => gemma3n_limits(config),
        ModelFamily::Gemma3 => gemma3_limits(config),
    };
    if config.ffn_widths.iter().any(|width| *width != config.ffn_widths[0]) {
        limits.push("feed-forward widths that differ, but it has one for all layers".to_owned());
    }
    limits
}

fn gemma3n_limits(config: &Config) -> Vec<String> {
    const KV_OWNERS: usize = 20;
    let owners = config.first_shared_layer();
    let fixed = [
        ("AltUp streams", config.altup_streams, 4),
        ("LAuReL's rank", config.laurel_rank, 64),
        ("the width of per-layer embeddings", config.ple_width, 256),
    ];
    let mut limits: Vec<String> = fixed
        .into_iter()
        .filter(|(_, found, wanted)| found != wanted)
        .map(|(what, found, wanted)| format!("{what}: {found}, but it has {wanted}"))
        .collect();
    if owners != KV_OWNERS {
        limits.push(format!("{owners} layers with keys and values of their own, but it has {KV_OWNERS}"));
    }
    if config.sparsity != default_sparsity(config.layers()) {
        limits.push("sparsity that is not 0.95 in the first ten layers and 0 in the others".to_owned());
    }
    limits
}

fn gemma3_limits(config: &Config) -> Vec<String> {
    const PERIOD: usize = 6;
    const LOCAL_THETA: f32 = 10_000.0;
    let mut limits = Vec::new();
    if config.layer_kinds != kinds_of_period(config.layers(), PERIOD) {
        limits.push(format!("full layers that are not every {PERIOD}th"));
    }
    if config.rope_local_theta != LOCAL_THETA {
        limits.push(format!("a local RoPE base of {}, but it has {LOCAL_THETA}", config.rope_local_theta));
    }
    let published = published_query_scale(config.layers(), config.hidden, config.heads, config.head_dim);
    // A scale that was computed in another order differs in its last bits.
    if (config.query_scale - published).abs() > published * 1e-5 {
        limits.push(format!("queries scaled by {}, but it has {published}", config.query_scale));
    }
    limits
}

impl<'a> Export<'a> {
    /// The file of `weights`, which are of `config`, with the types of `rules`. `further` entries, such as the
    /// tokenizer's, follow those of the configuration; an entry that the configuration has made already is left out.
    ///
    /// # Errors
    /// [`ExportError::RuleMatchesNothing`].
    pub fn new(
        config: &Config,
        weights: &'a Weights,
        rules: &TypeRules,
        further: &[(String, MetadataValue)],
        filling: Filling<'a>,
    ) -> Result<Self, ExportError> {
        let export = Self::with_types(config, weights, &|tensor| rules.wanted(tensor), further, filling);
        let names = || export.tensors.iter().filter(|t| t.class != Class::Small).map(|t| t.name.as_str());
        for rule in &rules.rules {
            if !names().any(|name| rule.pattern.is_match(name)) {
                return Err(ExportError::RuleMatchesNothing {
                    pattern: rule.pattern.to_string(),
                    tensors: names().count(),
                    example: names().next_back().unwrap_or_default().to_owned(),
                });
            }
        }
        Ok(export)
    }

    /// As [`Export::new`] with any choice of types. One that does not fit gives way to a neighbour.
    pub fn with_types(
        config: &Config,
        weights: &'a Weights,
        types: &dyn Fn(&TensorInfo<'_>) -> DType,
        further: &[(String, MetadataValue)],
        filling: Filling<'a>,
    ) -> Self {
        let tensors = plan(config, weights, types, filling);
        let mut writer = GgufWriter::default();
        for (key, value) in config_metadata(config) {
            writer.metadata(&keys::of(key, config.family), value);
        }
        for (key, value) in further {
            if !writer.has(key) {
                writer.metadata(key, value.clone());
            }
        }
        if !writer.has(FILE_TYPE) {
            writer.metadata(FILE_TYPE, MetadataValue::U32(file_type(&tensors)));
        }
        for tensor in &tensors {
            writer.tensor(&tensor.name, &tensor.dimensions(), tensor.dtype);
        }
        let header = writer.header();
        let places = writer.places();
        let end = places.last().map_or(0, |(first, bytes)| first + bytes);
        let end = end.next_multiple_of(crate::checkpoint::gguf::DEFAULT_ALIGNMENT);
        let starts = places.iter().map(|(first, _)| *first).chain([end]);
        let starts = starts.map(|start| header.len() as u64 + start).collect();
        Self { header, tensors, starts, options: options_hash(filling) }
    }

    /// Every tensor, in the order of the file.
    pub fn tensors(&self) -> &[TensorPlan<'a>] {
        &self.tensors
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Writes the whole file to `out`, such as a vector.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        stream::write_all(self, out)
    }
}

const FILE_TYPE: &str = "general.file_type";

/// llama.cpp's number for a file that is mostly of the type that most values have.
fn file_type(tensors: &[TensorPlan<'_>]) -> u32 {
    let mut values: BTreeMap<DType, u64> = BTreeMap::new();
    for tensor in tensors.iter().filter(|tensor| tensor.class != Class::PleTable) {
        *values.entry(tensor.dtype).or_default() += tensor.values();
    }
    match values.into_iter().max_by_key(|(_, values)| *values).map(|(dtype, _)| dtype) {
        None | Some(DType::F32) => 0,
        Some(DType::F16) => 1,
        Some(DType::Q4_0) => 2,
        Some(DType::Q4_1) => 3,
        Some(DType::Q8_0) => 7,
        Some(DType::Q5_0) => 8,
        Some(DType::Q4K) => 14,
        Some(DType::Q5K) => 16,
        Some(DType::Q6K) => 18,
        Some(DType::BF16) => 32,
    }
}

fn options_hash(filling: Filling<'_>) -> u64 {
    let mut hash = journal::hash(0, format!("{:?}", filling.seed).as_bytes());
    for (name, values) in filling.importance.into_iter().flatten() {
        hash = journal::hash(hash, name.as_bytes());
        hash = journal::hash(hash, bytemuck::cast_slice(values));
    }
    hash
}

/// Collects tensors while the weights are visited.
struct Planner<'a, 'b> {
    config: &'b Config,
    types: &'b dyn Fn(&TensorInfo<'_>) -> DType,
    filling: Filling<'a>,
    tensors: Vec<TensorPlan<'a>>,
}

fn plan<'a>(
    config: &Config,
    weights: &'a Weights,
    types: &dyn Fn(&TensorInfo<'_>) -> DType,
    filling: Filling<'a>,
) -> Vec<TensorPlan<'a>> {
    let mut planner = Planner { config, types, filling, tensors: Vec::new() };
    let blocks = weights.gemma3n.as_ref().map_or(&[][..], |own| &own.ple_blocks);
    weights.for_each(&mut |canonical, weight| planner.add(canonical, weight, blocks));
    planner.pad_ple_table();
    planner.add_unused(weights);
    planner.tensors
}

impl<'a> Planner<'a, '_> {
    fn add(&mut self, canonical: &str, weight: &'a Weight, ple_blocks: &'a [usize]) {
        let blocks = Some((self.config.ple_width, ple_blocks));
        let rows = blocks.filter(|_| canonical == names::PLE_PROJECTION.canonical);
        let columns = blocks.filter(|_| canonical == names::PLE_TABLE.canonical);
        let width = columns.map_or(weight.columns(), |(width, blocks)| width * blocks.len());
        let height = rows.map_or(weight.rows(), |(height, blocks)| height * blocks.len());
        let source = match self.filling.seed {
            None => Source::Stored { weight, rows, columns },
            Some(seed) => Source::Synthetic(synthetic::Rows::new(canonical, height, width, seed)),
        };
        let source_bytes = self
            .filling
            .seed
            .is_none()
            .then(|| weight.bytes() / (weight.columns() as u64).max(1) * width as u64)
            .map(|bytes| bytes / (weight.rows() as u64).max(1) * height as u64);
        let importance = self.filling.importance.and_then(|all| all.get(canonical)).map(Vec::as_slice);
        let part =
            Part { rows: height, source, importance: importance.filter(|values| values.len() == width) };
        self.put(canonical, part, width, weight.dtype(), source_bytes);
    }

    fn put(&mut self, canonical: &str, part: Part<'a>, columns: usize, stored: DType, bytes: Option<u64>) {
        let (name, class) = name_and_class(canonical);
        if let Some(stack) = self.tensors.iter_mut().find(|tensor| tensor.name == name) {
            stack.parts.push(part);
            stack.stacked += 1;
            stack.source_bytes = stack.source_bytes.zip(bytes).map(|(before, bytes)| before + bytes);
            return;
        }
        let info = TensorInfo { canonical, name: &name, class, columns, stored };
        let wanted = (self.types)(&info);
        let wanted = if class == Class::Small { DType::F32 } else { wanted };
        let dtype = fitting(wanted, &info);
        self.tensors.push(TensorPlan {
            class,
            dtype,
            unfit: (dtype != wanted).then_some(wanted),
            source_bytes: bytes,
            columns,
            parts: vec![part],
            stacked: 1,
            name,
        });
    }

    /// llama.cpp wants a row for every id, although the last ids have none.
    fn pad_ple_table(&mut self) {
        let missing = self.config.vocabulary.saturating_sub(self.config.ple_vocabulary);
        let table = self.tensors.iter_mut().find(|tensor| tensor.class == Class::PleTable);
        if let (Some(table), true) = (table, missing > 0) {
            table.parts.push(Part { rows: missing, source: Source::Constant(0.0), importance: None });
        }
    }

    /// llama.cpp wants keys and values of every layer, although it never computes those of a layer that shares. They
    /// are the source's, or nothing where it has none.
    fn add_unused(&mut self, weights: &'a Weights) {
        let useless = !llama_cpp_limits(self.config).is_empty();
        let (d, kv) = (self.config.hidden, self.config.kv_width());
        for (layer, layer_weights) in weights.layers.iter().enumerate() {
            if self.config.owns_kv(layer) {
                continue;
            }
            if let (Some(unused), None) = (&layer_weights.unused_kv, self.filling.seed) {
                for (name, weight) in
                    [(names::K, &unused.k), (names::K_NORM, &unused.k_norm), (names::V, &unused.v)]
                {
                    self.add(&names::in_layer(layer, &name), weight, &[]);
                }
            } else if !useless {
                for (name, rows, columns, value) in [
                    (names::K, kv, d, 0.0),
                    (names::K_NORM, 1, self.config.head_dim, 1.0),
                    (names::V, kv, d, 0.0),
                ] {
                    let part = Part { rows, source: Source::Constant(value), importance: None };
                    let stored = layer_weights.q.dtype();
                    self.put(&names::in_layer(layer, &name), part, columns, stored, Some(0));
                }
            }
        }
    }
}

fn name_and_class(canonical: &str) -> (String, Class) {
    let in_stack =
        |stack: &Name| canonical.strip_prefix(stack.canonical).is_some_and(|rest| rest.starts_with('.'));
    if let Some(stack) = [ALTUP_PROJECTIONS, ALTUP_UNEMBED].into_iter().find(in_stack) {
        return (stack.gguf.to_owned(), Class::AltupStack);
    }
    let name = names::to_gguf(canonical).expect("every tensor of the model has a GGUF name");
    let is = |name: &Name| canonical == name.canonical;
    let in_layer = |name: &Name| canonical.ends_with(&format!(".{}", name.canonical));
    let class = match () {
        () if names::is_small(canonical) => Class::Small,
        () if is(&names::EMBED) => Class::Embedding,
        () if is(&names::PLE_TABLE) => Class::PleTable,
        () if is(&names::PLE_PROJECTION) => Class::Helper,
        () if [names::ROUTER, names::LAUREL_LEFT, names::LAUREL_RIGHT].iter().any(in_layer) => Class::Helper,
        () => Class::Matrix,
    };
    (name, class)
}
