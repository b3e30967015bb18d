//! [`Places`]: where the activations and weights of a plan lie; [`RunMemory`]: the same for one run, with its inputs and its cache.

use std::sync::Arc;

use gemma_hal::inputs::Source;
use gemma_hal::rotary::RotaryBase;
use gemma_hal::{Arena, BufferId, DeviceError, NamedWeight, Op, Plan, WeightId, block};
use gemma_hip_kernels::prepare::{self, CachedLayer, Memory, Table};
use gemma_hip_kernels::{Address, Planes};

use super::inputs::Inputs;
use crate::cache::HipCache;
use crate::device::Setup;
use crate::runtime::{Buffer, Placement, Turn};
use crate::turned::Turned;
use crate::weight::Matrix;

/// Steps of which one launch may do a part each: none may write where an earlier one of them still reads.
const TOGETHER: usize = 2;

/// Bytes that each vector begins on.
const ALIGNMENT: usize = 16;

/// How a plan uses a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Multiplied with.
    Matrix,
    /// Read as f32 values.
    Vector,
    /// Read by the host alone.
    Host,
}

/// A weight on the GPU.
enum Stored {
    Matrix(Arc<Matrix>),
    /// Where it begins among the vectors.
    Vector(usize),
    Host,
}

/// Where things lie.
pub(super) struct Places {
    /// Where activations lie in their buffer.
    arena: Arena,
    activations: Buffer,
    weights: Vec<Stored>,
    vectors: Buffer,
    /// Turned copies, by weight.
    turned: Vec<Option<Arc<Turned>>>,
    /// For what lies between two kernels of one step.
    scratch: Buffer,
    /// Zeros, which blocks count each other by.
    counters: Buffer,
    /// Of the GPU.
    compute_units: usize,
}

/// Where things lie in a run.
pub(super) struct RunMemory<'a> {
    pub(super) places: &'a Places,
    pub(super) inputs: &'a Inputs,
    pub(super) cache: &'a HipCache,
    pub(super) tokens: usize,
}

/// Bytes of everything but matrices, which plans share.
pub(super) fn bytes(plan: &Plan) -> usize {
    let arena = Arena::lasting(plan, TOGETHER - 1);
    arena.bytes() as usize + vector_bytes(plan) + prepare::scratch_bytes(plan) + counter_bytes(plan)
}

fn counter_bytes(plan: &Plan) -> usize {
    prepare::counters(plan) * size_of::<u32>()
}

/// The weights of `plan`, and how each is used.
fn weights(plan: &Plan) -> impl Iterator<Item = (&NamedWeight, Use)> {
    plan.weights().iter().zip(uses(plan))
}

fn bytes_of_vector(named: &NamedWeight) -> usize {
    (named.weight.rows() * named.weight.columns() * size_of::<f32>()).next_multiple_of(ALIGNMENT)
}

fn vector_bytes(plan: &Plan) -> usize {
    weights(plan).filter(|(_, used)| *used == Use::Vector).map(|(named, _)| bytes_of_vector(named)).sum()
}

impl Places {
    /// Uploads what is not there yet and allocates the rest.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], otherwise what the runtime says.
    pub(super) fn of(setup: &Setup, turn: &Turn<'_>, plan: &Plan) -> Result<Self, DeviceError> {
        let device = |what: &str, bytes: usize| turn.allocate(what, bytes, Placement::Device);
        // What every step uses comes first, so that it is with the GPU where not all can be, and what can be done without comes last.
        let arena = Arena::lasting(plan, TOGETHER - 1);
        let activations = device("activations", arena.bytes() as usize)?;
        let scratch = device("what lies between kernels", prepare::scratch_bytes(plan))?;
        let vectors = device("norms", vector_bytes(plan))?;
        let counters = device("counters", counter_bytes(plan))?;
        turn.put(&counters, 0, &vec![0; counter_bytes(plan)])?;
        let mut stored = Vec::with_capacity(plan.weights().len());
        let mut values = vec![0_u8; vector_bytes(plan)];
        let mut begin = 0;
        for (named, used) in weights(plan) {
            stored.push(match used {
                Use::Matrix => Stored::Matrix(setup.matrices.get(setup, turn, &named.name, &named.weight)?),
                Use::Vector => {
                    let bytes = bytes_of_vector(named);
                    decode(named, &mut values[begin..begin + bytes]);
                    begin += bytes;
                    Stored::Vector(begin - bytes)
                }
                Use::Host => Stored::Host,
            });
        }
        turn.put(&vectors, 0, &values)?;
        Ok(Self {
            activations,
            arena,
            weights: stored,
            vectors,
            turned: copies(setup, turn, plan),
            scratch,
            counters,
            compute_units: setup.compute_units,
        })
    }

