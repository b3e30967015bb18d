//! [`Decoder`]: the whole of Gemma 3n's text model in ordinary Burn, from token ids to logits.
//!
//! Shapes are those of `layer`. Every token's logits are computed; the cache keeps every position, in f32.

use burn::module::Module;
use burn::nn::RmsNorm;
use burn::tensor::{Device, Tensor};
use gemma_hal::{DeviceError, Weight};
use gemma_matformer::{Config, LayerKind, Weights};

use crate::layer::{DecoderLayer, Reach};
use crate::place::{Place, Projection, Table};

/// The least mean square that a stream is divided by when it is brought to another's magnitude.
const MATCH_FLOOR: f64 = 1e-5;

/// A Gemma 3n, or a slice of one.
#[derive(Module, Debug)]
pub struct Decoder {
    embed: Table,
    ple_table: Table,
    ple_projection: Projection,
    ple_norm: RmsNorm,
    altup_projections: Vec<Projection>,
    layers: Vec<DecoderLayer>,
    altup_unembed: Vec<Projection>,
    norm: RmsNorm,
    unembed: Projection,
    /// For each layer its block of per-layer embeddings.
    #[module(skip)]
    ple_blocks: Vec<usize>,
    #[module(skip)]
    config: Config,
}

/// Keys and values `[K, positions, head_dim]` of the tokens so far, for each layer that owns any.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    layers: Vec<Option<(Tensor<3>, Tensor<3>)>>,
    positions: usize,
}

/// Why a model cannot be loaded or run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecoderError {
    /// Only Gemma 3n is written here.
    #[error("this is a {0} model; the Burn decoder is Gemma 3n's alone, run others with the engine")]
    Family(&'static str),
    /// A token that the vocabulary does not have.
    #[error("token {token} of a vocabulary of {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// Ids that there are.
        vocabulary: usize,
    },
    /// No tokens at all.
    #[error("a run takes at least one token")]
    NoTokens,
    /// The GPU refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl Cache {
    /// Tokens that it holds.
    pub fn len(&self) -> usize {
        self.positions
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.positions == 0
    }

    /// Keys and values of layer `owner`.
    pub(crate) fn layer(&self, owner: usize) -> (Tensor<3>, Tensor<3>) {
        self.layers.get(owner).cloned().flatten().expect("a layer runs after the one whose keys it looks at")
    }

    /// Puts those of more positions behind.
    pub(crate) fn extend(&mut self, owner: usize, keys: Tensor<3>, values: Tensor<3>) {
        if self.layers.len() <= owner {
            self.layers.resize(owner + 1, None);
        }
        self.layers[owner] = Some(match self.layers[owner].take() {
            None => (keys, values),
            Some((old_keys, old_values)) => {
                (Tensor::cat(vec![old_keys, keys], 1), Tensor::cat(vec![old_values, values], 1))
            }
        });
    }
}

impl Decoder {
    /// `weights` in `place`.
    ///
    /// # Errors
    /// [`DecoderError::Family`] for Gemma 3, [`DecoderError::Device`] as [`Place::matrix`].
    pub fn load(config: &Config, weights: &Weights, place: Place<'_>) -> Result<Self, DecoderError> {
        let Some(own) = &weights.gemma3n else { return Err(DecoderError::Family(config.family.name())) };
        let all = |name: &str, weights: &[Weight]| {
            weights.iter().map(|weight| place.matrix(name, weight)).collect::<Result<Vec<_>, _>>()
        };
        let mut layers = Vec::with_capacity(config.layers());
        for (index, layer) in weights.layers.iter().enumerate() {
            let Some(own) = &layer.gemma3n else { return Err(DecoderError::Family(config.family.name())) };
            layers.push(DecoderLayer::load(place, config, index, layer, own)?);
        }
        Ok(Self {
            embed: Table::new(&weights.embed),
            ple_table: Table::new(&own.ple_table),
            ple_projection: place.matrix("ple_projection", &own.ple_projection)?,
            ple_norm: place.norm(&own.ple_norm, config.rms_eps),
            altup_projections: all("altup_projection", &own.altup_projections)?,
            layers,
            altup_unembed: all("altup_unembed", &own.altup_unembed)?,
            norm: place.norm(&weights.norm, config.rms_eps),
            unembed: place.matrix("unembed", &weights.embed)?,
            ple_blocks: own.ple_blocks.clone(),
            config: config.clone(),
        })
    }

