//! [`IgpuExecutable`]: a plan whose weights are on the device, and its runs.
//!
//! A run writes what the host knows (position, embeddings, angles) in one piece, launches the plan's kernels and reads
//! the output. Runs of one token are recorded the second time and replayed from then on.

mod embed;
mod feed_forward;
mod heads;
mod inputs;
mod launch;
mod linear;
mod norm;
mod recording;
mod shortlist;
mod sparse;
mod streams;

use std::sync::Arc;

use gemma_hal::{
    Arena, Budget, BufferId, Call, Deadline, DeviceError, Executable, Op, Plan, Probe, Reservation, Step,
    WeightId, block,
};

use crate::cache::IgpuCache;
use crate::gpu::{Gpu, Region, WORD};
use crate::kernels::rotary::LARGEST_HEAD;
use crate::kernels::streams::MOST_STREAMS;
use crate::turned::Turned;
use crate::weight::{Matrices, Matrix};
use inputs::Inputs;
use launch::Halves;
pub(crate) use launch::{Launcher, Rows, TILES};
use recording::Recording;
use shortlist::{Results, Shortlist};

/// Steps of which one launch may do a part each: none may write where an earlier one of them still reads.
const TOGETHER: usize = 2;

pub use linear::Linear;

/// The most query heads that share a key: each has eight units of a cube when scores become weights.
const MOST_SHARED: usize = 16;

/// Whether `plan` can run on a GPU.
///
/// # Errors
/// [`DeviceError::Unsupported`].
pub(crate) fn supports(device: &str, plan: &Plan) -> Result<(), DeviceError> {
    let uses = uses(plan);
    let odd = plan
        .weights()
        .iter()
        .zip(&uses)
        .find(|(named, used)| **used == Use::Matrix && !named.weight.columns().is_multiple_of(8));
    if let Some((named, _)) = odd {
        let what = format!("{} columns of {} (a multiple of 8)", named.weight.columns(), named.name);
        return Err(DeviceError::Unsupported { device: device.to_owned(), what });
    }
    for step in plan.steps() {
        let what = match &step.op {
            Op::Attention { heads, .. } if heads.dim > LARGEST_HEAD => {
                format!("heads of {} values (at most {LARGEST_HEAD})", heads.dim)
            }
            Op::Attention { heads, .. } if heads.query / heads.key_value > MOST_SHARED => {
                format!("{} query heads a key (at most {MOST_SHARED})", heads.query / heads.key_value)
            }
            Op::AltUpInit { projections, .. } | Op::AltUpMerge { projections, .. }
                if projections.is_empty() || projections.len() >= MOST_STREAMS =>
            {
                format!("{} AltUp streams (2 to {MOST_STREAMS})", projections.len() + 1)
            }
            _ => continue,
        };
        return Err(DeviceError::Unsupported { device: device.to_owned(), what });
    }
    Ok(())
}

/// A weight on the device.
enum Stored {
    /// Multiplied with.
    Matrix(Arc<Matrix>),
    /// Read as f32 values.
    Vector(Region),
    /// Read by the host alone.
    Host,
}

/// A plan on a GPU.
pub(crate) struct IgpuExecutable {
    plan: Arc<Plan>,
    gpu: Gpu,
    /// Where activations lie in `arena`.
    places: Arena,
    arena: Region,
    weights: Vec<Stored>,
    /// Turned copies, by weight.
    turned: Vec<Option<Arc<Turned>>>,
    inputs: Inputs,
    /// For what lies between two kernels of one step.
    scratch: Region,
    /// Zeros, which cubes count each other by.
    counters: Region,
    /// For activations on their way to matrix units.
    halves: Option<Halves>,
    recording: Recording,
    /// None for plans without output.
    shortlist: Option<Shortlist>,
    results: Results,
    _reservation: Reservation,
}

