//! What can go wrong: a code object that cannot be read, a launch that does not fit, and faults of the machine code.
//!
//! A fault names the kernel, the instruction and the lane, because it is read by whoever looks for a wrong line of a kernel.

use std::fmt;

/// Why a code object was refused or a launch did not finish.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no code object that can be executed.
    #[error("code object: {0}")]
    Object(String),
    /// The launch does not fit the kernel.
    #[error("launch of {kernel}: {problem}")]
    Launch {
        /// The kernel's name.
        kernel: String,
        /// What does not fit.
        problem: String,
    },
    /// The machine code did something that it must not do.
    #[error("{0}")]
    Fault(Box<Fault>),
}

/// Where machine code went wrong, and how.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The kernel's name.
    pub kernel: String,
    /// The instruction's address in the code object, as the disassembler prints it.
    pub address: u64,
    /// The instruction's mnemonic.
    pub mnemonic: String,
    /// The workgroup, counted along x, y and z.
    pub workgroup: [u32; 3],
    /// The wave within the workgroup.
    pub wave: u32,
    /// The lane, where one is to blame.
    pub lane: Option<u32>,
    /// What happened.
    pub problem: Problem,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, address, mnemonic, workgroup, wave, lane, problem } = self;
        let [x, y, z] = workgroup;
        write!(out, "{kernel} at {address:#x}, {mnemonic}: {problem} (workgroup {x},{y},{z}, wave {wave}")?;
        lane.map_or(Ok(()), |lane| write!(out, ", lane {lane}"))?;
        write!(out, ")")
    }
}

/// What machine code must not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An encoding that the decoder does not know.
    #[error("unknown instruction, words {}", words_of(.0))]
    Unknown(Vec<u32>),
    /// A known instruction in a form that is not executed here.
    #[error("{0} is not supported")]
    Unsupported(String),
    /// An access outside of every registered buffer, or a write to memory that may only be read.
    #[error("{} of {bytes} bytes at {address:#x} is not inside a buffer", access_of(*.write))]
    OutOfBounds {
        /// The address of the first byte.
        address: u64,
        /// How many bytes.
        bytes: u32,
        /// Whether it was a write or an atomic operation.
        write: bool,
    },
    /// An access whose address is no multiple of what its size asks for.
    #[error("{bytes} bytes at {address:#x}: the address is no multiple of {alignment}")]
    Misaligned {
        /// The address of the first byte.
        address: u64,
        /// How many bytes.
        bytes: u32,
        /// What the address must be a multiple of.
        alignment: u32,
    },
    /// An access outside of the LDS that the workgroup has.
    #[error("{bytes} bytes at LDS address {address:#x}, of {size:#x}")]
    OutsideLds {
        /// The address of the first byte.
        address: u64,
        /// How many bytes.
        bytes: u32,
        /// Bytes of LDS that the workgroup has.
        size: u32,
    },
    /// A register that a load still writes was used before a wait for it.
    #[error("{0} is used before a wait covers the load into it")]
    NotWaitedFor(String),
    /// A value that nobody wrote reached memory, an address or a scalar register.
    #[error("{0} was never written in this lane")]
    Undefined(String),
    /// A barrier was reached while writes to LDS were still under way.
    #[error("the barrier is reached before a wait covers {0} writes to LDS")]
    BarrierBeforeWrites(usize),
    /// A matrix product whose two copies of A or B are not alike, or that does not run in every lane.
    #[error("{0}")]
    Matrix(String),
    /// A jump to something that is no instruction of the kernel.
    #[error("jump to {0:#x}, which is no instruction of this kernel")]
    Jump(u64),
    /// More instructions than the launch allows.
    #[error("the limit of {0} instructions of waves is reached")]
    Limit(u64),
}

fn access_of(write: bool) -> &'static str {
    if write { "write" } else { "read" }
}

fn words_of(words: &[u32]) -> String {
    words.iter().map(|word| format!("{word:08x}")).collect::<Vec<_>>().join(" ")
}
