//! The decoder: words of machine code to [`Instruction`]s, from the encoding itself, as the hardware sees it.
//!
//! It never fails on any words: what it does not know, or what the machine does not do, is an [`Undecoded`] with the
//! words. It knows the tables of operations and nothing of state.

mod memory;
mod packed;
mod scalar;
mod vector;

use crate::execute::{LDS_APERTURE, PRIVATE_APERTURE};
use crate::instruction::{Bank, Body, Instruction, MAX_WORDS, Operand, Span, scalar::NULL};
use crate::operations::number::Kind;

/// Words that are no instruction that can be executed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecoded {
    /// The address in the code object.
    pub address: u64,
    /// The words from there on, up to three.
    pub words: Vec<u32>,
    /// What is wrong with a known instruction; `None` where the encoding is unknown.
    pub reason: Option<String>,
}

/// Decodes the instruction at the start of `words`, which stands at `address` of the code object.
///
/// # Errors
/// The words, where they are no instruction or one that is not executed here.
pub fn decode(words: &[u32], address: u64) -> Result<Instruction, Undecoded> {
    let mut reader = Reader { words, taken: 1, address, reads: Vec::new(), writes: Vec::new() };
    let shown = || words[..words.len().min(MAX_WORDS)].to_vec();
    match reader.instruction() {
        Ok(instruction) => Ok(instruction),
        Err(Refusal::Unknown) => Err(Undecoded { address, words: shown(), reason: None }),
        Err(Refusal::Reason(reason)) => Err(Undecoded { address, words: shown(), reason: Some(reason) }),
    }
}

/// Why an instruction was not decoded.
#[derive(Debug)]
enum Refusal {
    Unknown,
    Reason(String),
}

type Decoded<T> = Result<T, Refusal>;
/// Mnemonics and what is done.
type Parts = ([&'static str; 2], Body);

/// The words of one instruction, and the registers found in them so far.
struct Reader<'a> {
    words: &'a [u32],
    taken: usize,
    address: u64,
    reads: Vec<Span>,
    writes: Vec<Span>,
}

impl Reader<'_> {
    fn instruction(&mut self) -> Decoded<Instruction> {
        let first = *self.words.first().ok_or(Refusal::Unknown)?;
        let (names, body) = match (first >> 26, first >> 23) {
            (_, 0x17d) => self.scalar_one(first)?,
            (_, 0x17e) => self.scalar_compare(first)?,
            (_, 0x17f) => self.program(first)?,
            (0x2c..=0x2f, _) => self.scalar_constant(first)?,
            (0x20..=0x2b, _) => self.scalar_two(first)?,
            (0x3d, _) => self.scalar_memory(first)?,
            (0x1f, _) if first >> 25 == 0x3f => self.vector_one(first)?,
            (0x1f, _) => self.vector_compare(first)?,
            (0..=0x1f, _) => self.vector_two(first)?,
            (0x35, _) => self.vector_three(first)?,
            (0x33, _) => self.packed(first)?,
            (0x32, _) => self.dual(first)?,
            (0x36, _) => self.share(first)?,
            (0x37, _) => self.global(first)?,
            (0x38, _) => self.buffer(first)?,
            _ => return Err(Refusal::Unknown),
        };
        let mut words = [0; MAX_WORDS];
        words[..self.taken].copy_from_slice(&self.words[..self.taken]);
        let (reads, writes) = (std::mem::take(&mut self.reads), std::mem::take(&mut self.writes));
        Ok(Instruction { address: self.address, words, length: self.taken, names, body, reads, writes })
    }

    /// The next word of this instruction.
    fn next(&mut self) -> Decoded<u32> {
        let word = self.words.get(self.taken).filter(|_| self.taken < MAX_WORDS).ok_or(Refusal::Unknown)?;
        self.taken += 1;
        Ok(*word)
    }

    /// The address of the instruction after this one.
    fn after(&self) -> u64 {
        self.address.wrapping_add(4 * self.taken as u64)
    }

    /// A source of a scalar operation of `count` registers, 0 where there is none.
    fn scalar_source(&mut self, code: u32, count: u8, sign_extended: bool) -> Decoded<Operand> {
        if count == 0 {
            return Ok(Operand::Constant(0));
        }
        let kind = if count == 2 { Kind::B64 } else { Kind::B32 };
        self.source(code, kind, sign_extended).and_then(|operand| match operand {
            Operand::Vector(_) => Err(Refusal::Unknown),
            // A scalar operation of 32 bits has a constant of 32 bits.
            Operand::Constant(value) if count == 1 => Ok(Operand::Constant(value & 0xffff_ffff)),
            operand => Ok(operand),
        })
    }

    /// A source in nine bits, of this kind.
    fn source(&mut self, code: u32, kind: Kind, sign_extended: bool) -> Decoded<Operand> {
        match code {
            0..=127 => {
                self.reads_scalar(code as u8, kind.registers())?;
                Ok(Operand::Scalar(code as u8))
            }
            128..=192 => Ok(Operand::Constant(u64::from(code - 128))),
            193..=208 => Ok(Operand::Constant(i64::from(192 - code as i32) as u64)),
            // Where LDS and private memory are among the addresses of all memory.
            235 => Ok(Operand::Constant(LDS_APERTURE)),
            237 => Ok(Operand::Constant(PRIVATE_APERTURE)),
            240..=248 => Ok(Operand::Constant(inline_float(code, kind))),
            253 => Ok(Operand::Condition),
            255 => Ok(Operand::Constant(literal(self.literal()?, kind, sign_extended))),
            256..=511 => {
                self.reads_vector((code - 256) as u8, kind.registers())?;
                Ok(Operand::Vector((code - 256) as u8))
            }
            _ => Err(Refusal::Unknown),
        }
    }

    /// The word behind the instruction's own, which all its sources share.
    fn literal(&mut self) -> Decoded<u32> {
        let own = if matches!(self.words[0] >> 26, 0x32 | 0x33 | 0x35) { 2 } else { 1 };
        if self.taken > own { Ok(self.words[self.taken - 1]) } else { self.next() }
    }

    fn reads_scalar(&mut self, first: u8, count: u8) -> Decoded<()> {
        scalar_span(first, count).map(|span| self.reads.extend(span))
    }

    fn writes_scalar(&mut self, first: u8, count: u8) -> Decoded<()> {
        scalar_span(first, count).map(|span| self.writes.extend(span))
    }

    fn reads_vector(&mut self, first: u8, count: u8) -> Decoded<()> {
        self.reads.push(vector_span(first, count)?);
        Ok(())
    }

    fn writes_vector(&mut self, first: u8, count: u8) -> Decoded<()> {
        self.writes.push(vector_span(first, count)?);
        Ok(())
    }
}

