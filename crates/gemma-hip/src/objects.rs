//! Finds the code objects of a GPU and reads them: bytes from outside, which are compared with what this program was built for.
//!
//! A folder of objects has a manifest that `cargo xtask build-kernels --hip` writes. Its digest of the sources must be that of the sources
//! that launches are made for, each object must be the one that the manifest describes, and each kernel must take the structure that it is
//! called with. Nothing here knows the runtime.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use gemma_hip_kernels::objects::{ARCHITECTURES, MANIFEST, SOURCES, argument_bytes, folder};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::runtime::{Image, KernelShape};

/// The variable that names a folder of objects.
const VARIABLE: &str = "GEMMA_KERNELS";

/// Folders above the program that are looked at: an installation has the objects beside it, a build of the workspace above it.
const FOLDERS_ABOVE: usize = 3;

/// Most bytes of a manifest, of which the present one has a quarter of a million for all architectures.
const MOST_MANIFEST: u64 = 16 << 20;

/// Most bytes of an object.
const MOST_OBJECT: u64 = 64 << 20;

/// Bytes of the header of an ELF file of 64 bits, and how it begins.
const ELF_HEADER: usize = 64;
const ELF_MAGIC: &[u8] = b"\x7fELF\x02\x01";

/// The number of AMD's GPUs among the machines of ELF files.
const ELF_AMD_GPU: u16 = 224;

/// What mends every problem here.
const ADVICE: &str = "build them with `cargo xtask build-kernels --hip`";

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

/// The folder of objects: the given one, else the one that the environment names, else one beside the program or a few folders above.
///
/// # Errors
/// Where none has a manifest, with the places that were looked at.
pub(crate) fn find(given: Option<&Path>) -> Result<PathBuf, String> {
    let named = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    // What somebody names is what they want, and nothing else.
    let places = match given.map(Path::to_owned).or(named) {
        Some(place) => vec![place],
        None => beside_the_program(),
    };
    let found = places.iter().find(|place| place.join(MANIFEST).is_file());
    found.cloned().ok_or_else(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        format!("no code objects of HIP kernels: {ADVICE}, or name their folder in {VARIABLE}. Looked for {MANIFEST} in {}", places.join(", "))
    })
}

/// Whether objects are built for an architecture.
///
/// # Errors
/// Says that they are not, and for which they are.
pub(crate) fn check_architecture(architecture: &str) -> Result<(), String> {
    if ARCHITECTURES.contains(&architecture) {
        return Ok(());
    }
    Err(format!("GPUs of architecture {architecture}: kernels are written for {}", ARCHITECTURES.join(", ")))
}

/// The objects of an architecture in a folder.
///
/// # Errors
/// Where one is missing, or is not what it must be, and how to mend it.
pub(crate) fn images(folder: &Path, architecture: &str) -> Result<Vec<Image>, String> {
    let path = folder.join(MANIFEST);
    let wrong = |problem: String| format!("{}: {problem}; {ADVICE}", path.display());
    let text = String::from_utf8(read(&path, MOST_MANIFEST).map_err(&wrong)?)
        .map_err(|error| wrong(error.to_string()))?;
    let manifest: Manifest = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if manifest.sources != SOURCES {
        return Err(wrong("the objects are of other sources than this program".to_owned()));
    }
    let objects = manifest.objects.into_iter().filter(|object| object.architecture == architecture);
    let images =
        objects.map(|object| image(folder, object)).collect::<Result<Vec<_>, _>>().map_err(&wrong)?;
    if images.is_empty() {
        return Err(wrong(format!("there is no object for {architecture}")));
    }
    Ok(images)
}

fn image(folder: &Path, object: Object) -> Result<Image, String> {
    // A name, and no way out of the folder.
    if Path::new(&object.file).file_name().is_none_or(|name| name != object.file.as_str()) {
        return Err(format!("{:?} is no file's name", object.file));
    }
    let bytes = read(&folder.join(&object.file), MOST_OBJECT)
        .map_err(|problem| format!("{}: {problem}", object.file))?;
    if digest(&bytes) != object.sha256 {
        return Err(format!("{} is not the object that was built", object.file));
    }
    if !is_whole(&bytes) {
        return Err(format!("{} is no whole code object", object.file));
    }
    let kernels = object.kernels.into_iter().map(|kernel| {
        let expected = argument_bytes(&kernel.name);
        if expected.is_some_and(|expected| expected != kernel.arguments) {
            let Kernel { name, arguments, .. } = kernel;
            return Err(format!(
                "{name} takes {arguments} bytes of arguments, not {}",
                expected.unwrap_or(0)
            ));
        }
        Ok(KernelShape { name: kernel.name, argument_bytes: kernel.arguments, threads: kernel.threads })
    });
    let kernels = kernels.collect::<Result<_, _>>()?;
    let mut words = vec![0_u128; bytes.len().div_ceil(size_of::<u128>())];
    bytemuck::cast_slice_mut::<_, u8>(&mut words)[..bytes.len()].copy_from_slice(&bytes);
    Ok(Image { file: object.file, words, kernels })
}

