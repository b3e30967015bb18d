//! [`Image`]: a code object that was read and compared with what launches are made for. The one place where bytes of built objects are parsed.
//!
//! A folder of objects has a manifest that `cargo xtask build-kernels --hip` writes. Its digest of the sources must be that of the sources
//! that launches are made for, each object must be the one that the manifest describes, and each kernel must take the structure that it is
//! called with. This tells old objects from new ones, and is no signature. Nothing here knows the runtime.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::objects::{MANIFEST, OPERATIONS, SOURCES, argument_bytes, file_name};

/// Most bytes of a manifest, of which the present one has a quarter of a million for all architectures.
pub const MAX_MANIFEST_BYTES: u64 = 16 << 20;

/// Most bytes of an object.
pub const MAX_OBJECT_BYTES: u64 = 16 << 20;

/// Most objects of an architecture.
pub const MAX_OBJECTS: usize = 64;

/// Bytes of the header of an ELF file of 64 bits, and how it begins.
const ELF_HEADER: usize = 64;
const ELF_MAGIC: &[u8] = b"\x7fELF\x02\x01";

/// The number of AMD's GPUs among the machines of ELF files.
const ELF_AMD_GPU: u16 = 224;

/// What mends every problem here.
const ADVICE: &str = "build them with `cargo xtask build-kernels --hip`";

/// A code object, and what its manifest says of its kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Name of its file.
    pub file: String,
    /// Its bytes, aligned as its header wants it, and zeros up to a whole word.
    pub words: Vec<u128>,
    /// Its kernels.
    pub kernels: Vec<KernelShape>,
}

/// What is known of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelShape {
    /// As it is called in the object.
    pub name: String,
    /// Bytes of its structure.
    pub argument_bytes: usize,
    /// Work-items of a block.
    pub threads: u32,
}

/// What a manifest says; what is not needed here is left out.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    sources: String,
    #[serde(rename = "object", default)]
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    file: String,
    architecture: String,
    sha256: String,
    #[serde(rename = "kernel", default)]
    kernels: Vec<Kernel>,
}

#[derive(Deserialize)]
struct Kernel {
    name: String,
    threads: u32,
    arguments: usize,
}

/// The objects of an architecture in a folder: one for each operation, or an error.
///
/// # Errors
/// Where one is missing, or is not what it must be, and how to mend it.
pub fn read(folder: &Path, architecture: &str) -> Result<Vec<Image>, String> {
    let path = folder.join(MANIFEST);
    let manifest = bytes_of(&path, MAX_MANIFEST_BYTES);
    let images = manifest.and_then(|manifest| {
        parse(&manifest, architecture, |file| bytes_of(&folder.join(file), MAX_OBJECT_BYTES))
    });
    images.map_err(|problem| format!("{}: {problem}; {ADVICE}", path.display()))
}

/// The objects of an architecture that a manifest describes, of which `object` gives the bytes by the file's name.
///
/// # Errors
/// Where the manifest is none or is of other sources, an object is missing, or one is not what it must be.
pub fn parse(
    manifest: &[u8],
    architecture: &str,
    mut object: impl FnMut(&str) -> Result<Vec<u8>, String>,
) -> Result<Vec<Image>, String> {
    let text = str::from_utf8(manifest).map_err(|error| error.to_string())?;
    let manifest: Manifest = toml::from_str(text).map_err(|error| error.to_string())?;
    if manifest.sources != SOURCES {
        // A program can be told from another one by this digest, which `cargo xtask dist` does.
        return Err(format!(
            "the objects are of other sources than this program, which knows those of {SOURCES}"
        ));
    }
    let mut objects = manifest.objects;
    objects.retain(|object| object.architecture == architecture);
    if objects.is_empty() {
        return Err(format!("there is no object for {architecture}"));
    }
    if objects.len() > MAX_OBJECTS {
        return Err(format!("{} objects for {architecture}, at most {MAX_OBJECTS}", objects.len()));
    }
    let mut files: HashSet<&str> = HashSet::new();
    if let Some(twice) = objects.iter().find(|object| !files.insert(&object.file)) {
        return Err(format!("{:?} is there twice", twice.file));
    }
    let wanted = OPERATIONS.iter().map(|(operation, _)| file_name(operation, architecture));
    if let Some(missing) = wanted.into_iter().find(|file| !files.contains(&**file)) {
        return Err(format!("there is no {missing}"));
    }
    objects.into_iter().map(|described| image(described, &mut object)).collect()
}

