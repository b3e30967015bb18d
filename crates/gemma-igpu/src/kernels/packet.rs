//! Packets: what a unit reads of a row at a time, 16 bytes, and the product with the activations that belong to it.
//!
//! In the types with nibbles a packet is 16 values in low nibbles and 16 others in high ones; each sixteen has one scale
//! and one minimum.

use cubecl::prelude::*;

use super::format::{Format, Four, half_bits};
use super::staged;

/// Four words.
pub(crate) type Words4 = Vector<u32, Const<4>>;

impl Format {
    /// Values of a packet.
    pub(crate) const fn packet_values(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 8,
            Self::Q8_0 => 16,
            _ => 32,
        }
    }

    /// Fours of a packet that lie together; the others lie [`Format::distance`] further.
    const fn near_fours(self) -> usize {
        let fours = self.packet_values() / 4;
        if fours < 4 { fours } else { 4 }
    }

    /// Fours from the first in low nibbles to the first in high nibbles.
    pub(crate) const fn distance(self) -> usize {
        match self {
            Self::Q6K => 16,
            Self::Q5K | Self::Q4K => 8,
            _ => 4,
        }
    }

    /// Whether values have a minimum besides a scale.
    const fn has_minimum(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::Q8_0)
    }
}

impl Format {
    /// Quads of words of eight packets where they stand together with what they need besides; 0 where each packet stands alone.
    const fn quads_of_eight(self) -> usize {
        match self {
            Self::Q4K => 9,
            Self::Q5K => 11,
            Self::Q6K => 13,
            _ => 0,
        }
    }
}

/// Where the eight packets with packet `at` of a row of `packets` begin. Rows of these types are whole eights, so that what
/// depends on `at` is the same in every row.
#[cube]
fn eight(row: usize, at: usize, packets: usize, #[comptime] format: Format) -> usize {
    row * (packets / 8 * comptime!(format.quads_of_eight())) + at / 8 * comptime!(format.quads_of_eight())
}

/// Where packet `at` of row `row` lies, in a matrix with `packets` packets a row.
#[cube]
pub(crate) fn place(row: usize, at: usize, packets: usize, #[comptime] format: Format) -> usize {
    match format {
        Format::Q4K => eight(row, at, packets, format) + (1 + at % 8),
        Format::Q5K => eight(row, at, packets, format) + (3 + at % 8),
        Format::Q6K => eight(row, at, packets, format) + at % 8,
        _ => row * packets + at,
    }
}

impl Format {
    /// Quads of words that a packet needs besides itself: scales, minima, upper bits.
    pub(crate) const fn besides(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 0,
            Self::Q8_0 | Self::Q5_0 | Self::Q4_1 | Self::Q4_0 | Self::Q4K => 1,
            Self::Q5K => 2,
            Self::Q6K => 3,
        }
    }
}

/// What packet `at` of row `row` needs besides itself, quad number `which` of it.
#[cube]
pub(crate) fn beside(
    words: &[Words4],
    scales: &[u32],
    row: usize,
    at: usize,
    packets: usize,
    #[comptime] which: usize,
    #[comptime] format: Format,
) -> Words4 {
    let packet = row * packets + at;
    match format {
        Format::Q8_0 => Words4::new(scales[packet / 4]),
        Format::Q4_0 => Words4::new(scales[packet / 2]),
        Format::Q4_1 => Words4::new(scales[packet]),
        Format::Q5_0 => {
            // Behind the words of fifth bits, one a block, stand the scales, two a word.
            let mut both = Words4::new(scales[packet]);
            both.insert(1usize, scales[words.len() + packet / 2]);
            both
        }
        Format::Q4K => words[eight(row, at, packets, format)],
        Format::Q5K => {
            if comptime!(which == 0) {
                words[eight(row, at, packets, format)]
            } else {
                words[eight(row, at, packets, format) + (1 + at % 2)]
            }
        }
        Format::Q6K => {
            if comptime!(which == 0) {
                words[eight(row, at, packets, format) + 12]
            } else if comptime!(which == 1) {
                words[eight(row, at, packets, format) + (8 + at % 8 / 4 * 2 + at % 2)]
            } else {
                let block = row * (packets / 8) + at / 8;
                Words4::new(scales[block / 2])
            }
        }
        Format::F32 | Format::F16 | Format::BF16 => Words4::new(0u32),
    }
}

/// The f16 number `index` of an array, of whose word `word` it is a half.
#[cube]
pub(crate) fn half_of(word: Words4, #[comptime] at: usize, index: usize) -> f32 {
    half_bits((word.extract(at) >> ((index as u32 & 1) * 16)) & 0xffff)
}

/// The activations of packet `packet`, counted from where staging has begun.
#[cube]
pub(crate) fn activations(staged: &[Words4], packet: usize, #[comptime] format: Format) -> Array<Four> {
    let near = staged::place(near_four(packet, format));
    let mut fours = Array::<Four>::new(comptime!(format.packet_values() / 4));
    #[unroll]
    for i in 0..comptime!(format.near_fours()) {
        fours[i] = Four::reinterpret(staged[near + i]);
    }
    if comptime!(format.packet_values() == 32) {
        // Sixteens do not reach over a place that stays free.
        let far = staged::place(near_four(packet, format) + comptime!(format.distance()));
        #[unroll]
        for i in 0..4usize {
            fours[comptime!(4 + i)] = Four::reinterpret(staged[far + i]);
        }
    }
    fours
}