/// SHA-256 in hexadecimal.
fn digest(bytes: &[u8]) -> String {
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
fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > most {
        return Err(format!("more than {most} bytes"));
    }
    Ok(bytes)
}

fn beside_the_program() -> Vec<PathBuf> {
    let program = env::current_exe().and_then(fs::canonicalize).unwrap_or_default();
    program.ancestors().skip(1).take(FOLDERS_ABOVE).map(folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of an object without tables.
    fn object() -> Vec<u8> {
        let mut bytes = vec![0; ELF_HEADER];
        bytes[..ELF_MAGIC.len()].copy_from_slice(ELF_MAGIC);
        bytes[18..20].copy_from_slice(&ELF_AMD_GPU.to_le_bytes());
        bytes
    }

    /// A folder with a manifest, and one object of a kernel `copy_values` with these figures.
    fn built(sources: &str, file: &str, sha256: &str, arguments: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("copy.gfx1103.co"), object()).unwrap();
        let text = format!(
            "compiler = \"clang\"\nsources = {sources:?}\n\n[[object]]\nfile = {file:?}\noperation = \"copy\"\n\
             architecture = \"gfx1103\"\nsource = \"\"\nsha256 = {sha256:?}\n\n[[object.kernel]]\nname = \"copy_values\"\n\
             threads = 256\narguments = {arguments}\n"
        );
        fs::write(folder.path().join(MANIFEST), text).unwrap();
        folder
    }

    const FILE: &str = "copy.gfx1103.co";

    #[test]
    fn what_was_built_is_read() {
        let folder = built(SOURCES, FILE, &digest(&object()), 24);
        let images = images(folder.path(), "gfx1103").unwrap();
        let shape = KernelShape { name: "copy_values".to_owned(), argument_bytes: 24, threads: 256 };
        assert_eq!((images.len(), &images[0].kernels), (1, &vec![shape]));
        assert!(bytemuck::cast_slice::<_, u8>(&images[0].words).starts_with(&object()));
    }

    #[test]
    fn what_is_not_as_it_should_be_is_said() {
        let sha = digest(&object());
        for (sources, file, sha, arguments, words) in [
            ("0badc0de", FILE, &*sha, 24, "other sources"),
            (SOURCES, "other.gfx1103.co", &sha, 24, "other.gfx1103.co: No such file"),
            (SOURCES, "../copy.gfx1103.co", &sha, 24, "is no file's name"),
            (SOURCES, FILE, "00", 24, "is not the object that was built"),
            (SOURCES, FILE, &sha, 32, "copy_values takes 32 bytes of arguments, not 24"),
        ] {
            let folder = built(sources, file, sha, arguments);
            let problem = images(folder.path(), "gfx1103").map(|_| ()).unwrap_err();
            assert!(
                problem.contains(words) && problem.contains("cargo xtask build-kernels --hip"),
                "{problem}"
            );
        }
        let folder = built(SOURCES, FILE, "", 24);
        let problem = images(folder.path(), "gfx1150").map(|_| ()).unwrap_err();
        assert!(problem.contains("no object for gfx1150"), "{problem}");
        fs::write(folder.path().join(MANIFEST), "sources = 1").unwrap();
        assert!(images(folder.path(), "gfx1103").is_err());
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
    fn a_folder_that_is_named_is_the_only_one() {
        let empty = tempfile::tempdir().unwrap();
        let problem = find(Some(empty.path())).unwrap_err();
        assert!(
            problem.contains(&empty.path().display().to_string()) && problem.contains(VARIABLE),
            "{problem}"
        );
        let folder = built(SOURCES, FILE, "", 24);
        assert_eq!(find(Some(folder.path())), Ok(folder.path().to_owned()));
    }

    #[test]
    fn other_architectures_are_refused_by_name() {
        assert_eq!(check_architecture("gfx1103"), Ok(()));
        assert!(check_architecture("gfx1036").unwrap_err().contains("gfx1103"));
    }
}
