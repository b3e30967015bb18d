//! What the host gives a run: its position, the tokens' embeddings, the angles of its positions.
//!
//! All of it lies in one piece of memory and is written at once. A table of embeddings is never on the device for its
//! own sake: a run needs a row a token.

use gemma_hal::rotary::{RotaryBase, RotaryTables};
use gemma_hal::{Op, Plan, Weight, block};

use crate::gpu::{Gpu, Region, WORD};

/// Words before the first table; the first is the position of the first token.
const HEADER: usize = 64;

/// One table of a run, with a row a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Table {
    /// Of the step that embeds.
    Embeddings(usize),
    /// Of the step that embeds layers.
    PerLayer(usize),
    /// Of positions.
    Angles(RotaryBase),
}

/// A plan's tables.
pub(super) struct Inputs {
    memory: Region,
    /// Tables and the values of their rows.
    tables: Vec<(Table, usize)>,
    angles: RotaryTables,
    staged: Vec<u32>,
}

impl Inputs {
    /// Room for the plan's longest run.
    pub(super) fn of(gpu: &Gpu, plan: &Plan) -> Self {
        let mut tables = Vec::new();
        for (index, step) in plan.steps().iter().enumerate() {
            let table = match &step.op {
                Op::Embed { output, .. } => (Table::Embeddings(index), plan.buffer(*output).width),
                Op::PerLayerEmbed { output, .. } => (Table::PerLayer(index), plan.buffer(*output).width),
                Op::Rotary { heads, theta, stretch, .. } => {
                    let base = RotaryBase { theta: *theta, stretch: *stretch, dim: heads.dim };
                    (Table::Angles(base), heads.dim)
                }
                _ => continue,
            };
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        let words = tables.iter().map(|(_, width)| padded(plan.max_tokens() * width)).sum::<usize>();
        Self { memory: gpu.empty(HEADER + words), tables, angles: RotaryTables::of(plan), staged: Vec::new() }
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> u64 {
        (self.memory.len() * WORD) as u64
    }

    /// Writes what a run of `tokens` at `start` needs.
    pub(super) fn write(&mut self, gpu: &Gpu, plan: &Plan, tokens: &[u32], start: usize) {
        self.angles.fill(start, tokens.len());
        self.staged.clear();
        self.staged.resize(HEADER, 0);
        self.staged[0] = start as u32;
        for (table, width) in &self.tables {
            let begin = self.staged.len();
            self.staged.resize(begin + padded(tokens.len() * width), 0);
            let rows: &mut [f32] =
                bytemuck::cast_slice_mut(&mut self.staged[begin..][..tokens.len() * width]);
            match table {
                Table::Embeddings(step) => embeddings(plan, *step, tokens, rows),
                Table::PerLayer(step) => per_layer(plan, *step, tokens, rows),
                Table::Angles(base) => rows.copy_from_slice(self.angles.rows(*base, 0, tokens.len())),
            }
        }
        gpu.write(&self.memory, &self.staged);
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
        for (table, width) in &self.tables {
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

fn embeddings(plan: &Plan, step: usize, tokens: &[u32], rows: &mut [f32]) {
    let Op::Embed { table, scale, .. } = &plan.steps()[step].op else { return };
    let table = plan.weight(*table);
    for (id, row) in tokens.iter().zip(rows.chunks_exact_mut(table.columns())) {
        block::dequantise_row(table.dtype(), table.row(*id as usize), row);
        row.iter_mut().for_each(|value| *value *= scale);
    }
}

fn per_layer(plan: &Plan, step: usize, tokens: &[u32], rows: &mut [f32]) {
    let Op::PerLayerEmbed { table, blocks, width, table_scale, .. } = &plan.steps()[step].op else { return };
    let table: &Weight = plan.weight(*table);
    for (id, row) in tokens.iter().zip(rows.chunks_exact_mut(blocks.len() * width)) {
        let id = *id as usize;
        let stored = table.row(if id < table.rows() { id } else { 0 });
        for (layer, out) in blocks.iter().zip(row.chunks_exact_mut(*width)) {
            block::visit_values(table.dtype(), stored, usize::from(*layer) * width, *width, |i, values| {
                out[i..].iter_mut().zip(values).for_each(|(out, value)| *out = table_scale * value);
            });
        }
    }
}
