//! What is timed: a network of random weights with the widths of Gemma 3n's products, heads and cuts.
//!
//! Two layers, one of them sparse, each with the joined products, the attention over a filled cache and the feed-forward network of a
//! model's, and a head. It writes no text; only its time is of use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gemma_hal::op::{Heads, LinearPart, Op, RotaryKeyValue, RotaryQuery};
use gemma_hal::random::SplitMix64;
use gemma_hal::{
    BufferId, Cache, CacheLayer, CacheLayout, Call, DType, Deadline, Device, DeviceError, Executable,
    Outputs, Plan, PlanBuilder, PlanError, Rows, Storage, ViewError, Weight, WeightId,
};

use super::Timed;
use crate::device::IgpuDevice;

/// When a run that does not end is given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs before it is timed: the first compiles, the second is recorded.
const WARM: usize = 2;

/// Two executables run in turns until neither has had a clearly better run for this long, and so often at least: clocks of an idle
/// GPU are low, and rise while it works.
const QUIET: Duration = Duration::from_millis(300);
const FEWEST: usize = 5;

/// How much less than the best run so far one takes that is clearly better.
const RISE: f64 = 0.99;

/// Layers; the first one is sparse.
const LAYERS: usize = 2;

/// What cuts all but one unit in 20 in the mean: Φ⁻¹(0.95), as published.
const CUTOFF: f32 = 1.644_853_6;

/// The type of its matrices.
const DTYPE: DType = DType::Q4_0;

/// Sizes of a network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    width: usize,
    hidden: usize,
    outputs: usize,
    heads: Heads,
    /// Rows of a prompt.
    rows: usize,
    /// Prompts in the cache when a token is timed.
    prompts: usize,
}

impl Shape {
    /// Widths of E2B, an eighth of its vocabulary, and 1,024 positions.
    pub(super) const PUBLISHED: Self = Self {
        width: 2048,
        hidden: 8192,
        outputs: 32_768,
        heads: Heads { query: 8, key_value: 2, dim: 256 },
        rows: 512,
        prompts: 2,
    };

    /// For tests of the search.
    #[cfg(test)]
    pub(super) const SMALL: Self = Self {
        width: 64,
        hidden: 128,
        outputs: 256,
        heads: Heads { query: 4, key_value: 2, dim: 32 },
        rows: 8,
        prompts: 2,
    };

    /// Positions of the cache.
    const fn context(&self) -> usize {
        self.rows * (self.prompts + 1)
    }

    fn cache(&self) -> CacheLayout {
        let layer = CacheLayer { width: self.heads.key_value_width(), window: None };
        CacheLayout { layers: vec![layer; LAYERS], dtype: DType::F16 }
    }
}

/// The plans, and a filled cache.
pub(super) struct Network {
    token: Arc<Plan>,
    prompt: Arc<Plan>,
    cache: Box<dyn Cache>,
    filled: usize,
    /// What keeps the matrices on the device.
    #[expect(dead_code, reason = "it is what it holds that counts")]
    holders: [Box<dyn Executable>; 2],
}

