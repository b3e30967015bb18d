//! Applying a slice: the smaller model's configuration, and views of the parent's weights.

use gemma_hal::ViewError;

use super::{Slice, SliceError, refuse_other_families};
use crate::{Config, Gemma3nWeights, LayerWeights, Weights};

impl Slice {
    /// The smaller model's configuration, and for each of its layers the layer of `parent` that it is.
    ///
    /// Kept layers keep their kind and sparsity. The layers that share keys and values are those kept of the parent's;
    /// they keep their source, which is why a source cannot be dropped.
    ///
    /// # Errors
    /// [`SliceError`] for layers or widths that `parent` does not have, and for a dropped source of keys and values.
    pub fn apply(&self, parent: &Config) -> Result<(Config, Vec<usize>), SliceError> {
        refuse_other_families(parent)?;
        let kept = self.kept(parent)?;
        if self.ffn_widths.len() != kept.len() {
            return Err(SliceError::WidthCount { found: self.ffn_widths.len(), kept: kept.len() });
        }
        for (layer, width) in kept.iter().zip(&self.ffn_widths) {
            let (layer, width, parent) = (*layer, *width, parent.ffn_widths[*layer]);
            if width == 0 || width > parent {
                return Err(SliceError::Width { layer, width, parent });
            }
        }
        let config = Config {
            ffn_widths: self.ffn_widths.clone(),
            sparsity: kept.iter().map(|layer| parent.sparsity[*layer]).collect(),
            layer_kinds: kept.iter().map(|layer| parent.layer_kinds[*layer]).collect(),
            shared_kv_layers: kept.iter().filter(|layer| !parent.owns_kv(**layer)).count(),
            ..parent.clone()
        };
        config.validate("slice")?;
        Ok((config, kept))
    }

    fn kept(&self, parent: &Config) -> Result<Vec<usize>, SliceError> {
        let layers = parent.layers();
        let mut keeps = vec![true; layers];
        for layer in &self.skip_layers {
            match keeps.get_mut(*layer) {
                None => return Err(SliceError::NoSuchLayer { layer: *layer, layers }),
                Some(false) => return Err(SliceError::Twice { layer: *layer }),
                Some(keep) => *keep = false,
            }
        }
        let kept: Vec<usize> = (0..layers).filter(|layer| keeps[*layer]).collect();
        if kept.is_empty() {
            return Err(SliceError::Nothing { layers });
        }
        for user in &kept {
            let source = parent.kv_source(*user);
            if !keeps[source] {
                return Err(SliceError::KvSource { layer: source, user: *user });
            }
        }
        Ok(kept)
    }
}

impl Weights {
    /// The weights of `slice`, as views of these, which are of `parent`. Nothing is copied; the PLE table and
    /// projection stay whole, and [`crate::Gemma3nWeights::ple_blocks`] says which parts of them belong to the kept layers.
    ///
    /// # Errors
    /// [`SliceError`], as [`Slice::apply`]; [`SliceError::PartialBlock`] when a width cuts a block of stored values.
    pub fn slice(&self, parent: &Config, slice: &Slice) -> Result<(Config, Self), SliceError> {
        let (config, kept) = slice.apply(parent)?;
        let available = self.layers.len();
        let mut layers = Vec::with_capacity(kept.len());
        for (layer, width) in kept.iter().zip(&config.ffn_widths) {
            let whole = self.layers.get(*layer).ok_or(ViewError::TooMany {
                what: "layers",
                wanted: parent.layers(),
                available,
            });
            let whole = whole.map_err(SliceError::OtherWeights)?;
            layers.push(narrowed(whole, *width).map_err(|error| refused(error, *layer, *width))?);
        }
        let gemma3n = self.gemma3n.clone().map(|own| Gemma3nWeights {
            ple_blocks: kept.iter().map(|layer| own.ple_blocks[*layer]).collect(),
            ..own
        });
        Ok((config, Self { layers, gemma3n, ..self.clone() }))
    }
}

fn narrowed(layer: &LayerWeights, width: usize) -> Result<LayerWeights, ViewError> {
    Ok(LayerWeights {
        gate: layer.gate.rows_view(0, width)?,
        up: layer.up.rows_view(0, width)?,
        down: layer.down.columns_view(width)?,
        ..layer.clone()
    })
}

fn refused(error: ViewError, layer: usize, width: usize) -> SliceError {
    match error {
        ViewError::PartialBlock { block, dtype, .. } => {
            SliceError::PartialBlock { layer, width, block, dtype }
        }
        other => SliceError::OtherWeights(other),
    }
}
