//! [`Report`]: which instructions of a kernel were executed, and how often.

use std::collections::BTreeMap;

use crate::object::Kernel;

/// What a launch executed.
#[derive(Debug, Clone)]
pub struct Report {
    /// For each instruction of the kernel, its mnemonics, address and how often a wave executed it.
    instructions: Vec<([&'static str; 2], u64, u64)>,
    executed: u64,
}

impl Report {
    pub(crate) fn new(kernel: &Kernel) -> Self {
        let one = |instruction: &crate::Instruction| (instruction.names, instruction.address, 0);
        let all = kernel.instructions().iter().map(|decoded| match decoded {
            Ok(instruction) => one(instruction),
            Err(undecoded) => (["not decoded", ""], undecoded.address, 0),
        });
        Self { instructions: all.collect(), executed: 0 }
    }

    pub(crate) fn count(&mut self, index: usize) {
        self.instructions[index].2 += 1;
        self.executed += 1;
    }

    /// Instructions that waves executed, all together.
    pub fn executed(&self) -> u64 {
        self.executed
    }

    /// How often each mnemonic was executed; both of two that are issued together count.
    pub fn mnemonics(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = BTreeMap::new();
        for (names, _, count) in self.instructions.iter().filter(|row| row.2 > 0) {
            for name in names.iter().filter(|name| !name.is_empty()) {
                *counts.entry(*name).or_insert(0) += count;
            }
        }
        counts
    }

    /// How many of the kernel's instructions were executed at least once, and how many it has. What follows the end of
    /// the program as filling is not counted.
    pub fn covered(&self) -> (usize, usize) {
        let counted = || self.instructions.iter().filter(|row| !FILLING.contains(&row.0[0]));
        (counted().filter(|row| row.2 > 0).count(), counted().count())
    }

    /// Address and mnemonic of the instructions that were never executed.
    pub fn missed(&self) -> Vec<(u64, String)> {
        let missed = self.instructions.iter().filter(|row| row.2 == 0 && !FILLING.contains(&row.0[0]));
        missed.map(|(names, address, _)| (*address, names.join(" ").trim_end().to_owned())).collect()
    }

    /// Adds what another launch of the same kernel executed.
    pub fn add(&mut self, other: &Self) {
        for (row, more) in self.instructions.iter_mut().zip(&other.instructions) {
            row.2 += more.2;
        }
        self.executed += other.executed;
    }
}

/// What stands behind programs so that prefetching finds no garbage.
const FILLING: [&str; 2] = ["s_code_end", "s_nop"];