impl Network {
    /// Uploads the network and fills its cache.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn new(device: &IgpuDevice, shape: &Shape) -> Result<Self, DeviceError> {
        let refused = |error: &dyn std::error::Error| DeviceError::Unsupported {
            device: device.info().id.clone(),
            what: format!("the network that is timed: {error}"),
        };
        let weights = Weights::new(shape).map_err(|error| refused(&error))?;
        let token = Arc::new(plan(shape, &weights, 1).map_err(|error| refused(&error))?);
        let prompt = Arc::new(plan(shape, &weights, shape.rows).map_err(|error| refused(&error))?);
        let mut cache = device.create_cache(token.cache(), shape.context(), shape.rows)?;
        let mut fills = device.prepare(Arc::clone(&prompt))?;
        for _ in 0..shape.prompts {
            run(fills.as_mut(), cache.as_mut(), &prompt)?;
        }
        let holders = [fills, device.prepare(Arc::clone(&token))?];
        let filled = cache.positions().len();
        Ok(Self { token, prompt, cache, filled, holders })
    }

    /// What runs a token or a prompt as `device` is tuned now. It has run and is recorded.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn prepare(
        &mut self,
        device: &IgpuDevice,
        timed: Timed,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        let mut executable = device.prepare(Arc::clone(self.plan(timed)))?;
        for _ in 0..WARM {
            self.seconds(executable.as_mut(), timed)?;
        }
        Ok(executable)
    }

    /// Seconds of a token behind the filled cache, or of a prompt, on each of the two: the best of many runs in turns, so that
    /// clocks that rise or fall meet both.
    ///
    /// # Errors
    /// The device's.
    pub(super) fn race(
        &mut self,
        timed: Timed,
        mut both: [&mut dyn Executable; 2],
    ) -> Result<[f64; 2], DeviceError> {
        let (mut risen, mut best, mut count) = (Instant::now(), [f64::MAX; 2], 0);
        while count < FEWEST || risen.elapsed() < QUIET {
            for (executable, best) in both.iter_mut().zip(&mut best) {
                let seconds = self.seconds(&mut **executable, timed)?;
                if seconds < RISE * *best {
                    risen = Instant::now();
                }
                *best = best.min(seconds);
            }
            count += 1;
        }
        Ok(best)
    }

    fn plan(&self, timed: Timed) -> &Arc<Plan> {
        match timed {
            Timed::Token => &self.token,
            Timed::Prompt => &self.prompt,
        }
    }

    fn seconds(&mut self, executable: &mut dyn Executable, timed: Timed) -> Result<f64, DeviceError> {
        let plan = Arc::clone(self.plan(timed));
        // A prompt takes the place of the last one: what it finds before it is of no interest.
        let length = if timed == Timed::Token { self.filled } else { self.filled - plan.max_tokens() };
        self.cache.truncate(length);
        let start = Instant::now();
        run(executable, self.cache.as_mut(), &plan).map(|()| start.elapsed().as_secs_f64())
    }
}

/// As many tokens as `plan` takes.
fn run(executable: &mut dyn Executable, cache: &mut dyn Cache, plan: &Plan) -> Result<(), DeviceError> {
    let tokens = vec![0; plan.max_tokens()];
    executable.run(Call { tokens: &tokens, cache, deadline: Deadline::after(PATIENCE), probe: None })
}

/// Weights that both plans share.
struct Weights {
    table: Weight,
    norm: Weight,
    head_norm: Weight,
    /// Query, key, value, attended, gate, up, down of each layer.
    layers: Vec<[Weight; 7]>,
    head: Weight,
}

impl Weights {
    fn new(shape: &Shape) -> Result<Self, ViewError> {
        let (width, hidden, heads) = (shape.width, shape.hidden, shape.heads);
        let mut random = SplitMix64::new(1);
        let mut matrix = |rows, columns| matrix(&mut random, rows, columns);
        let mut layers = Vec::new();
        for _ in 0..LAYERS {
            layers.push([
                matrix(heads.query_width(), width)?,
                matrix(heads.key_value_width(), width)?,
                matrix(heads.key_value_width(), width)?,
                matrix(width, heads.query_width())?,
                matrix(hidden, width)?,
                matrix(hidden, width)?,
                matrix(width, hidden)?,
            ]);
        }
        Ok(Self {
            table: matrix(1, width)?,
            head: matrix(shape.outputs, width)?,
            norm: ones(width)?,
            head_norm: ones(heads.dim)?,
            layers,
        })
    }
}

/// A matrix of random quants, with the scale that makes outputs about as large as inputs.
fn matrix(random: &mut SplitMix64, rows: usize, columns: usize) -> Result<Weight, ViewError> {
    let blocks = rows * columns.div_ceil(DTYPE.block_len());
    // Quants of −8 to 7 have a mean square of 21.5.
    let scale = half::f16::from_f32(1.0 / (21.5 * columns as f32).sqrt()).to_le_bytes();
    let mut bytes = Vec::with_capacity(blocks * DTYPE.block_bytes());
    for _ in 0..blocks {
        bytes.extend(scale);
        bytes.extend(random.next_bits().to_le_bytes());
        bytes.extend(random.next_bits().to_le_bytes());
    }
    Weight::new(Storage::new("random quants", bytes), 0, rows, columns, DTYPE)
}