/// Registers of the scalar bank; none where it is the null register.
fn scalar_span(first: u8, count: u8) -> Decoded<Option<Span>> {
    if first > 127 || u32::from(first) + u32::from(count) > 128 {
        return Err(Refusal::Unknown);
    }
    Ok((first != NULL && count > 0).then_some(Span { bank: Bank::Scalar, first, count }))
}

fn vector_span(first: u8, count: u8) -> Decoded<Span> {
    if u32::from(first) + u32::from(count) > 256 || count == 0 {
        return Err(Refusal::Unknown);
    }
    Ok(Span { bank: Bank::Vector, first, count })
}

/// One of nine floats that have a code of their own.
fn inline_float(code: u32, kind: Kind) -> u64 {
    let value =
        [0.5, -0.5, 1.0, -1.0, 2.0, -2.0, 4.0, -4.0, std::f64::consts::FRAC_1_PI / 2.0][code as usize - 240];
    match kind {
        Kind::F16 => u64::from(half::f16::from_f64(value).to_bits()),
        Kind::F64 | Kind::B64 => value.to_bits(),
        _ => u64::from((value as f32).to_bits()),
    }
}

/// A literal of 32 bits as this kind has it.
fn literal(word: u32, kind: Kind, sign_extended: bool) -> u64 {
    match kind {
        Kind::F64 => u64::from(word) << 32,
        _ if sign_extended => i64::from(word as i32) as u64,
        _ => u64::from(word),
    }
}

/// Bits `low..low + width` of a word.
fn bits(word: u32, low: u32, width: u32) -> u32 {
    word >> low & ((1 << width) - 1)
}

fn known<T>(found: Option<T>) -> Decoded<T> {
    found.ok_or(Refusal::Unknown)
}

fn refuse<T>(reason: impl Into<String>) -> Decoded<T> {
    Err(Refusal::Reason(reason.into()))
}

const fn single(name: &'static str) -> [&'static str; 2] {
    [name, ""]
}
