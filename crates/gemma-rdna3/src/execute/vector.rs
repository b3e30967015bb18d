//! Vector operations: sources gathered, the operation's function on all lanes, the result written where EXEC allows.

use half::f16;

use super::lanes::{defined, flush_all, modify, modify_wide, moved, moved_mask, plain, plain_wide, select};
use super::special;
use crate::error::Problem;
use crate::instruction::{Operand, Vector, scalar};
use crate::operations::number::Kind;
use crate::operations::{LANES, Lanes, Run, Special, Wide};
use crate::wave::{Trouble, Wave};

/// Lanes that are written, and those of them whose value somebody wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Masks {
    pub(super) written: u32,
    pub(super) defined: u32,
}

pub(super) fn run(wave: &mut Wave, body: &Vector) -> Result<(), Trouble> {
    match body.run {
        Run::Narrow(_) | Run::Special(Special::Select) => {
            let (values, masks) = narrow(wave, body);
            write(wave, body, &values, masks);
        }
        Run::Wide(function) => {
            let (sources, masks) = wide_sources(wave, body);
            let mut values = [0; LANES];
            function(&sources, &mut values);
            write_wide(wave, body, values, masks);
        }
        Run::Test(function) => {
            let (sources, masks) = sources(wave, body);
            write_test(wave, body, function(&sources) & masks.written);
        }
        Run::TestWide(function) => {
            let (sources, masks) = wide_sources(wave, body);
            write_test(wave, body, function(&sources) & masks.written);
        }
        Run::Special(operation) => special::run(wave, body, operation)?,
    }
    Ok(())
}

/// Two operations issued together: both read before either writes.
pub(super) fn run_dual(wave: &mut Wave, pair: &[Vector; 2]) -> Result<(), Trouble> {
    let results = pair.each_ref().map(|body| narrow(wave, body));
    for (body, (values, masks)) in pair.iter().zip(&results) {
        if !matches!(body.run, Run::Narrow(_) | Run::Special(Special::Select)) {
            return Err(Problem::Unsupported("this operation in a dual issue".to_owned()).into());
        }
        write(wave, body, values, *masks);
    }
    Ok(())
}

/// An operation on at most 32 bits.
#[inline]
fn narrow(wave: &Wave, body: &Vector) -> (Lanes, Masks) {
    let (sources, mut masks) = sources(wave, body);
    let mut values = [0; LANES];
    if let Run::Narrow(function) = body.run {
        function(&sources, &mut values);
    } else {
        let chosen = super::operand(wave, body.mask, 1) as u32;
        for (lane, value) in values.iter_mut().enumerate() {
            *value = sources[usize::from(chosen >> lane & 1 != 0)][lane];
        }
        let [first, second] =
            [0, 1].map(|index: usize| defined(wave, body.sources[index], body.kinds[index]));
        if body.lanes.is_none() {
            masks.defined = first & !chosen | second & chosen;
        }
    }
    (values, masks)
}

/// Sources of at most 32 bits, with modifiers.
#[inline]
pub(super) fn sources(wave: &Wave, body: &Vector) -> ([Lanes; 3], Masks) {
    let mut masks = Masks { written: wave.exec(), defined: u32::MAX };
    let mut values = [[0; LANES]; 3];
    let flushes = wave.flushes();
    for (index, kind) in body.kinds.iter().enumerate() {
        let bit = |bits: u8| bits >> index & 1 != 0;
        let value = &mut values[index];
        *value = plain(wave, body.sources[index]);
        let mut known = defined(wave, body.sources[index], *kind);
        if let (0, Some(selection)) = (index, &body.lanes) {
            let (from, written) = select(selection, wave.exec());
            *value = moved(value, &from);
            known = moved_mask(known, &from);
            masks.written &= written;
        }
        masks.defined &= known;
        // The half of a constant is the constant.
        let high = bit(body.high) && !matches!(body.sources[index], Operand::Constant(_));
        modify(value, *kind, high, bit(body.absolute), bit(body.negate));
        if flushes && *kind == Kind::F32 {
            flush_all(value);
        }
    }
    (values, masks)
}

