//! What a compiled module says of its kernels: an ELF file for gfx1103 with a note of AMD's metadata in MessagePack.
//!
//! The bytes come from outside, so everything is checked: sizes with a limit, offsets by the readers of both formats. The machine
//! code is not looked at. The form is in LLVM's "User Guide for AMDGPU Backend", code object V4 and later.

use std::collections::HashSet;

use object::read::elf::{FileHeader, SectionHeader, Sym};
use object::{LittleEndian, elf};
use rmpv::Value;

/// Most bytes of a module.
pub(crate) const MAX_BYTES: usize = 256 << 20;
/// Bytes of the file's header, which says how large the file is.
pub(crate) const HEADER_BYTES: usize = 64;
/// Most bytes of the metadata.
const MAX_METADATA: usize = 16 << 20;
/// Most kernels of a module, and most arguments of a kernel.
const MAX_ITEMS: usize = 4096;
/// Nested values: the metadata has five levels.
const MAX_DEPTH: usize = 16;
/// Most bytes of a kernel's arguments.
const MAX_ARGUMENTS: usize = 64 << 10;

/// The one architecture that this device has, as the file's flags and as its metadata name it.
const MACHINE_GFX1103: u32 = 0x44;
const TARGET: &str = "amdgcn-amd-amdhsa--gfx1103";
/// The byte of the flags that has the architecture.
const MACHINE_MASK: u32 = 0xff;
/// The notes' type, of the owner `AMDGPU`.
const NOTE_METADATA: u32 = 32;

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    /// Where it lies in the segment.
    pub(crate) offset: usize,
    /// Bytes.
    pub(crate) size: usize,
}

/// What the metadata says of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) name: String,
    /// Those that the program gives.
    pub(crate) arguments: Vec<Argument>,
    /// Whether it reads arguments that the runtime would add.
    pub(crate) hidden_arguments: bool,
    /// Bytes of the segment that holds all arguments.
    pub(crate) segment_bytes: usize,
    /// Work-items of a block: the most, which is also the least where the attribute gives one number, as ours do.
    pub(crate) block_size: u32,
    /// Bytes of static shared memory.
    pub(crate) shared_bytes: u32,
    /// Bytes of private memory of a work-item.
    pub(crate) private_bytes: u32,
    /// Vector registers of a work-item.
    pub(crate) vector_registers: u32,
}

/// Why a module is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not one.
    Invalid(String),
    /// It is for another device.
    OtherDevice(String),
}

impl Kernel {
    /// Bytes up to the end of the last argument that the program gives.
    pub(crate) fn explicit_bytes(&self) -> usize {
        self.arguments.iter().map(|argument| argument.offset + argument.size).max().unwrap_or(0)
    }
}

