//! [`Inputs`]: what the host gives a run: its position, the tokens' embeddings, the angles of its positions.
//!
//! All of it lies in one piece of the GPU's memory, at the same places in all runs of as many tokens. A run's first kernel fetches it from
//! memory of the host that the GPU reads: a copy by the runtime would go through another engine, and be in doubt before a replayed graph.
//! There are two such pieces, so that the host fills one while the other is on its way.

use gemma_hal::rotary::{RotaryBase, RotaryTables};
use gemma_hal::{BufferId, Deadline, DeviceError, Op, Plan, Step, block};
use gemma_hip_kernels::arguments::Copy;
use gemma_hip_kernels::{Address, Launch};

use crate::runtime::{Buffer, Event, Placement, Turn};

/// Words before the first table; the first is the position of the first token. Tables begin on as many.
const HEADER: usize = 64;

/// Threads that convert rows of tables.
const MOST_THREADS: usize = 8;

/// Tokens for which a thread is worth its start.
const TOKENS_A_THREAD: usize = 32;

/// Where the rows of a table come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Source {
    /// What the operation that writes this buffer takes of its table: embeddings, or those of layers.
    Embeddings(BufferId),
    /// Of positions.
    Angles(RotaryBase),
}

/// A table with a row a token.
struct Table {
    source: Source,
    /// The step that first asks for it.
    step: usize,
    /// Values of a row.
    width: usize,
}

/// A piece that the host fills.
struct Slot {
    buffer: Buffer,
    /// Behind the run that has fetched it.
    fetched: Event,
}

/// A plan's inputs.
pub(super) struct Inputs {
    memory: Buffer,
    tables: Vec<Table>,
    angles: RotaryTables,
    /// None where the GPU cannot read the host's memory.
    slots: Option<[Slot; 2]>,
    /// The slot of the last run.
    last: usize,
    staged: Vec<u32>,
}

/// The tables of `plan`, each once.
fn tables(plan: &Plan) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for (step, Step { op, .. }) in plan.steps().iter().enumerate() {
        let (source, width) = match op {
            Op::Embed { output, .. } | Op::PerLayerEmbed { output, .. } => {
                (Source::Embeddings(*output), plan.buffer(*output).width)
            }
            Op::Rotary { heads, theta, stretch, .. } => {
                let base = RotaryBase { theta: *theta, stretch: *stretch, dim: heads.dim };
                (Source::Angles(base), heads.dim)
            }
            _ => continue,
        };
        if tables.iter().all(|table| table.source != source) {
            tables.push(Table { source, step, width });
        }
    }
    tables
}

/// Words of a run of `tokens` tokens.
fn words(tables: &[Table], tokens: usize) -> usize {
    tables.iter().fold(HEADER, |words, table| words + padded(tokens * table.width))
}

/// Bytes for the longest run of `plan`, those of the host included, known before they are asked for.
pub(super) fn bytes(plan: &Plan) -> usize {
    3 * words(&tables(plan), plan.max_tokens()) * size_of::<u32>()
}

fn padded(words: usize) -> usize {
    words.next_multiple_of(HEADER)
}

impl Inputs {
    /// Room for the plan's longest run.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`], otherwise what the runtime says.
    pub(super) fn of(turn: &Turn<'_>, plan: &Plan) -> Result<Self, DeviceError> {
        let tables = tables(plan);
        let words = words(&tables, plan.max_tokens());
        let bytes = words * size_of::<u32>();
        let memory = turn.allocate("inputs", bytes, Placement::Device)?;
        let slots = match (slot(turn, bytes)?, slot(turn, bytes)?) {
            (Some(one), Some(other)) => Some([one, other]),
            _ => None,
        };
        let (angles, staged) = (RotaryTables::of(plan), vec![0; words]);
        Ok(Self { memory, tables, angles, slots, last: 0, staged })
    }

    /// Lays out what a run of `tokens` at `start` needs, for [`Inputs::fetch`].
    ///
    /// # Errors
    /// [`DeviceError::Timeout`] or [`DeviceError::Cancelled`] from the deadline, otherwise what the runtime says.
    pub(super) fn lay_out(
        &mut self,
        turn: &Turn<'_>,
        plan: &Plan,
        tokens: &[u32],
        start: usize,
        deadline: &Deadline,
    ) -> Result<(), DeviceError> {
        self.fill(plan, tokens, start);
        let words = words(&self.tables, tokens.len());
        let bytes: &[u8] = bytemuck::cast_slice(&self.staged[..words]);
        let Some(slots) = &self.slots else {
            // The runtime copies when it likes; so nothing may be under way.
            turn.finish("waiting for earlier work", deadline)?;
            return turn.put(&self.memory, 0, bytes);
        };
        // A step of decode is recorded with the address of its slot.
        self.last = if tokens.len() == 1 { 0 } else { (self.last + 1) % slots.len() };
        let slot = &slots[self.last];
        slot.fetched.wait("waiting for earlier work", deadline)?;
        slot.buffer.write_as_host(0, bytes);
        Ok(())
    }

