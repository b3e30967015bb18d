//! [`Weights`]: every tensor of one Gemma 3n decoder by its role, with the shape that the [`Config`] demands.
//!
//! Matrices stay where and as the file has them. Norms, scales and AltUp coefficients, a few kilobytes a layer, are
//! held as f32. A slice of a model is another `Weights` over the same bytes.

use gemma_hal::block::{BlockQ6K, dequantise_row};
use gemma_hal::{DType, Storage, Weight};
use std::mem::offset_of;

use crate::checkpoint::tensors::{self, Name};
use crate::{Checkpoint, CheckpointError, Config};

/// The weights of a decoder. Shapes are `[rows, columns]`, that is `[outputs, inputs]`, in the terms of [`Config`].
#[derive(Clone, Debug)]
pub struct Weights {
    /// `[vocabulary, hidden]`; embedding and output matrix.
    pub embed: Weight,
    /// `[ple_vocabulary, blocks · ple_width]`; see [`Weights::ple_blocks`].
    pub ple_table: Weight,
    /// `[blocks · ple_width, hidden]`; see [`Weights::ple_blocks`].
    pub ple_projection: Weight,
    /// `[1, ple_width]`, f32.
    pub ple_norm: Weight,
    /// `[hidden, hidden]` for each stream but the first: embedding to stream.
    pub altup_projections: Vec<Weight>,
    /// `[hidden, hidden]` for each stream but the first: stream to output.
    pub altup_unembed: Vec<Weight>,
    /// `[1, hidden]`, f32; the norm before the output matrix.
    pub norm: Weight,
    /// The layers, in order.
    pub layers: Vec<LayerWeights>,
    /// For each layer the block of `ple_width` rows of [`Weights::ple_projection`] and columns of
    /// [`Weights::ple_table`] that belong to it: its own number, or in a slice its number in the parent.
    pub ple_blocks: Vec<usize>,
}

/// The weights of one layer.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// `[altup_streams, hidden]`.
    pub router: Weight,
    /// `[1, hidden]`, f32.
    pub router_norm: Weight,
    /// `[altup_streams², altup_streams]`, f32.
    pub prediction: Weight,
    /// `[altup_streams, altup_streams]`, f32.
    pub correction: Weight,
    /// `[1, hidden]`, f32.
    pub correct_scale: Weight,
    /// `[1, hidden]`, f32.
    pub input_norm: Weight,
    /// `[laurel_rank, hidden]`.
    pub laurel_left: Weight,
    /// `[hidden, laurel_rank]`.
    pub laurel_right: Weight,
    /// `[1, hidden]`, f32.
    pub laurel_norm: Weight,
    /// `[heads · head_dim, hidden]`.
    pub q: Weight,
    /// `[1, head_dim]`, f32.
    pub q_norm: Weight,
    /// Absent in a layer that uses another layer's keys and values.
    pub kv: Option<KvWeights>,
    /// What the file has all the same for such a layer: no part of the model, kept for whoever writes it on.
    pub unused_kv: Option<KvWeights>,
    /// `[hidden, heads · head_dim]`.
    pub o: Weight,
    /// `[1, hidden]`, f32.
    pub post_attention_norm: Weight,
    /// `[1, hidden]`, f32.
    pub pre_ffn_norm: Weight,
    /// `[ffn_width, hidden]`.
    pub gate: Weight,
    /// `[ffn_width, hidden]`.
    pub up: Weight,
    /// `[hidden, ffn_width]`.
    pub down: Weight,
    /// `[1, hidden]`, f32.
    pub post_ffn_norm: Weight,
    /// `[ple_width, hidden]`.
    pub ple_gate: Weight,
    /// `[hidden, ple_width]`.
    pub ple_out: Weight,
    /// `[1, hidden]`, f32.
    pub post_ple_norm: Weight,
}

/// What computes keys and values.
#[derive(Clone, Debug)]
pub struct KvWeights {
    /// `[kv_heads · head_dim, hidden]`.
    pub k: Weight,
    /// `[1, head_dim]`, f32.
    pub k_norm: Weight,
    /// `[kv_heads · head_dim, hidden]`.
    pub v: Weight,
}

