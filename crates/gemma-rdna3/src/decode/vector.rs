//! Decoding of vector instructions: VOP1, VOP2, VOPC, VOP3, VOPD, and their forms that read other lanes (DPP).

use super::{Decoded, Parts, Reader, bits, known, refuse, single};
use crate::instruction::{Body, Control, LaneSelection, Operand, Pattern, Vector, scalar};
use crate::operations::number::Kind;
use crate::operations::vector_three::SATURATING;
use crate::operations::vector_two::{ACCUMULATING, DUAL, WITH_ADDEND, WITH_FACTOR};
use crate::operations::{
    Entry, Run, Special, compare, find, vector_one, vector_three, vector_three_float, vector_two,
};

/// Codes of a first source that announce a word with lanes.
const LANES_OF_EIGHT: u32 = 233;
const LANES_OF_EIGHT_INACTIVE: u32 = 234;
const LANES_OF_ROW: u32 = 250;
/// The code of a literal.
const LITERAL: u32 = 255;
/// The code of the first vector register.
const VECTOR: u32 = 256;

/// Fields of VOP3 that the short encodings do not have.
#[derive(Debug, Clone, Copy, Default)]
struct Modifiers {
    negate: u8,
    absolute: u8,
    high: u8,
    clamp: bool,
    scale: u8,
}

