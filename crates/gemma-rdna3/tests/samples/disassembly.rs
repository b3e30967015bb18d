//! The decoder against LLVM's disassembler: mnemonic and length of every instruction of the sample kernels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::common::{VARIANTS, compile_with, folder, tool};
use gemma_rdna3::CodeObject;

/// What the disassembler says of an object: mnemonics by address.
fn disassembly(disassembler: &Path, object: &Path) -> BTreeMap<u64, String> {
    let output = Command::new(disassembler).arg("-d").arg(object).output().expect("llvm-objdump starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().filter_map(|line| line.split_once("// "));
    lines
        .map(|(code, comment)| {
            let address = comment.split(':').next().expect("an address");
            (u64::from_str_radix(address.trim(), 16).expect("a hexadecimal address"), mnemonic(code))
        })
        .collect()
}

/// The mnemonic without the suffix of its encoding; both where two operations are issued together.
fn mnemonic(code: &str) -> String {
    let first = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
    let plain = |name: String| {
        let suffixes = ["_e32", "_e64", "_dpp", "_e64_dpp", "_dpp8"];
        suffixes.iter().fold(name, |name, suffix| name.strip_suffix(suffix).unwrap_or(&name).to_owned())
    };
    match code.split_once("::") {
        Some((one, two)) => format!("{} :: {}", plain(first(one)), plain(first(two))),
        None => plain(first(code)),
    }
}

#[test]
fn every_instruction_has_the_name_that_the_disassembler_gives_it() {
    let disassembler = tool("llvm-objdump", "LLVM_OBJDUMP");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder()).expect("the sample kernels") {
        let path = entry.expect("an entry").path();
        // One kernel of faults is made of what is no instruction.
        if path.extension().is_none_or(|extension| extension != "hip") || path.ends_with("faults.hip") {
            continue;
        }
        for (chip, level) in VARIANTS {
            let bytes = compile_with(&path, chip, level, &[]);
            let directory = tempfile::tempdir().expect("a folder");
            let file = directory.path().join("object.co");
            std::fs::write(&file, &bytes).expect("the object is written");
            let object = CodeObject::parse(&bytes).expect("the object is read");
            let theirs = disassembly(&disassembler, &file);
            for kernel in object.kernels() {
                let mut end =
                    kernel.instructions().first().map_or(0, |first| first.as_ref().unwrap().address());
                for decoded in kernel.instructions() {
                    let place = format!("{} for {chip} with {level}", kernel.name());
                    let instruction = decoded.as_ref().unwrap_or_else(|error| panic!("{place}: {error:x?}"));
                    assert_eq!(instruction.address(), end, "{place}");
                    assert_eq!(theirs.get(&end), Some(&instruction.mnemonic()), "{place} at {end:#x}");
                    end += 4 * instruction.words().len() as u64;
                    names.insert(instruction.mnemonic());
                }
            }
        }
    }
    assert!(names.len() > 250, "the samples should need more instructions than {}", names.len());
}
