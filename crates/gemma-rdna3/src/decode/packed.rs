//! Decoding of packed instructions and matrix products (VOP3P).

use super::{Decoded, Parts, Reader, bits, known, refuse, single};
use crate::instruction::{Body, Matrix, Operand, Packed, PackedRun};
use crate::operations::number::Kind;
use crate::operations::packed::{DOTS, Elements, HALVES, INTEGER_DOTS, MATRICES, MIXED};
use crate::operations::vector_three::SATURATING;
use crate::operations::{Entry, Run, find};

const THREE_WORDS: &[Kind] = &[Kind::B32; 3];
const THREE_FLOATS: &[Kind] = &[Kind::F32; 3];
/// Codes of sources that announce lanes, which packed instructions have only on later chips or are not made here.
const LANES: [u32; 3] = [233, 234, 250];

impl Reader<'_> {
    pub(super) fn packed(&mut self, word: u32) -> Decoded<Parts> {
        let second = self.next()?;
        let opcode = bits(word, 16, 7);
        let codes = [bits(second, 0, 9), bits(second, 9, 9), bits(second, 18, 9)];
        if LANES.contains(&codes[0]) {
            return refuse("a packed instruction that reads other lanes");
        }
        if let Some((_, name, elements, registers)) = MATRICES.iter().find(|row| row.0 == opcode) {
            return Ok((single(name), self.matrix(*elements, *registers, codes, [word, second])?));
        }
        let clamp = bits(word, 15, 1) != 0;
        let (name, run, kinds) = known(operation(opcode))?;
        let run = match (run, clamp) {
            (PackedRun::Halves(_), true) if kinds[0] != Kind::F16 => {
                let Some(row) = SATURATING.iter().find(|row| row.name == name) else {
                    return refuse(format!("clamp of {name}"));
                };
                known(narrow(row)).map(PackedRun::Halves)?
            }
            (run, _) => run,
        };
        let mut sources = [Operand::Constant(0); 3];
        for ((source, code), kind) in sources.iter_mut().zip(codes).zip(kinds) {
            *source = self.source(code, *kind, false)?;
        }
        let destination = bits(word, 0, 8) as u8;
        if matches!(run, PackedRun::Mixed(Some(_))) {
            self.reads_vector(destination, 1)?;
        }
        self.writes_vector(destination, 1)?;
        Ok((
            single(name),
            Body::Packed(Box::new(Packed {
                run,
                kinds,
                destination,
                sources,
                select_low: bits(word, 11, 3) as u8,
                select_high: (bits(second, 27, 2) | bits(word, 14, 1) << 2) as u8,
                negate_low: bits(second, 29, 3) as u8,
                negate_high: bits(word, 8, 3) as u8,
                clamp,
            })),
        ))
    }

    fn matrix(
        &mut self,
        elements: Elements,
        registers: u8,
        codes: [u32; 3],
        [word, second]: [u32; 2],
    ) -> Decoded<Body> {
        let mut sources = [Operand::Constant(0); 3];
        for (index, (source, code)) in sources.iter_mut().zip(codes).enumerate() {
            let count = if index < 2 { registers } else { 8 };
            *source = match code {
                256.. => {
                    self.reads_vector((code - 256) as u8, count)?;
                    Operand::Vector((code - 256) as u8)
                }
                // Only what is added may be a constant, the same for every element.
                128..=248 if index == 2 => self.source(code, kind_of_sums(elements), false)?,
                _ => return known(None),
            };
        }
        let destination = bits(word, 0, 8) as u8;
        self.writes_vector(destination, 8)?;
        let select = bits(word, 11, 3);
        if select & 3 != 0
            || select != 0 && !matches!(elements, Elements::HalfToHalf | Elements::BrainToBrain)
        {
            return refuse("a choice of halves in a matrix product");
        }
        Ok(Body::Matrix(Box::new(Matrix {
            elements,
            destination,
            sources,
            negate_low: bits(second, 29, 3) as u8,
            negate_high: bits(word, 8, 3) as u8,
            high: select & 4 != 0,
            clamp: bits(word, 15, 1) != 0,
        })))
    }
}

fn kind_of_sums(elements: Elements) -> Kind {
    match elements {
        Elements::Half | Elements::Brain => Kind::F32,
        Elements::HalfToHalf => Kind::F16,
        _ => Kind::B32,
    }
}

fn operation(opcode: u32) -> Option<(&'static str, PackedRun, &'static [Kind])> {
    if let Some(row) = find(HALVES, opcode) {
        return Some((row.name, PackedRun::Halves(narrow(row)?), row.sources));
    }
    if let Some(row) = find(DOTS, opcode) {
        return Some((row.name, PackedRun::Whole(narrow(row)?), row.sources));
    }
    if let Some((_, name, bits, chosen)) = INTEGER_DOTS.iter().find(|row| row.0 == opcode) {
        return Some((name, PackedRun::Dot(*bits, *chosen), THREE_WORDS));
    }
    let (_, name, half) = MIXED.iter().find(|row| row.0 == opcode)?;
    Some((name, PackedRun::Mixed(*half), THREE_FLOATS))
}

type Narrow = fn(&[crate::operations::Lanes; 3], &mut crate::operations::Lanes);

fn narrow(row: &Entry) -> Option<Narrow> {
    match row.run {
        Run::Narrow(run) => Some(run),
        _ => None,
    }
}
