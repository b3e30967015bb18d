//! Atomic operations in memory and in local memory.

use gemma_rdna3::Memory;

use crate::common::{Arguments, in_every_variant, read, read_words, run, words};

struct Places {
    cells: u64,
    wide: u64,
    out: u64,
}

fn places(memory: &mut Memory) -> (Places, Arguments) {
    let cells = memory.allocate_with(&words(&[0, -1000, 1000, 0, 0, 0, 0, 0]));
    let (wide, floats, out) = (memory.allocate(16), memory.allocate(4), memory.allocate(128 * 4));
    (
        Places { cells, wide, out },
        Arguments::default().pointer(cells).pointer(wide).pointer(floats).pointer(out),
    )
}

#[test]
fn in_memory() {
    in_every_variant("atomics.hip", |object, seed| {
        let mut memory = Memory::new();
        let (places, arguments) = places(&mut memory);
        run(object, "atomics", 2, 64, arguments, &mut memory, seed).unwrap();
        let all = 0..128;
        let largest = all.clone().map(|index| index * 13 % 127).max().unwrap() as f32;
        let expected = [
            all.clone().sum::<i32>(),
            all.clone().map(|index| index * 7 % 101).max().unwrap(),
            all.clone().map(|index| index * 7 % 101).min().unwrap(),
            -1,
            all.clone().fold(0, |value, index| value ^ index),
            64,
            64,
            largest.to_bits() as i32,
        ];
        assert_eq!(read_words(&memory, places.cells, 8), expected);
        assert_eq!(read(&memory, places.wide, 1, u64::from_le_bytes), [all.sum::<i32>() as u64 * (1 << 30)]);
        let out = read_words(&memory, places.out, 128);
        for odd in 0..2 {
            let mut got: Vec<i32> = out.iter().skip(odd).step_by(2).copied().collect();
            got.sort_unstable();
            assert_eq!(got, (0..64).collect::<Vec<_>>(), "each place once");
        }
    });
}

#[test]
fn in_local_memory() {
    in_every_variant("atomics.hip", |object, seed| {
        let mut memory = Memory::new();
        let (places, arguments) = places(&mut memory);
        run(object, "local_atomics", 1, 64, arguments, &mut memory, seed).unwrap();
        let values = (0..64).map(|item| item * 7 % 61);
        let sum: i32 = values.clone().sum();
        let found = read_words(&memory, places.cells, 8);
        assert_eq!(found[..3], [sum, 60, 0]);
        assert_eq!(found[3], values.clone().fold(0, |mask, value| mask | 1 << (value & 31)));
        assert_eq!(found[4], values.fold(0, |mask, value| mask ^ value));
        // What was exchanged in, and everything that was exchanged out.
        assert_eq!(found[5..], [64, found[6], sum]);
        assert_eq!(read(&memory, places.wide, 1, u64::from_le_bytes), [(sum as u64) << 29]);
        assert_eq!(read_words(&memory, places.out, 64), [1; 64]);
    });
}
