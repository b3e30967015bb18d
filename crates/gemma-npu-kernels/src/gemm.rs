//! A matrix product over the whole array: sixteen cores, each with tiles of its own.
//!
//! Row `i` of cores takes tiles of row `i` of the first factor, broadcast from the memory tile of column `i`; column `j` of cores takes
//! tiles of column `j` of the second, from the memory tile of column `j`, where results of four cores join. It is the arrangement of
//! `mlir-aie`'s whole-array example. Cores know the depth alone: rows and columns are the sequence's.

use thiserror::Error;

use crate::array::{COLUMNS, CORE_ROWS, ITERATIONS};
use crate::design::{
    Argument, Command, Consumer, Copy, Core, Design, Dimension, Fifo, Link, Object, Sequence, Step, Tile,
};
use crate::kernels::{Product, Shape};

/// Objects that there is room for at each end: one is worked on while the next comes.
const DEPTH: u32 = 2;
/// Bytes of a core's stack.
const STACK: u64 = 0xD00;
/// For a loop that never ends: the largest multiple of [`DEPTH`] that the compiler's signed count can hold.
const FOREVER: u64 = i64::MAX as u64 - 1;
/// Descriptors that a block of rows uses of each shim tile.
const DESCRIPTORS: u32 = 3;

/// `c = a * b`, all of them row by row: `a` is `[rows, depth]`, `b` is `[depth, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// What is multiplied.
    pub product: Product,
    /// The whole matrices.
    pub shape: Shape,
    /// What a core multiplies at a time.
    pub tile: Shape,
}

/// Why there is no design for a product.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{size} {what}: must be a positive multiple of {multiple}, at most {most}")]
pub struct GemmError {
    what: &'static str,
    size: u64,
    multiple: u64,
    most: u64,
}

/// What is built: Gemma 3n E2B's projections of the residual stream, its feed-forward network's way up and down. Rows are those of
/// one call; other numbers of rows and columns are other instructions for the same array.
pub const DESIGNS: [Gemm; 4] = [
    Gemm::new(Product::I8, Shape::new(256, 2048, 2048)),
    Gemm::new(Product::I8, Shape::new(256, 2048, 8192)),
    Gemm::new(Product::I8, Shape::new(256, 8192, 2048)),
    Gemm::new(Product::Bf16, Shape::new(256, 2048, 2048)),
];

/// Most of any size: more elements than any model's matrix has in one direction, and few enough that no sum here overflows.
pub const MAX_SIZE: u64 = 1 << 24;

impl Gemm {
    /// Of the tiles that kernels are built for.
    #[must_use]
    pub const fn new(product: Product, shape: Shape) -> Self {
        Self { product, shape, tile: product.tile() }
    }

    /// The whole design.
    ///
    /// # Errors
    /// When sizes are no multiples of what the array works on at a time. Whether the design fits is for [`check`](crate::check()).
    pub fn design(&self) -> Result<Design, GemmError> {
        self.sizes()?;
        let mut design = Design {
            name: format!(
                "{}_{}x{}x{}",
                self.product.multiply(),
                self.shape.rows,
                self.shape.depth,
                self.shape.columns
            ),
            functions: self.product.functions(self.tile).into(),
            sequence: self.sequence(),
            ..Design::default()
        };
        self.inputs(&mut design);
        self.outputs(&mut design);
        for row in 0..CORE_ROWS {
            for column in 0..COLUMNS {
                let steps = self.steps(row, column);
                design.cores.push(Core { tile: Tile::core(column, row), stack: STACK, steps });
            }
        }
        Ok(design)
    }