/// A run in the making.
struct Run<'a> {
    launcher: Launcher<'a>,
    plan: &'a Plan,
    places: &'a Arena,
    arena: &'a Region,
    weights: &'a [Stored],
    turned: &'a [Option<Arc<Turned>>],
    inputs: &'a Inputs,
    scratch: &'a Region,
    counters: &'a Region,
    /// Where only the largest values are wanted.
    shortlist: Option<&'a Shortlist>,
    cache: &'a IgpuCache,
    tokens: usize,
}

/// A run launches as everything does.
impl<'a> std::ops::Deref for Run<'a> {
    type Target = Launcher<'a>;

    fn deref(&self) -> &Launcher<'a> {
        &self.launcher
    }
}

impl IgpuExecutable {
    /// Uploads what is not there yet and allocates activations.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] over budget.
    pub(crate) fn new(
        gpu: &Gpu,
        budget: &Budget,
        matrices: &Matrices,
        plan: Arc<Plan>,
    ) -> Result<Self, DeviceError> {
        let _turn = gpu.turn(&Deadline::never())?;
        let uses = uses(&plan);
        let vectors = plan.weights().iter().zip(&uses).filter(|(_, used)| **used == Use::Vector);
        let vectors: u64 = vectors.map(|(named, _)| named.weight.values() * 4).sum();
        let scratch_values =
            |op: &Op| heads::scratch_values(gpu, op).max(sparse::scratch_values(gpu, &plan, op));
        let scratch = plan.steps().iter().map(|step| scratch_values(&step.op)).max().unwrap_or(0);
        let matrices_used = plan.weights().iter().zip(&uses).filter(|(_, used)| **used == Use::Matrix);
        let widest = matrices_used.map(|(named, _)| named.weight.columns()).max().unwrap_or(0);
        let halves = launch::halves_words(gpu, plan.max_tokens(), widest);
        let counters = heads::counters(&plan).max(sparse::counters(&plan));
        let words = gemma_hal::inputs::words(&plan)
            + shortlist::words(&plan)
            + scratch
            + counters
            + halves.0
            + halves.1;
        let places = Arena::lasting(&plan, TOGETHER - 1);
        let bytes = places.bytes() + vectors + (words * WORD) as u64;
        let reservation = budget.reserve("activations", bytes)?;
        let mut weights = Vec::with_capacity(uses.len());
        for (named, used) in plan.weights().iter().zip(&uses) {
            weights.push(match used {
                Use::Matrix => Stored::Matrix(matrices.get(gpu, budget, &named.name, &named.weight)?),
                Use::Vector => Stored::Vector(vector(gpu, &named.weight)),
                Use::Host => Stored::Host,
            });
        }
        let turned = sparse::copies(gpu, budget, matrices, &plan);
        let arena = gpu.empty("activations", places.len())?;
        let inputs = Inputs::of(gpu, &plan)?;
        Ok(Self {
            gpu: gpu.clone(),
            places,
            arena,
            weights,
            turned,
            inputs,
            scratch: gpu.empty("what lies between kernels", scratch)?,
            counters: gpu.upload(&vec![0; counters]),
            halves: Halves::new(gpu, halves)?,
            recording: Recording::default(),
            shortlist: Shortlist::of(gpu, &plan)?,
            results: Results::default(),
            plan,
            _reservation: reservation,
        })
    }

    /// A run while nobody else uses the queue.
    fn run_alone(&mut self, mut call: Call<'_>) -> Result<(), DeviceError> {
        call.deadline.check(&self.gpu.id, "starting a run")?;
        let cache = IgpuCache::of(&self.gpu, call.cache)?;
        let (start, count) = (cache.positions.len(), call.tokens.len());
        cache.positions.begin(count);
        self.inputs.write(&self.gpu, &self.plan, call.tokens, start);
        let run = Run {
            launcher: Launcher { gpu: &self.gpu, halves: self.halves.as_ref() },
            plan: &self.plan,
            places: &self.places,
            arena: &self.arena,
            weights: &self.weights,
            turned: &self.turned,
            inputs: &self.inputs,
            scratch: &self.scratch,
            counters: &self.counters,
            shortlist: self.shortlist.as_ref().filter(|shortlist| shortlist.wanted > 0),
            cache,
            tokens: count,
        };
        match call.probe.as_deref_mut() {
            Some(probe) => run.watched(probe, &call.deadline)?,
            None if count == 1 => self.recording.run(&run, &call.deadline)?,
            None => run.launch(&call.deadline)?,
        }
        run.results(&mut self.results, &call.deadline)?;
        cache.positions.commit(count);
        Ok(())
    }
}

