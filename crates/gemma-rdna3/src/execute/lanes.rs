//! Sources of vector instructions: from registers, constants and other lanes, with their signs changed.

use crate::instruction::{LaneSelection, Operand, Pattern};
use crate::operations::number::{Kind, flush};
use crate::operations::{LANES, Lanes, Wide};
use crate::wave::Wave;

/// A source's value for each lane, at most 32 bits, before any modifier.
#[inline]
pub(super) fn plain(wave: &Wave, operand: Operand) -> Lanes {
    match operand {
        Operand::Vector(register) => wave.vectors[usize::from(register)],
        Operand::Scalar(register) => [wave.scalar(register, 1) as u32; LANES],
        Operand::Constant(value) => [value as u32; LANES],
        Operand::Condition => [u32::from(wave.condition); LANES],
    }
}

/// As [`plain`], with 64 bits where the kind has them.
pub(super) fn plain_wide(wave: &Wave, operand: Operand, kind: Kind) -> Wide {
    let two = kind.registers() == 2;
    match operand {
        Operand::Vector(register) if two => {
            let (low, high) =
                (&wave.vectors[usize::from(register)], &wave.vectors[usize::from(register) + 1]);
            std::array::from_fn(|lane| u64::from(low[lane]) | u64::from(high[lane]) << 32)
        }
        Operand::Scalar(register) if two => [wave.scalar(register, 2); LANES],
        Operand::Constant(value) if two => [value; LANES],
        other => plain(wave, other).map(u64::from),
    }
}

/// The lanes in which an operand holds a value that somebody wrote.
#[inline]
pub(super) fn defined(wave: &Wave, operand: Operand, kind: Kind) -> u32 {
    match operand {
        Operand::Vector(register) => {
            let register = usize::from(register);
            let high = if kind.registers() == 2 { wave.defined[register + 1] } else { u32::MAX };
            wave.defined[register] & high
        }
        _ => u32::MAX,
    }
}

/// Takes a half where the kind is one, and drops or turns the sign.
#[inline]
pub(super) fn modify(values: &mut Lanes, kind: Kind, high: bool, absolute: bool, negate: bool) {
    if kind.is_half() {
        let shift = if high { 16 } else { 0 };
        values.iter_mut().for_each(|value| *value = *value >> shift & 0xffff);
    }
    let sign = kind.sign() as u32;
    if absolute {
        values.iter_mut().for_each(|value| *value &= !sign);
    }
    if negate {
        values.iter_mut().for_each(|value| *value ^= sign);
    }
}

/// As [`modify`], of 64 bits.
pub(super) fn modify_wide(values: &mut Wide, kind: Kind, absolute: bool, negate: bool) {
    if absolute {
        values.iter_mut().for_each(|value| *value &= !kind.sign());
    }
    if negate {
        values.iter_mut().for_each(|value| *value ^= kind.sign());
    }
}

/// Subnormal single-precision numbers become zero.
pub(super) fn flush_all(values: &mut Lanes) {
    values.iter_mut().for_each(|value| *value = flush(f32::from_bits(*value)).to_bits());
}

/// Where each lane reads, `None` where there is nothing to read; and the lanes that may be written.
pub(super) fn select(selection: &LaneSelection, exec: u32) -> ([Option<u8>; LANES], u32) {
    let mut written = selection.written;
    let sources = std::array::from_fn(|lane| {
        let source = source_of(selection.pattern, lane as u8)
            .filter(|source| selection.fetch_inactive || exec >> source & 1 != 0);
        if source.is_none() && !selection.zero {
            written &= !(1 << lane);
        }
        source
    });
    (sources, written)
}

/// The lane that a lane reads, within its row of 16.
fn source_of(pattern: Pattern, lane: u8) -> Option<u8> {
    let (row, within) = (lane & 16, lane & 15);
    let inside = |lane: Option<u8>| lane.filter(|lane| *lane < 16);
    let source = match pattern {
        Pattern::Eight(lanes) => return Some(lane & !7 | lanes[usize::from(lane & 7)]),
        Pattern::Four(lanes) => return Some(lane & !3 | lanes[usize::from(lane & 3)]),
        Pattern::ShiftLeft(by) => inside(within.checked_add(by))?,
        Pattern::ShiftRight(by) => inside(within.checked_sub(by))?,
        Pattern::Rotate(by) => within.wrapping_sub(by) & 15,
        Pattern::Mirror => 15 - within,
        Pattern::HalfMirror => within & 8 | (7 - (within & 7)),
        Pattern::Share(of) => of,
        Pattern::Xor(with) => within ^ with,
    };
    Some(row | source)
}

/// A value from other lanes; zero where there is none.
pub(super) fn moved<T: Copy + Default>(values: &[T; LANES], from: &[Option<u8>; LANES]) -> [T; LANES] {
    std::array::from_fn(|lane| from[lane].map_or_else(T::default, |source| values[usize::from(source)]))
}

/// A mask from other lanes; set where there is none.
pub(super) fn moved_mask(mask: u32, from: &[Option<u8>; LANES]) -> u32 {
    let bit = |lane: usize| from[lane].is_none_or(|source| mask >> source & 1 != 0);
    (0..LANES).fold(0, |all, lane| all | u32::from(bit(lane)) << lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_those_of_the_guide() {
        for (pattern, lane, source) in [
            (Pattern::Four([1, 0, 3, 2]), 6, Some(7)),
            (Pattern::Eight([7, 6, 5, 4, 3, 2, 1, 0]), 9, Some(14)),
            (Pattern::ShiftLeft(1), 14, Some(15)),
            (Pattern::ShiftLeft(1), 15, None),
            (Pattern::ShiftRight(8), 24, Some(16)),
            (Pattern::ShiftRight(8), 23, None),
            (Pattern::Rotate(1), 0, Some(15)),
            (Pattern::Rotate(4), 20, Some(16)),
            (Pattern::Mirror, 17, Some(30)),
            (Pattern::HalfMirror, 9, Some(14)),
            (Pattern::Share(3), 20, Some(19)),
            (Pattern::Xor(8), 17, Some(25)),
        ] {
            assert_eq!(source_of(pattern, lane), source, "{pattern:?} {lane}");
        }
    }
}
