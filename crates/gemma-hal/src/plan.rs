//! [`Plan`]: what a model does with a run of tokens, as a list of operations over named activations and weights.
//!
//! A plan is data. It is checked once, when [`PlanBuilder::finish`] is called, so that backends need not check shapes
//! again; the arena, the costs and the placement are all functions of it. It owns no activation memory.

use crate::arena::Arena;
use crate::check::{self, PlanError};
use crate::op::{BufferId, Op, WeightId};
use crate::{DType, Weight};

/// Whose logits a run gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outputs {
    /// Nobody's: the run only fills the cache.
    None,
    /// The last token's.
    Last,
    /// Every token's.
    All,
}

/// How many rows a buffer has in a run of `n` tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// One a token.
    Tokens,
    /// One for each token whose logits are wanted; row `r` stands at position `start + n − outputs + r`.
    Outputs,
}

/// An activation: `[rows, width]` in f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Name in reports and errors.
    pub name: String,
    /// How many rows.
    pub rows: Rows,
    /// Values a row.
    pub width: usize,
}

/// A weight and its name.
#[derive(Clone, Debug)]
pub struct NamedWeight {
    /// Name in reports and errors.
    pub name: String,
    /// The values.
    pub weight: Weight,
}

/// An operation and the layer it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Decoder layer, or none before the first and after the last.
    pub layer: Option<u16>,
    /// What to do.
    pub op: Op,
}

/// One layer of a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLayer {
    /// Values of a key (and of a value) at one position.
    pub width: usize,
    /// How many positions a query sees, its own included; none sees all.
    pub window: Option<usize>,
}

/// The KV cache that a plan reads and writes. Layers that share another's cache have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheLayout {
    /// The owning layers, in order.
    pub layers: Vec<CacheLayer>,
    /// One of [`crate::CACHE_DTYPES`].
    pub dtype: DType,
}

impl CacheLayout {
    /// Positions for which `layer` keeps room in a cache for `context` positions, written at most `chunk` at a time.
    ///
    /// A layer with a window is a ring. It has room for the window and one chunk, so that the first token of a chunk
    /// still finds its whole window when the chunk's last token has been written, and so that a failed run destroys
    /// nothing that a repetition needs.
    pub fn capacity(&self, layer: usize, context: usize, chunk: usize) -> usize {
        self.layers[layer].window.map_or(context, |window| context.min(window.saturating_add(chunk)))
    }

    /// Bytes of a cache for `context` positions, written at most `chunk` at a time; [`u64::MAX`] for more than that.
    pub fn bytes(&self, context: usize, chunk: usize) -> u64 {
        (0..self.layers.len()).fold(0, |bytes: u64, layer| {
            let positions = self.capacity(layer, context, chunk) as u64;
            bytes.saturating_add(positions.saturating_mul(self.position_bytes(layer)))
        })
    }

    /// Bytes of a key and a value of `layer`.
    pub fn position_bytes(&self, layer: usize) -> u64 {
        let blocks = self.layers[layer].width.div_ceil(self.dtype.block_len());
        (blocks as u64).saturating_mul(2 * self.dtype.block_bytes() as u64)
    }
}

/// A checked list of operations.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) max_tokens: usize,
    pub(crate) outputs: Outputs,
    pub(crate) rms_eps: f32,
    pub(crate) cache: CacheLayout,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) weights: Vec<NamedWeight>,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: Option<BufferId>,
    pub(crate) arena: Arena,
}

impl Plan {
    /// Name in reports ("decode", "prefill").
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The most tokens a run may have.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Whose logits a run gives back.
    pub fn outputs(&self) -> Outputs {
        self.outputs
    }

    /// Rows of outputs in a run of `tokens` tokens.
    pub fn output_rows(&self, tokens: usize) -> usize {
        match self.outputs {
            Outputs::None => 0,
            Outputs::Last => tokens.min(1),
            Outputs::All => tokens,
        }
    }

    /// Values that a run of `tokens` tokens gives back.
    pub fn output_values(&self, tokens: usize) -> usize {
        self.output.map_or(0, |id| {
            let buffer = self.buffer(id);
            self.row_count(buffer.rows, tokens) * buffer.width
        })
    }

    /// Rows of `rows` in a run of `tokens` tokens.
    pub fn row_count(&self, rows: Rows, tokens: usize) -> usize {
        match rows {
            Rows::Tokens => tokens,
            Rows::Outputs => self.output_rows(tokens),
        }
    }

    /// Epsilon of every RMS norm.
    pub fn rms_eps(&self) -> f32 {
        self.rms_eps
    }

    /// The cache that the plan needs.
    pub fn cache(&self) -> &CacheLayout {
        &self.cache
    }

    /// All activations.
    pub fn buffers(&self) -> &[Buffer] {
        &self.buffers
    }

    /// One activation.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.index()]
    }

    /// All weights.
    pub fn weights(&self) -> &[NamedWeight] {
        &self.weights
    }

    /// One weight.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.index()].weight
    }

    /// The operations in the order in which they run.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The activation that a run gives back.
    pub fn output(&self) -> Option<BufferId> {
        self.output
    }

    /// Where each activation lies in one block of memory.
    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// The rows that `op` works on: those of the first buffer it writes.
    pub fn op_rows(&self, op: &Op) -> Rows {
        let mut rows = None;
        op.buffers(&mut |id, access| {
            if access != crate::op::Access::Read && rows.is_none() {
                rows = Some(self.buffer(id).rows);
            }
        });
        rows.unwrap_or(Rows::Tokens)
    }
}

/// Collects a plan; [`PlanBuilder::finish`] checks it.
#[derive(Debug)]
pub struct PlanBuilder {
    plan: Plan,
}

impl PlanBuilder {
    /// An empty plan for runs of 1 to `max_tokens` tokens.
    pub fn new(name: &str, max_tokens: usize, outputs: Outputs, rms_eps: f32, cache: CacheLayout) -> Self {
        Self {
            plan: Plan {
                name: name.to_owned(),
                max_tokens,
                outputs,
                rms_eps,
                cache,
                buffers: Vec::new(),
                weights: Vec::new(),
                steps: Vec::new(),
                output: None,
                arena: Arena::default(),
            },
        }
    }

    /// Adds an activation.
    ///
    /// # Panics
    /// On the 65 536th; no model comes near.
    pub fn buffer(&mut self, name: impl Into<String>, rows: Rows, width: usize) -> BufferId {
        let id = u16::try_from(self.plan.buffers.len()).expect("fewer than 65536 buffers");
        self.plan.buffers.push(Buffer { name: name.into(), rows, width });
        BufferId(id)
    }

    /// Adds a weight.
    ///
    /// # Panics
    /// On the 65 536th; no model comes near.
    pub fn weight(&mut self, name: impl Into<String>, weight: Weight) -> WeightId {
        let id = u16::try_from(self.plan.weights.len()).expect("fewer than 65536 weights");
        self.plan.weights.push(NamedWeight { name: name.into(), weight });
        WeightId(id)
    }

    /// Appends an operation.
    pub fn push(&mut self, layer: Option<usize>, op: Op) {
        self.plan.steps.push(Step { layer: layer.map(|layer| layer as u16), op });
    }

    /// Checks every operation's shapes and every buffer's use, and lays out the arena.
    ///
    /// # Errors
    /// [`PlanError`] names the operation and what does not fit.
    pub fn finish(mut self, output: Option<BufferId>) -> Result<Plan, PlanError> {
        self.plan.output = output;
        check::check(&self.plan)?;
        self.plan.arena = Arena::of(&self.plan);
        Ok(self.plan)
    }
}
