//! Bytes, halves and bits moved about.

use gemma_rdna3::Memory;

use crate::common::{Arguments, Random, bytes, in_every_variant, read, read_words, run, words};

const COUNT: usize = 128;

#[test]
fn bytes_and_shorts() {
    in_every_variant("narrow.hip", |object, seed| {
        let mut random = Random(seed);
        let in_bytes = random.bytes(COUNT + 1);
        let shorts: Vec<u16> = (0..2 * COUNT).map(|_| random.bits() as u16).collect();
        let mut memory = Memory::new();
        let pb = memory.allocate_with(&in_bytes);
        let ps = memory.allocate_with(&bytes(&shorts, |value| value.to_le_bytes()));
        let [out_bytes, out_shorts, out] = [COUNT, COUNT * 2, COUNT * 32].map(|size| memory.allocate(size));
        let arguments = Arguments::default().pointer(pb).pointer(ps);
        let arguments = arguments.pointer(out_bytes).pointer(out_shorts).pointer(out);
        run(object, "narrow", 2, 64, arguments, &mut memory, seed).unwrap();
        let found_bytes = memory.read(out_bytes, COUNT).expect("bytes").to_vec();
        let found_shorts = read(&memory, out_shorts, COUNT, u16::from_le_bytes);
        let found = read_words(&memory, out, COUNT * 8);
        for index in 0..COUNT {
            let (byte, next) = (in_bytes[index], in_bytes[index + 1]);
            let (a, b) = (shorts[2 * index], shorts[2 * index + 1]);
            assert_eq!(found_bytes[index], byte.wrapping_add(next));
            assert_eq!(found_shorts[index], a.wrapping_mul(b).wrapping_add(u16::from(byte)));
            let expected = narrow(a, b, byte, next as i8).map(|word| word as i32);
            assert_eq!(found[index * 8..][..8], expected, "{a:#x} {b:#x} {byte:#x} {next:#x}");
        }
    });
}

fn narrow(a: u16, b: u16, byte: u8, signed_byte: i8) -> [u32; 8] {
    let (sa, sb, sc) = (a as i16, b as i16, i16::from(signed_byte));
    let byte = u16::from(byte);
    let pair = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
    [
        pair(a << (b & 15), (sa >> (b & 15)) as u16),
        pair(sa.min(sb) as u16, a.max(b)),
        i32::wrapping_add(i32::from(sa) * i32::from(sb), i32::from(sc)) as u32,
        (u32::from(a) * u32::from(b)).wrapping_add(u32::from(byte)),
        pair(a.wrapping_mul(b).wrapping_add(a), b.wrapping_mul(byte).wrapping_add(b)),
        pair(sa.max(sb) as u16, sb.max(sc) as u16),
        pair(a.saturating_add(b), b.saturating_add(byte)),
        pair((sa >> 3).wrapping_sub(sb) as u16, (sb >> 3).wrapping_sub(sc) as u16),
    ]
}

#[test]
fn bits() {
    in_every_variant("narrow.hip", |object, seed| {
        let values = Random(seed + 1).words(3 * COUNT);
        let mut memory = Memory::new();
        let (input, out) = (memory.allocate_with(&words(&values)), memory.allocate(COUNT * 32));
        let arguments = Arguments::default().pointer(input).pointer(out);
        run(object, "bits", 2, 64, arguments, &mut memory, seed).unwrap();
        for (values, found) in values.chunks(3).zip(read_words(&memory, out, COUNT * 8).chunks(8)) {
            let [a, b, c] = [values[0] as u32, values[1] as u32, values[2] as u32];
            assert_eq!(found, moved(a, b, c).map(|word| word as i32), "{a:#x} {b:#x} {c:#x}");
        }
    });
}

fn moved(a: u32, b: u32, c: u32) -> [u32; 8] {
    let joined = u64::from(a) << 32 | u64::from(b);
    let byte = |value: u32, index: usize| u32::from(value.to_le_bytes()[index]);
    let permuted = |selector: u32| match selector {
        0..=7 => u32::from(joined.to_le_bytes()[selector as usize]),
        8..=11 => 255 * (joined >> (16 * (selector - 8) + 15) & 1) as u32,
        12 => 0,
        _ => 255,
    };
    let bytes = |of: &dyn Fn(usize) -> u32| (0..4).fold(0, |all, index| all | of(index) << (8 * index));
    let (offset, width) = (b & 31, c & 31);
    let field = a >> offset & ((1 << width) - 1);
    let signed = match width {
        0 => 0,
        width if offset + width >= 32 => (a as i32) >> offset,
        width => (field << (32 - width)) as i32 >> (32 - width),
    };
    let average = bytes(&|index| (byte(a, index) + byte(b, index) + (byte(c, index) & 1)) >> 1);
    let sums = [a ^ b ^ c, (a << 5).wrapping_add(b), a.wrapping_add(c) << 3, a | b | c];
    [
        (joined >> (c & 31)) as u32,
        (joined >> (8 * (c & 3))) as u32,
        bytes(&|index| permuted(byte(c, index) & 15)),
        (0..4).map(|index| byte(a, index).abs_diff(byte(b, index))).fold(c, u32::wrapping_add),
        field ^ signed as u32,
        a & b | !a & c,
        a.saturating_add(b) ^ (b as i32).saturating_sub(c as i32) as u32,
        sums.into_iter().fold(average, u32::wrapping_add),
    ]
}