    /// Logits `[T, vocabulary]` of `tokens` behind those in `cache`, which holds them too afterwards.
    ///
    /// # Errors
    /// [`DecoderError::NoTokens`] or [`DecoderError::Token`]; the cache is then as it was.
    ///
    /// # Panics
    /// Where Burn's operations do, out of memory for instance.
    pub fn forward(&self, tokens: &[u32], cache: &mut Cache) -> Result<Tensor<2>, DecoderError> {
        self.check(tokens)?;
        let (start, count) = (cache.positions, tokens.len());
        let device = self.device();
        let reach = |kind| Reach::new(&self.config, kind, start, count, &device);
        let (sliding, full) = (reach(LayerKind::Sliding), reach(LayerKind::Full));
        let embedded = self.embed.rows(tokens, &device) * (self.config.hidden as f64).sqrt();
        let per_layer = self.per_layer_embeddings(tokens, &embedded);
        let mut streams = self.streams(&embedded);
        for (index, layer) in self.layers.iter().enumerate() {
            let own = per_layer.clone().narrow(1, self.ple_blocks[index], 1).squeeze_dim(1);
            let reach = match self.config.layer_kinds[index] {
                LayerKind::Sliding => &sliding,
                LayerKind::Full => &full,
            };
            streams = layer.forward(streams, own, reach, cache);
        }
        cache.positions += count;
        Ok(self.logits(&streams))
    }

    /// Where activations are.
    pub fn device(&self) -> Device {
        self.norm.gamma.device()
    }

    fn check(&self, tokens: &[u32]) -> Result<(), DecoderError> {
        let vocabulary = self.embed.len();
        if tokens.is_empty() {
            return Err(DecoderError::NoTokens);
        }
        match tokens.iter().find(|token| **token as usize >= vocabulary) {
            Some(token) => Err(DecoderError::Token { token: *token, vocabulary }),
            None => Ok(()),
        }
    }

    /// `[T, blocks, p]`: a table's row of each token, and what its embedding says of each block.
    fn per_layer_embeddings(&self, tokens: &[u32], embedded: &Tensor<2>) -> Tensor<3> {
        let (count, width) = (tokens.len(), self.config.ple_width);
        let has_row = |id: &u32| if (*id as usize) < self.ple_table.len() { *id } else { 0 };
        let ids: Vec<u32> = tokens.iter().map(has_row).collect();
        let of_table = self.ple_table.rows(&ids, &embedded.device()) * (width as f64).sqrt();
        let blocks = of_table.dims()[1] / width;
        let of_context = self.ple_projection.forward(embedded.clone()) / (self.config.hidden as f64).sqrt();
        let of_context = self.ple_norm.forward(of_context.reshape([count, blocks, width]));
        (of_context + of_table.reshape([count, blocks, width])) * std::f64::consts::FRAC_1_SQRT_2
    }

    /// `[T, A, d]`: the embedding, and its projections at the same magnitude.
    fn streams(&self, embedded: &Tensor<2>) -> Tensor<3> {
        let mut streams = vec![embedded.clone()];
        for projection in &self.altup_projections {
            streams.push(match_magnitude(projection.forward(embedded.clone()), embedded.clone()));
        }
        Tensor::stack(streams, 1)
    }

    /// The mean of all streams, brought back to the first one's place and magnitude, against the embeddings.
    fn logits(&self, streams: &Tensor<3>) -> Tensor<2> {
        let stream = |index: usize| streams.clone().narrow(1, index, 1).squeeze_dim::<2>(1);
        let first = stream(0);
        let mut sum = first.clone();
        for (index, projection) in self.altup_unembed.iter().enumerate() {
            sum = sum + match_magnitude(projection.forward(stream(index + 1)), first.clone());
        }
        let mean = sum / self.config.altup_streams as f64;
        let logits = self.unembed.forward(self.norm.forward(mean));
        match self.config.softcap {
            Some(cap) => (logits / f64::from(cap)).tanh() * f64::from(cap),
            None => logits,
        }
    }
}

/// `y` with the magnitude of `reference`, token by token.
fn match_magnitude(y: Tensor<2>, reference: Tensor<2>) -> Tensor<2> {
    let wanted = reference.square().mean_dim(1).sqrt();
    let found = y.clone().square().mean_dim(1).clamp_min(MATCH_FLOOR).sqrt();
    y * (wanted / found)
}