/// Sources of up to 64 bits, with modifiers.
pub(super) fn wide_sources(wave: &Wave, body: &Vector) -> ([Wide; 3], Masks) {
    let mut masks = Masks { written: wave.exec(), defined: u32::MAX };
    let mut values = [[0; LANES]; 3];
    for (index, kind) in body.kinds.iter().enumerate() {
        let bit = |bits: u8| bits >> index & 1 != 0;
        let value = &mut values[index];
        *value = plain_wide(wave, body.sources[index], *kind);
        let mut known = defined(wave, body.sources[index], *kind);
        if let (0, Some(selection)) = (index, &body.lanes) {
            let (from, written) = select(selection, wave.exec());
            *value = moved(value, &from);
            known = moved_mask(known, &from);
            masks.written &= written;
        }
        masks.defined &= known;
        modify_wide(value, *kind, bit(body.absolute), bit(body.negate));
    }
    (values, masks)
}

/// Scales and clamps a result and writes it.
#[inline]
pub(super) fn write(wave: &mut Wave, body: &Vector, values: &Lanes, masks: Masks) {
    let mut values = *values;
    if body.scale != 0 || body.clamp {
        for value in &mut values {
            *value = finish(*value, body.result, body.scale, body.clamp);
        }
    }
    if body.result == Kind::F32 && wave.flushes() {
        flush_all(&mut values);
    }
    let register = usize::from(body.destination);
    if body.result.is_half() {
        // The other half of the register stays.
        let (shift, kept) = if body.high & 8 != 0 { (16, 0xffff) } else { (0, 0xffff_0000) };
        for (value, before) in values.iter_mut().zip(&wave.vectors[register]) {
            *value = (*value & 0xffff) << shift | before & kept;
        }
    }
    wave.set_vector(register, &values, masks.written, masks.defined);
}

/// As [`write`], of a result that may have 64 bits.
pub(super) fn write_wide(wave: &mut Wave, body: &Vector, mut values: Wide, masks: Masks) {
    if body.result.registers() == 1 {
        return write(wave, body, &values.map(|value| value as u32), masks);
    }
    if body.result == Kind::F64 && (body.scale != 0 || body.clamp) {
        let factor = [1.0, 2.0, 4.0, 0.5][usize::from(body.scale)];
        for value in &mut values {
            let scaled = f64::from_bits(*value) * factor;
            *value = (if body.clamp { clamp(scaled) } else { scaled }).to_bits();
        }
    }
    let register = usize::from(body.destination);
    wave.set_vector(register, &values.map(|value| value as u32), masks.written, masks.defined);
    wave.set_vector(register + 1, &values.map(|value| (value >> 32) as u32), masks.written, masks.defined);
}

/// A comparison's mask goes to its scalar register, or narrows EXEC.
fn write_test(wave: &mut Wave, body: &Vector, mask: u32) {
    let destination = if body.destination == scalar::EXEC { scalar::EXEC } else { body.destination };
    wave.set_scalar(destination, 1, u64::from(mask));
}

/// The scale and the clamp of a result's float.
fn finish(bits: u32, kind: Kind, scale: u8, clamped: bool) -> u32 {
    let factor = [1.0, 2.0, 4.0, 0.5][usize::from(scale)];
    let value = match kind {
        Kind::F16 => f16::from_bits(bits as u16).to_f64() * factor,
        _ => f64::from(f32::from_bits(bits)) * factor,
    };
    let value = if clamped { clamp(value) } else { value };
    match kind {
        Kind::F16 => u32::from(f16::from_f64(value).to_bits()),
        _ => (value as f32).to_bits(),
    }
}

/// Between zero and one; zero where it is no number, as the mode of compute kernels has it.
fn clamp(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}