/// How a plan uses a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Matrix,
    Vector,
    Host,
}

/// How each weight of `plan` is used.
fn uses(plan: &Plan) -> Vec<Use> {
    let mut uses = vec![Use::Vector; plan.weights().len()];
    for step in plan.steps() {
        let mut mark = |id: WeightId, used: Use| uses[id.index()] = used;
        match &step.op {
            Op::Embed { table, .. } => mark(*table, Use::Host),
            Op::PerLayerEmbed { projection, table, .. } => {
                mark(*projection, Use::Matrix);
                mark(*table, Use::Host);
            }
            Op::AltUpInit { projections, .. } | Op::AltUpMerge { projections, .. } => {
                projections.iter().for_each(|id| mark(*id, Use::Matrix));
            }
            Op::Linear { parts, .. } => parts.iter().for_each(|part| mark(part.weight, Use::Matrix)),
            Op::FeedForward { gate, up, down, .. } => {
                [gate, up, down].into_iter().for_each(|id| mark(*id, Use::Matrix));
            }
            Op::PerLayerInput { gate, projection, .. } => {
                [gate, projection].into_iter().for_each(|id| mark(*id, Use::Matrix));
            }
            Op::Unembed { table, .. } => mark(*table, Use::Matrix),
            _ => {}
        }
    }
    uses
}

fn vector(gpu: &Gpu, weight: &gemma_hal::Weight) -> Region {
    let mut values = vec![0.0_f32; weight.rows() * weight.columns()];
    for (row, out) in values.chunks_exact_mut(weight.columns().max(1)).enumerate() {
        block::dequantise_row(weight.dtype(), weight.row(row), out);
    }
    gpu.upload(bytemuck::cast_slice(&values))
}

impl Executable for IgpuExecutable {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn run(&mut self, call: Call<'_>) -> Result<(), DeviceError> {
        call.check(&self.gpu.id, &self.plan)?;
        let gpu = self.gpu.clone();
        let _turn = gpu.turn(&call.deadline)?;
        let done = self.run_alone(call);
        if done.is_err() {
            self.results.clear();
        }
        done
    }

    fn output(&self) -> &[f32] {
        &self.results.rows
    }

    fn shortlist(&mut self, count: usize) {
        let Some(shortlist) = &mut self.shortlist else { return };
        let width = self.plan.output().map_or(0, |id| self.plan.buffer(id).width);
        shortlist.wanted = if Shortlist::can_choose(count, width) { count } else { 0 };
    }

    fn chosen(&self) -> &[(u32, f32)] {
        &self.results.chosen
    }
}

