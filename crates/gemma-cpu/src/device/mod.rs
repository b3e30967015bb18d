//! [`CpuDevice`]: runs plans with the SIMD kernels on a thread pool.
//!
//! Preparing a plan allocates its arena and decodes its norms; running it allocates nothing. Weights are read where
//! they lie. Every output is computed in an order that depends neither on the number of threads nor on how many
//! tokens a run has.

mod attention;
mod embed;
mod feed_forward;
mod memory;
mod norm;
mod rotary;
mod sparse;
mod streams;
mod upcoming;

use std::sync::Arc;

use gemma_hal::{
    Budget, Cache, CacheLayout, Call, Device, DeviceError, DeviceInfo, DeviceKind, Executable, HostCache,
    MemoryUse, Op, Plan, Reservation, Sparsity, Step, WeightId,
};

use gemma_hal::rotary::RotaryTables;

use crate::pool::{self, Pool, PoolOptions};
use crate::simd::{self, Activations, Isa, Kernels};
use memory::Memory;
use sparse::{Copies, Counters, Sparse};
use upcoming::{Foresee, Upcoming};

/// Name in errors and of `--device`.
const NAME: &str = "cpu";

/// How a [`CpuDevice`] is set up.
#[derive(Clone, Copy, Debug)]
pub struct CpuOptions {
    /// Threads at work, the caller's included.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// How activations enter products with weights in block formats.
    pub activations: Activations,
    /// Most bytes of arenas, caches and turned copies; mapped weights do not count. Copies fill half of it at most.
    pub memory: u64,
}

impl CpuOptions {
    /// One thread a core, the best instruction set and rounded activations, or what [`simd::ISA_VARIABLE`] and
    /// [`simd::ACTIVATIONS_VARIABLE`] force.
    ///
    /// # Errors
    /// When the forced instruction set is not there, or what is forced is unknown.
    pub fn detect(memory: u64) -> Result<Self, OptionsError> {
        let (isa, activations) = (Isa::from_env()?, Activations::from_env()?);
        Ok(Self { threads: pool::default_threads(), isa, activations, memory })
    }
}