    /// What fetches the inputs of a run of `tokens` tokens; none where they are there already.
    pub(super) fn fetch(&self, tokens: usize) -> Option<Launch> {
        let slot = &self.slots.as_ref()?[self.last];
        let count = words(&self.tables, tokens) as u32;
        Some(Copy { input: slot.buffer.at(0), output: self.memory.at(0), count, padding: 0 }.launch())
    }

    /// Says that all of a run has been launched.
    ///
    /// # Errors
    /// What the runtime says.
    pub(super) fn launched(&self) -> Result<(), DeviceError> {
        self.slots.as_ref().map_or(Ok(()), |slots| slots[self.last].fetched.record())
    }

    fn fill(&mut self, plan: &Plan, tokens: &[u32], start: usize) {
        self.angles.fill(start, tokens.len());
        self.staged[0] = start as u32;
        let mut begin = HEADER;
        for Table { source, step, width } in &self.tables {
            let count = tokens.len() * width;
            let rows: &mut [f32] = bytemuck::cast_slice_mut(&mut self.staged[begin..][..count]);
            match source {
                Source::Embeddings(_) => all_embeddings(plan, &plan.steps()[*step].op, tokens, rows, *width),
                Source::Angles(base) => rows.copy_from_slice(self.angles.rows(*base, 0, tokens.len())),
            }
            begin += padded(count);
        }
    }

    /// The word with the position of the run's first token.
    pub(super) fn header(&self) -> Address {
        self.memory.at(0)
    }

    /// The rows of a table in a run of `tokens` tokens.
    ///
    /// # Panics
    /// For a table that the plan does not have.
    pub(super) fn at(&self, wanted: Source, tokens: usize) -> Address {
        let mut begin = HEADER;
        for Table { source, width, .. } in &self.tables {
            if *source == wanted {
                return self.memory.at(begin * size_of::<u32>());
            }
            begin += padded(tokens * width);
        }
        unreachable!("every table of the plan is listed")
    }
}

fn slot(turn: &Turn<'_>, bytes: usize) -> Result<Option<Slot>, DeviceError> {
    let Some(buffer) = super::shared(turn, "inputs", bytes)? else { return Ok(None) };
    Ok(Some(Slot { buffer, fetched: Event::new(turn, false)? }))
}

/// [`embeddings`], of many tokens by several threads.
fn all_embeddings(plan: &Plan, op: &Op, tokens: &[u32], rows: &mut [f32], width: usize) {
    // First of all: a step of decode shall not ask the system how many processors there are.
    if tokens.len() <= TOKENS_A_THREAD {
        return embeddings(plan, op, tokens, rows);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let each = tokens.len().div_ceil(threads).max(TOKENS_A_THREAD);
    std::thread::scope(|scope| {
        for (tokens, rows) in tokens.chunks(each).zip(rows.chunks_mut(each * width)) {
            scope.spawn(move || embeddings(plan, op, tokens, rows));
        }
    });
}

/// The rows of an embedding's table, or of one of layers, that belong to `tokens`, scaled.
fn embeddings(plan: &Plan, op: &Op, tokens: &[u32], rows: &mut [f32]) {
    match op {
        Op::Embed { table, scale, .. } => {
            let table = plan.weight(*table);
            for (id, row) in tokens.iter().zip(rows.chunks_exact_mut(table.columns())) {
                block::dequantise_row(table.dtype(), table.row(*id as usize), row);
                row.iter_mut().for_each(|value| *value *= scale);
            }
        }
        Op::PerLayerEmbed { table, blocks, width, table_scale, .. } => {
            let table = plan.weight(*table);
            for (id, row) in tokens.iter().zip(rows.chunks_exact_mut(blocks.len() * width)) {
                let id = *id as usize;
                let stored = table.row(if id < table.rows() { id } else { 0 });
                for (layer, out) in blocks.iter().zip(row.chunks_exact_mut(*width)) {
                    let first = usize::from(*layer) * width;
                    block::visit_values(table.dtype(), stored, first, *width, |i, values| {
                        out[i..].iter_mut().zip(values).for_each(|(out, value)| *out = table_scale * value);
                    });
                }
            }
        }
        _ => unreachable!("only these two have a table of embeddings"),
    }
}