/// Bytes of the file that begins with this header: our linker writes the section headers last.
pub(crate) fn file_bytes(header: &[u8; HEADER_BYTES]) -> Result<usize, Refusal> {
    if header[..4] != elf::ELFMAG {
        return Err(invalid("is not an ELF file; modules are code objects, not bundles or source"));
    }
    let word = |at: usize| header[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let half =
        |at: usize| header[at..].first_chunk().map_or(0, |bytes| u64::from(u16::from_le_bytes(*bytes)));
    // Offsets of `e_shoff`, `e_shentsize` and `e_shnum` in a 64-bit header.
    let end = word(0x28).checked_add(half(0x3a) * half(0x3c));
    let end =
        end.and_then(|end| usize::try_from(end).ok()).filter(|end| (HEADER_BYTES..=MAX_BYTES).contains(end));
    end.ok_or_else(|| invalid(format!("its header gives no size below {MAX_BYTES} bytes")))
}

/// Reads the kernels of a module, in the metadata's order.
pub(crate) fn kernels(file: &[u8]) -> Result<Vec<Kernel>, Refusal> {
    let header =
        elf::FileHeader64::<LittleEndian>::parse(file).map_err(|error| invalid(error.to_string()))?;
    if header.e_machine(LittleEndian) != elf::EM_AMDGPU {
        return Err(invalid("is not for an AMD GPU"));
    }
    let machine = header.e_flags(LittleEndian).0 & MACHINE_MASK;
    if machine != MACHINE_GFX1103 {
        return Err(Refusal::OtherDevice(format!(
            "is for machine {machine:#x}, not gfx1103, {MACHINE_GFX1103:#x}"
        )));
    }
    let metadata = metadata(file, header)?;
    let target = get(&metadata, "amdhsa.target").and_then(Value::as_str).unwrap_or_default();
    if target != TARGET {
        return Err(Refusal::OtherDevice(format!("its metadata is for {target:?}, not {TARGET:?}")));
    }
    let symbols = symbols(file, header)?;
    let listed = get(&metadata, "amdhsa.kernels").and_then(Value::as_array);
    let listed = listed.ok_or_else(|| invalid("its metadata has no amdhsa.kernels"))?;
    limit("kernels", listed.len())?;
    let kernels = listed.iter().map(kernel).collect::<Result<Vec<_>, _>>()?;
    for kernel in &kernels {
        if !symbols.contains(format!("{}.kd", kernel.name).as_bytes()) {
            return Err(invalid(format!("it has no descriptor of kernel {}", kernel.name)));
        }
    }
    Ok(kernels)
}

type Header = elf::FileHeader64<LittleEndian>;

/// The one note of metadata.
fn metadata(file: &[u8], header: &Header) -> Result<Value, Refusal> {
    let fault = |error: object::Error| invalid(error.to_string());
    for section in header.section_headers(LittleEndian, file).map_err(fault)? {
        let Some(mut notes) = section.notes(LittleEndian, file).map_err(fault)? else { continue };
        while let Some(note) = notes.next().map_err(fault)? {
            if note.name() != b"AMDGPU" || note.n_type(LittleEndian).0 != NOTE_METADATA {
                continue;
            }
            let mut bytes = note.desc();
            if bytes.len() > MAX_METADATA {
                return Err(invalid(format!(
                    "its metadata has {} bytes, at most {MAX_METADATA}",
                    bytes.len()
                )));
            }
            let value = rmpv::decode::read_value_with_max_depth(&mut bytes, MAX_DEPTH);
            return value.map_err(|error| invalid(format!("its metadata is not MessagePack: {error}")));
        }
    }
    Err(invalid("it has no note of AMDGPU metadata"))
}

/// Names of the symbols that it gives out.
fn symbols<'data>(file: &'data [u8], header: &Header) -> Result<HashSet<&'data [u8]>, Refusal> {
    let fault = |error: object::Error| invalid(error.to_string());
    let sections = header.sections(LittleEndian, file).map_err(fault)?;
    let table = sections.symbols(LittleEndian, file, elf::SHT_DYNSYM).map_err(fault)?;
    table.iter().map(|symbol| symbol.name(LittleEndian, table.strings()).map_err(fault)).collect()
}

fn kernel(map: &Value) -> Result<Kernel, Refusal> {
    let name = get(map, ".name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name.is_empty() || name.contains('\0') {
        return Err(invalid("a kernel of its metadata has no name"));
    }
    let number = |key: &str| {
        let value = get(map, key).and_then(Value::as_u64).and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| invalid(format!("kernel {name} has no {key}")))
    };
    let segment_bytes = number(".kernarg_segment_size")? as usize;
    if segment_bytes > MAX_ARGUMENTS {
        return Err(invalid(format!("kernel {name} has {segment_bytes} bytes of arguments")));
    }
    let wave = number(".wavefront_size")?;
    if wave != 32 {
        return Err(invalid(format!("kernel {name} has waves of {wave} work-items, not 32")));
    }
    let listed = get(map, ".args").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    limit("arguments", listed.len())?;
    let (mut arguments, mut hidden_arguments) = (Vec::new(), false);
    for entry in listed {
        let (argument, hidden) = argument(entry, &name)?;
        hidden_arguments |= hidden;
        if !hidden {
            arguments.push(argument);
        }
    }
    let (shared_bytes, private_bytes) =
        (number(".group_segment_fixed_size")?, number(".private_segment_fixed_size")?);
    let (block_size, vector_registers) = (number(".max_flat_workgroup_size")?, number(".vgpr_count")?);
    let kernel = Kernel {
        name: name.clone(),
        arguments,
        hidden_arguments,
        segment_bytes,
        block_size,
        shared_bytes,
        private_bytes,
        vector_registers,
    };
    if kernel.explicit_bytes() > segment_bytes {
        return Err(invalid(format!("kernel {name} has an argument behind its segment")));
    }
    Ok(kernel)
}

fn argument(entry: &Value, kernel: &str) -> Result<(Argument, bool), Refusal> {
    let bytes = |key: &str| {
        let value = get(entry, key).and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok());
        let value = value.filter(|value| *value <= MAX_ARGUMENTS);
        value.ok_or_else(|| invalid(format!("an argument of kernel {kernel} has no proper {key}")))
    };
    let kind = get(entry, ".value_kind").and_then(Value::as_str).unwrap_or_default();
    Ok((Argument { offset: bytes(".offset")?, size: bytes(".size")? }, kind.starts_with("hidden_")))
}