/// Why what the environment asks for cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Of the instruction set.
    #[error(transparent)]
    Isa(#[from] simd::IsaError),
    /// Of the activations.
    #[error(transparent)]
    Activations(#[from] simd::ActivationsError),
}

/// The machine's own cores.
#[derive(Debug)]
pub struct CpuDevice {
    info: DeviceInfo,
    budget: Budget,
    pool: Arc<Pool>,
    kernels: Kernels,
    copies: Copies,
    counters: Arc<Counters>,
}

impl CpuDevice {
    /// Starts the threads, placed as [`PoolOptions::for_machine`] says.
    ///
    /// # Errors
    /// [`pool::PoolError`] for a number of threads that cannot be.
    pub fn new(options: CpuOptions) -> Result<Self, pool::PoolError> {
        let pool = Arc::new(Pool::with_options(PoolOptions::for_machine(options.threads)?)?);
        let info = DeviceInfo {
            id: NAME.to_owned(),
            name: processor_name(),
            kind: DeviceKind::Cpu,
            features: vec![options.isa.name().to_owned(), options.activations.name().to_owned()],
            units: options.threads,
        };
        Ok(Self {
            info,
            budget: Budget::new(NAME, options.memory),
            pool,
            kernels: Kernels { isa: options.isa, activations: options.activations },
            copies: Copies::default(),
            counters: Arc::default(),
        })
    }

    /// The threads, for measurements of the machine.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The instruction set of the kernels.
    pub fn isa(&self) -> Isa {
        self.kernels.isa
    }
}

/// The processor's name as the system gives it.
pub fn processor_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, plan: &Plan) -> Result<(), DeviceError> {
        for step in plan.steps() {
            let what = match &step.op {
                Op::Linear { parts, .. } if parts.len() > feed_forward::MAX_PARTS => {
                    format!("{} products of one input", parts.len())
                }
                Op::AltUpInit { projections, .. } | Op::AltUpMerge { projections, .. }
                    if projections.is_empty() || projections.len() >= simd::MAX_STREAMS =>
                {
                    format!("{} AltUp streams (2 to {})", projections.len() + 1, simd::MAX_STREAMS)
                }
                _ => continue,
            };
            return Err(DeviceError::Unsupported { device: NAME.to_owned(), what });
        }
        Ok(())
    }

    fn prepare(&self, plan: Arc<Plan>) -> Result<Box<dyn Executable>, DeviceError> {
        self.supports(&plan)?;
        let heads = attention::heads(&plan);
        let scratch = streams::scratch_len(&plan).max(attention::scratch_len(&heads, plan.max_tokens()));
        let kept = kept_as_vectors(&plan);
        let vectors = kept.iter().zip(plan.weights()).filter(|(kept, _)| **kept);
        let vectors: u64 = vectors.map(|(_, named)| named.weight.values()).sum();
        let values = (gemma_hal::rotary::table_values(&plan) + scratch) as u64 + vectors;
        // Before anything is made: what does not fit must not be asked of the system.
        let bytes = plan.arena().bytes().saturating_add(values.saturating_mul(4));
        let bytes = bytes.saturating_add(Sparse::list_bytes(&plan));
        let reservation = self.budget.reserve("activations", bytes)?;
        // Tables are matrices too, one of them the head's.
        let columns = plan.weights().iter().map(|named| named.weight.columns()).max().unwrap_or(0);
        simd::reserve_scratch(self.kernels, &self.pool, &heads, plan.max_tokens(), columns);
        let sparse = Sparse::of(&plan, &self.copies, &self.pool, &self.budget, &self.counters);
        Ok(Box::new(CpuExecutable {
            memory: Memory::of(&plan),
            upcoming: Upcoming::of(&plan, sparse.is_some()),
            sparse,
            vectors: decode_vectors(&plan, &kept),
            rotary: RotaryTables::of(&plan),
            scratch: vec![0.0; scratch],
            pool: Arc::clone(&self.pool),
            kernels: self.kernels,
            plan,
            tokens: 0,
            _reservation: reservation,
        }))
    }

    fn create_cache(
        &self,
        layout: &CacheLayout,
        context: usize,
        chunk: usize,
    ) -> Result<Box<dyn Cache>, DeviceError> {
        Ok(Box::new(HostCache::new(NAME, &self.budget, layout, context, chunk)?))
    }

    fn memory(&self) -> MemoryUse {
        self.budget.memory()
    }

    fn sparsity(&self) -> Sparsity {
        self.counters.read()
    }
}

struct CpuExecutable {
    plan: Arc<Plan>,
    pool: Arc<Pool>,
    kernels: Kernels,
    memory: Memory,
    /// By weight: the values of norms and AltUp coefficients; empty for matrices that are read in place.
    vectors: Vec<Vec<f32>>,
    rotary: RotaryTables,
    /// For layers with a cutoff, in plans of a few tokens.
    sparse: Option<Sparse>,
    upcoming: Upcoming,
    scratch: Vec<f32>,
    /// Tokens of the last run.
    tokens: usize,
    _reservation: Reservation,
}

/// What an operation of the running plan may touch.
struct Run<'a> {
    plan: &'a Plan,
    pool: &'a Pool,
    isa: Isa,
    /// Of linear layers.
    kernels: Kernels,
    memory: &'a mut Memory,
    vectors: &'a [Vec<f32>],
    rotary: &'a RotaryTables,
    sparse: Option<&'a mut Sparse>,
    foresee: Foresee<'a>,
    scratch: &'a mut [f32],
    cache: &'a mut HostCache,
    tokens: &'a [u32],
    /// Position of the first token.
    start: usize,
}

/// Which weights a run reads as f32 values: norms, routers and AltUp coefficients; matrices are read in place.
fn kept_as_vectors(plan: &Plan) -> Vec<bool> {
    let mut small = vec![false; plan.weights().len()];
    for step in plan.steps() {
        let mut mark = |id: WeightId| small[id.index()] = true;
        match &step.op {
            Op::AltUpPredict { .. }
            | Op::AltUpCorrect { .. }
            | Op::AttentionResidual { .. }
            | Op::RmsNorm { .. }
            | Op::AddNorm { .. } => {
                step.op.weights(&mut mark);
            }
            Op::Rotary { query, key_value, .. } => {
                query.iter().for_each(|q| mark(q.norm));
                key_value.iter().for_each(|kv| mark(kv.norm));
            }
            Op::PerLayerEmbed { norm, .. } | Op::AltUpMerge { norm, .. } => mark(*norm),
            Op::PerLayerInput { norm, scale, .. } => {
                mark(*norm);
                scale.iter().for_each(|id| mark(*id));
            }
            _ => {}
        }
    }
    small
}

