//! The machine code of the kernels for the Radeon 780M, executed instruction by instruction.

use std::collections::BTreeMap;
use std::fs;

use gemma_hip_kernels::{Address, Launch, objects};
use gemma_rdna3::{CodeObject, Memory, Options, Report, launch};

use super::{Bank, Runner, build_folder, place};

/// The processor whose code is executed.
const ARCHITECTURE: &str = "gfx1103";

/// All code objects, and what was executed of each kernel so far.
pub struct Machine {
    objects: BTreeMap<&'static str, CodeObject>,
    reports: BTreeMap<String, Report>,
    launches: u64,
}

impl Machine {
    /// Reads what `cargo xtask build-kernels --hip` has built.
    pub fn new() -> Self {
        let folder = objects::folder(&build_folder());
        let read = |(operation, _): (&'static str, _)| {
            let path = folder.join(objects::file_name(operation, ARCHITECTURE));
            let bytes = fs::read(&path).unwrap_or_else(|error| {
                panic!("{}: {error}; run `cargo xtask build-kernels --hip`", path.display())
            });
            (operation, CodeObject::parse(&bytes).expect("a code object"))
        };
        Self { objects: objects::OPERATIONS.map(read).into(), reports: BTreeMap::new(), launches: 0 }
    }

    /// Names of all kernels.
    pub fn kernels(&self) -> Vec<String> {
        let named = self.objects.values().flat_map(CodeObject::kernels);
        named.map(|kernel| kernel.name().to_owned()).collect()
    }

    /// Of each kernel that has run: instructions that were executed at least once, and all it has.
    pub fn covered(&self) -> BTreeMap<&str, (usize, usize)> {
        self.reports.iter().map(|(name, report)| (name.as_str(), report.covered())).collect()
    }

    /// How often each instruction was executed, of all kernels.
    pub fn mnemonics(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        for (name, count) in self.reports.values().flat_map(Report::mnemonics) {
            *all.entry(name).or_default() += count;
        }
        all
    }
}

impl Runner for Machine {
    fn run(&mut self, wanted: &Launch, bank: &mut Bank) -> Result<(), String> {
        self.launches += 1;
        let operation = objects::operation_of(&wanted.kernel).ok_or("no operation has it")?;
        let object = &self.objects[operation];
        let kernel = object.kernel(&wanted.kernel).ok_or("the object does not have it")?;
        let mut memory = Memory::new();
        let (mut arguments, mut moved) = (wanted.arguments.clone(), BTreeMap::new());
        for word in arguments.as_chunks_mut::<8>().0 {
            let Some((piece, offset)) = place(Address(u64::from_le_bytes(*word))) else { continue };
            let begin = *moved.entry(piece).or_insert_with(|| memory.allocate_with(&bank.pieces[piece]));
            *word = (begin + offset as u64).to_le_bytes();
        }
        let options = Options { seed: self.launches, ..Options::default() };
        let block = [wanted.block, 1, 1];
        let report = launch(object, kernel, wanted.grid, block, &arguments, &mut memory, &options)
            .map_err(|error| error.to_string())?;
        for (piece, begin) in moved {
            let bytes = &mut bank.pieces[piece];
            let count = bytes.len();
            bytes.copy_from_slice(memory.read(begin, count).ok_or("memory that was freed")?);
        }
        match self.reports.get_mut(&wanted.kernel) {
            Some(before) => before.add(&report),
            None => drop(self.reports.insert(wanted.kernel.clone(), report)),
        }
        Ok(())
    }
}
