//! Vector operations that need more than the sources of their own lane: carries, division's steps, other lanes.

use super::lanes::{defined, plain};
use super::vector::{sources, wide_sources, write, write_wide};
use crate::error::Problem;
use crate::instruction::{Operand, Vector, scalar};
use crate::operations::number::Kind;
use crate::operations::vector_three_float::{
    division_fused, division_fused_wide, division_scale, division_scale_wide,
};
use crate::operations::{Carry, LANES, Lanes, Special};
use crate::wave::{Trouble, Wave};

pub(super) fn run(wave: &mut Wave, body: &Vector, operation: Special) -> Result<(), Trouble> {
    match operation {
        Special::Select => {}
        Special::Carry(order, carries_in) => carry(wave, body, order, carries_in),
        Special::DivisionScale
        | Special::DivisionScaleWide
        | Special::DivisionFused
        | Special::DivisionFusedWide => division(wave, body, operation),
        Special::MultiplyAddWide(signed) => multiply_add(wave, body, signed),
        Special::ReadFirstLane => {
            let exec = wave.exec();
            let lane = if exec == 0 { 0 } else { exec.trailing_zeros() };
            read_lane(wave, body, lane)?;
        }
        Special::ReadLane => {
            let lane = plain(wave, body.sources[1])[0] % LANES as u32;
            read_lane(wave, body, lane)?;
        }
        Special::WriteLane => {
            // It goes to its lane whether or not that takes part.
            let lane = plain(wave, body.sources[1])[0] % LANES as u32;
            let value = plain(wave, body.sources[0]);
            wave.set_vector(usize::from(body.destination), &value, 1 << lane, u32::MAX);
        }
        Special::Permute(across) => permute(wave, body, across),
        Special::Swap => swap(wave, body)?,
        Special::MoveToRelative => {
            let ([values, ..], masks) = sources(wave, body);
            let register = relative(wave, body.destination)?;
            wave.set_vector(register, &values, masks.written, masks.defined);
        }
        Special::MoveFromRelative => move_from_relative(wave, body)?,
        Special::CountBelow(upper) => {
            let ([mask, addend, _], masks) = sources(wave, body);
            let values = std::array::from_fn(|lane| {
                let below = if upper { 0 } else { mask[lane] & ((1 << lane) - 1) };
                below.count_ones().wrapping_add(addend[lane])
            });
            write(wave, body, &values, masks);
        }
    }
    Ok(())
}

/// The steps of a division that scale its operands, and that take the scaling back.
fn division(wave: &mut Wave, body: &Vector, operation: Special) {
    match operation {
        Special::DivisionScale => {
            let (sources, masks) = sources(wave, body);
            let [a, b, c] = sources.map(|source| source.map(f32::from_bits));
            let mut carry = 0;
            let values = std::array::from_fn(|lane| {
                let (value, scaled) = division_scale(a[lane], b[lane], c[lane]);
                carry |= u32::from(scaled) << lane;
                value.to_bits()
            });
            write(wave, body, &values, masks);
            wave.set_scalar(body.carry, 1, u64::from(carry & masks.written));
        }
        Special::DivisionScaleWide => {
            let (sources, masks) = wide_sources(wave, body);
            let [a, b, c] = sources.map(|source| source.map(f64::from_bits));
            let mut carry = 0;
            let values = std::array::from_fn(|lane| {
                let (value, scaled) = division_scale_wide(a[lane], b[lane], c[lane]);
                carry |= u32::from(scaled) << lane;
                value.to_bits()
            });
            write_wide(wave, body, values, masks);
            wave.set_scalar(body.carry, 1, u64::from(carry & masks.written));
        }
        Special::DivisionFused => {
            let ([a, b, c], masks) = sources(wave, body);
            let scaled = condition_mask(wave);
            let [a, b, c] = [a, b, c].map(|source| source.map(f32::from_bits));
            let values = std::array::from_fn(|lane| {
                division_fused(a[lane], b[lane], c[lane], scaled >> lane & 1 != 0).to_bits()
            });
            write(wave, body, &values, masks);
        }
        Special::DivisionFusedWide => {
            let ([a, b, c], masks) = wide_sources(wave, body);
            let scaled = condition_mask(wave);
            let [a, b, c] = [a, b, c].map(|source| source.map(f64::from_bits));
            let values = std::array::from_fn(|lane| {
                division_fused_wide(a[lane], b[lane], c[lane], scaled >> lane & 1 != 0).to_bits()
            });
            write_wide(wave, body, values, masks);
        }
        _ => {}
    }
}

fn move_from_relative(wave: &mut Wave, body: &Vector) -> Result<(), Trouble> {
    let Operand::Vector(first) = body.sources[0] else {
        return Err(Problem::Unsupported("a relative move from what is no register".to_owned()).into());
    };
    let register = relative(wave, first)?;
    let (values, known, exec) = (wave.vectors[register], wave.defined[register], wave.exec());
    wave.set_vector(usize::from(body.destination), &values, exec, known);
    Ok(())
}

