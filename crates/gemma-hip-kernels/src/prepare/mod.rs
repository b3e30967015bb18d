//! [`launches`]: a run of a plan as launches of the kernels, in order.
//!
//! It decides which kernel does what, and which steps go together; where things lie it asks [`Memory`]. Launches of runs of one token do
//! not depend on the position, which kernels read from memory, so that they can be recorded once and replayed.

mod embed;
mod feed_forward;
mod heads;
mod limits;
mod linear;
mod streams;

use bytemuck::Pod;
use gemma_hal::rotary::RotaryBase;
use gemma_hal::{BufferId, DType, Op, Plan, WeightId};

pub use limits::{counters, scratch_bytes, unsupported};

use crate::arguments::Gemm;
use crate::launch::{Activations, Address, Launch, Planes, Slots};

/// Rows of activations up to which a product reads the matrix once for each.
const FEW: usize = 4;

/// A table of embeddings.
#[derive(Clone, Copy, Debug)]
pub enum Table {
    /// On the device.
    Planes(Planes),
    /// The rows of the run's tokens, which the host has looked up and scaled, in f32.
    Rows(Address),
}

/// A turned copy of a matrix.
#[derive(Clone, Copy, Debug)]
pub struct Turned {
    /// Quants.
    pub words: Address,
    /// Scales.
    pub scales: Address,
}

/// A layer of the cache.
#[derive(Clone, Copy, Debug)]
pub struct CachedLayer {
    /// Its keys.
    pub keys: Slots,
    /// Its values.
    pub values: Slots,
    /// Slots.
    pub capacity: usize,
}

/// Where things lie on the device. Everything begins on 16 bytes.
pub trait Memory {
    /// An activation.
    fn buffer(&self, id: BufferId) -> Address;
    /// A weight that is multiplied with.
    fn matrix(&self, id: WeightId) -> Planes;
    /// Compute units of the GPU.
    fn compute_units(&self) -> usize;
    /// A weight that is read as f32 values.
    fn vector(&self, id: WeightId) -> Address;
    /// The turned copy of a matrix, where there is one.
    fn turned(&self, id: WeightId) -> Option<Turned>;
    /// The table of the operation that writes `output`.
    fn table(&self, id: WeightId, output: BufferId) -> Table;
    /// Numbers of the blocks that the operation which writes `output` takes of a table.
    fn blocks(&self, output: BufferId) -> Address;
    /// Ids of the run's tokens.
    fn ids(&self) -> Address;
    /// A word with the position of the run's first token.
    fn header(&self) -> Address;
    /// Angles of the run's tokens: rows of `dim / 2` cosines and as many sines.
    fn angles(&self, base: RotaryBase) -> Address;
    /// A layer of the cache.
    fn layer(&self, index: usize) -> CachedLayer;
    /// [`scratch_bytes`] that nobody else uses during the run.
    fn scratch(&self) -> Address;
    /// [`counters`] words that are zero.
    fn counters(&self) -> Address;
}

/// The launches of a run of `tokens` tokens. The plan is one that [`unsupported`] finds nothing in.
pub fn launches(plan: &Plan, tokens: usize, activations: Activations, memory: &dyn Memory) -> Vec<Launch> {
    launches_by_step(plan, tokens, activations, memory).into_iter().map(|(_, launch)| launch).collect()
}

/// [`launches`], each with the index of its step; where one launch is of two steps, that of the first.
pub fn launches_by_step(
    plan: &Plan,
    tokens: usize,
    activations: Activations,
    memory: &dyn Memory,
) -> Vec<(usize, Launch)> {
    let mut run = Run { plan, tokens, activations, memory, index: 0, launches: Vec::new() };
    let steps = plan.steps();
    let mut left: Option<&Op> = None;
    while let Some(step) = steps.get(run.index) {
        let next = steps.get(run.index + 1).map(|step| &step.op);
        if next.is_some_and(|next| run.both(&step.op, next)) {
            run.index += 2;
            continue;
        }
        run.step(&step.op, left.take());
        if let Op::PerLayerInput { .. } = &step.op {
            // The end of a layer goes with the beginning of the next where that is one kernel.
            match next {
                Some(next) if run.goes_with(&step.op, next) => left = Some(&step.op),
                _ => run.per_layer_add(&step.op),
            }
        }
        run.index += 1;
    }
    run.launches
}