    fn sizes(&self) -> Result<(), GemmError> {
        let (tile, block, shape) = (self.tile, self.product.block(), self.shape);
        let positive = |what, size: u64, multiple: u64, most| {
            let fine = size > 0 && size <= most && multiple > 0 && size.is_multiple_of(multiple);
            if fine { Ok(()) } else { Err(GemmError { what, size, multiple, most }) }
        };
        // Kernels multiply two by two blocks at a time.
        positive("rows of a tile", tile.rows, 2 * block.rows, MAX_SIZE)?;
        positive("steps of a tile's depth", tile.depth, block.depth, MAX_SIZE)?;
        positive("columns of a tile", tile.columns, 2 * block.columns, MAX_SIZE)?;
        positive("rows", shape.rows, tile.rows * u64::from(CORE_ROWS), MAX_SIZE)?;
        // The compiler unrolls by the depth of fifos.
        positive("steps of the depth", shape.depth, tile.depth * u64::from(DEPTH), MAX_SIZE)?;
        let across = tile.columns * u64::from(COLUMNS);
        positive("columns", shape.columns, across, MAX_SIZE.min(across * ITERATIONS))
    }

    /// Both factors, from the machine's memory to the cores.
    fn inputs(&self, design: &mut Design) {
        let [a, b, _] = self.product.objects(self.tile);
        let (tile, block) = (self.tile, self.product.block());
        let all_columns = 0..COLUMNS;
        for row in 0..CORE_ROWS {
            let cores = all_columns.clone().map(|column| Tile::core(column, row)).collect();
            let order = blocks(tile.rows, tile.depth, block.rows, block.depth);
            add_input(design, "a", row, a, order, cores);
        }
        for column in all_columns {
            let cores = (0..CORE_ROWS).map(|row| Tile::core(column, row)).collect();
            let order = blocks(tile.depth, tile.columns, block.depth, block.columns);
            add_input(design, "b", column, b, order, cores);
        }
    }

    /// Results, from the cores to the machine's memory.
    fn outputs(&self, design: &mut Design) {
        let [.., c] = self.product.objects(self.tile);
        let (tile, block) = (self.tile, self.product.block());
        for column in 0..COLUMNS {
            let memory = Tile::memory(column);
            let inputs: Vec<String> = (0..CORE_ROWS).map(|row| from_core(column, row)).collect();
            for (row, name) in inputs.iter().enumerate() {
                let core = Tile::core(column, row as u8);
                design.fifos.push(fifo(name.clone(), core, Vec::new(), vec![memory], c));
            }
            let name = to_shim(column);
            let all = Object { count: c.count * u64::from(CORE_ROWS), ..c };
            // From blocks to rows.
            let order = vec![
                Dimension { size: tile.rows / block.rows, stride: block.rows * tile.columns },
                Dimension { size: block.rows, stride: block.columns },
                Dimension { size: tile.columns / block.columns, stride: block.rows * block.columns },
                Dimension { size: block.columns, stride: 1 },
            ];
            design.fifos.push(fifo(name.clone(), memory, order, vec![Tile::shim(column)], all));
            let offsets = (0..u64::from(CORE_ROWS)).map(|row| row * c.count).collect();
            design.links.push(Link { inputs, outputs: vec![name], offsets });
        }
    }

    fn steps(&self, row: u8, column: u8) -> Vec<Step> {
        let (a, b, c) = (to_core("a", row), to_core("b", column), from_core(column, row));
        let objects = vec![a.clone(), b.clone(), c.clone()];
        let multiply = Step::Call { function: self.product.multiply().to_owned(), objects };
        let along = vec![
            Step::Acquire(a.clone()),
            Step::Acquire(b.clone()),
            multiply,
            Step::Release(a),
            Step::Release(b),
        ];
        let zero = Step::Call { function: self.product.zero().to_owned(), objects: vec![c.clone()] };
        let times = self.shape.depth / self.tile.depth;
        let steps =
            vec![Step::Acquire(c.clone()), zero, Step::Repeat { times, steps: along }, Step::Release(c)];
        vec![Step::Repeat { times: FOREVER, steps }]
    }

