//! The array of `npu1`, the XDNA NPU of Phoenix and Hawk Point, in numbers.
//!
//! They are those of `mlir-aie`'s target model and of its verifiers, which refuse more.

/// Columns, of which each has a shim tile, a memory tile and four cores.
pub const COLUMNS: u8 = 4;
/// Rows: the shim's is 0, the memory tiles' 1, the cores' 2 to 5.
pub const ROWS: u8 = 6;
/// The row of the first cores.
pub const FIRST_CORE_ROW: u8 = 2;
/// Rows of cores.
pub const CORE_ROWS: u8 = ROWS - FIRST_CORE_ROW;

/// What addresses and lengths of transfers are multiples of, in bytes.
pub const WORD: u64 = 4;

/// What a core keeps of each fifo that has an end there, in bytes: which object is next. `mlir-aie` from 2026 on finds that while the
/// core runs, and puts it beside the objects; before, it unrolled loops instead.
pub const COUNTER: u64 = 4;

/// What a tile is, by its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Row 0: between the array and the machine's memory. It keeps nothing.
    Shim,
    /// Row 1: memory alone.
    Memory,
    /// Rows 2 to 5: a processor and its memory.
    Core,
}

/// What a tile of a kind has.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of memory; a core's stack is in it.
    pub memory: u64,
    /// DMA channels in each direction.
    pub channels: u32,
    /// Buffer descriptors.
    pub descriptors: u32,
    /// Semaphores.
    pub locks: u32,
    /// Most nested loops of one transfer.
    pub dimensions: usize,
    /// Largest count of such a loop; the innermost is counted in words.
    pub wrap: u64,
    /// Largest step of such a loop, in words.
    pub step: u64,
}

/// Descriptors of a memory tile that an even channel can use; the rest is for odd ones.
pub const DESCRIPTORS_BY_PARITY: u32 = 24;
/// Most times that a shim's transfer can be repeated.
pub const ITERATIONS: u64 = 64;
/// Transfers that may wait at a channel of the shim. Its queue has as many places; the running one is counted here too, to be on the safe
/// side.
pub const QUEUE: usize = 4;
/// Largest count of a loop of a transfer inside of the array, in elements: a limit of the verifier's, below the hardware's.
pub const VERIFIED_SIZE: u64 = 512;
/// Largest step of a loop of such a transfer, in elements: as above.
pub const VERIFIED_STRIDE: u64 = (1 << 19) - 1;

impl Kind {
    /// What a tile of this kind has.
    #[must_use]
    pub const fn limits(self) -> Limits {
        match self {
            Self::Shim => Limits {
                memory: 0,
                channels: 2,
                descriptors: 16,
                locks: 16,
                dimensions: 4,
                wrap: 1023,
                step: 1 << 20,
            },
            Self::Memory => Limits {
                memory: 512 << 10,
                channels: 6,
                descriptors: 48,
                locks: 64,
                dimensions: 4,
                wrap: 1023,
                step: 1 << 17,
            },
            Self::Core => Limits {
                memory: 64 << 10,
                channels: 2,
                descriptors: 16,
                locks: 16,
                dimensions: 3,
                wrap: 255,
                step: 1 << 13,
            },
        }
    }
}
