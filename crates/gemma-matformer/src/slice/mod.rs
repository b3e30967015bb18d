//! [`Slice`]: a smaller model inside of a MatFormer model, as data.
//!
//! A slice drops layers and narrows FFNs. Applying it gives the smaller model's [`Config`] and views of the parent's
//! weights; no weight is copied. Rules: Google's MatFormer Lab notebook.

mod apply;
mod parse;
mod published;

use gemma_hal::{DType, ViewError};

use crate::{Config, ConfigError};

pub use published::{PUBLISHED, Published};

/// Largest slice file that is read, in bytes.
pub const MAX_SLICE_BYTES: u64 = 1 << 20;
/// A width made by a fraction ends on a block of this many values, the longest of all weight formats.
const WIDTH_STEP: usize = 32;

/// Which layers of the parent are dropped and how wide the FFN of each kept layer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Layers of the parent that are dropped.
    pub skip_layers: Vec<usize>,
    /// FFN width of each kept layer, in order.
    pub ffn_widths: Vec<usize>,
}

/// Why a slice cannot be taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SliceError {
    /// No slice, fraction or file of this name.
    #[error("no slice is named {name:?}; use full, 1/2, 1/4, a .toml or .csv file, or one of {}", names())]
    Unknown {
        /// The name.
        name: String,
    },
    /// The slice is one of another model.
    #[error(
        "the slice {name} is taken from E4B (35 layers of FFN width 16384), but this model has {layers} layers; use 1/2, 1/4 or a .toml file"
    )]
    OtherParent {
        /// The name.
        name: String,
        /// Layers of this model.
        layers: usize,
    },
    /// The file cannot be read.
    #[error("{file}: {reason}; check the path of the slice")]
    Io {
        /// File name.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// The file is larger than any slice.
    #[error("{file}: more than {MAX_SLICE_BYTES} bytes; is this a slice?")]
    TooLarge {
        /// File name.
        file: String,
    },
    /// The file does not say what a slice says.
    #[error("{file}: {problem}; a slice has skip_layers and ffn_widths")]
    Content {
        /// File name.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The table has no such row, or several.
    #[error("{file}: {found} rows are named {row:?}; name one of: {names}")]
    Row {
        /// File name.
        file: String,
        /// The row asked for.
        row: String,
        /// How many there are.
        found: usize,
        /// Names of all rows.
        names: String,
    },
    /// A dropped layer is not one of the parent's.
    #[error(
        "skip_layers: layer {layer} does not exist, the parent has {layers} layers; drop layers below {layers}"
    )]
    NoSuchLayer {
        /// The layer.
        layer: usize,
        /// Layers of the parent.
        layers: usize,
    },
    /// A layer is dropped twice.
    #[error("skip_layers: layer {layer} is there twice; name it once")]
    Twice {
        /// The layer.
        layer: usize,
    },
    /// No layer is left.
    #[error("skip_layers: all {layers} layers are dropped; keep at least one")]
    Nothing {
        /// Layers of the parent.
        layers: usize,
    },
    /// A layer is dropped whose keys and values a kept layer uses.
    #[error(
        "skip_layers: layer {layer} cannot be dropped, because layer {user} uses its keys and values; keep it"
    )]
    KvSource {
        /// The layer.
        layer: usize,
        /// The first kept layer that needs it.
        user: usize,
    },
    /// There is not one width for each kept layer.
    #[error("ffn_widths: {found} widths for {kept} kept layers; give one for each")]
    WidthCount {
        /// Widths given.
        found: usize,
        /// Layers kept.
        kept: usize,
    },
    /// A width is not a part of the parent's.
    #[error(
        "ffn_widths: width {width} of parent layer {layer} is not between 1 and its own {parent}; a slice is the first part of each FFN"
    )]
    Width {
        /// The layer, by the parent's count.
        layer: usize,
        /// The width asked for.
        width: usize,
        /// The parent's width.
        parent: usize,
    },
    /// A width cuts a block of stored values.
    #[error(
        "ffn_widths: width {width} of parent layer {layer} cuts a block of {block} {dtype} values of \
         layers.{layer}.mlp.down_proj.weight; use a multiple of {block}"
    )]
    PartialBlock {
        /// The layer, by the parent's count.
        layer: usize,
        /// The width asked for.
        width: usize,
        /// Values in a block.
        block: usize,
        /// Type of the values.
        dtype: DType,
    },
    /// A fraction of a width is not a whole number of blocks.
    #[error("1/{divisor} of FFN width {width} is not a multiple of 32; give widths in a .toml file")]
    Fraction {
        /// Divisor of the fraction.
        divisor: usize,
        /// Width of the parent.
        width: usize,
    },
    /// The smaller model's numbers cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights are not those of the parent's configuration.
    #[error(
        "the weights are not of this parent: {0}; slice the weights with the configuration they came with"
    )]
    OtherWeights(ViewError),
}

impl Slice {
    /// Every layer at full width.
    pub fn full(parent: &Config) -> Self {
        Self { skip_layers: Vec::new(), ffn_widths: parent.ffn_widths.clone() }
    }

    /// A published slice of E4B by name, such as `e2b` or `2.54b`.
    ///
    /// # Errors
    /// [`SliceError::Unknown`].
    pub fn named(name: &str) -> Result<Self, SliceError> {
        let published = Published::find(name);
        published.map(Published::slice).ok_or_else(|| SliceError::Unknown { name: name.to_owned() })
    }

    /// Every layer at 1/`divisor` of its width.
    ///
    /// # Errors
    /// [`SliceError::Fraction`] when a width is then no multiple of 32.
    pub fn fraction(parent: &Config, divisor: usize) -> Result<Self, SliceError> {
        let part = |width: usize| match width.checked_div(divisor) {
            Some(part) if part * divisor == width && part.is_multiple_of(WIDTH_STEP) && part > 0 => Ok(part),
            _ => Err(SliceError::Fraction { divisor, width }),
        };
        let ffn_widths = parent.ffn_widths.iter().map(|width| part(*width)).collect::<Result<_, _>>()?;
        Ok(Self { skip_layers: Vec::new(), ffn_widths })
    }

    /// What `--slice` takes: `full`, `1/2`, `1/4`, a published name, the path of a .toml file, or the path of a .csv
    /// table and a row as `table.csv#row`.
    ///
    /// # Errors
    /// [`SliceError`].
    pub fn resolve(text: &str, parent: &Config) -> Result<Self, SliceError> {
        match text {
            "full" | "1/1" => return Ok(Self::full(parent)),
            "1/2" => return Self::fraction(parent, 2),
            "1/4" => return Self::fraction(parent, 4),
            _ => {}
        }
        if let Some(published) = Published::find(text) {
            return published.of(parent);
        }
        parse::file(text)
    }
}

impl Published {
    /// The slice, when `parent` has E4B's layers; the parent itself when it is this slice already.
    fn of(&self, parent: &Config) -> Result<Slice, SliceError> {
        let slice = self.slice();
        let is_parent = parent.layers() == published::PARENT_LAYERS
            && parent.ffn_widths.iter().all(|width| *width == published::PARENT_WIDTH);
        if is_parent {
            Ok(slice)
        } else if parent.ffn_widths == slice.ffn_widths {
            Ok(Slice::full(parent))
        } else {
            Err(SliceError::OtherParent { name: self.name.to_owned(), layers: parent.layers() })
        }
    }
}

fn names() -> String {
    PUBLISHED.map(|slice| slice.name).join(", ")
}