impl Weights {
    /// The weights of `checkpoint`; reads norms and coefficients, and nothing else.
    ///
    /// # Errors
    /// As [`Checkpoint::weights`].
    pub fn load(checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        let config = checkpoint.config();
        let mut weights =
            Self::from_source(config, &|name, rows, columns| find(checkpoint, name, rows, columns))?;
        for (layer, weights) in weights.layers.iter_mut().enumerate() {
            weights.unused_kv = unused_kv(checkpoint, layer);
        }
        Ok(weights)
    }

    /// Builds the weights of `config` from a source of `(name, rows, columns)`; small tensors are then held as f32.
    pub(crate) fn from_source(config: &Config, source: Source<'_>) -> Result<Self, CheckpointError> {
        let (d, p) = (config.hidden, config.ple_width);
        let blocks = config.layers() * p;
        let stack = |stack: &Name| -> Result<Vec<Weight>, CheckpointError> {
            (0..config.altup_streams - 1).map(|i| source(&tensors::in_stack(stack, i), d, d)).collect()
        };
        Ok(Self {
            embed: source(tensors::EMBED.canonical, config.vocabulary, d)?,
            ple_table: source(tensors::PLE_TABLE.canonical, config.ple_vocabulary, blocks)?,
            ple_projection: source(tensors::PLE_PROJECTION.canonical, blocks, d)?,
            ple_norm: small(source, tensors::PLE_NORM.canonical, 1, p)?,
            altup_projections: stack(&tensors::ALTUP_PROJECTIONS)?,
            altup_unembed: stack(&tensors::ALTUP_UNEMBED)?,
            norm: small(source, tensors::NORM.canonical, 1, d)?,
            layers: (0..config.layers())
                .map(|layer| LayerWeights::from_source(config, layer, source))
                .collect::<Result<_, _>>()?,
            ple_blocks: (0..config.layers()).collect(),
        })
    }

    /// Calls `visit` with the canonical name of every tensor and the tensor, in the order of the decoder.
    pub fn for_each<'a>(&'a self, visit: &mut dyn FnMut(&str, &'a Weight)) {
        visit(tensors::EMBED.canonical, &self.embed);
        visit(tensors::PLE_TABLE.canonical, &self.ple_table);
        visit(tensors::PLE_PROJECTION.canonical, &self.ple_projection);
        visit(tensors::PLE_NORM.canonical, &self.ple_norm);
        for (stack, weights) in [
            (tensors::ALTUP_PROJECTIONS, &self.altup_projections),
            (tensors::ALTUP_UNEMBED, &self.altup_unembed),
        ] {
            for (index, weight) in weights.iter().enumerate() {
                visit(&tensors::in_stack(&stack, index), weight);
            }
        }
        for (layer, weights) in self.layers.iter().enumerate() {
            weights.for_each(layer, visit);
        }
        visit(tensors::NORM.canonical, &self.norm);
    }

    /// Looks at every value of plain types and every scale of block types.
    ///
    /// Reads the whole model from disk; the PLE table is most of it.
    ///
    /// # Errors
    /// [`CheckpointError::NotFinite`] for the first NaN or infinite one.
    pub fn check_finite(&self) -> Result<(), CheckpointError> {
        let mut result = Ok(());
        self.for_each(&mut |name, weight| {
            if result.is_ok() {
                result = check_finite(name, weight);
            }
        });
        result
    }

    /// Values that the decoder uses, each counted once; of a slice only its own part of the PLE table and projection.
    pub fn parameters(&self) -> u64 {
        let ple = (self.ple_blocks.len() * self.ple_norm.columns()) as u64;
        let mut total = 0;
        self.for_each(&mut |name, weight| {
            total += if name == tensors::PLE_TABLE.canonical {
                ple * weight.rows() as u64
            } else if name == tensors::PLE_PROJECTION.canonical {
                ple * weight.columns() as u64
            } else {
                weight.values()
            };
        });
        total
    }
}

