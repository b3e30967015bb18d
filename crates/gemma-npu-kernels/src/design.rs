//! [`Design`]: a program for the array, as data.
//!
//! It has just the parts of `mlir-aie`'s dialect that our designs use, under the dialect's names. A design may be wrong;
//! [`check`](crate::check()) says whether it is.

use std::fmt;

use crate::array::{self, Kind};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 8-bit integers.
    I8,
    /// 32-bit integers.
    I32,
    /// Half of an f32: its upper 16 bits.
    Bf16,
    /// IEEE 754 single precision.
    F32,
}

impl Element {
    /// Bytes of one.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::I8 => 1,
            Self::Bf16 => 2,
            Self::I32 | Self::F32 => 4,
        }
    }

    /// Its name in MLIR.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::I8 => "i8",
            Self::I32 => "i32",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }
}

/// A number of elements in a row, in memory: what a fifo hands on, what a function or a sequence takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// How many.
    pub count: u64,
    /// Of what.
    pub element: Element,
}

impl Object {
    /// Its size; the largest number where that is too large for one.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.count.saturating_mul(self.element.bytes())
    }
}

/// A tile, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// 0 to 3.
    pub column: u8,
    /// 0 to 5, from the shim upwards.
    pub row: u8,
}

impl Tile {
    /// The shim tile of a column.
    #[must_use]
    pub const fn shim(column: u8) -> Self {
        Self { column, row: 0 }
    }

    /// The memory tile of a column.
    #[must_use]
    pub const fn memory(column: u8) -> Self {
        Self { column, row: 1 }
    }

    /// The core of a column and a row of cores, both from 0.
    #[must_use]
    pub const fn core(column: u8, row: u8) -> Self {
        Self { column, row: array::FIRST_CORE_ROW + row }
    }

    /// What it is.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self.row {
            0 => Kind::Shim,
            1 => Kind::Memory,
            _ => Kind::Core,
        }
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tile ({}, {})", self.column, self.row)
    }
}

/// One loop of a transfer's addresses, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimension {
    /// How often.
    pub size: u64,
    /// How far each time.
    pub stride: u64,
}

/// An end of a fifo that takes objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Where.
    pub tile: Tile,
    /// In which order the stream's elements are laid down, outermost loop first; empty: one after another.
    pub from_stream: Vec<Dimension>,
}

/// An `aie.objectfifo`: objects go from one tile to one or several others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fifo {
    /// Its symbol.
    pub name: String,
    /// Where objects come from.
    pub producer: Tile,
    /// In which order the producer's elements go onto the stream, outermost loop first; empty: one after another.
    pub to_stream: Vec<Dimension>,
    /// Where they go; each gets all of them.
    pub consumers: Vec<Consumer>,
    /// Objects that there is room for at each end.
    pub depth: u32,
    /// What is handed on.
    pub object: Object,
}

/// An `aie.objectfifo.link`: what comes into a memory tile by some fifos leaves it by others, from the same memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Fifos that end in the tile.
    pub inputs: Vec<String>,
    /// Fifos that begin there.
    pub outputs: Vec<String>,
    /// Where the parts begin in the larger object, in elements, where one side has several fifos; else empty.
    pub offsets: Vec<u64>,
}

/// A function that cores call, from an object file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its C symbol.
    pub name: String,
    /// What it takes pointers to.
    pub parameters: Vec<Object>,
    /// The file that has it.
    pub file: String,
}

/// A step of a core's program. A core holds at most one object of a fifo at a time, and the fifo's name stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Runs steps several times.
    Repeat {
        /// How often.
        times: u64,
        /// What.
        steps: Vec<Step>,
    },
    /// Waits for the next object of a fifo: one with data where the core consumes, a free one where it produces.
    Acquire(String),
    /// Gives it back.
    Release(String),
    /// Calls a function with the acquired objects of these fifos.
    Call {
        /// Its symbol.
        function: String,
        /// Fifos, in the order of the parameters.
        objects: Vec<String>,
    },
}

/// An `aie.core`: what a core runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Core {
    /// Where.
    pub tile: Tile,
    /// Bytes of stack.
    pub stack: u64,
    /// The program.
    pub steps: Vec<Step>,
}

/// An `aiex.npu.dma_memcpy_nd`: one transfer between the machine's memory and a fifo that has an end in the shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The fifo.
    pub fifo: String,
    /// Which argument of the sequence.
    pub argument: usize,
    /// Where in it the transfer begins, in elements.
    pub offset: u64,
    /// Four nested loops, outermost first. The outermost may have stride 0, and then repeats.
    pub dimensions: [Dimension; 4],
    /// The buffer descriptor of the shim tile that it takes.
    pub descriptor: u32,
    /// Whether its end can be waited for.
    pub token: bool,
}

/// A command of the runtime sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begins a transfer.
    Copy(Copy),
    /// `aiex.npu.dma_wait`: waits for the end of the earliest transfer of a fifo with a token that nobody has waited for.
    Wait(String),
}

/// An argument of the runtime sequence: a buffer of the machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub object: Object,
}

/// An `aie.runtime_sequence`: what the NPU's command processor does for one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Buffers of the machine's.
    pub arguments: Vec<Argument>,
    /// What is done, in order.
    pub commands: Vec<Command>,
}

/// A program for the array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Design {
    /// What its files are called.
    pub name: String,
    /// Object fifos. Their order decides which DMA channels they get.
    pub fifos: Vec<Fifo>,
    /// Which of them meet in memory tiles.
    pub links: Vec<Link>,
    /// What cores call.
    pub functions: Vec<Function>,
    /// What cores run.
    pub cores: Vec<Core>,
    /// What a call does.
    pub sequence: Sequence,
}

impl Design {
    /// The fifo of a name.
    #[must_use]
    pub fn fifo(&self, name: &str) -> Option<&Fifo> {
        self.fifos.iter().find(|fifo| fifo.name == name)
    }

    /// The function of a name.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }

    /// All tiles that something is on, in order.
    #[must_use]
    pub fn tiles(&self) -> Vec<Tile> {
        let ends = self.fifos.iter().flat_map(|fifo| {
            std::iter::once(fifo.producer).chain(fifo.consumers.iter().map(|consumer| consumer.tile))
        });
        let mut tiles: Vec<Tile> = ends.chain(self.cores.iter().map(|core| core.tile)).collect();
        tiles.sort_unstable();
        tiles.dedup();
        tiles
    }
}