    /// Rows of the result by blocks of four tiles: while one is computed, the next is already asked for.
    fn sequence(&self) -> Sequence {
        let Shape { rows, depth, columns } = self.shape;
        let (input, output) = (self.product.input(), self.product.output());
        let argument = |name: &str, count, element| Argument {
            name: name.to_owned(),
            object: Object { count, element },
        };
        let arguments = vec![
            argument("a", rows * depth, input),
            argument("b", depth * columns, input),
            argument("c", rows * columns, output),
        ];
        let mut commands = Vec::new();
        let wait = |commands: &mut Vec<Command>| {
            commands.extend((0..COLUMNS).map(|column| Command::Wait(to_shim(column))));
        };
        let blocks = rows / (self.tile.rows * u64::from(CORE_ROWS));
        for block in 0..blocks {
            for column in 0..COLUMNS {
                commands.extend(self.copies(block, column).map(Command::Copy));
            }
            // Descriptors are written anew in the block after the next: this one's results come after all of its factors were read.
            if block > 0 {
                wait(&mut commands);
            }
        }
        wait(&mut commands);
        Sequence { arguments, commands }
    }

    fn copies(&self, block: u64, column: u8) -> [Copy; 3] {
        let Shape { rows: _, depth, columns } = self.shape;
        let tile = self.tile;
        let (across, along) = (tile.columns * u64::from(COLUMNS), depth / tile.depth);
        let rows = tile.rows * u64::from(CORE_ROWS);
        let first = (block % 2) as u32 * DESCRIPTORS;
        let at = u64::from(column);
        // Where there is one step, there is no stride.
        let d = |size, stride| Dimension { size, stride: if size > 1 { stride } else { 0 } };
        let row = |size| Dimension { size, stride: 1 };
        let times = columns / across;
        let c = Copy {
            fifo: to_shim(column),
            argument: 2,
            offset: block * rows * columns + at * tile.columns,
            dimensions: [d(1, 0), d(times, across), d(rows, columns), row(tile.columns)],
            descriptor: first,
            token: true,
        };
        let a = Copy {
            fifo: to_memory("a", column),
            argument: 0,
            offset: (block * rows + at * tile.rows) * depth,
            // The same tiles for each tile of columns.
            dimensions: [d(times, 0), d(along, tile.depth), d(tile.rows, depth), row(tile.depth)],
            descriptor: first + 1,
            token: false,
        };
        let b = Copy {
            fifo: to_memory("b", column),
            argument: 1,
            offset: at * tile.columns,
            dimensions: [
                d(times, across),
                d(along, tile.depth * columns),
                d(tile.depth, columns),
                row(tile.columns),
            ],
            descriptor: first + 2,
            token: false,
        };
        [c, a, b]
    }
}

fn to_memory(matrix: &str, index: u8) -> String {
    format!("{matrix}_to_memory_{index}")
}

fn to_core(matrix: &str, index: u8) -> String {
    format!("{matrix}_to_cores_{index}")
}

fn from_core(column: u8, row: u8) -> String {
    format!("c_from_core_{column}_{row}")
}

fn to_shim(column: u8) -> String {
    format!("c_to_shim_{column}")
}

fn fifo(name: String, producer: Tile, to_stream: Vec<Dimension>, to: Vec<Tile>, object: Object) -> Fifo {
    let consumers = to.into_iter().map(|tile| Consumer { tile, from_stream: Vec::new() }).collect();
    Fifo { name, producer, to_stream, consumers, depth: DEPTH, object }
}

/// From rows to blocks.
fn blocks(rows: u64, columns: u64, block_rows: u64, block_columns: u64) -> Vec<Dimension> {
    vec![
        Dimension { size: rows / block_rows, stride: block_rows * columns },
        Dimension { size: columns / block_columns, stride: block_columns },
        Dimension { size: block_rows, stride: columns },
        Dimension { size: block_columns, stride: 1 },
    ]
}

fn add_input(
    design: &mut Design,
    matrix: &str,
    index: u8,
    object: Object,
    order: Vec<Dimension>,
    cores: Vec<Tile>,
) {
    let (outer, inner) = (to_memory(matrix, index), to_core(matrix, index));
    let memory = Tile::memory(index);
    design.fifos.push(fifo(outer.clone(), Tile::shim(index), Vec::new(), vec![memory], object));
    design.fifos.push(fifo(inner.clone(), memory, order, cores, object));
    design.links.push(Link { inputs: vec![outer], outputs: vec![inner], offsets: Vec::new() });
}