impl LayerWeights {
    fn from_source(config: &Config, layer: usize, source: Source<'_>) -> Result<Self, CheckpointError> {
        let (d, p, streams) = (config.hidden, config.ple_width, config.altup_streams);
        let (heads, rank, ffn) = (config.query_width(), config.laurel_rank, config.ffn_widths[layer]);
        let matrix = |name: &Name, rows, columns| source(&tensors::in_layer(layer, name), rows, columns);
        let small =
            |name: &Name, rows, columns| small(source, &tensors::in_layer(layer, name), rows, columns);
        let kv = || {
            Ok::<_, CheckpointError>(KvWeights {
                k: matrix(&tensors::K, config.kv_width(), d)?,
                k_norm: small(&tensors::K_NORM, 1, config.head_dim)?,
                v: matrix(&tensors::V, config.kv_width(), d)?,
            })
        };
        Ok(Self {
            router: matrix(&tensors::ROUTER, streams, d)?,
            router_norm: small(&tensors::ROUTER_NORM, 1, d)?,
            prediction: small(&tensors::PREDICTION, streams * streams, streams)?,
            correction: small(&tensors::CORRECTION, streams, streams)?,
            correct_scale: small(&tensors::CORRECT_SCALE, 1, d)?,
            input_norm: small(&tensors::INPUT_NORM, 1, d)?,
            laurel_left: matrix(&tensors::LAUREL_LEFT, rank, d)?,
            laurel_right: matrix(&tensors::LAUREL_RIGHT, d, rank)?,
            laurel_norm: small(&tensors::LAUREL_NORM, 1, d)?,
            q: matrix(&tensors::Q, heads, d)?,
            q_norm: small(&tensors::Q_NORM, 1, config.head_dim)?,
            kv: config.owns_kv(layer).then(kv).transpose()?,
            unused_kv: None,
            o: matrix(&tensors::O, d, heads)?,
            post_attention_norm: small(&tensors::POST_ATTENTION_NORM, 1, d)?,
            pre_ffn_norm: small(&tensors::PRE_FFN_NORM, 1, d)?,
            gate: matrix(&tensors::GATE, ffn, d)?,
            up: matrix(&tensors::UP, ffn, d)?,
            down: matrix(&tensors::DOWN, d, ffn)?,
            post_ffn_norm: small(&tensors::POST_FFN_NORM, 1, d)?,
            ple_gate: matrix(&tensors::PLE_GATE, p, d)?,
            ple_out: matrix(&tensors::PLE_OUT, d, p)?,
            post_ple_norm: small(&tensors::POST_PLE_NORM, 1, d)?,
        })
    }

    fn for_each<'a>(&'a self, layer: usize, visit: &mut dyn FnMut(&str, &'a Weight)) {
        let kv = self.kv.as_ref();
        for (name, weight) in [
            (tensors::ROUTER, Some(&self.router)),
            (tensors::ROUTER_NORM, Some(&self.router_norm)),
            (tensors::PREDICTION, Some(&self.prediction)),
            (tensors::CORRECTION, Some(&self.correction)),
            (tensors::CORRECT_SCALE, Some(&self.correct_scale)),
            (tensors::INPUT_NORM, Some(&self.input_norm)),
            (tensors::LAUREL_LEFT, Some(&self.laurel_left)),
            (tensors::LAUREL_RIGHT, Some(&self.laurel_right)),
            (tensors::LAUREL_NORM, Some(&self.laurel_norm)),
            (tensors::Q, Some(&self.q)),
            (tensors::Q_NORM, Some(&self.q_norm)),
            (tensors::K, kv.map(|kv| &kv.k)),
            (tensors::K_NORM, kv.map(|kv| &kv.k_norm)),
            (tensors::V, kv.map(|kv| &kv.v)),
            (tensors::O, Some(&self.o)),
            (tensors::POST_ATTENTION_NORM, Some(&self.post_attention_norm)),
            (tensors::PRE_FFN_NORM, Some(&self.pre_ffn_norm)),
            (tensors::GATE, Some(&self.gate)),
            (tensors::UP, Some(&self.up)),
            (tensors::DOWN, Some(&self.down)),
            (tensors::POST_FFN_NORM, Some(&self.post_ffn_norm)),
            (tensors::PLE_GATE, Some(&self.ple_gate)),
            (tensors::PLE_OUT, Some(&self.ple_out)),
            (tensors::POST_PLE_NORM, Some(&self.post_ple_norm)),
        ] {
            if let Some(weight) = weight {
                visit(&tensors::in_layer(layer, &name), weight);
            }
        }
    }
}

