//! [`Program`]: a kernel's instructions, decoded once, and where each one starts.
//!
//! It holds what could not be decoded too, because only reaching it is a fault.

use crate::decode::{Undecoded, decode};
use crate::error::Problem;
use crate::instruction::Instruction;

/// Marks words that are no first word of an instruction.
const INSIDE: u32 = u32::MAX;

/// The instructions of one kernel.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    start: u64,
    instructions: Vec<Result<Instruction, Undecoded>>,
    /// For every word from the start on, the index of the instruction that begins there.
    index: Vec<u32>,
}

impl Program {
    /// Decodes machine code that stands at `start` of the code object. After what is unknown it goes on one word later.
    pub(crate) fn new(code: &[u8], start: u64) -> Self {
        let words: Vec<u32> = code
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let mut program = Self { start, instructions: Vec::new(), index: vec![INSIDE; words.len()] };
        let mut at = 0;
        while at < words.len() {
            let decoded = decode(&words[at..], start + 4 * at as u64);
            program.index[at] = program.instructions.len() as u32;
            at += decoded.as_ref().map_or(1, |instruction| instruction.length);
            program.instructions.push(decoded);
        }
        program
    }

    pub(crate) fn instructions(&self) -> &[Result<Instruction, Undecoded>] {
        &self.instructions
    }

    /// The instruction with this index.
    #[inline]
    pub(crate) fn instruction(&self, index: usize) -> Result<&Instruction, Problem> {
        match self.instructions.get(index) {
            Some(Ok(instruction)) => Ok(instruction),
            Some(Err(Undecoded { reason: Some(reason), .. })) => Err(Problem::Unsupported(reason.clone())),
            Some(Err(undecoded)) => Err(Problem::Unknown(undecoded.words.clone())),
            None => Err(Problem::Jump(self.start + 4 * self.index.len() as u64)),
        }
    }

    /// The index of the instruction at an address of the code object.
    pub(crate) fn at(&self, address: u64) -> Result<usize, Problem> {
        let offset = address.wrapping_sub(self.start);
        let index = usize::try_from(offset / 4).ok().and_then(|word| self.index.get(word));
        match index {
            Some(index) if offset.is_multiple_of(4) && *index != INSIDE => Ok(*index as usize),
            _ => Err(Problem::Jump(address)),
        }
    }
}