/// The launches of step `index` by itself, for who looks at what each step leaves.
///
/// # Panics
/// When the plan has no such step.
pub fn launches_of_step(
    plan: &Plan,
    index: usize,
    tokens: usize,
    activations: Activations,
    memory: &dyn Memory,
) -> Vec<Launch> {
    let mut run = Run { plan, tokens, activations, memory, index, launches: Vec::new() };
    let op = &plan.steps()[index].op;
    run.step(op, None);
    if let Op::PerLayerInput { .. } = op {
        run.per_layer_add(op);
    }
    run.launches.into_iter().map(|(_, launch)| launch).collect()
}

/// Rows of activations.
#[derive(Clone, Copy)]
struct Rows {
    address: Address,
    /// Values from one to the next.
    stride: usize,
}

/// A run in the making.
struct Run<'a> {
    plan: &'a Plan,
    tokens: usize,
    activations: Activations,
    memory: &'a dyn Memory,
    /// The step whose launches are being made.
    index: usize,
    launches: Vec<(usize, Launch)>,
}

impl Run<'_> {
    fn push(&mut self, launch: Launch) {
        self.launches.push((self.index, launch));
    }

    /// Rows that an operation works on.
    fn rows(&self, op: &Op) -> usize {
        self.plan.row_count(self.plan.op_rows(op), self.tokens)
    }

    fn width(&self, id: BufferId) -> usize {
        self.plan.buffer(id).width
    }

    fn at(&self, id: BufferId) -> Address {
        self.memory.buffer(id)
    }

    fn vector(&self, id: WeightId) -> Address {
        self.memory.vector(id)
    }

    fn dtype(&self, id: WeightId) -> DType {
        self.plan.weight(id).dtype()
    }

    /// A step, all but the end of [`Op::PerLayerInput`]; with the end of the step before, if that is left to this one.
    fn step(&mut self, op: &Op, left: Option<&Op>) {
        match op {
            Op::Embed { .. } => self.embed(op),
            Op::PerLayerEmbed { .. } => self.per_layer_embed(op),
            Op::SelectOutputs { .. } => self.select_outputs(op),
            Op::Unembed { .. } => self.unembed(op),
            Op::AltUpInit { .. } => self.altup_init(op),
            Op::AltUpPredict { .. } => self.altup_predict(op, left),
            Op::AltUpCorrect { .. } => self.altup_correct(op),
            Op::AltUpMerge { .. } => self.altup_merge(op),
            Op::RmsNorm { .. } | Op::AddNorm { .. } => self.norm(op),
            Op::AttentionResidual { .. } => self.attention_residual(op),
            Op::Linear { .. } => self.linear(op),
            Op::FeedForward { .. } => self.feed_forward(op),
            Op::PerLayerInput { .. } => self.per_layer_input(op),
            Op::Rotary { .. } => self.rotary(op),
            Op::Attention { .. } => self.attention(op),
        }
    }

    /// Two steps in one launch, where there is a kernel for both.
    fn both(&mut self, first: &Op, second: &Op) -> bool {
        self.pair(first, second) || self.attention_step(first, second)
    }

    /// Whether the end of `op` is part of the kernel that begins `next`.
    fn goes_with(&self, op: &Op, next: &Op) -> bool {
        match (op, next) {
            (
                Op::PerLayerInput { streams, active, .. },
                Op::AltUpPredict { streams: same, active: too, .. },
            ) => streams == same && active == too && self.rows(op) == self.rows(next),
            _ => false,
        }
    }
}

/// Words of `count` values of a type.
fn words_of<T: Pod>(count: usize) -> usize {
    (count * size_of::<T>()).div_ceil(4).next_multiple_of(4)
}

/// A product for many rows without what it reads.
fn empty_gemm(
    weight: Planes,
    output: Rows,
    first: usize,
    rows: usize,
    columns: usize,
    tokens: usize,
) -> Gemm {
    Gemm {
        weight,
        input: Address::NULL,
        blocks: Address::NULL,
        output: output.address,
        first: first as u32,
        rows: rows as u32,
        columns: columns as u32,
        tokens: tokens as u32,
        output_stride: output.stride as u32,
        input_stride: 0,
    }
}
