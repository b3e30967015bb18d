//! [`Instruction`]: a decoded instruction, with the registers that it reads and writes.
//!
//! It stands between the decoder, which makes it, and the machine, which carries it out; it knows neither.

use crate::operations::global::Access;
use crate::operations::number::Kind;
use crate::operations::packed::Elements;
use crate::operations::scalar::Scalar;
use crate::operations::scalar_one::Masking;
use crate::operations::{Run, data_share::Share};

/// Scalar registers with a meaning of their own, by number.
pub(crate) mod scalar {
    /// The condition mask of vector comparisons and carries.
    pub(crate) const VCC: u8 = 106;
    /// Reads as zero, forgets what is written.
    pub(crate) const NULL: u8 = 124;
    /// What relative moves count from.
    pub(crate) const M0: u8 = 125;
    /// The mask of lanes that take part.
    pub(crate) const EXEC: u8 = 126;
}

/// Most words of an instruction.
pub const MAX_WORDS: usize = 3;

/// A decoded instruction.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// Its address in the code object.
    pub(crate) address: u64,
    /// Its encoding.
    pub(crate) words: [u32; MAX_WORDS],
    /// How many of the words belong to it.
    pub(crate) length: usize,
    /// Its mnemonics: two where two operations are issued together, else the second is empty.
    pub(crate) names: [&'static str; 2],
    pub(crate) body: Body,
    pub(crate) reads: Vec<Span>,
    pub(crate) writes: Vec<Span>,
}

impl Instruction {
    /// Its address in the code object.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Its encoding.
    pub fn words(&self) -> &[u32] {
        &self.words[..self.length]
    }

    /// Its mnemonic without the suffix of the encoding; both where two operations are issued together.
    pub fn mnemonic(&self) -> String {
        match self.names {
            [one, ""] => one.to_owned(),
            [one, two] => format!("{one} :: {two}"),
        }
    }
}

/// Neighbouring registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) bank: Bank,
    pub(crate) first: u8,
    pub(crate) count: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bank {
    Scalar,
    Vector,
}

impl Span {
    pub(crate) fn name(self) -> String {
        let letter = if self.bank == Bank::Scalar { 's' } else { 'v' };
        match self.count {
            1 => format!("{letter}{}", self.first),
            count => format!("{letter}[{}:{}]", self.first, u32::from(self.first) + u32::from(count) - 1),
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand {
    /// Of each lane, from this register on.
    Vector(u8),
    /// The same for all lanes, from this register on.
    Scalar(u8),
    /// A constant, already in the bits of the operation's type.
    Constant(u64),
    /// The scalar condition code.
    Condition,
}

/// What an instruction does.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Scalar(ScalarBody),
    /// EXEC from a source; the destination gets the old or the new one.
    Masking {
        run: Masking,
        source: Operand,
        destination: u8,
        old: bool,
    },
    Control(Control),
    /// Registers from memory at a scalar address.
    ScalarLoad {
        base: u8,
        offset: i32,
        index: Option<u8>,
        destination: u8,
        count: u8,
    },
    Vector(Box<Vector>),
    /// Two operations at once: both read before either writes.
    Dual(Box<[Vector; 2]>),
    Packed(Box<Packed>),
    Matrix(Box<Matrix>),
    Global(Box<Global>),
    Share(Box<ShareBody>),
}

#[derive(Debug, Clone)]
pub(crate) struct ScalarBody {
    pub(crate) operation: &'static Scalar,
    pub(crate) destination: u8,
    pub(crate) sources: [Operand; 2],
}

/// What steers the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// Nothing that is observable here: hints, delays, priorities, cache invalidation.
    Nothing,
    /// Nothing, in the place of a vector operation.
    VectorNothing,
    End,
    Barrier,
    /// Waits until at most so many are under way: of loads, of LDS and scalar loads, of stores.
    Wait {
        loads: u32,
        shares: u32,
        stores: u32,
    },
    /// To the address, when the condition holds.
    Branch(When, u64),
    /// The address of the next instruction.
    GetAddress(u8),
    /// To the address in a pair of registers; the next one's address goes to another pair, if any.
    Jump {
        target: u8,
        link: Option<u8>,
    },
    /// To the address, keeping the next one's.
    Call {
        target: u64,
        link: u8,
    },
    /// Which numbers below the smallest normal one stay: bits 0 and 1 for single, 2 and 3 for other precisions.
    Denormals(u8),
    /// Writes bits of the mode register from an operand: offset, width.
    SetMode(Operand, u8, u8),
    /// Reads bits of the mode register.
    GetMode(u8, u8, u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Condition(bool),
    Vcc(bool),
    Exec(bool),
}

/// A vector operation with its operands.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    pub(crate) run: Run,
    pub(crate) result: Kind,
    pub(crate) kinds: &'static [Kind],
    /// A vector register, or a scalar one for what gives a mask or reads one lane.
    pub(crate) destination: u8,
    pub(crate) sources: [Operand; 3],
    /// A bit a source: the sign is turned, after it was dropped.
    pub(crate) negate: u8,
    pub(crate) absolute: u8,
    /// Of 16-bit values: a bit a source that is the upper half of its register; bit 3 for the destination.
    pub(crate) high: u8,
    pub(crate) clamp: bool,
    /// 1: times two, 2: times four, 3: half.
    pub(crate) scale: u8,
    /// Where a carry comes from, or the mask that selects.
    pub(crate) mask: Operand,
    /// Where a carry goes.
    pub(crate) carry: u8,
    /// Which lanes the first source is read from.
    pub(crate) lanes: Option<LaneSelection>,
    /// Of `v_permlane`: lanes that do not take part may be read.
    pub(crate) fetch_inactive: bool,
    /// Of `v_permlane`: what cannot be read is zero; else nothing is written.
    pub(crate) zero_inactive: bool,
}

/// Data-parallel primitives: the first source comes from other lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneSelection {
    pub(crate) pattern: Pattern,
    /// Lanes without a source read zero; else they are not written.
    pub(crate) zero: bool,
    /// Lanes that do not take part may be read.
    pub(crate) fetch_inactive: bool,
    /// Lanes that may be written.
    pub(crate) written: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Lane within each eight.
    Eight([u8; 8]),
    /// Lane within each four.
    Four([u8; 4]),
    ShiftLeft(u8),
    ShiftRight(u8),
    Rotate(u8),
    Mirror,
    HalfMirror,
    Share(u8),
    Xor(u8),
}

