//! The slices of E4B that Google published with its MatFormer Lab notebook, with their MMLU scores.
//!
//! Facts as in the notebook's table (also in mistral.rs, matformer_configs/gemma3n.csv), in a form of our own.

use super::Slice;

/// A published slice of E4B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// Name, as `--slice` takes it.
    pub name: &'static str,
    /// One letter for each of E4B's 35 layers: `W` keeps width 16384, `n` narrows to 8192, `-` drops the layer.
    pub layers: &'static str,
    /// Effective parameters in billions (all but the embeddings), as published.
    pub effective: f32,
    /// MMLU accuracy of the pre-trained model in percent, as published.
    pub mmlu: f32,
}

/// Layers of the parent.
pub(super) const PARENT_LAYERS: usize = 35;
/// FFN width of the parent.
pub(super) const PARENT_WIDTH: usize = 16_384;

const fn published(name: &'static str, layers: &'static str, effective: f32, mmlu: f32) -> Published {
    Published { name, layers, effective, mmlu }
}

/// Every published slice: first those chosen layer by layer, then those chosen in blocks of five.
pub const PUBLISHED: [Published; 16] = [
    published("e4b", "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", 3.98, 62.3),
    published("e2b", "nnnnnnnnnnnnnnnnnnnn-----nnnnnnnnnn", 1.91, 50.9),
    published("1.96b", "nnnnWnnnnnnnnnnnnnnn-----nnnnnnnnnn", 1.96, 53.4),
    published("2.54b", "nnnnWnnnnnnnnnnnnnnnWWWWWnnnnnnnnnn", 2.54, 55.4),
    published("2.69b", "nnnnWnnnnWnnnnWnnnnWWWWWWnnnnnnnnnn", 2.69, 57.7),
    published("2.98b", "nnnnnnnnnnnnnnnWWWWWWWWWWnnnnnWWWWW", 2.98, 59.5),
    published("3.18b", "nnnnWnnnnWWWWWWWWWWWWWWWWnnnnWnnnnW", 3.18, 61.8),
    published("3.39b", "nnnnWnnnnWWWWWWWWWWWWWWWWWWWWWnnnnW", 3.39, 63.0),
    published("3.59b", "nnnnWWWWWWWWWWWWWWWWWWWWWWWWWWnnnnW", 3.59, 63.4),
    published("3.79b", "nnnnWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", 3.79, 63.4),
    published("2.49b", "nnnnnnnnnnnnnnnnnnnnWWWWWnnnnnnnnnn", 2.49, 54.5),
    published("2.73b", "nnnnnnnnnnnnnnnWWWWWWWWWWnnnnnnnnnn", 2.73, 57.1),
    published("2.98b-block", "nnnnnnnnnnWWWWWWWWWWWWWWWnnnnnnnnnn", 2.98, 59.5),
    published("3.24b", "nnnnnnnnnnWWWWWWWWWWWWWWWWWWWWnnnnn", 3.24, 60.7),
    published("3.49b", "nnnnnWWWWWWWWWWWWWWWWWWWWWWWWWnnnnn", 3.49, 61.4),
    published("3.79b-block", "nnnnnWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", 3.74, 62.0),
];

impl Published {
    /// The entry of this name, in either case and with or without an `e` before the number.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        let name = name.to_ascii_lowercase();
        let bare = name.strip_prefix('e').unwrap_or(&name);
        PUBLISHED.iter().find(|slice| slice.name == name || slice.name == bare)
    }

    /// The slice.
    pub fn slice(&self) -> Slice {
        let layers = self.layers.bytes().enumerate();
        Slice {
            skip_layers: layers.clone().filter(|(_, kind)| *kind == b'-').map(|(layer, _)| layer).collect(),
            ffn_widths: layers
                .filter(|(_, kind)| *kind != b'-')
                .map(|(_, kind)| if kind == b'W' { PARENT_WIDTH } else { PARENT_WIDTH / 2 })
                .collect(),
        }
    }
}