/// The kept weights as f32, by weight; nothing for the others.
fn decode_vectors(plan: &Plan, kept: &[bool]) -> Vec<Vec<f32>> {
    let decode = |(named, kept): (&gemma_hal::NamedWeight, &bool)| {
        let weight = &named.weight;
        let mut values = vec![0.0; if *kept { weight.rows() * weight.columns() } else { 0 }];
        for (row, out) in values.chunks_exact_mut(weight.columns().max(1)).enumerate() {
            gemma_hal::block::dequantise_row(weight.dtype(), weight.row(row), out);
        }
        values
    };
    plan.weights().iter().zip(kept).map(decode).collect()
}

impl Executable for CpuExecutable {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn run(&mut self, mut call: Call<'_>) -> Result<(), DeviceError> {
        call.check(NAME, &self.plan)?;
        let cache = HostCache::of(NAME, call.cache)?;
        let (start, count) = (cache.len(), call.tokens.len());
        cache.begin(count);
        self.rotary.fill(start, count);
        self.tokens = count;
        for (index, step) in self.plan.steps().iter().enumerate() {
            call.deadline.check(NAME, step.op.name())?;
            if let Some(probe) = call.probe.as_deref_mut() {
                probe.before(index, step)?;
            }
            let mut run = Run {
                plan: &self.plan,
                pool: &self.pool,
                isa: self.kernels.isa,
                kernels: self.kernels,
                memory: &mut self.memory,
                vectors: &self.vectors,
                rotary: &self.rotary,
                sparse: self.sparse.as_mut(),
                foresee: Foresee {
                    plan: &self.plan,
                    pool: &self.pool,
                    tokens: count,
                    upcoming: self.upcoming.after(index),
                },
                scratch: &mut self.scratch,
                cache,
                tokens: call.tokens,
                start,
            };
            run.step(step);
            if let Some(probe) = call.probe.as_deref_mut() {
                probe.after(index, step, &|id| {
                    let buffer = self.plan.buffer(id);
                    let rows = self.plan.row_count(buffer.rows, count);
                    self.memory.read(id, rows * buffer.width).to_vec()
                });
            }
        }
        cache.commit(count);
        Ok(())
    }

    fn output(&self) -> &[f32] {
        let values = if self.tokens == 0 { 0 } else { self.plan.output_values(self.tokens) };
        self.plan.output().map_or(&[], |id| self.memory.read(id, values))
    }
}

impl<'a> Run<'a> {
    fn step(&mut self, step: &Step) {
        // The others have further products of their own.
        if !matches!(step.op, Op::FeedForward { .. } | Op::PerLayerInput { .. }) {
            self.foresee.next();
        }
        match &step.op {
            Op::Embed { .. } => self.embed(&step.op),
            Op::PerLayerEmbed { .. } => self.per_layer_embed(&step.op),
            Op::SelectOutputs { .. } => self.select_outputs(&step.op),
            Op::AltUpInit { .. } => self.altup_init(&step.op),
            Op::AltUpPredict { .. } => self.altup_predict(&step.op),
            Op::AltUpCorrect { .. } => self.altup_correct(&step.op),
            Op::AltUpMerge { .. } => self.altup_merge(&step.op),
            Op::RmsNorm { .. } => self.rms_norm(&step.op),
            Op::AddNorm { .. } => self.add_norm(&step.op),
            Op::Linear { .. } => self.linear(&step.op),
            Op::Rotary { .. } => self.rotary(&step.op),
            Op::Attention { .. } => self.attention(&step.op),
            Op::AttentionResidual { .. } => self.attention_residual(&step.op),
            Op::FeedForward { .. } => self.feed_forward(&step.op),
            Op::PerLayerInput { .. } => self.per_layer_input(&step.op),
            Op::Unembed { .. } => self.unembed(&step.op),
        }
    }

    /// Rows of the operation, and the position of the first.
    fn rows(&self, op: &Op) -> (usize, usize) {
        let rows = self.plan.row_count(self.plan.op_rows(op), self.tokens.len());
        (rows, self.start + self.tokens.len() - rows)
    }

    fn vector(&self, id: WeightId) -> &'a [f32] {
        &self.vectors[id.index()]
    }
}