/// An operation on two halves of a register, or with factors made of parts of one.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub(crate) run: PackedRun,
    pub(crate) kinds: &'static [Kind],
    pub(crate) destination: u8,
    pub(crate) sources: [Operand; 3],
    /// For the lower result: a bit a source that takes the upper half.
    pub(crate) select_low: u8,
    /// For the upper result.
    pub(crate) select_high: u8,
    pub(crate) negate_low: u8,
    pub(crate) negate_high: u8,
    pub(crate) clamp: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum PackedRun {
    /// The function of one half.
    Halves(fn(&[crate::operations::Lanes; 3], &mut crate::operations::Lanes)),
    /// Whole registers.
    Whole(fn(&[crate::operations::Lanes; 3], &mut crate::operations::Lanes)),
    /// Bits of an element, and whether the NEG bits say which factor is signed.
    Dot(u32, bool),
    /// Fused multiply-add; the half of the destination, or all of it.
    Mixed(Option<bool>),
}

/// A product of matrices.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    pub(crate) elements: Elements,
    pub(crate) destination: u8,
    /// Factors, then what is added.
    pub(crate) sources: [Operand; 3],
    pub(crate) negate_low: u8,
    pub(crate) negate_high: u8,
    /// Of sums in 16 bits: whether they are the upper halves.
    pub(crate) high: bool,
    pub(crate) clamp: bool,
}

/// An access to memory with an address a lane.
#[derive(Debug, Clone)]
pub(crate) struct Global {
    pub(crate) access: Access,
    /// Whether the address may also be one of LDS.
    pub(crate) flat: bool,
    pub(crate) address: u8,
    /// A pair of scalar registers that the vector register, then of 32 bits, is added to.
    pub(crate) base: Option<u8>,
    pub(crate) offset: i32,
    pub(crate) data: u8,
    pub(crate) destination: u8,
    /// Whether an atomic operation gives what was there.
    pub(crate) returns: bool,
}

/// An access to LDS.
#[derive(Debug, Clone)]
pub(crate) struct ShareBody {
    pub(crate) share: Share,
    pub(crate) address: u8,
    pub(crate) data: [u8; 2],
    pub(crate) destination: u8,
    /// One of 16 bits, or two of 8.
    pub(crate) offset: u32,
}