fn get<'value>(map: &'value Value, key: &str) -> Option<&'value Value> {
    map.as_map()?.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
}

fn limit(what: &str, count: usize) -> Result<(), Refusal> {
    if count > MAX_ITEMS {
        return Err(invalid(format!("its metadata has {count} {what}, at most {MAX_ITEMS}")));
    }
    Ok(())
}

fn invalid(problem: impl Into<String>) -> Refusal {
    Refusal::Invalid(problem.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] = include_bytes!("../tests/data/kernels.gfx1103.co");
    const OTHER: &[u8] = include_bytes!("../tests/data/kernels.gfx1100.co");

    fn header(file: &[u8]) -> &[u8; HEADER_BYTES] {
        file.first_chunk().expect("header")
    }

    fn problem(file: &[u8]) -> String {
        match kernels(file).expect_err("a refusal") {
            Refusal::Invalid(problem) | Refusal::OtherDevice(problem) => problem,
        }
    }

    /// The file with the first of these bytes replaced.
    fn changed(from: &[u8], to: &[u8]) -> Vec<u8> {
        let at = FILE.windows(from.len()).position(|window| window == from).expect("bytes");
        let mut file = FILE.to_vec();
        file[at..][..to.len()].copy_from_slice(to);
        file
    }

    #[test]
    fn kernels_are_read() {
        assert_eq!(file_bytes(header(FILE)), Ok(FILE.len()));
        let kernels = kernels(FILE).expect("kernels");
        let names: Vec<_> = kernels.iter().map(|kernel| kernel.name.as_str()).collect();
        assert_eq!(names, ["scale", "fill", "reverse", "unknown"]);
        let (scale, fill, reverse) = (&kernels[0], &kernels[1], &kernels[2]);
        assert_eq!((scale.block_size, scale.segment_bytes, scale.shared_bytes), (64, 24, 0));
        assert_eq!(scale.arguments, [Argument { offset: 0, size: 24 }]);
        assert_eq!(fill.arguments.len(), 3);
        assert_eq!(fill.arguments[2], Argument { offset: 12, size: 4 });
        assert_eq!(
            (reverse.shared_bytes, reverse.explicit_bytes(), reverse.hidden_arguments),
            (128, 8, false)
        );
        assert!(scale.vector_registers > 0 && scale.private_bytes == 0);
    }

    #[test]
    fn another_device_is_told_apart() {
        assert!(matches!(kernels(OTHER), Err(Refusal::OtherDevice(problem)) if problem.contains("0x41")));
        let relabelled = changed(b"amdhsa--gfx1103", b"amdhsa--gfx1102");
        assert!(
            matches!(kernels(&relabelled), Err(Refusal::OtherDevice(problem)) if problem.contains("gfx1102"))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (file, words) in [
            (changed(b"AMDGPU\0", b"AMDGPX\0"), "no note"),
            (changed(b"amdhsa.kernels", b"amdhsa.kernelz"), "no amdhsa.kernels"),
            (changed(b".name", b".nane"), "no name"),
            (changed(b".kernarg_segment_size", b".kernarg_segment_sizz"), "no .kernarg_segment_size"),
            (changed(b"scale.kd", b"scale.kx"), ""),
            (changed(b".value_kind", b".value_kinx"), ""),
            (changed(&[0xe0, 0], &[0x3e, 0]), "not for an AMD GPU"),
        ] {
            let found = kernels(&file).map_err(|refusal| format!("{refusal:?}"));
            assert!(words.is_empty() || problem(&file).contains(words), "{words}: {found:?}");
        }
    }

    #[test]
    fn no_size_and_no_damage_is_believed() {
        let mut huge = *header(FILE);
        huge[0x28..0x30].fill(0xff);
        assert!(file_bytes(&huge).is_err());
        huge[0x28..0x30].fill(0);
        huge[0x3c..0x3e].fill(0);
        assert!(file_bytes(&huge).is_err());
        assert!(file_bytes(&[0; HEADER_BYTES]).is_err());
        for length in 0..FILE.len() {
            assert!(kernels(&FILE[..length]).is_err(), "{length}");
        }
        for at in 0..FILE.len() {
            let mut file = FILE.to_vec();
            file[at] ^= 0xff;
            // Most bytes are code or names, and a change of them goes unseen; it must only never end the program.
            let _ = kernels(&file);
        }
    }
}
