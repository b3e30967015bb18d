//! Packed operations: the two halves of registers, mixed precision, dot products.

use half::f16;

use super::lanes::{defined, flush_all, plain};
use crate::instruction::{Operand, Packed, PackedRun};
use crate::operations::number::Kind;
use crate::operations::packed::dot_integers;
use crate::operations::{LANES, Lanes};
use crate::wave::Wave;

pub(super) fn run(wave: &mut Wave, body: &Packed) {
    let mut known = u32::MAX;
    let mut sources = [[0; LANES]; 3];
    for (index, kind) in body.kinds.iter().enumerate() {
        sources[index] = plain(wave, body.sources[index]);
        known &= defined(wave, body.sources[index], *kind);
    }
    let register = usize::from(body.destination);
    let values = match body.run {
        PackedRun::Halves(function) => halves(body, &sources, function),
        PackedRun::Whole(function) => {
            negate_halves(body, &mut sources);
            let mut values = [0; LANES];
            function(&sources, &mut values);
            if body.clamp {
                values.iter_mut().for_each(|value| *value = limited(f32::from_bits(*value)).to_bits());
            }
            if wave.flushes() {
                flush_all(&mut values);
            }
            values
        }
        PackedRun::Dot(bits, chosen) => dot(body, &sources, bits, chosen),
        PackedRun::Mixed(half) => mixed(wave, body, &sources, half),
    };
    wave.set_vector(register, &values, wave.exec(), known);
}

/// The function of one half, applied to the halves that the instruction names, for the lower result and the upper one.
fn halves(body: &Packed, sources: &[Lanes; 3], function: fn(&[Lanes; 3], &mut Lanes)) -> Lanes {
    let one = |select: u8, negate: u8| {
        let mut halves = [[0; LANES]; 3];
        for (index, half) in halves.iter_mut().enumerate().take(body.kinds.len()) {
            let shift = if select >> index & 1 != 0 { 16 } else { 0 };
            let sign = u32::from(negate >> index & 1) << 15;
            for (value, whole) in half.iter_mut().zip(&sources[index]) {
                *value = whole >> shift & 0xffff ^ sign;
            }
        }
        let mut result = [0; LANES];
        function(&halves, &mut result);
        if body.clamp && body.kinds[0] == Kind::F16 {
            result.iter_mut().for_each(|value| *value = clamped(*value));
        }
        result
    };
    let (low, high) = (one(body.select_low, body.negate_low), one(body.select_high, body.negate_high));
    std::array::from_fn(|lane| low[lane] & 0xffff | high[lane] << 16)
}

fn clamped(bits: u32) -> u32 {
    u32::from(f16::from_f32(limited(f16::from_bits(bits as u16).to_f32())).to_bits())
}

/// Between zero and one; zero where it is no number.
fn limited(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

/// Signs of the two halves of factors, and of a float that is added.
fn negate_halves(body: &Packed, sources: &mut [Lanes; 3]) {
    for (index, kind) in body.kinds.iter().enumerate() {
        let (low, high) = (u32::from(body.negate_low >> index & 1), u32::from(body.negate_high >> index & 1));
        let sign = if *kind == Kind::F32 { low << 31 } else { low << 15 | high << 31 };
        sources[index].iter_mut().for_each(|value| *value ^= sign);
    }
}

fn dot(body: &Packed, [a, b, c]: &[Lanes; 3], bits: u32, chosen: bool) -> Lanes {
    let signed = [0, 1].map(|index| chosen && body.negate_low >> index & 1 != 0);
    std::array::from_fn(|lane| {
        let product = dot_integers(a[lane], b[lane], bits, signed);
        if chosen {
            let sum = product + i64::from(c[lane] as i32);
            let limited = sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            (if body.clamp { limited } else { sum }) as u32
        } else {
            let sum = product + i64::from(c[lane]);
            (if body.clamp { sum.min(i64::from(u32::MAX)) } else { sum }) as u32
        }
    })
}

/// `v_fma_mix`: each source is a single, or one of a register's halves; here `negate_high` drops the sign.
fn mixed(wave: &Wave, body: &Packed, sources: &[Lanes; 3], half: Option<bool>) -> Lanes {
    let part = |index: usize, lane: usize| {
        let bits = sources[index][lane];
        let bit = |field: u8| field >> index & 1 != 0;
        let value = match (bit(body.select_high), bit(body.select_low)) {
            (false, _) => f32::from_bits(bits),
            (true, high) => {
                // The constant of a half is written in the lower one.
                let shift = if high && !matches!(body.sources[index], Operand::Constant(_)) { 16 } else { 0 };
                f16::from_bits((bits >> shift) as u16).to_f32()
            }
        };
        let value = if bit(body.negate_high) { value.abs() } else { value };
        if bit(body.negate_low) { -value } else { value }
    };
    let before = &wave.vectors[usize::from(body.destination)];
    std::array::from_fn(|lane| {
        let sum = part(0, lane).mul_add(part(1, lane), part(2, lane));
        let sum = if body.clamp { limited(sum) } else { sum };
        let bits = u32::from(f16::from_f32(sum).to_bits());
        match half {
            None => sum.to_bits(),
            Some(false) => before[lane] & 0xffff_0000 | bits,
            Some(true) => before[lane] & 0xffff | bits << 16,
        }
    })
}
