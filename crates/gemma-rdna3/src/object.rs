//! [`CodeObject`]: an AMDGPU code object (ELF) read once, with checked arithmetic; the only place where its bytes are parsed.
//!
//! It executes nothing. Format: LLVM, "User Guide for AMDGPU Backend", code object V4 to V6. Objects with dynamic
//! relocations are refused, whatever their kind: kernels compiled alone have none.

use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSymbol, elf};

use crate::error::Error;
use crate::metadata::{self, Argument, KernelMetadata, MAX_ARGUMENT_BYTES};
use crate::program::Program;

/// Most bytes of a code object.
pub const MAX_OBJECT_BYTES: usize = 256 << 20;
/// Most bytes that it takes in memory.
pub const MAX_IMAGE_BYTES: u64 = 64 << 20;
/// Most kernels in it.
pub const MAX_KERNELS: usize = 4096;
/// Most bytes of machine code of all kernels together.
pub const MAX_CODE_BYTES: u64 = 64 << 20;

/// Chips by the number in the header's flags. All have the instructions of gfx11.0.
const CHIPS: [(u32, &str); 4] = [(0x41, "gfx1100"), (0x46, "gfx1101"), (0x47, "gfx1102"), (0x44, "gfx1103")];
/// The machine number of AMD GPUs.
const AMD_GPU: u16 = 224;
/// Bytes of a kernel descriptor.
const DESCRIPTOR_BYTES: u64 = 64;
/// The owner and type of the note with the metadata.
const NOTE: (&[u8], u32) = (b"AMDGPU", 32);

/// A code object: its image in memory, and its kernels.
#[derive(Debug, Clone)]
pub struct CodeObject {
    chip: &'static str,
    image: Vec<u8>,
    kernels: Vec<Kernel>,
}

/// A kernel of a code object.
#[derive(Debug, Clone)]
pub struct Kernel {
    pub(crate) name: String,
    pub(crate) metadata: KernelMetadata,
    pub(crate) descriptor: Descriptor,
    pub(crate) program: Program,
}

/// What the hardware is told of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Bytes of LDS, without what a launch adds.
    pub lds_bytes: u32,
    /// Bytes of private memory of a lane: arrays and spilled registers.
    pub private_bytes: u32,
    /// Bytes of the arguments, hidden ones included.
    pub argument_bytes: u32,
    /// Vector registers of a wave.
    pub vector_registers: u32,
    pub(crate) entry: u64,
    pub(crate) resources: [u32; 2],
    pub(crate) properties: u16,
}

impl CodeObject {
    /// Reads a code object.
    ///
    /// # Errors
    /// [`Error::Object`] where it is not an AMDGPU code object for an RDNA3 chip with whole kernels.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        parse(bytes).map_err(Error::Object)
    }

    /// The chip that it was compiled for.
    pub fn chip(&self) -> &'static str {
        self.chip
    }

    /// Its kernels, as the metadata lists them.
    pub fn kernels(&self) -> &[Kernel] {
        &self.kernels
    }

    /// The kernel with this name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.name == name)
    }

    pub(crate) fn image(&self) -> &[u8] {
        &self.image
    }
}

impl Descriptor {
    /// The mode register at the start: rounding in bits 0 to 3, subnormal numbers in bits 4 to 7.
    pub(crate) fn mode(&self) -> u32 {
        self.resources[0] >> 12 & 0xff
    }
}

impl Kernel {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the hardware is told of it.
    pub fn descriptor(&self) -> Descriptor {
        self.descriptor
    }

    /// Bytes of the arguments that the caller gives.
    pub fn argument_bytes(&self) -> usize {
        let visible = self.metadata.arguments.iter().filter(|argument| !argument.is_hidden());
        visible.map(Argument::end).max().unwrap_or(0) as usize
    }

    /// Its instructions in order, or what could not be decoded.
    pub fn instructions(&self) -> &[Result<crate::Instruction, crate::Undecoded>] {
        self.program.instructions()
    }
}

type Elf<'a> = ElfFile64<'a, LittleEndian>;

fn parse(bytes: &[u8]) -> Result<CodeObject, String> {
    if bytes.len() > MAX_OBJECT_BYTES {
        return Err(format!("{} bytes are more than {MAX_OBJECT_BYTES}", bytes.len()));
    }
    let file = Elf::parse(bytes).map_err(|error| format!("is no ELF file of 64 bits: {error}"))?;
    let header = file.elf_header();
    if header.e_machine(LittleEndian) != elf::Machine(AMD_GPU) {
        return Err("is not for an AMD GPU".to_owned());
    }
    let number = header.e_flags(LittleEndian).0 & 0xff;
    let chip = CHIPS.iter().find(|chip| chip.0 == number).map(|chip| chip.1);
    let chip =
        chip.ok_or_else(|| format!("is for a chip that is not gfx1100 to gfx1103 (number {number:#x})"))?;
    if file.dynamic_relocations().into_iter().flatten().next().is_some() {
        return Err("has dynamic relocations, which are not supported".to_owned());
    }
    let image = image(&file, bytes)?;
    let described = metadata::read(note(&file, bytes)?)?;
    if described.len() > MAX_KERNELS {
        return Err(format!("{} kernels are more than {MAX_KERNELS}", described.len()));
    }
    let mut code_bytes = 0;
    let mut kernels = Vec::new();
    for metadata in described {
        let name = metadata.name.clone();
        let kernel = kernel(&file, &image, metadata, &mut code_bytes);
        kernels.push(kernel.map_err(|problem| format!("kernel {name}: {problem}"))?);
    }
    Ok(CodeObject { chip, image, kernels })
}