impl Reader<'_> {
    pub(super) fn vector_one(&mut self, word: u32) -> Decoded<Parts> {
        if bits(word, 9, 8) == 0 {
            return Ok((single("v_nop"), Body::Control(Control::VectorNothing)));
        }
        let entry = known(find(vector_one::TABLE, bits(word, 9, 8)))?;
        self.short(entry, bits(word, 17, 8), &[bits(word, 0, 9)], None)
    }

    pub(super) fn vector_two(&mut self, word: u32) -> Decoded<Parts> {
        let opcode = bits(word, 25, 6);
        let entry = known(find(vector_two::TABLE, opcode))?;
        let (destination, first, second) = (bits(word, 17, 8), bits(word, 0, 9), VECTOR + bits(word, 9, 8));
        if WITH_FACTOR.contains(&opcode) {
            return self.short(entry, destination, &[first, LITERAL, second], None);
        }
        let third = if WITH_ADDEND.contains(&opcode) { LITERAL } else { VECTOR + destination };
        let mask = matches!(entry.run, Run::Special(Special::Select | Special::Carry(_, true)));
        let codes = &[first, second, third][..entry.sources.len()];
        self.short(entry, destination, codes, mask.then_some(u32::from(scalar::VCC)))
    }

    pub(super) fn vector_compare(&mut self, word: u32) -> Decoded<Parts> {
        let opcode = bits(word, 17, 8);
        let entry = known(compare::find(opcode))?;
        let destination = if opcode < compare::TO_EXEC { scalar::VCC } else { scalar::EXEC };
        self.short(entry, u32::from(destination), &[bits(word, 0, 9), VECTOR + bits(word, 9, 8)], None)
    }

    /// An encoding of 32 bits: 16-bit values stand in halves of the first 128 registers.
    fn short(
        &mut self,
        entry: &'static Entry,
        destination: u32,
        codes: &[u32],
        mask: Option<u32>,
    ) -> Decoded<Parts> {
        let mut codes = codes.to_vec();
        let mut modifiers = Modifiers::default();
        let lanes = self.lane_selection(&mut codes, &mut modifiers, 1)?;
        for (index, (code, kind)) in codes.iter_mut().zip(entry.sources).enumerate() {
            if kind.is_half() && *code >= VECTOR + 128 {
                *code -= 128;
                modifiers.high |= 1 << index;
            }
        }
        let mut destination = destination;
        if entry.result.is_half() && destination >= 128 {
            destination -= 128;
            modifiers.high |= 8;
        }
        let vector = self.vector(entry, destination, &codes, mask, modifiers, lanes)?;
        Ok((single(entry.name), Body::Vector(Box::new(vector))))
    }

    pub(super) fn vector_three(&mut self, word: u32) -> Decoded<Parts> {
        let second = self.next()?;
        let opcode = bits(word, 16, 10);
        let entry = match opcode {
            0..=0xff => compare::find(opcode),
            0x100..=0x17f => {
                find(vector_two::TABLE, opcode - 0x100).filter(|_| has_long_form(opcode - 0x100))
            }
            0x180..=0x1ff => find(vector_one::TABLE, opcode - 0x180).filter(|row| row.opcode != 0x65),
            _ => find(vector_three::TABLE, opcode).or_else(|| find(vector_three_float::TABLE, opcode)),
        };
        let entry = known(entry)?;
        let carries = matches!(opcode, 0x120..=0x122 | 0x2fc..=0x302);
        let mut modifiers = Modifiers {
            negate: bits(second, 29, 3) as u8,
            absolute: if carries { 0 } else { bits(word, 8, 3) as u8 },
            high: if carries { 0 } else { bits(word, 11, 4) as u8 },
            clamp: bits(word, 15, 1) != 0,
            scale: bits(second, 27, 2) as u8,
        };
        let destination = bits(word, 0, 8);
        let all = [bits(second, 0, 9), bits(second, 9, 9), bits(second, 18, 9)];
        let mut codes = all[..entry.sources.len()].to_vec();
        if opcode >= 0x100 && ACCUMULATING.contains(&(opcode - 0x100)) {
            codes[2] = VECTOR + destination;
        }
        let lanes = self.lane_selection(&mut codes, &mut modifiers, 2)?;
        let mask = matches!(entry.run, Run::Special(Special::Select | Special::Carry(_, true)));
        let mut vector = self.vector(entry, destination, &codes, mask.then_some(all[2]), modifiers, lanes)?;
        if carries {
            vector.carry = bits(word, 8, 7) as u8;
            self.writes_scalar(vector.carry, 1)?;
        }
        Ok((single(entry.name), Body::Vector(Box::new(vector))))
    }

    /// Operands and what is read and written, in any encoding.
    fn vector(
        &mut self,
        entry: &'static Entry,
        destination: u32,
        codes: &[u32],
        mask: Option<u32>,
        modifiers: Modifiers,
        lanes: Option<LaneSelection>,
    ) -> Decoded<Vector> {
        let mut sources = [Operand::Constant(0); 3];
        for ((source, code), kind) in sources.iter_mut().zip(codes).zip(entry.sources) {
            *source = self.source(*code, *kind, entry.name.ends_with("i64"))?;
        }
        let mask = mask.map_or(Ok(Operand::Constant(0)), |code| self.scalar_source(code, 1, false))?;
        let mut run = entry.run;
        let integer = !entry.result.is_float() && entry.result != Kind::Mask;
        if modifiers.clamp && integer {
            let saturating = SATURATING.iter().find(|row| row.name == entry.name);
            let Some(row) = saturating else { return refuse(format!("clamp of {}", entry.name)) };
            run = row.run;
        }
        let destination = destination as u8;
        let mut carry = scalar::NULL;
        match run {
            Run::Special(Special::ReadFirstLane | Special::ReadLane) | Run::Test(_) | Run::TestWide(_) => {
                self.writes_scalar(destination, 1)?;
            }
            Run::Special(special) => {
                self.specials(special, entry, &sources, destination)?;
                carry = if matches!(special, Special::Carry(..)) { scalar::VCC } else { carry };
            }
            _ => self.writes_vector(destination, entry.result.registers())?,
        }
        let Modifiers { negate, absolute, high, clamp, scale } = modifiers;
        let permutes = matches!(run, Run::Special(Special::Permute(_)));
        Ok(Vector {
            run,
            result: entry.result,
            kinds: entry.sources,
            destination,
            sources,
            negate,
            absolute,
            // Of v_permlane the two bits say what is done about lanes that do not take part.
            high: if permutes { 0 } else { high },
            clamp: clamp && !integer,
            scale: if integer { 0 } else { scale },
            mask,
            carry,
            lanes,
            fetch_inactive: permutes && high & 1 != 0,
            zero_inactive: permutes && high & 2 != 0,
        })
    }

    /// What operations that are done by hand read and write besides their sources.
    fn specials(
        &mut self,
        special: Special,
        entry: &Entry,
        sources: &[Operand; 3],
        destination: u8,
    ) -> Decoded<()> {
        match special {
            Special::DivisionFused | Special::DivisionFusedWide => self.reads_scalar(scalar::VCC, 1)?,
            Special::WriteLane => self.reads_vector(destination, 1)?,
            Special::Swap => {
                let Operand::Vector(other) = sources[0] else { return known(None) };
                self.reads_vector(destination, 1)?;
                self.writes_vector(other, 1)?;
            }
            Special::MoveToRelative => {
                // Which register is written is known only when it is.
                return self.reads_scalar(scalar::M0, 1);
            }
            Special::MoveFromRelative => {
                if !matches!(sources[0], Operand::Vector(_)) {
                    return known(None);
                }
                self.reads.clear();
                self.reads_scalar(scalar::M0, 1)?;
            }
            Special::Permute(_) if !matches!(sources[0], Operand::Vector(_)) => return known(None),
            _ => {}
        }
        if matches!(special, Special::Carry(..)) && self.words[0] >> 26 != 0x35 {
            self.writes_scalar(scalar::VCC, 1)?;
        }
        self.writes_vector(destination, entry.result.registers())
    }

    /// Replaces a first source that stands for a word with lanes.
    fn lane_selection(
        &mut self,
        codes: &mut [u32],
        modifiers: &mut Modifiers,
        own: usize,
    ) -> Decoded<Option<LaneSelection>> {
        let code = codes[0];
        if !matches!(code, LANES_OF_EIGHT | LANES_OF_EIGHT_INACTIVE | LANES_OF_ROW) {
            return Ok(None);
        }
        if self.taken != own || codes[1..].contains(&LITERAL) {
            return known(None);
        }
        let word = self.next()?;
        codes[0] = VECTOR + bits(word, 0, 8);
        if code != LANES_OF_ROW {
            let pattern =
                Pattern::Eight(std::array::from_fn(|lane| bits(word, 8 + 3 * lane as u32, 3) as u8));
            let fetch_inactive = code == LANES_OF_EIGHT_INACTIVE;
            return Ok(Some(LaneSelection { pattern, zero: true, fetch_inactive, written: u32::MAX }));
        }
        if own == 1 {
            // In the short encodings the word has the modifiers too.
            modifiers.negate = (bits(word, 20, 1) | bits(word, 22, 1) << 1) as u8;
            modifiers.absolute = (bits(word, 21, 1) | bits(word, 23, 1) << 1) as u8;
        }
        let pattern = known(row_pattern(bits(word, 8, 9)))?;
        let (banks, rows) = (bits(word, 24, 4), bits(word, 28, 4));
        let written = (0..32).filter(|lane| rows >> (lane / 16) & banks >> (lane % 16 / 4) & 1 != 0);
        Ok(Some(LaneSelection {
            pattern,
            zero: bits(word, 19, 1) != 0,
            fetch_inactive: bits(word, 18, 1) != 0,
            written: written.fold(0, |mask, lane| mask | 1 << lane),
        }))
    }

    pub(super) fn dual(&mut self, word: u32) -> Decoded<Parts> {
        let second = self.next()?;
        let of = |opcode: u32| DUAL.iter().find(|row| row.0 == opcode);
        let first_row = known(of(bits(word, 22, 4)).filter(|row| row.0 < 16))?;
        let second_row = known(of(bits(word, 17, 5)))?;
        let first_destination = bits(second, 24, 8);
        // The two write registers of different banks, so one bit is not stored.
        let second_destination = bits(second, 17, 7) << 1 | (!first_destination & 1);
        let first = self.half_of_dual(first_row.2, first_destination, bits(word, 0, 9), bits(word, 9, 8))?;
        let other =
            self.half_of_dual(second_row.2, second_destination, bits(second, 0, 9), bits(second, 9, 8))?;
        Ok(([first_row.1, second_row.1], Body::Dual(Box::new([first, other]))))
    }

    fn half_of_dual(&mut self, opcode: u32, destination: u32, first: u32, second: u32) -> Decoded<Vector> {
        if opcode == 0 {
            let entry = &vector_one::TABLE[0];
            return self.vector(entry, destination, &[first], None, Modifiers::default(), None);
        }
        let entry = known(find(vector_two::TABLE, opcode))?;
        let second = VECTOR + second;
        let codes = if WITH_FACTOR.contains(&opcode) {
            [first, LITERAL, second]
        } else if WITH_ADDEND.contains(&opcode) {
            [first, second, LITERAL]
        } else {
            [first, second, VECTOR + destination]
        };
        let mask = matches!(entry.run, Run::Special(Special::Select)).then_some(u32::from(scalar::VCC));
        self.vector(entry, destination, &codes[..entry.sources.len()], mask, Modifiers::default(), None)
    }
}

/// Whether an operation of VOP2 exists in VOP3 too.
fn has_long_form(opcode: u32) -> bool {
    !WITH_FACTOR.contains(&opcode) && !WITH_ADDEND.contains(&opcode) && opcode != 0x3c
}

fn row_pattern(control: u32) -> Option<Pattern> {
    let low = (control & 15) as u8;
    Some(match control {
        0..=0xff => Pattern::Four(std::array::from_fn(|lane| bits(control, 2 * lane as u32, 2) as u8)),
        0x101..=0x10f => Pattern::ShiftLeft(low),
        0x111..=0x11f => Pattern::ShiftRight(low),
        0x121..=0x12f => Pattern::Rotate(low),
        0x140 => Pattern::Mirror,
        0x141 => Pattern::HalfMirror,
        0x150..=0x15f => Pattern::Share(low),
        0x160..=0x16f => Pattern::Xor(low),
        _ => return None,
    })
}