/// A vector register counted from M0. A load into it must have been waited for.
fn relative(wave: &Wave, first: u8) -> Result<usize, Problem> {
    let register = u64::from(first) + wave.scalar(scalar::M0, 1);
    let register =
        u8::try_from(register).map_err(|_| Problem::Unsupported(format!("register v{register}")))?;
    if wave.under_way.will_write(register) {
        return Err(Problem::NotWaitedFor(format!("v{register}")));
    }
    Ok(usize::from(register))
}

fn condition_mask(wave: &Wave) -> u32 {
    wave.scalar(scalar::VCC, 1) as u32
}

fn carry(wave: &mut Wave, body: &Vector, order: Carry, carries_in: bool) {
    let ([a, b, _], masks) = sources(wave, body);
    let carried = if carries_in { super::operand(wave, body.mask, 1) as u32 } else { 0 };
    let mut out = 0;
    let values = std::array::from_fn(|lane| {
        let (a, b, one) = (u64::from(a[lane]), u64::from(b[lane]), u64::from(carried >> lane & 1));
        let value = match order {
            Carry::Add => a + b + one,
            Carry::Subtract => a.wrapping_sub(b + one),
            Carry::SubtractReversed => b.wrapping_sub(a + one),
        };
        // A difference below zero has all of its upper bits set.
        out |= u32::from(value >> 32 != 0) << lane;
        value as u32
    });
    write(wave, body, &values, masks);
    wave.set_scalar(body.carry, 1, u64::from(out & masks.written));
}

fn multiply_add(wave: &mut Wave, body: &Vector, signed: bool) {
    let ([a, b, c], masks) = wide_sources(wave, body);
    let mut out = 0;
    let values = std::array::from_fn(|lane| {
        let sum = if signed {
            let product = i64::from(a[lane] as i32) * i64::from(b[lane] as i32);
            i128::from(product) + i128::from(c[lane] as i64)
        } else {
            i128::from(a[lane] & 0xffff_ffff) * i128::from(b[lane] & 0xffff_ffff) + i128::from(c[lane])
        };
        out |= u32::from(sum >> 64 & 1 != 0) << lane;
        sum as u64
    });
    let known = |index: usize| defined(wave, body.sources[index], Kind::B32);
    let low = known(0) & known(1) & known(2);
    write_wide(wave, body, values, masks);
    wave.set_scalar(body.carry, 1, u64::from(out & masks.written));
    // Compilers use the lower word alone, with anything in the upper word of what is added.
    wave.defined[usize::from(body.destination)] |= low & masks.written;
}

fn read_lane(wave: &mut Wave, body: &Vector, lane: u32) -> Result<(), Trouble> {
    if let Operand::Vector(register) = body.sources[0] {
        wave.require(register, 1 << lane)?;
    }
    let value = plain(wave, body.sources[0])[lane as usize];
    wave.set_scalar(body.destination, 1, u64::from(value));
    Ok(())
}

/// Each lane reads a lane of its row, or of the other row, that 64 bits of scalars name.
fn permute(wave: &mut Wave, body: &Vector, across: bool) {
    let values = plain(wave, body.sources[0]);
    let known = defined(wave, body.sources[0], Kind::B32);
    let [low, high] = [1, 2].map(|index: usize| u64::from(plain(wave, body.sources[index])[0]));
    let (lanes, exec) = (low | high << 32, wave.exec());
    let source = |lane: usize| {
        let row = (lane & 16) ^ if across { 16 } else { 0 };
        row | (lanes >> (4 * (lane & 15)) & 15) as usize
    };
    let read = |lane: usize| body.fetch_inactive || exec >> source(lane) & 1 != 0;
    let result: Lanes = std::array::from_fn(|lane| if read(lane) { values[source(lane)] } else { 0 });
    // Without leave to read lanes that do not take part, and without a zero in their place, nothing is written.
    let (mut written, mut defined) = (exec, 0);
    for lane in 0..LANES {
        written &= !(u32::from(!read(lane) && !body.zero_inactive) << lane);
        defined |= u32::from(!read(lane) || known >> source(lane) & 1 != 0) << lane;
    }
    wave.set_vector(usize::from(body.destination), &result, written, defined);
}

fn swap(wave: &mut Wave, body: &Vector) -> Result<(), Trouble> {
    let Operand::Vector(other) = body.sources[0] else {
        return Err(Problem::Unsupported("a swap with what is no register".to_owned()).into());
    };
    let (first, second) = (usize::from(body.destination), usize::from(other));
    let (a, b) = (wave.vectors[first], wave.vectors[second]);
    let (known_a, known_b) = (wave.defined[first], wave.defined[second]);
    let exec = wave.exec();
    wave.set_vector(first, &b, exec, known_b);
    wave.set_vector(second, &a, exec, known_a);
    Ok(())
}