/// A norm's weight.
fn ones(width: usize) -> Result<Weight, ViewError> {
    let bytes: Vec<u8> = (0..width).flat_map(|_| 1_f32.to_le_bytes()).collect();
    Weight::new(Storage::new("ones", bytes), 0, 1, width, DType::F32)
}

/// The network for runs of up to `rows` tokens.
fn plan(shape: &Shape, weights: &Weights, rows: usize) -> Result<Plan, PlanError> {
    let mut plan = PlanBuilder::new("what is timed", rows, Outputs::Last, 1e-6, shape.cache());
    let mut x = plan.buffer("input", Rows::Tokens, shape.width);
    let table = plan.weight("table", weights.table.clone());
    let norm = plan.weight("norm", weights.norm.clone());
    let head_norm = plan.weight("head norm", weights.head_norm.clone());
    plan.push(None, Op::Embed { table, scale: 1.0, output: x });
    for (index, matrices) in weights.layers.iter().enumerate() {
        let ids = std::array::from_fn(|of| plan.weight(format!("{index}.{of}"), matrices[of].clone()));
        x = layer(&mut plan, shape, index, ids, (norm, head_norm), x);
    }
    let last = plan.buffer("last", Rows::Outputs, shape.width);
    plan.push(None, Op::SelectOutputs { input: x, output: last });
    let head = plan.weight("head", weights.head.clone());
    let logits = plan.buffer("logits", Rows::Outputs, shape.outputs);
    plan.push(None, Op::Linear { input: last, parts: vec![LinearPart { weight: head, output: logits }] });
    // What is read back is small.
    plan.finish(Some(last))
}

/// A layer from `x` to the buffer that it gives.
fn layer(
    plan: &mut PlanBuilder,
    shape: &Shape,
    index: usize,
    [q, k, v, o, gate, up, down]: [WeightId; 7],
    (norm, head_norm): (WeightId, WeightId),
    x: BufferId,
) -> BufferId {
    let (width, heads) = (shape.width, shape.heads);
    let mut buffer = |name: &str, width| plan.buffer(format!("{index}.{name}"), Rows::Tokens, width);
    let [query, attended] = ["query", "attended"].map(|name| buffer(name, heads.query_width()));
    let [key, value] = ["key", "value"].map(|name| buffer(name, heads.key_value_width()));
    let [normed, projected, input, output] =
        ["normed", "projected", "input", "output"].map(|name| buffer(name, width));
    let [gated, hidden] = ["gated", "hidden"].map(|name| buffer(name, shape.hidden));
    let part = |weight, output| LinearPart { weight, output };
    let cutoff = (index == 0).then_some(CUTOFF);
    for op in [
        Op::RmsNorm { input: x, norm, output: normed },
        Op::Linear { input: normed, parts: vec![part(q, query), part(k, key), part(v, value)] },
        Op::Rotary {
            heads,
            theta: 1e4,
            stretch: 1.0,
            cache_layer: index,
            query: Some(RotaryQuery { query, norm: head_norm, scale: 1.0 }),
            key_value: Some(RotaryKeyValue { key, value, norm: head_norm, value_norm: true }),
        },
        Op::Attention { heads, cache_layer: index, query, output: attended },
        Op::Linear { input: attended, parts: vec![part(o, projected)] },
        Op::RmsNorm { input: projected, norm, output: input },
        Op::FeedForward { input, gate, up, down, cutoff, gated, hidden, output },
    ] {
        plan.push(Some(index), op);
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_it_takes_as_many_launches_as_its_operations_joined() {
        let weights = Weights::new(&Shape::SMALL).unwrap();
        let plan = plan(&Shape::SMALL, &weights, 1).unwrap();
        // Norm, queries with keys and values, attention, its product, norm; behind them 4 of the sparse layer and 2 of the other.
        let layers = (5 + 4) + (5 + 2);
        assert_eq!(crate::launches(&plan), 1 + layers + 2);
    }
}
