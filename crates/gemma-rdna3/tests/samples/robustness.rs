//! No bytes make the reader or the decoder panic, and no changed code object makes the machine.

use gemma_rdna3::{CodeObject, MAX_WORDS, Memory, Options, decode, launch};
use proptest::prelude::*;

use crate::common::compile;

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn decoding_never_panics(words in prop::collection::vec(any::<u32>(), 0..4), top in 0_u32..64) {
        // Every family of encodings gets its share.
        let mut words = words;
        if let Some(first) = words.first_mut() {
            *first = *first & 0x03ff_ffff | top << 26;
        }
        match decode(&words, 0x1000) {
            Ok(instruction) => prop_assert!((1..=MAX_WORDS).contains(&instruction.words().len())),
            Err(undecoded) => prop_assert!(undecoded.words.len() <= MAX_WORDS),
        }
    }
}

/// A code object with bytes changed at random places.
fn changed() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn changed_objects_never_panic(changes in changed(), seed in any::<u64>(), cut in any::<prop::sample::Index>()) {
        static OBJECT: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let original = OBJECT.get_or_init(|| compile("waves.hip", ("gfx1103", "-O3")));
        let mut bytes = original.clone();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let _ = CodeObject::parse(&bytes[..cut.index(bytes.len())]);
        if let Ok(object) = CodeObject::parse(&bytes) {
            execute(&object, seed);
        }
    }

    #[test]
    fn random_code_never_panics(words in prop::collection::vec(any::<u32>(), 16..64), seed in any::<u64>()) {
        static OBJECT: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let original = OBJECT.get_or_init(|| compile("math.hip", ("gfx1103", "-O3")));
        let object = CodeObject::parse(original).expect("the object");
        // Words of real code, put together anew, so that many of them are instructions.
        let code: Vec<u32> = object
            .kernels()
            .iter()
            .flat_map(gemma_rdna3::Kernel::instructions)
            .flatten()
            .flat_map(|instruction| instruction.words().to_vec())
            .collect();
        let start = object.kernels()[0].instructions()[0].as_ref().expect("an instruction").address();
        let place = find(original, &code[..8]).expect("the code in the file");
        let mut bytes = original.clone();
        for (index, word) in words.iter().enumerate() {
            let new = if word % 5 == 0 { word.rotate_left(7) } else { code[*word as usize % code.len()] };
            bytes[place + 4 * index..][..4].copy_from_slice(&new.to_le_bytes());
        }
        prop_assert!(start > 0);
        if let Ok(object) = CodeObject::parse(&bytes) {
            execute(&object, seed);
        }
    }
}

fn find(bytes: &[u8], words: &[u32]) -> Option<usize> {
    let wanted: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Runs every kernel for a few instructions; how it ends does not matter.
fn execute(object: &CodeObject, seed: u64) {
    for kernel in object.kernels() {
        let mut memory = Memory::new();
        let buffer = memory.allocate(1 << 12);
        let arguments: Vec<u8> =
            buffer.to_le_bytes().into_iter().cycle().take(kernel.argument_bytes()).collect();
        let options =
            Options { seed, instructions: 2000, undefined: seed.is_multiple_of(2), ..Options::default() };
        for block in [32, 64] {
            let _ = launch(object, kernel, [1, 1, 1], [block, 1, 1], &arguments, &mut memory, &options);
        }
    }
}
