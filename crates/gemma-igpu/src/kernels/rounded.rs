//! Products of packets with activations rounded to 8 bits: integer dot products of four bytes at a time.

use cubecl::prelude::*;

use super::format::{Format, Four, half_bits};
use super::packet::{self, Words4, half_of, high_byte, low_byte, near_four, six_bits};
use super::staged::{self, Staging};

/// What a packet meets: two sixteens, their steps, their sums. In the types without nibbles the second is not there.
#[derive(CubeType)]
pub(crate) struct Met {
    near: Words4,
    far: Words4,
    steps: (f32, f32),
    sums: (f32, f32),
}

/// What packet `packet` meets, counted from where staging has begun.
#[cube]
pub(crate) fn met(
    staged: &[Words4],
    packet: usize,
    #[comptime] format: Format,
    #[comptime] staging: Staging,
) -> Met {
    let near = near_four(packet, format) / 4;
    let far = near + comptime!(format.distance() / 4);
    let blocks = comptime!(staging.first_block());
    let of_near = Four::reinterpret(staged[blocks + near / 2]);
    if comptime!(format.packet_values() == 32) {
        let of_far = Four::reinterpret(staged[blocks + far / 2]);
        Met {
            near: staged[staged::place(near)],
            far: staged[staged::place(far)],
            steps: (of_near.extract(0usize), of_far.extract(0usize)),
            sums: (half_sum(of_near, near), half_sum(of_far, far)),
        }
    } else {
        Met {
            near: staged[staged::place(near)],
            far: Words4::new(0u32),
            steps: (of_near.extract(0usize), 0.0f32.runtime()),
            sums: (0.0f32.runtime(), 0.0f32.runtime()),
        }
    }
}

/// The sum of the sixteen `index` in its block.
#[cube]
fn half_sum(block: Four, index: usize) -> f32 {
    select(index % 2 == 0, block.extract(1usize), block.extract(2usize))
}

/// The product of packet `at` of row `row`, `stored` as it was read, with what it meets. What it needs besides is in place `place` of
/// `besides`.
#[cube]
pub(crate) fn product(
    stored: Words4,
    besides: &Array<Words4>,
    row: usize,
    at: usize,
    packets: usize,
    met: &Met,
    #[comptime] place: usize,
    #[comptime] format: Format,
) -> f32 {
    let first = comptime!(place * format.besides());
    let packet = row * packets + at;
    match format {
        Format::Q8_0 => dot(stored, met.near) * met.steps.0 * half_of(besides[first], 0usize, packet / 2),
        Format::Q4_0 => {
            let q = plain(stored, met);
            (q.0 + q.1 - 8.0f32 * (met.sums.0 + met.sums.1)) * half_of(besides[first], 0usize, packet)
        }
        Format::Q4_1 => {
            let q = plain(stored, met);
            let both = besides[first].extract(0usize);
            (q.0 + q.1) * half_bits(both & 0xffff) + (met.sums.0 + met.sums.1) * half_bits(both >> 16)
        }
        Format::Q5_0 => {
            let bits = besides[first].extract(0usize);
            let low = dot(nibbles(stored, 0u32) | packet::spread(bits), met.near) * met.steps.0;
            let high = dot(nibbles(stored, 4u32) | packet::spread(bits >> 16), met.far) * met.steps.1;
            (low + high - 16.0f32 * (met.sums.0 + met.sums.1)) * half_of(besides[first], 1usize, packet)
        }
        Format::Q4K => {
            let group = (at % 8 / 2 * 2) as u32;
            k_quant(besides[first], group, plain(stored, met), met)
        }
        Format::Q5K => {
            let bits = besides[comptime!(first + 1)];
            let group = (at % 8 / 2 * 2) as u32;
            let mask = Words4::new(0x1010_1010u32);
            let low = nibbles(stored, 0u32) | (((bits >> Words4::new(group)) << Words4::new(4u32)) & mask);
            let high = nibbles(stored, 4u32) | (((bits >> Words4::new(group)) << Words4::new(3u32)) & mask);
            let q = (dot(low, met.near) * met.steps.0, dot(high, met.far) * met.steps.1);
            k_quant(besides[first], group, q, met)
        }
        _ => {
            let v = at % 8;
            let bits = besides[comptime!(first + 1)] >> Words4::new(2 * (v % 4 / 2) as u32);
            let mask = Words4::new(0x3030_3030u32);
            let low = nibbles(stored, 0u32) | ((bits << Words4::new(4u32)) & mask);
            let high = nibbles(stored, 4u32) | (bits & mask);
            let steps = packet::q6k_steps(besides[first], v);
            let low = (dot(low, met.near) * met.steps.0 - 32.0f32 * met.sums.0) * steps.0;
            let high = (dot(high, met.far) * met.steps.1 - 32.0f32 * met.sums.1) * steps.1;
            (low + high) * half_of(besides[comptime!(first + 2)], 0usize, row * (packets / 8) + at / 8)
        }
    }
}

/// The products of both sixteens of plain nibbles.
#[cube]
fn plain(stored: Words4, met: &Met) -> (f32, f32) {
    (dot(nibbles(stored, 0u32), met.near) * met.steps.0, dot(nibbles(stored, 4u32), met.far) * met.steps.1)
}

/// [`packet::product`]'s scales and minima of a K-quant.
#[cube]
fn k_quant(header: Words4, group: u32, q: (f32, f32), met: &Met) -> f32 {
    let (scales, minima) = six_bits(header, group);
    let first = header.extract(0usize);
    (q.0 * low_byte(scales) + q.1 * high_byte(scales)) * half_bits(first & 0xffff)
        - (met.sums.0 * low_byte(minima) + met.sums.1 * high_byte(minima)) * half_bits(first >> 16)
}

/// The low nibbles of all bytes, or with a shift of 4 the high ones.
#[cube]
fn nibbles(stored: Words4, #[comptime] shift: u32) -> Words4 {
    (stored >> Words4::new(shift)) & Words4::new(0x0f0f_0f0fu32)
}

/// The sum of sixteen products of signed bytes.
#[cube]
fn dot(a: Words4, b: Words4) -> f32 {
    let mut sum = 0i32;
    #[unroll]
    for i in 0..4usize {
        sum = dp4a(i32::cast_from(a.extract(i)), i32::cast_from(b.extract(i)), sum);
    }
    f32::cast_from(sum)
}