/// What the loader puts in memory, from address 0 on.
fn image(file: &Elf<'_>, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut image = Vec::new();
    for segment in file.elf_program_headers() {
        if segment.p_type(LittleEndian) != elf::PT_LOAD {
            continue;
        }
        let (start, size) = (segment.p_vaddr(LittleEndian), segment.p_memsz(LittleEndian));
        let end = start.checked_add(size).filter(|end| *end <= MAX_IMAGE_BYTES);
        let end =
            end.ok_or_else(|| format!("a segment at {start:#x} of {size} bytes reaches too far"))? as usize;
        let data =
            segment.data(LittleEndian, bytes).map_err(|()| "a segment is not in the file".to_owned())?;
        if data.len() as u64 > size {
            return Err("a segment is longer in the file than in memory".to_owned());
        }
        if image.len() < end {
            image.resize(end, 0);
        }
        image[start as usize..start as usize + data.len()].copy_from_slice(data);
    }
    Ok(image)
}

/// The metadata's bytes.
fn note<'a>(file: &Elf<'a>, bytes: &'a [u8]) -> Result<&'a [u8], String> {
    for segment in file.elf_program_headers() {
        let Ok(Some(mut notes)) = segment.notes(LittleEndian, bytes) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if (note.name(), note.n_type(LittleEndian)) == (NOTE.0, elf::NoteType(NOTE.1)) {
                return Ok(note.desc());
            }
        }
    }
    Err("has no metadata".to_owned())
}

fn kernel(
    file: &Elf<'_>,
    image: &[u8],
    metadata: KernelMetadata,
    code_bytes: &mut u64,
) -> Result<Kernel, String> {
    let (at, size) =
        symbol(file, &metadata.symbol).ok_or_else(|| format!("no symbol {}", metadata.symbol))?;
    if size != DESCRIPTOR_BYTES {
        return Err(format!("a descriptor of {size} bytes"));
    }
    let descriptor = descriptor(part(image, at, DESCRIPTOR_BYTES)?, at)?;
    let (start, size) = symbol(file, &metadata.name).ok_or("no symbol of its code")?;
    if start != descriptor.entry {
        return Err(format!("the code starts at {start:#x}, the descriptor says {:#x}", descriptor.entry));
    }
    *code_bytes += size;
    if *code_bytes > MAX_CODE_BYTES || start % 4 != 0 || size % 4 != 0 {
        return Err(format!("machine code of {size} bytes at {start:#x}"));
    }
    let program = Program::new(part(image, start, size)?, start);
    Ok(Kernel { name: metadata.name.clone(), metadata, descriptor, program })
}

fn symbol(file: &Elf<'_>, name: &str) -> Option<(u64, u64)> {
    let all = file.dynamic_symbols().chain(file.symbols());
    all.filter(|symbol| symbol.is_definition() || symbol.size() > 0)
        .find(|symbol| symbol.name() == Ok(name))
        .map(|symbol| (symbol.address(), symbol.size()))
}

fn part(image: &[u8], start: u64, size: u64) -> Result<&[u8], String> {
    let end = start.checked_add(size).ok_or("an address out of range")?;
    image.get(start as usize..end as usize).ok_or_else(|| format!("nothing is at {start:#x}..{end:#x}"))
}

fn descriptor(bytes: &[u8], at: u64) -> Result<Descriptor, String> {
    let word = |offset: usize| {
        let bytes = bytes.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes).ok_or("a short descriptor")
    };
    let offset = u64::from(word(16)?) | u64::from(word(20)?) << 32;
    let resources = [word(48)?, word(52)?];
    let properties = word(56)? as u16;
    if properties >> 10 & 1 == 0 {
        return Err("is for waves of 64 lanes".to_owned());
    }
    if u64::from(word(8)?) > MAX_ARGUMENT_BYTES {
        return Err(format!("{} bytes of arguments", word(8)?));
    }
    Ok(Descriptor {
        lds_bytes: word(0)?,
        private_bytes: word(4)?,
        argument_bytes: word(8)?,
        vector_registers: ((resources[0] & 0x3f) + 1) * 8,
        entry: at.wrapping_add(offset),
        resources,
        properties,
    })
}
