//! Products of 16 x 16 matrices (WMMA) with the layout that a wave of 32 lanes has.
//!
//! A: lane l holds row l % 16, elements of 16 columns one after another in its registers; B: lane l holds column l % 16.
//! Lanes 16 to 31 must hold the same as lanes 0 to 15, and a factor must not be what the product right before gave. C and D: register r, lane l is row 2 r + l / 16, column l % 16.
//! Source: AMD, "RDNA3 Instruction Set Architecture", 7.9.

use half::{bf16, f16};

use super::lanes::{defined, plain};
use crate::error::Problem;
use crate::instruction::{Matrix, Operand};
use crate::operations::number::Kind;
use crate::operations::packed::Elements;
use crate::operations::{LANES, Lanes};
use crate::wave::{Trouble, Wave};

/// Rows and columns.
const SIZE: usize = 16;
/// Registers of the sums.
const SUMS: usize = 8;

pub(super) fn run(wave: &mut Wave, body: &Matrix) -> Result<(), Trouble> {
    if wave.exec() != u32::MAX {
        let problem = Problem::Matrix("a matrix product must run in all lanes".to_owned());
        return Err(problem.into());
    }
    follows(wave, body)?;
    let mut known = u32::MAX;
    for index in [0, 1] {
        known &= same_copies(wave, body, index)?;
    }
    let sums: [Lanes; SUMS] = std::array::from_fn(|register| of(wave, body, 2, register));
    // One element of a row or a column reaches sums of all lanes.
    let known = if known == u32::MAX { u32::MAX } else { 0 };
    let results = match body.elements {
        Elements::Byte | Elements::Nibble => integers(wave, body, &sums),
        _ => floats(wave, body, &sums),
    };
    for (register, values) in results.iter().enumerate() {
        let operand = shifted(body.sources[2], register);
        let sum_known = known & defined(wave, operand, Kind::B32);
        wave.set_vector(usize::from(body.destination) + register, values, u32::MAX, sum_known);
    }
    wave.product = Some(body.destination);
    Ok(())
}

/// That no factor is a sum of the product right before: the hardware needs another vector operation between the two.
fn follows(wave: &Wave, body: &Matrix) -> Result<(), Problem> {
    let Some(sums) = wave.product else { return Ok(()) };
    let (sums, count) = (usize::from(sums), registers(body.elements));
    for source in &body.sources[..2] {
        let Operand::Vector(first) = *source else { continue };
        if usize::from(first) < sums + SUMS && sums < usize::from(first) + count {
            let text = format!("the factor in v{first} is a sum of the matrix product right before");
            return Err(Problem::Matrix(text));
        }
    }
    Ok(())
}

/// A register of a source; constants are the same in all.
fn shifted(operand: Operand, by: usize) -> Operand {
    match operand {
        Operand::Vector(first) => Operand::Vector(first + by as u8),
        other => other,
    }
}

fn of(wave: &Wave, body: &Matrix, index: usize, register: usize) -> Lanes {
    plain(wave, shifted(body.sources[index], register))
}

fn registers(elements: Elements) -> usize {
    match elements {
        Elements::Byte => 4,
        Elements::Nibble => 2,
        _ => 8,
    }
}

/// That both halves of the wave hold the same factor; gives the lanes that hold written values in every register.
fn same_copies(wave: &Wave, body: &Matrix, index: usize) -> Result<u32, Trouble> {
    let mut known = u32::MAX;
    for register in 0..registers(body.elements) {
        let values = of(wave, body, index, register);
        known &= defined(wave, shifted(body.sources[index], register), Kind::B32);
        if let Some(lane) = (0..SIZE).find(|lane| values[*lane] != values[lane + SIZE]) {
            let name = ["A", "B"][index];
            let problem = Problem::Matrix(format!(
                "register {register} of {name} differs between lanes {lane} and {}",
                lane + SIZE
            ));
            return Err(Trouble { problem, lane: Some(lane as u32) });
        }
    }
    Ok(known)
}

fn integers(wave: &Wave, body: &Matrix, sums: &[Lanes; SUMS]) -> [Lanes; SUMS] {
    let bits = if body.elements == Elements::Byte { 8 } else { 4 };
    let factor = |index: usize| -> [[i32; SIZE]; SIZE] {
        let signed = body.negate_low >> index & 1 != 0;
        let words: Vec<Lanes> =
            (0..registers(body.elements)).map(|register| of(wave, body, index, register)).collect();
        std::array::from_fn(|lane| {
            std::array::from_fn(|k| {
                let at = k as u32 * bits;
                let field = words[at as usize / 32][lane] << (32 - bits - at % 32);
                if signed { field as i32 >> (32 - bits) } else { (field >> (32 - bits)) as i32 }
            })
        })
    };
    let (a, b) = (factor(0), factor(1));
    each(|row, column, register, lane| {
        let product: i32 = a[row].iter().zip(&b[column]).map(|(a, b)| a * b).sum();
        let sum = i64::from(sums[register][lane] as i32) + i64::from(product);
        let limited = sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        (if body.clamp { limited } else { sum }) as u32
    })
}

fn floats(wave: &Wave, body: &Matrix, sums: &[Lanes; SUMS]) -> [Lanes; SUMS] {
    let brain = matches!(body.elements, Elements::Brain | Elements::BrainToBrain);
    let value = |bits: u32| {
        let bits = bits as u16;
        if brain { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() }
    };
    let factor = |index: usize| -> [[f32; SIZE]; SIZE] {
        let words: [Lanes; 8] = std::array::from_fn(|register| of(wave, body, index, register));
        // NEG turns the even elements, NEG_HI the odd ones.
        let signs = [body.negate_low, body.negate_high].map(|bits| u32::from(bits >> index & 1) << 15);
        std::array::from_fn(|lane| {
            std::array::from_fn(|k| value(words[k / 2][lane] >> (16 * (k % 2)) ^ signs[k % 2]))
        })
    };
    let (a, b) = (factor(0), factor(1));
    let narrow = matches!(body.elements, Elements::HalfToHalf | Elements::BrainToBrain);
    let shift = if body.high { 16 } else { 0 };
    each(|row, column, register, lane| {
        let before = sums[register][lane];
        let start = if narrow { value(before >> shift) } else { f32::from_bits(before) };
        let start = if body.negate_high & 4 != 0 { start.abs() } else { start };
        let start = if body.negate_low & 4 != 0 { -start } else { start };
        let sum = a[row].iter().zip(&b[column]).fold(f64::from(start), |sum, (a, b)| {
            // The products are exact in double precision.
            sum + f64::from(*a) * f64::from(*b)
        });
        if !narrow {
            return (sum as f32).to_bits();
        }
        let bits = if brain { bf16::from_f64(sum).to_bits() } else { f16::from_f64(sum).to_bits() };
        before & !(0xffff << shift) | u32::from(bits) << shift
    })
}

/// The sums, from a function of row, column, register and lane.
fn each(value: impl Fn(usize, usize, usize, usize) -> u32) -> [Lanes; SUMS] {
    std::array::from_fn(|register| {
        let mut lanes = [0; LANES];
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum = value(2 * register + lane / SIZE, lane % SIZE, register, lane);
        }
        lanes
    })
}