fn image(
    described: Object,
    object: &mut impl FnMut(&str) -> Result<Vec<u8>, String>,
) -> Result<Image, String> {
    let Object { file, sha256, kernels, .. } = described;
    // A name, and no way out of the folder.
    if Path::new(&file).file_name().is_none_or(|name| name != file.as_str()) {
        return Err(format!("{file:?} is no file's name"));
    }
    let bytes = object(&file).map_err(|problem| format!("{file}: {problem}"))?;
    if digest(&bytes) != sha256 {
        return Err(format!("{file} is not the object that was built"));
    }
    if !is_whole(&bytes) {
        return Err(format!("{file} is no whole code object"));
    }
    let kernels = kernels.into_iter().map(shape).collect::<Result<_, _>>()?;
    let mut words = vec![0_u128; bytes.len().div_ceil(size_of::<u128>())];
    bytemuck::cast_slice_mut::<_, u8>(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    Ok(Image { file, words, kernels })
}

fn shape(kernel: Kernel) -> Result<KernelShape, String> {
    let Kernel { name, threads, arguments } = kernel;
    match argument_bytes(&name) {
        Some(expected) if expected != arguments => {
            Err(format!("{name} takes {arguments} bytes of arguments, not {expected}"))
        }
        _ => Ok(KernelShape { name, argument_bytes: arguments, threads }),
    }
}

/// SHA-256 in hexadecimal, as manifests have it.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether bytes are an ELF file for AMD's GPUs from its header to its last table: the runtime is given where an object begins, and not how
/// long it is.
fn is_whole(bytes: &[u8]) -> bool {
    if bytes.len() < ELF_HEADER || !bytes.starts_with(ELF_MAGIC) {
        return false;
    }
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let tables = bytes[40..].first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
    let end = tables.checked_add(u64::from(half(58)) * u64::from(half(60)));
    half(18) == ELF_AMD_GPU && end.is_some_and(|end| end <= bytes.len() as u64)
}

/// All bytes of a file that is not larger than it should be.
fn bytes_of(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > most {
        return Err(format!("more than {most} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROCESSOR: &str = "gfx1103";

    /// A header of an object without tables.
    fn object() -> Vec<u8> {
        let mut bytes = vec![0; ELF_HEADER];
        bytes[..ELF_MAGIC.len()].copy_from_slice(ELF_MAGIC);
        bytes[18..20].copy_from_slice(&ELF_AMD_GPU.to_le_bytes());
        bytes
    }

    /// A manifest of an object for each operation, all of the same bytes and with one kernel.
    fn manifest(sha256: &str) -> String {
        let mut text = format!("compiler = \"clang\"\nsources = {SOURCES:?}\n");
        for (operation, _) in OPERATIONS {
            let file = file_name(operation, PROCESSOR);
            let _ = write!(
                text,
                "\n[[object]]\nfile = {file:?}\noperation = {operation:?}\narchitecture = {PROCESSOR:?}\nsource = \"\"\n\
                 sha256 = {sha256:?}\n\n[[object.kernel]]\nname = \"copy_values\"\nthreads = 256\narguments = 24\n"
            );
        }
        text
    }

    fn good() -> String {
        manifest(&digest(&object()))
    }

    #[test]
    fn what_was_built_is_read() {
        let images = parse(good().as_bytes(), PROCESSOR, |_| Ok(object())).unwrap();
        let shape = KernelShape { name: "copy_values".to_owned(), argument_bytes: 24, threads: 256 };
        assert_eq!((images.len(), &images[0].kernels), (OPERATIONS.len(), &vec![shape]));
        assert!(bytemuck::cast_slice::<_, u8>(&images[0].words).starts_with(&object()));
    }

    #[test]
    fn what_is_not_as_it_should_be_is_said() {
        let copy = "file = \"copy.gfx1103.co\"";
        for (from, to, words) in [
            (SOURCES, "0badc0de", "other sources"),
            ("sources = ", "sources = 1 #", "invalid type"),
            ("[[object]]", "[[object", "TOML parse error"),
            (copy, "file = \"other.gfx1103.co\"", "there is no copy.gfx1103.co"),
            (copy, "file = \"norm.gfx1103.co\"", "\"norm.gfx1103.co\" is there twice"),
            ("gfx1103\"\nsource", "gfx1150\"\nsource", "no object for gfx1103"),
            ("sha256 = \"", "sha256 = \"00", "is not the object that was built"),
            ("arguments = 24", "arguments = 32", "copy_values takes 32 bytes of arguments, not 24"),
            ("arguments = 24", "arguments = -1", "invalid value"),
        ] {
            let text = good();
            assert!(text.contains(from), "{from}");
            let problem = parse(text.replace(from, to).as_bytes(), PROCESSOR, |_| Ok(object())).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
        let refused = parse(good().as_bytes(), PROCESSOR, |_| Err("no such file".to_owned())).unwrap_err();
        assert_eq!(refused, "activation.gfx1103.co: no such file");
        let half = &object()[..ELF_HEADER - 1];
        let problem =
            parse(manifest(&digest(half)).as_bytes(), PROCESSOR, |_| Ok(half.to_vec())).unwrap_err();
        assert_eq!(problem, "activation.gfx1103.co is no whole code object");
        let deep = format!("sources = {}", "[".repeat(1 << 20));
        for manifest in [&b""[..], b"\xff", deep.as_bytes()] {
            assert!(parse(manifest, PROCESSOR, |_| Ok(object())).is_err());
        }
    }

    #[test]
    fn no_name_leads_out_of_the_folder_and_there_is_an_end_of_objects() {
        for file in ["../copy.gfx1103.co", "", "..", "a/b"] {
            let more = format!(
                "{}[[object]]\nfile = {file:?}\narchitecture = {PROCESSOR:?}\nsha256 = \"\"\n",
                good()
            );
            let problem = parse(more.as_bytes(), PROCESSOR, |_| Ok(object())).unwrap_err();
            assert_eq!(problem, format!("{file:?} is no file's name"));
        }
        let mut many = good();
        for file in OPERATIONS.len()..=MAX_OBJECTS {
            let _ =
                write!(many, "[[object]]\nfile = \"{file}\"\narchitecture = {PROCESSOR:?}\nsha256 = \"\"\n");
        }
        let problem = parse(many.as_bytes(), PROCESSOR, |_| Ok(object())).unwrap_err();
        assert_eq!(problem, "65 objects for gfx1103, at most 64");
    }

    #[test]
    fn only_whole_objects_are_loaded() {
        assert!(is_whole(&object()));
        for (at, byte) in [(0, 0), (4, 1), (18, 62), (40, 1), (45, 1), (60, 2)] {
            // One entry of 64 bytes, which are those of the header.
            let mut bytes = object();
            (bytes[58], bytes[60]) = (64, 1);
            assert!(is_whole(&bytes));
            bytes[at] = byte;
            assert!(!is_whole(&bytes), "{byte} at {at}");
        }
        assert!(!is_whole(&object()[..ELF_HEADER - 1]) && !is_whole(&[]));
    }

    #[test]
    fn a_folder_says_where_it_is_and_what_to_do() {
        let folder = Path::new("no/such/folder");
        let problem = read(folder, PROCESSOR).unwrap_err();
        assert!(
            problem.contains("no/such/folder") && problem.contains("cargo xtask build-kernels --hip"),
            "{problem}"
        );
    }
}