/// The sums of the activations of a packet's two sixteens; nothing where no minimum asks for them.
#[cube]
pub(crate) fn totals(x: &Array<Four>, #[comptime] format: Format) -> (f32, f32) {
    if comptime!(format.has_minimum()) {
        (total(x[0] + x[1] + x[2] + x[3]), total(x[4] + x[5] + x[6] + x[7]))
    } else {
        (0.0f32.runtime(), 0.0f32.runtime())
    }
}

/// The product of packet `at` of row `row`, `stored` as it was read, with its activations. What it needs besides is in place `place`
/// of `besides`.
#[cube]
pub(crate) fn product(
    stored: Words4,
    besides: &Array<Words4>,
    row: usize,
    at: usize,
    packets: usize,
    x: &Array<Four>,
    totals: (f32, f32),
    #[comptime] place: usize,
    #[comptime] format: Format,
) -> f32 {
    let first = comptime!(place * format.besides());
    let packet = row * packets + at;
    match format {
        Format::F32 => whole(stored, x[0]),
        Format::F16 | Format::BF16 => halves(stored, x, format),
        Format::Q8_0 => bytes_of(stored, x) * half_of(besides[first], 0usize, packet / 2),
        Format::Q4_0 => {
            let q = nibbles(stored, x, 0u32, 0usize) + nibbles(stored, x, 4u32, 4usize);
            (q - 8.0f32 * (totals.0 + totals.1)) * half_of(besides[first], 0usize, packet)
        }
        Format::Q4_1 => {
            let q = nibbles(stored, x, 0u32, 0usize) + nibbles(stored, x, 4u32, 4usize);
            let both = besides[first].extract(0usize);
            q * half_bits(both & 0xffff) + (totals.0 + totals.1) * half_bits(both >> 16)
        }
        Format::Q5_0 => {
            let bits = besides[first].extract(0usize);
            let low = fifths(stored, x, bits, 0u32, 0usize);
            let high = fifths(stored, x, bits >> 16, 4u32, 4usize);
            (low + high - 16.0f32 * (totals.0 + totals.1)) * half_of(besides[first], 1usize, packet)
        }
        Format::Q4K => {
            let q = (nibbles(stored, x, 0u32, 0usize), nibbles(stored, x, 4u32, 4usize));
            k_quant(besides[first], (at % 8 / 2 * 2) as u32, q, totals)
        }
        Format::Q5K => {
            let bits = besides[comptime!(first + 1)];
            let shift = (at % 8 / 2 * 2) as u32;
            let low = high_bits(stored, bits, x, 0u32, shift, 0x0101_0101u32, 0usize);
            let high = high_bits(stored, bits, x, 4u32, shift + 1, 0x0101_0101u32, 4usize);
            k_quant(besides[first], shift, (low, high), totals)
        }
        Format::Q6K => {
            let v = at % 8;
            let bits = besides[comptime!(first + 1)];
            let shift = 2 * (v % 4 / 2) as u32;
            let low = high_bits(stored, bits, x, 0u32, shift, 0x0303_0303u32, 0usize);
            let high = high_bits(stored, bits, x, 4u32, shift + 4, 0x0303_0303u32, 4usize);
            let steps = q6k_steps(besides[first], v);
            let sums = (low - 32.0f32 * totals.0) * steps.0 + (high - 32.0f32 * totals.1) * steps.1;
            sums * half_of(besides[comptime!(first + 2)], 0usize, row * (packets / 8) + at / 8)
        }
    }
}

/// Four values that are stored as they are.
#[cube]
fn whole(stored: Words4, x: Four) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..4usize {
        sum += f32::reinterpret(stored.extract(i)) * x.extract(i);
    }
    sum
}

/// Sixteen signed bytes of four words with four fours.
#[cube]
fn bytes_of(stored: Words4, x: &Array<Four>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..4usize {
        sum += signed(stored.extract(i), x[i]);
    }
    sum
}

/// The scales of the two sixteens of packet `v` of a [`Format::Q6K`] block, from its 16 signed bytes.
#[cube]
pub(crate) fn q6k_steps(all: Words4, v: usize) -> (f32, f32) {
    // Eight of each half of the block: this one, and the one four further.
    let near = select(v < 4, all.extract(0usize), all.extract(2usize));
    let far = select(v < 4, all.extract(1usize), all.extract(3usize));
    let at = 24 - 8 * (v % 4) as u32;
    (f32::cast_from(i32::cast_from(near << at) >> 24), f32::cast_from(i32::cast_from(far << at) >> 24))
}

