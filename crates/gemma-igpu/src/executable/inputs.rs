//! What the host gives a run: its position, the tokens' embeddings, the angles of its positions.
//!
//! All of it lies in one piece of memory and is written at once. A table of embeddings is never on the device for its
//! own sake: a run needs a row a token.

use gemma_hal::rotary::{RotaryBase, RotaryTables};
use gemma_hal::{BufferId, DeviceError, Op, Plan, Step, block};

use crate::gpu::{Gpu, Region};

/// Words before the first table; the first is the position of the first token.
const HEADER: usize = 64;

/// Threads that convert rows of tables.
const MOST_THREADS: usize = 8;

/// Tokens for which a thread is worth its start.
const TOKENS_A_THREAD: usize = 32;

/// One table of a run, with a row a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Table {
    /// Of the operation that writes this buffer: embeddings, or those of layers.
    Embeddings(BufferId),
    /// Of positions.
    Angles(RotaryBase),
}

/// A table, where it comes from and the values of its rows.
struct Source {
    table: Table,
    /// The step that first asks for it.
    step: usize,
    width: usize,
}

/// A plan's tables.
pub(super) struct Inputs {
    memory: Region,
    sources: Vec<Source>,
    angles: RotaryTables,
}

/// The tables of `plan`, each once.
fn sources(plan: &Plan) -> Vec<Source> {
    let mut sources: Vec<Source> = Vec::new();
    for (step, Step { op, .. }) in plan.steps().iter().enumerate() {
        let (table, width) = match op {
            Op::Embed { output, .. } | Op::PerLayerEmbed { output, .. } => {
                (Table::Embeddings(*output), plan.buffer(*output).width)
            }
            Op::Rotary { heads, theta, stretch, .. } => {
                let base = RotaryBase { theta: *theta, stretch: *stretch, dim: heads.dim };
                (Table::Angles(base), heads.dim)
            }
            _ => continue,
        };
        if sources.iter().all(|source| source.table != table) {
            sources.push(Source { table, step, width });
        }
    }
    sources
}

/// Words on the device for the longest run of `plan`, known before they are asked for.
pub(super) fn words(plan: &Plan) -> usize {
    sources(plan).iter().fold(HEADER, |words, source| words + padded(plan.max_tokens() * source.width))
}

impl Inputs {
    /// Room for the plan's longest run.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(super) fn of(gpu: &Gpu, plan: &Plan) -> Result<Self, DeviceError> {
        let memory = gpu.empty("inputs", words(plan))?;
        Ok(Self { memory, sources: sources(plan), angles: RotaryTables::of(plan) })
    }

    /// Writes what a run of `tokens` at `start` needs.
    pub(super) fn write(&mut self, gpu: &Gpu, plan: &Plan, tokens: &[u32], start: usize) {
        self.angles.fill(start, tokens.len());
        let all =
            self.sources.iter().fold(HEADER, |words, source| words + padded(tokens.len() * source.width));
        let mut staged = vec![0; all];
        staged[0] = start as u32;
        let mut begin = HEADER;
        for Source { table, step, width } in &self.sources {
            let rows: &mut [f32] = bytemuck::cast_slice_mut(&mut staged[begin..][..tokens.len() * width]);
            match table {
                Table::Embeddings(_) => all_embeddings(plan, &plan.steps()[*step].op, tokens, rows, *width),
                Table::Angles(base) => rows.copy_from_slice(self.angles.rows(*base, 0, tokens.len())),
            }
            begin += padded(tokens.len() * width);
        }
        gpu.write(&self.memory, staged);
    }

    /// The words of which the first is the position of the run's first token.
    pub(super) fn header(&self) -> Region {
        self.memory.part(0, HEADER)
    }

    /// The rows of a table in a run of `tokens` tokens, from row `first` on.
    ///
    /// # Panics
    /// For a table that the plan does not have.
    pub(super) fn table(&self, wanted: Table, first: usize, tokens: usize) -> Region {
        let mut begin = HEADER;
        for Source { table, width, .. } in &self.sources {
            if *table == wanted {
                return self.memory.part(begin + first * width, (tokens - first) * width);
            }
            begin += padded(tokens * width);
        }
        unreachable!("every table of the plan is listed")
    }
}

/// Tables begin on 256 bytes, which every adapter can bind.
fn padded(words: usize) -> usize {
    words.next_multiple_of(HEADER)
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

/// The rows of an embedding's table, or of one of layers, that belong to `tokens`.
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
