//! What the host computes for a run on a device that keeps no tables: its position, the tokens' embeddings, the angles of its positions.
//!
//! A table of embeddings need not be on a device for its own sake: a run asks for a row a token. All of it is laid out in one piece, so that
//! it can be sent at once; how it is sent is the device's business.

use std::thread;

use crate::rotary::{RotaryBase, RotaryTables};
use crate::{BufferId, Op, Plan, Step, block};

/// Words before the first table; the first is the position of the run's first token. Tables begin on as many: 256 bytes.
pub const HEADER: usize = 64;

/// Threads that convert rows of tables.
const MOST_THREADS: usize = 8;

/// Tokens for which a thread is worth its start.
const TOKENS_A_THREAD: usize = 32;

/// Where the rows of a table come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// What the operation that writes this buffer takes of its table: embeddings, or those of layers.
    Embeddings(BufferId),
    /// Of positions.
    Angles(RotaryBase),
}

/// A table with a row a token.
#[derive(Clone, Copy, Debug)]
struct Table {
    source: Source,
    /// The step that first asks for it.
    step: usize,
    /// Values of a row.
    width: usize,
}

/// The inputs of a plan's runs.
#[derive(Debug)]
pub struct HostInputs {
    tables: Vec<Table>,
    angles: RotaryTables,
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

fn padded(words: usize) -> usize {
    words.next_multiple_of(HEADER)
}

/// Where the table behind `tables` begins in a run of `tokens` tokens.
fn end_of(tables: &[Table], tokens: usize) -> usize {
    tables.iter().fold(HEADER, |words, table| words + padded(tokens * table.width))
}

/// Words of 32 bits that the longest run of `plan` takes, for who counts them before there are any.
pub fn words(plan: &Plan) -> usize {
    end_of(&tables(plan), plan.max_tokens())
}

impl HostInputs {
    /// For the runs of `plan`.
    pub fn of(plan: &Plan) -> Self {
        Self { tables: tables(plan), angles: RotaryTables::of(plan) }
    }

    /// Words of a run of `tokens` tokens.
    pub fn words(&self, tokens: usize) -> usize {
        end_of(&self.tables, tokens)
    }

    /// The word where a table begins in a run of `tokens` tokens, and the values of its rows.
    ///
    /// # Panics
    /// For a table that the plan does not have.
    pub fn table(&self, wanted: Source, tokens: usize) -> (usize, usize) {
        let index = self.tables.iter().position(|table| table.source == wanted);
        let index = index.expect("every table of the plan is listed");
        (end_of(&self.tables[..index], tokens), self.tables[index].width)
    }

    /// Lays out the inputs of a run of `tokens` of `plan`, the first of them at position `start`.
    ///
    /// # Panics
    /// When `words` has fewer than [`HostInputs::words`].
    pub fn fill(&mut self, plan: &Plan, tokens: &[u32], start: usize, words: &mut [u32]) {
        self.angles.fill(start, tokens.len());
        words[0] = start as u32;
        let mut begin = HEADER;
        for Table { source, step, width } in &self.tables {
            let count = tokens.len() * width;
            let rows: &mut [f32] = bytemuck::cast_slice_mut(&mut words[begin..][..count]);
            match source {
                Source::Embeddings(_) => all_embeddings(plan, &plan.steps()[*step].op, tokens, rows, *width),
                Source::Angles(base) => rows.copy_from_slice(self.angles.rows(*base, 0, tokens.len())),
            }
            begin += padded(count);
        }
    }
}

/// [`embeddings`], of many tokens by several threads.
fn all_embeddings(plan: &Plan, op: &Op, tokens: &[u32], rows: &mut [f32], width: usize) {
    // First of all: a step of decode shall not ask the system how many processors there are.
    if tokens.len() <= TOKENS_A_THREAD {
        return embeddings(plan, op, tokens, rows);
    }
    let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let each = tokens.len().div_ceil(threads).max(TOKENS_A_THREAD);
    thread::scope(|scope| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CacheLayout, DType, Outputs, PlanBuilder, Rows, Storage, Weight};

    const WIDTH: usize = 48;
    const ROWS: usize = 10;

    fn plan(max_tokens: usize) -> Plan {
        let values: Vec<u8> = (0..ROWS * WIDTH).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let table = Weight::new(Storage::new("table", values), 0, ROWS, WIDTH, DType::F32).unwrap();
        let layout = CacheLayout { layers: Vec::new(), dtype: DType::F32 };
        let mut plan = PlanBuilder::new("tables", max_tokens, Outputs::Last, 1e-6, layout);
        let table = plan.weight("table", table);
        let first = plan.buffer("first", Rows::Tokens, WIDTH);
        let second = plan.buffer("second", Rows::Tokens, WIDTH);
        plan.push(None, Op::Embed { table, scale: 2.0, output: first });
        plan.push(None, Op::Embed { table, scale: 3.0, output: second });
        let last = plan.buffer("last", Rows::Outputs, WIDTH);
        plan.push(None, Op::SelectOutputs { input: first, output: last });
        plan.finish(Some(last)).unwrap()
    }

    #[test]
    fn rows_lie_where_they_are_said_to_whatever_their_number() {
        for count in [1, 3, 32, 33, 200] {
            let plan = plan(count);
            let mut inputs = HostInputs::of(&plan);
            assert_eq!(inputs.words(count), words(&plan));
            let tokens: Vec<u32> = (0..count as u32).map(|i| i * 7 % ROWS as u32).collect();
            let mut words = vec![0xffff_ffff; inputs.words(count)];
            inputs.fill(&plan, &tokens, 17, &mut words);
            assert_eq!(words[0], 17);
            for (step, scale) in [(0, 2.0), (1, 3.0)] {
                let Op::Embed { output, .. } = plan.steps()[step].op else { unreachable!() };
                let (begin, width) = inputs.table(Source::Embeddings(output), count);
                assert!(begin.is_multiple_of(HEADER) && width == WIDTH);
                for (row, token) in words[begin..].chunks(WIDTH).zip(&tokens) {
                    let first = *token as usize * WIDTH;
                    let expected = (first..first + WIDTH).map(|i| (i as f32 * scale).to_bits());
                    assert!(row.iter().copied().eq(expected), "{count} tokens, token {token}");
                }
            }
        }
    }
}