/// The lower 16 bits of `bits`, each the fifth bit of its byte of four words.
#[cube]
pub(crate) fn spread(bits: u32) -> Words4 {
    let mut words = Words4::new(0u32);
    #[unroll]
    for i in 0..4usize {
        let four = (bits >> comptime!(4 * i as u32)) & 15;
        words.insert(i, ((four * 0x0020_4081) & 0x0101_0101) << 4);
    }
    words
}

/// The first four of a row's packet.
#[cube]
pub(crate) fn near_four(packet: usize, #[comptime] format: Format) -> usize {
    match format {
        Format::Q4K | Format::Q5K => packet / 2 * 16 + packet % 2 * 4,
        Format::Q6K => packet / 4 * 32 + packet % 4 * 4,
        _ => packet * comptime!(format.packet_values() / 4),
    }
}

/// The two sixteens of a K-quant with 12 bytes of scales and minima, of which groups `group` and `group + 1` are meant.
#[cube]
fn k_quant(header: Words4, group: u32, q: (f32, f32), totals: (f32, f32)) -> f32 {
    let (scales, minima) = six_bits(header, group);
    let first = header.extract(0usize);
    (q.0 * low_byte(scales) + q.1 * high_byte(scales)) * half_bits(first & 0xffff)
        - (totals.0 * low_byte(minima) + totals.1 * high_byte(minima)) * half_bits(first >> 16)
}

/// Scales and minima of groups `group`, which is even, and `group + 1`, 0 to 63 each: in the lower two bytes of a word.
#[cube]
pub(crate) fn six_bits(header: Words4, group: u32) -> (u32, u32) {
    let shift = group % 4 * 8;
    let (scale, minimum) = (header.extract(1usize) >> shift, header.extract(2usize) >> shift);
    let rest = header.extract(3usize) >> shift;
    let near = group < 4;
    let scales = select(near, scale & 0x3f3f, (rest & 0x0f0f) | ((scale >> 2) & 0x3030));
    let minima = select(near, minimum & 0x3f3f, ((rest >> 4) & 0x0f0f) | ((minimum >> 2) & 0x3030));
    (scales, minima)
}

/// The lowest byte.
#[cube]
pub(crate) fn low_byte(word: u32) -> f32 {
    f32::cast_from(word & 255)
}

/// The byte above it.
#[cube]
pub(crate) fn high_byte(word: u32) -> f32 {
    f32::cast_from((word >> 8) & 255)
}

/// Sixteen nibbles of four words with fours from `x[first]` on.
#[cube]
fn nibbles(stored: Words4, x: &Array<Four>, #[comptime] shift: u32, #[comptime] first: usize) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..4usize {
        sum += bytes((stored.extract(i) >> shift) & 0x0f0f_0f0f, x[comptime!(first + i)]);
    }
    sum
}

/// [`nibbles`] with the bits of `mask` of another word's bytes above them.
#[cube]
fn high_bits(
    stored: Words4,
    bits: Words4,
    x: &Array<Four>,
    #[comptime] nibble: u32,
    shift: u32,
    mask: u32,
    #[comptime] first: usize,
) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..4usize {
        let high = ((bits.extract(i) >> shift) & mask) << 4;
        sum += bytes(((stored.extract(i) >> nibble) & 0x0f0f_0f0f) | high, x[comptime!(first + i)]);
    }
    sum
}

/// [`nibbles`] with a fifth bit each, the lower 16 bits of `bits` in order.
#[cube]
fn fifths(
    stored: Words4,
    x: &Array<Four>,
    bits: u32,
    #[comptime] shift: u32,
    #[comptime] first: usize,
) -> f32 {
    let high = spread(bits);
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..4usize {
        let quants = ((stored.extract(i) >> shift) & 0x0f0f_0f0f) | high.extract(i);
        sum += bytes(quants, x[comptime!(first + i)]);
    }
    sum
}

/// The bytes of a word, by a four.
#[cube]
fn bytes(word: u32, x: Four) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..4usize {
        sum += f32::cast_from((word >> comptime!(8 * i as u32)) & 255) * x.extract(i);
    }
    sum
}

/// The bytes of a word as signed whole numbers, by a four.
#[cube]
fn signed(word: u32, x: Four) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..4usize {
        let byte = i32::cast_from(word << comptime!(24 - 8 * i as u32)) >> 24;
        sum += f32::cast_from(byte) * x.extract(i);
    }
    sum
}

/// Eight values of 16 bits.
#[cube]
fn halves(stored: Words4, x: &Array<Four>, #[comptime] format: Format) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..4usize {
        let word = stored.extract(i);
        let four = x[comptime!(i / 2)];
        let (a, b) = if comptime!(matches!(format, Format::BF16)) {
            (f32::reinterpret(word << 16), f32::reinterpret(word & 0xffff_0000))
        } else {
            (half_bits(word & 0xffff), half_bits(word >> 16))
        };
        sum += a * four.extract(comptime!(i % 2 * 2)) + b * four.extract(comptime!(i % 2 * 2 + 1));
    }
    sum
}

/// The sum of a four.
#[cube]
fn total(x: Four) -> f32 {
    x.extract(0usize) + x.extract(1usize) + x.extract(2usize) + x.extract(3usize)
}
