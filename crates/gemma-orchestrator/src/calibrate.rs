//! Which inputs of each matrix matter: the mean square of every input over a text, by a probe on ordinary runs.
//!
//! A quantiser that may choose its rounding errors puts them where inputs are small. This is llama.cpp's "importance
//! matrix". The table of per-layer embeddings has no inputs, and the few values of routers are left alone.

use std::collections::{BTreeMap, HashMap};

use gemma_hal::op::Op;
use gemma_hal::{BufferId, Plan, Probe, Step, Weight, WeightId};
use gemma_matformer::export::Importance;

use crate::engine::{Engine, Phase};
use crate::{EngineError, Session};

/// Runs `tokens` in windows of `window` tokens, each begun with `bos`, and gives the mean square of every matrix's
/// inputs by its canonical name. `progress` gets the tokens that have run and says whether to go on; what was seen
/// until then counts.
///
/// # Errors
/// The device's.
pub fn importance(
    engine: &mut Engine,
    tokens: &[u32],
    bos: Option<u32>,
    window: usize,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Importance, EngineError> {
    let plan = engine.plan(Phase::AllLogits)?;
    let mut names = HashMap::new();
    engine.weights().for_each(&mut |name, weight| {
        names.insert(place(weight), name.to_owned());
    });
    let mut watcher = Watcher { plan: &plan, sums: vec![None; plan.weights().len()] };
    let mut session = Session::new(engine)?;
    let room = window.min(engine.options().context).saturating_sub(bos.iter().len()).max(1);
    let mut done = 0;
    'text: for window in tokens.chunks(room) {
        session.reset();
        let window: Vec<u32> = bos.into_iter().chain(window.iter().copied()).collect();
        for chunk in window.chunks(plan.max_tokens()) {
            session.watch(engine, Phase::AllLogits, chunk, &mut watcher)?;
            done += chunk.len();
            if !progress(done) {
                break 'text;
            }
        }
    }
    let mut importance: BTreeMap<String, Sum> = BTreeMap::new();
    for (weight, sum) in plan.weights().iter().zip(watcher.sums) {
        if let (Some(name), Some(sum)) = (names.get(&place(&weight.weight)), sum) {
            importance.insert(name.clone(), sum);
        }
    }
    Ok(importance.into_iter().map(|(name, sum)| (name, sum.mean())).collect())
}

/// What tells a weight from all others.
fn place(weight: &Weight) -> (usize, usize) {
    (weight.span().as_ptr() as usize, weight.rows())
}

#[derive(Clone)]
struct Sum {
    squares: Vec<f64>,
    rows: u64,
}

impl Sum {
    fn mean(self) -> Vec<f32> {
        self.squares.iter().map(|square| (square / self.rows as f64) as f32).collect()
    }
}

/// Adds up squares of inputs, by the plan's weights.
struct Watcher<'a> {
    plan: &'a Plan,
    sums: Vec<Option<Sum>>,
}

impl Watcher<'_> {
    fn add(&mut self, weight: WeightId, inputs: &[f32]) {
        let columns = self.plan.weight(weight).columns();
        let sum =
            self.sums[weight.index()].get_or_insert_with(|| Sum { squares: vec![0.0; columns], rows: 0 });
        for row in inputs.chunks_exact(columns) {
            sum.squares.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value).powi(2));
            sum.rows += 1;
        }
    }

    /// Of stream `index` of rows of streams that are `width` wide each.
    fn add_stream(&mut self, weight: WeightId, streams: &[f32], all: usize, index: usize) {
        let width = self.plan.weight(weight).columns();
        let rows = streams.chunks_exact(all).flat_map(|row| &row[index * width..(index + 1) * width]);
        let stream: Vec<f32> = rows.copied().collect();
        self.add(weight, &stream);
    }

    fn width(&self, buffer: BufferId) -> usize {
        self.plan.buffer(buffer).width
    }

    fn per_layer_input(&mut self, op: &Op, read: &dyn Fn(BufferId) -> Vec<f32>) {
        let Op::PerLayerInput { streams, active, scale, gate, projection, gated, .. } = op else { return };
        let (all, width) = (self.width(*streams), self.plan.weight(*gate).columns());
        let scale: Vec<f32> = scale.map_or_else(Vec::new, |scale| values(self.plan.weight(scale)));
        let mut inputs = Vec::new();
        for row in read(*streams).chunks_exact(all) {
            let stream = row[active * width..(active + 1) * width].iter().enumerate();
            inputs.extend(stream.map(|(index, value)| value * scale.get(index).copied().unwrap_or(1.0)));
        }
        self.add(*gate, &inputs);
        self.add(*projection, &read(*gated));
    }
}

impl Probe for Watcher<'_> {
    fn after(&mut self, _index: usize, step: &Step, read: &dyn Fn(BufferId) -> Vec<f32>) {
        match &step.op {
            Op::Linear { input, parts } => {
                let inputs = read(*input);
                parts.iter().for_each(|part| self.add(part.weight, &inputs));
            }
            Op::FeedForward { input, gate, up, down, gated, .. } => {
                let inputs = read(*input);
                [gate, up].into_iter().for_each(|weight| self.add(*weight, &inputs));
                self.add(*down, &read(*gated));
            }
            Op::PerLayerEmbed { input, projection, .. } => self.add(*projection, &read(*input)),
            Op::AltUpInit { input, projections, .. } => {
                let inputs = read(*input);
                projections.iter().for_each(|weight| self.add(*weight, &inputs));
            }
            Op::AltUpMerge { streams, projections, .. } => {
                let (inputs, all) = (read(*streams), self.width(*streams));
                for (index, weight) in projections.iter().enumerate() {
                    self.add_stream(*weight, &inputs, all, index + 1);
                }
            }
            op @ Op::PerLayerInput { .. } => self.per_layer_input(op, read),
            Op::Unembed { input, table, .. } => self.add(*table, &read(*input)),
            _ => {}
        }
    }
}

fn values(weight: &Weight) -> Vec<f32> {
    let mut values = vec![0.0; weight.columns()];
    gemma_hal::block::dequantise_row(weight.dtype(), weight.row(0), &mut values);
    values
}