impl Run<'_> {
    /// Launches a step by itself.
    fn step(&self, step: &Step) {
        self.begin(step, None);
        self.end(step);
    }

    /// Launches a step, all but what [`Run::end`] does. `left` is the step before it, if its end has been left to this one.
    fn begin(&self, step: &Step, left: Option<&Op>) {
        match &step.op {
            Op::Embed { .. } => self.embed(&step.op),
            Op::PerLayerEmbed { .. } => self.per_layer_embed(&step.op),
            Op::SelectOutputs { .. } => self.select_outputs(&step.op),
            Op::AltUpInit { .. } => self.altup_init(&step.op),
            Op::AltUpPredict { .. } => self.altup_predict(&step.op, left),
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

    /// Launches what [`Run::begin`] has left.
    fn end(&self, step: &Step) {
        if matches!(step.op, Op::PerLayerInput { .. }) {
            self.per_layer_add(&step.op);
        }
    }

    /// Launches the plan, and behind its last step what chooses values of the output. The end of a step goes with the beginning
    /// of the next where one kernel does both.
    ///
    /// # Errors
    /// [`DeviceError::Timeout`] or [`DeviceError::Cancelled`] from the deadline.
    fn launch(&self, deadline: &Deadline) -> Result<(), DeviceError> {
        let steps = self.plan.steps();
        let left_to = |index: usize| {
            let before = steps.get(index.checked_sub(1)?)?;
            Some(&before.op).filter(|op| steps.get(index).is_some_and(|step| self.goes_with(op, &step.op)))
        };
        let (mut index, mut flops) = (0, 0_u64);
        while let Some(step) = steps.get(index) {
            deadline.check(&self.gpu.id, step.op.name())?;
            flops = flops.saturating_add(self.flops(&step.op));
            // A run of one token is short, and may be being recorded.
            if self.tokens > 1 && flops > self.gpu.tuning.operations_a_submission {
                self.gpu.submit()?;
                flops = 0;
            }
            if steps.get(index + 1).is_some_and(|next| self.both(&step.op, &next.op)) {
                index += 2;
                continue;
            }
            self.begin(step, left_to(index));
            index += 1;
            if left_to(index).is_none() {
                self.end(step);
            }
        }
        self.list();
        Ok(())
    }

    /// Operations of a step in this run.
    fn flops(&self, op: &Op) -> u64 {
        self.plan.op_cost(op, self.tokens, self.cache.positions.len()).flops
    }

    /// Launches two steps as one, where there is a kernel for both.
    fn both(&self, first: &Op, second: &Op) -> bool {
        self.pair(first, second) || self.attention_step(first, second)
    }

    /// Launches what chooses the largest values of the output, if they are wanted.
    fn list(&self) {
        if let Some(shortlist) = self.shortlist {
            self.choose(shortlist);
        }
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

    /// Launches the plan, one step after the other, and shows a probe what each has left.
    fn watched(&self, probe: &mut dyn Probe, deadline: &Deadline) -> Result<(), DeviceError> {
        for (index, step) in self.plan.steps().iter().enumerate() {
            deadline.check(&self.gpu.id, step.op.name())?;
            probe.before(index, step)?;
            if let Some(seconds) = self.gpu.timed(|| self.step(step), deadline)? {
                probe.took(index, seconds);
            }
            let failed = std::cell::RefCell::new(None);
            probe.after(index, step, &|id| {
                let (region, mut values) = (self.region(id), Vec::new());
                if let Err(error) = self.gpu.read(&region, &mut values, deadline) {
                    *failed.borrow_mut() = Some(error);
                    values.resize(region.len(), f32::NAN);
                }
                values
            });
            failed.into_inner().map_or(Ok(()), Err)?;
        }
        self.list();
        Ok(())
    }

    /// The rows that a buffer has in this run.
    fn region(&self, id: BufferId) -> Region {
        let buffer = self.plan.buffer(id);
        let rows = self.plan.row_count(buffer.rows, self.tokens);
        self.arena.part(self.places.place(id).start, rows * buffer.width)
    }

    /// Rows that the operation works on.
    fn rows(&self, op: &Op) -> usize {
        self.plan.row_count(self.plan.op_rows(op), self.tokens)
    }

    /// Values of a row of a buffer.
    fn width(&self, id: BufferId) -> usize {
        self.plan.buffer(id).width
    }

    fn vector(&self, id: WeightId) -> &Region {
        match &self.weights[id.index()] {
            Stored::Vector(region) => region,
            _ => unreachable!("the plan's uses have marked it as a vector"),
        }
    }

    fn matrix(&self, id: WeightId) -> &Matrix {
        match &self.weights[id.index()] {
            Stored::Matrix(matrix) => matrix,
            _ => unreachable!("the plan's uses have marked it as a matrix"),
        }
    }
}