/// Gives the tensor of a canonical name with `rows` and `columns`.
pub(crate) type Source<'a> = &'a dyn Fn(&str, usize, usize) -> Result<Weight, CheckpointError>;

fn find(checkpoint: &Checkpoint, name: &str, rows: usize, columns: usize) -> Result<Weight, CheckpointError> {
    let Some(weight) = checkpoint.tensor(name) else {
        return Err(CheckpointError::MissingTensor {
            file: checkpoint.name().to_owned(),
            tensor: name.to_owned(),
        });
    };
    if (weight.rows(), weight.columns()) == (rows, columns) {
        return Ok(weight.clone());
    }
    Err(CheckpointError::Shape {
        file: weight.storage().name().to_owned(),
        tensor: name.to_owned(),
        found_rows: weight.rows(),
        found_columns: weight.columns(),
        rows,
        columns,
    })
}

/// Keys and values of a layer that shares, where the file has all of them in the right shapes.
fn unused_kv(checkpoint: &Checkpoint, layer: usize) -> Option<KvWeights> {
    let config = checkpoint.config();
    let find = |name: &Name, rows: usize, columns: usize| {
        let weight = checkpoint.unused(&tensors::in_layer(layer, name))?;
        ((weight.rows(), weight.columns()) == (rows, columns)).then(|| weight.clone())
    };
    Some(KvWeights {
        k: find(&tensors::K, config.kv_width(), config.hidden)?,
        k_norm: find(&tensors::K_NORM, 1, config.head_dim)?,
        v: find(&tensors::V, config.kv_width(), config.hidden)?,
    })
}

/// A small tensor as f32 values of its own, all finite.
fn small(source: Source<'_>, name: &str, rows: usize, columns: usize) -> Result<Weight, CheckpointError> {
    let weight = source(name, rows, columns)?;
    check_finite(name, &weight)?;
    if weight.dtype() == DType::F32 {
        return Ok(weight);
    }
    let mut values = vec![0.0_f32; rows * columns];
    for (row, out) in values.chunks_exact_mut(columns).enumerate() {
        dequantise_row(weight.dtype(), weight.row(row), out);
    }
    let storage = Storage::new(weight.storage().name(), F32Bytes(values));
    let weight = Weight::new(storage, 0, rows, columns, DType::F32);
    Ok(weight.expect("the vector was made for these rows and columns"))
}

/// f32 values as the bytes that a storage holds, aligned for f32.
pub(crate) struct F32Bytes(pub(crate) Vec<f32>);

impl AsRef<[u8]> for F32Bytes {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn check_finite(name: &str, weight: &Weight) -> Result<(), CheckpointError> {
    match first_not_finite(weight) {
        Some((row, value)) => {
            let (file, tensor) = (weight.storage().name().to_owned(), name.to_owned());
            Err(CheckpointError::NotFinite { file, tensor, row, value })
        }
        None => Ok(()),
    }
}

/// The first NaN or infinite value, or scale, and its row.
pub(crate) fn first_not_finite(weight: &Weight) -> Option<(usize, f32)> {
    (0..weight.rows()).find_map(|row| Some((row, not_finite(weight.dtype(), weight.row(row))?)))
}

/// The first NaN or infinite value, or scale, of a stored row.
fn not_finite(dtype: DType, row: &[u8]) -> Option<f32> {
    let f16 = |bytes: [u8; 2]| half::f16::from_le_bytes(bytes).to_f32();
    let wrong = |value: &f32| !value.is_finite();
    // The f16 values that stand at these places of every block.
    let in_blocks = |places: &[usize]| {
        let blocks = row.chunks_exact(dtype.block_bytes());
        blocks.flat_map(|block| places.iter().map(|at| f16([block[*at], block[at + 1]]))).find(wrong)
    };
    match dtype {
        DType::F32 => row.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).find(wrong),
        DType::F16 => row.as_chunks().0.iter().map(|b| f16(*b)).find(wrong),
        DType::BF16 => row.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).find(wrong),
        DType::Q8_0 | DType::Q5_0 | DType::Q4_0 => in_blocks(&[0]),
        DType::Q5K | DType::Q4_1 | DType::Q4K => in_blocks(&[0, 2]),
        DType::Q6K => in_blocks(&[offset_of!(BlockQ6K, scale)]),
    }
}
