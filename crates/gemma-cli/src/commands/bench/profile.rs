//! `gemma bench --profile`: where the time of a decode step goes, by kind of operation.
//!
//! Every step of the plan is timed through the device's probe. A kind's time is the sum over its steps of each step's
//! median over the repetitions, so that one interruption moves nothing. Looking costs two clock readings an operation; on a GPU
//! it is the GPU's own clock that is read, and the device is waited for behind every operation.

use std::collections::BTreeMap;
use std::time::Instant;

use gemma_hal::{BufferId, Cost, Deadline, DeviceError, Op, Plan, Probe, Step};
use gemma_orchestrator::{Engine, Phase, Session};
use serde::Serialize;

use super::stats::median;
use super::work::Work;
use crate::failure::Failure;

/// A decode step, taken apart.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Profile {
    /// Steps that were timed.
    pub(super) steps: usize,
    /// Tokens before the first of them.
    pub(super) depth: usize,
    /// Median time of a whole step.
    pub(super) step_ms: f64,
    /// Part of it that is spent outside of operations: the median of what each step leaves.
    pub(super) other_fraction: f64,
    /// Most time first.
    pub(super) operations: Vec<Operation>,
}

/// All operations of one kind in a step.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Operation {
    /// Kind, and what tells it from others of the same operation.
    #[expect(clippy::struct_field_names, reason = "the name in the report, as in that of `info`")]
    pub(super) operation: String,
    pub(super) count: usize,
    pub(super) ms: f64,
    /// Of the time in operations.
    pub(super) time_fraction: f64,
    /// Of the bytes of the step.
    pub(super) bytes_fraction: f64,
    pub(super) gb_per_s: f64,
    pub(super) gflop_per_s: f64,
}

/// The kind of layers with a cutoff.
const SPARSE: &str = "feed_forward sparse";

/// Times decode steps behind `depth` of the tokens `ids`, one for each of the others.
pub(super) fn decode(
    engine: &mut Engine,
    session: &mut Session,
    ids: &[u32],
    depth: usize,
) -> Result<Profile, Failure> {
    let (before, timed) = ids.split_at(depth);
    let plan = engine.plan(Phase::Decode)?;
    let mut watch = Watch::new(plan.steps().len());
    session.reset();
    // One more step first, which touches memory that later ones find in place.
    session.extend(engine, &timed[..1], &Deadline::never())?;
    session.reset();
    if !before.is_empty() {
        session.extend(engine, before, &Deadline::never())?;
    }
    let (mut whole, mut outside) = (Vec::new(), Vec::new());
    let counted = engine.sparsity();
    for id in timed {
        watch.inside = 0.0;
        let begin = Instant::now();
        session.watch(engine, Phase::Decode, &[*id], &mut watch)?;
        let seconds = begin.elapsed().as_secs_f64();
        whole.push(seconds);
        outside.push(seconds - watch.inside);
    }
    let (whole, outside) = (median(&mut whole), median(&mut outside));
    let skipped = engine.sparsity().since(counted).skipped.over(timed.len() as u64);
    let operations = operations(&plan, &watch.medians(), depth + timed.len() / 2, skipped);
    let other_fraction = part(outside, whole);
    Ok(Profile { steps: timed.len(), depth, step_ms: whole * 1e3, other_fraction, operations })
}

/// Sums `seconds`, one for each step of `plan`, by kind; bytes are those of a token at position `start`.
/// `skipped` is what layers with a cutoff left out.
fn operations(plan: &Plan, seconds: &[f64], start: usize, skipped: Cost) -> Vec<Operation> {
    let mut kinds: BTreeMap<String, (usize, f64, Work)> = BTreeMap::new();
    for (step, seconds) in plan.steps().iter().zip(seconds) {
        let kind = kinds.entry(kind(plan, &step.op)).or_default();
        *kind = (kind.0 + 1, kind.1 + seconds, kind.2 + Work::of_op(plan, &step.op, 1, start));
    }
    let time: f64 = seconds.iter().sum();
    if let Some((_, _, work)) = kinds.get_mut(SPARSE) {
        work.cost = work.cost.less(skipped);
    }
    let bytes = plan.cost(1, start).less(skipped).bytes() as f64;
    let mut operations: Vec<Operation> = kinds
        .into_iter()
        .map(|(operation, (count, seconds, work))| {
            let moved = work.cost.bytes() as f64;
            Operation {
                operation,
                count,
                ms: seconds * 1e3,
                time_fraction: part(seconds, time),
                bytes_fraction: part(moved, bytes),
                gb_per_s: part(moved, seconds) / 1e9,
                gflop_per_s: part(work.cost.flops as f64, seconds) / 1e9,
            }
        })
        .collect();
    operations.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    operations
}

fn part(value: f64, all: f64) -> f64 {
    if all > 0.0 { value / all } else { 0.0 }
}

/// What operations are summed under: alike work in all layers, apart from work of another kind.
fn kind(plan: &Plan, op: &Op) -> String {
    let name = op.name();
    match op {
        Op::Linear { parts, .. } => {
            let roles = parts.iter().map(|part| {
                let name = plan.weights()[part.weight.index()].name.as_str();
                // "3.q" is the query's matrix of layer 3.
                name.rsplit('.').next().unwrap_or(name)
            });
            format!("{name} {}", roles.collect::<Vec<_>>().join("+"))
        }
        Op::FeedForward { cutoff: Some(_), .. } => SPARSE.to_owned(),
        Op::Attention { cache_layer, .. } => {
            let sliding = plan.cache().layers[*cache_layer].window.is_some();
            format!("{name} {}", if sliding { "sliding" } else { "full" })
        }
        _ => name.to_owned(),
    }
}

/// Times of every step in every repetition.
struct Watch {
    begin: Instant,
    /// By the device's clock, where it has one.
    took: Option<f64>,
    seconds: Vec<Vec<f64>>,
    /// Sum over the steps of the current repetition.
    inside: f64,
}

impl Watch {
    fn new(steps: usize) -> Self {
        Self { begin: Instant::now(), took: None, seconds: vec![Vec::new(); steps], inside: 0.0 }
    }

    fn medians(mut self) -> Vec<f64> {
        self.seconds.iter_mut().map(|seconds| median(seconds)).collect()
    }
}

impl Probe for Watch {
    fn before(&mut self, _index: usize, _step: &Step) -> Result<(), DeviceError> {
        self.begin = Instant::now();
        Ok(())
    }

    fn took(&mut self, _index: usize, seconds: f64) {
        self.took = Some(seconds);
    }

    fn after(&mut self, index: usize, _step: &Step, _read: &dyn Fn(BufferId) -> Vec<f32>) {
        let seconds = self.took.take().unwrap_or_else(|| self.begin.elapsed().as_secs_f64());
        self.seconds[index].push(seconds);
        self.inside += seconds;
    }
}