    /// The buffer of an activation, and its offset in bytes.
    pub(super) fn activation(&self, id: BufferId) -> (&Buffer, usize) {
        (&self.activations, self.arena.place(id).start * size_of::<f32>())
    }
}

/// The turned copies of a plan for one token, by weight.
fn copies(setup: &Setup, turn: &Turn<'_>, plan: &Plan) -> Vec<Option<Arc<Turned>>> {
    let mut copies = vec![None; plan.weights().len()];
    for step in plan.steps() {
        if let Op::FeedForward { down, cutoff: Some(_), .. } = &step.op
            && plan.max_tokens() == 1
        {
            copies[down.index()] = setup.matrices.copies.get(setup, turn, plan.weight(*down));
        }
    }
    copies
}

/// The values of a small weight in f32, as bytes.
fn decode(named: &NamedWeight, out: &mut [u8]) {
    let weight = &named.weight;
    let mut values = vec![0.0_f32; weight.columns()];
    for (row, out) in
        out.chunks_exact_mut((values.len() * size_of::<f32>()).max(1)).take(weight.rows()).enumerate()
    {
        block::dequantise_row(weight.dtype(), weight.row(row), &mut values);
        out.copy_from_slice(bytemuck::cast_slice(&values));
    }
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

impl RunMemory<'_> {
    /// Where an activation lies.
    pub(super) fn activation(&self, id: BufferId) -> Address {
        let (buffer, offset) = self.places.activation(id);
        buffer.at(offset)
    }
}

impl Memory for RunMemory<'_> {
    fn compute_units(&self) -> usize {
        self.places.compute_units
    }

    fn buffer(&self, id: BufferId) -> Address {
        self.activation(id)
    }

    fn matrix(&self, id: WeightId) -> Planes {
        match &self.places.weights[id.index()] {
            Stored::Matrix(matrix) => matrix.planes,
            _ => unreachable!("the plan's uses have marked it as a matrix"),
        }
    }

    fn vector(&self, id: WeightId) -> Address {
        match &self.places.weights[id.index()] {
            Stored::Vector(begin) => self.places.vectors.at(*begin),
            _ => unreachable!("the plan's uses have marked it as a vector"),
        }
    }

    fn turned(&self, id: WeightId) -> Option<prepare::Turned> {
        self.places.turned[id.index()].as_ref().map(|turned| turned.place)
    }

    /// Tables are never on the GPU for their own sake: a run needs a row a token.
    fn table(&self, _id: WeightId, output: BufferId) -> Table {
        Table::Rows(self.inputs.at(Source::Embeddings(output), self.tokens))
    }

    fn blocks(&self, _output: BufferId) -> Address {
        Address::NULL
    }

    fn ids(&self) -> Address {
        Address::NULL
    }

    fn header(&self) -> Address {
        self.inputs.header()
    }

    fn angles(&self, base: RotaryBase) -> Address {
        self.inputs.at(Source::Angles(base), self.tokens)
    }

    fn layer(&self, index: usize) -> CachedLayer {
        self.cache.layer(index)
    }

    fn scratch(&self) -> Address {
        self.places.scratch.at(0)
    }

    fn counters(&self) -> Address {
        self.places.counters.at(0)
    }
}
