//! The decoder against LLVM's disassembler: mnemonic and length of every instruction of the sample kernels.

mod common;

use std::process::Command;

use common::{VARIANTS, compile, folder, tool};
use gemma_rdna3::CodeObject;

/// What the disassembler says of a kernel: (address, mnemonic).
fn disassembly(path: &std::path::Path, kernel: &str) -> Vec<(u64, String)> {
    let output = Command::new(tool("llvm-objdump", "LLVM_OBJDUMP"))
        .args(["-d", &format!("--disassemble-symbols={kernel}")])
        .arg(path)
        .output()
        .expect("llvm-objdump starts");
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
    let mut names = std::collections::BTreeSet::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).expect("the sample kernels") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "hip") {
            continue;
        }
        for variant in VARIANTS {
            let bytes = compile(path.file_name().and_then(|name| name.to_str()).expect("a name"), variant);
            let directory = tempfile::tempdir().expect("a folder");
            let file = directory.path().join("object.co");
            std::fs::write(&file, &bytes).expect("the object is written");
            let object = CodeObject::parse(&bytes).expect("the object is read");
            for kernel in object.kernels() {
                let ours: Vec<(u64, String)> = kernel
                    .instructions()
                    .iter()
                    .map(|decoded| match decoded {
                        Ok(instruction) => (instruction.address(), instruction.mnemonic()),
                        Err(undecoded) => panic!("{} {variant:?}: {undecoded:x?}", kernel.name()),
                    })
                    .collect();
                let theirs = disassembly(&file, kernel.name());
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    assert_eq!(ours, theirs, "{} {variant:?}", kernel.name());
                }
                // The disassembler goes on into the filling between kernels.
                let filling = theirs.get(ours.len()..).expect("as many instructions as the disassembler");
                assert!(filling.iter().all(|(_, name)| ["s_nop", "s_code_end"].contains(&name.as_str())));
                count += ours.len();
                names.extend(ours.into_iter().map(|(_, name)| name));
            }
        }
    }
    println!("{count} instructions, {} mnemonics", names.len());
    assert!(names.len() > 20, "{names:?}");
}
