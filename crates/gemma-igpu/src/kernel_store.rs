//! Compiled kernels on disk, so that only the first start of a program compiles them.
//!
//! A file a kernel, named by the runtime: the same name is the same kernel with the same arguments, by the same build, for a
//! device with the same properties. Files of a program lie in a folder named by the program's size and time, since not every
//! linker gives builds a number of their own. What cannot be read counts as not there.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use cubecl::wgpu::{KernelStore, SpirvCacheEntry};

/// How a file begins.
const MAGIC: &[u8; 4] = b"GKN1";

/// Bytes before the kernel: the magic, and the checksum of what follows.
const HEADER: usize = 8;

/// Most bytes of a file.
const MOST_FILE: u64 = 4 << 20;

/// Most bytes of a program's kernels; those of a model take some 3 MiB.
const MOST_FOLDER: u64 = 128 << 20;

/// Programs whose kernels are kept, this one among them.
const PROGRAMS: usize = 4;

/// Keeps kernels that are compiled from now on in `folder`, for this program, and takes from there what it has compiled before.
/// False, and nothing is done, where the folder cannot be used or kernels are kept already. Folders of programs that have not
/// run for long are removed.
///
/// What lies there is handed to the driver: nobody else should be able to write there.
pub fn keep_kernels(folder: &Path) -> bool {
    let Ok(program) = program() else { return false };
    let own = folder.join(program);
    if fs::create_dir_all(&own).is_err() {
        return false;
    }
    // A sign that the program has run, which no kernel that is read would leave.
    let _ = fs::write(own.join("used"), []);
    forget(folder, &own);
    cubecl::wgpu::keep_kernels(Box::new(Folder { bytes: AtomicU64::new(bytes(&own)), path: own }))
}

/// What tells this program from others and from other builds of itself.
fn program() -> io::Result<String> {
    let file = fs::metadata(std::env::current_exe()?)?;
    let time = file.modified()?.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    Ok(format!("{:x}-{:x}", file.len(), time.as_nanos()))
}

/// Whether a folder's name is one that [`program`] gives.
fn is_of_program(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split_once('-').is_some_and(|(size, time)| is_number(size) && is_number(time))
}

/// Removes the folders of all programs but `own` and those that ran last.
fn forget(folder: &Path, own: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let used = |path: &Path| {
        fs::metadata(path.join("used")).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let mut others: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_of_program))
        .map(|entry| entry.path())
        .filter(|path| path != own)
        .map(|path| (used(&path), path))
        .collect();
    others.sort_unstable_by(|a, b| b.cmp(a));
    for (_, path) in others.into_iter().skip(PROGRAMS - 1) {
        // Another program may be removing it too.
        let _ = fs::remove_dir_all(path);
    }
}

/// Bytes of the files of a folder.
fn bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// A program's kernels.
struct Folder {
    path: PathBuf,
    /// Of all files.
    bytes: AtomicU64,
}

impl KernelStore for Folder {
    fn load(&self, key: &str) -> Option<SpirvCacheEntry> {
        let mut stored = Vec::new();
        let file = fs::File::open(self.path.join(file_name(key)?)).ok()?;
        file.take(MOST_FILE + 1).read_to_end(&mut stored).ok()?;
        decode(&stored)
    }

    fn save(&self, key: &str, kernel: &SpirvCacheEntry) {
        let Some((name, encoded)) = file_name(key).zip(encode(kernel)) else { return };
        let length = encoded.len() as u64;
        if self.bytes.fetch_add(length, Ordering::Relaxed).saturating_add(length) > MOST_FOLDER {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            return;
        }
        // Whole or not at all; without room on the disk there is one kernel less.
        let draft = self.path.join(format!(".{name}.{}", std::process::id()));
        let written = fs::write(&draft, encoded).and_then(|()| fs::rename(&draft, self.path.join(name)));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
    }
}

/// The runtime's name of a kernel where a file can have it.
fn file_name(key: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (!key.is_empty() && key.len() <= 200 && key.bytes().all(is_plain)).then_some(key)
}

/// None for a kernel that is too large.
fn encode(kernel: &SpirvCacheEntry) -> Option<Vec<u8>> {
    let mut encoded = vec![0; HEADER];
    ciborium::into_writer(kernel, &mut encoded).ok()?;
    let sum = crc32fast::hash(&encoded[HEADER..]);
    encoded[..4].copy_from_slice(MAGIC);
    encoded[4..HEADER].copy_from_slice(&sum.to_le_bytes());
    (encoded.len() as u64 <= MOST_FILE).then_some(encoded)
}

/// None for what [`encode`] has not given.
fn decode(stored: &[u8]) -> Option<SpirvCacheEntry> {
    if stored.len() as u64 > MOST_FILE {
        return None;
    }
    let (magic, rest) = stored.split_first_chunk::<4>()?;
    let (sum, kernel) = rest.split_first_chunk::<4>()?;
    if magic != MAGIC || crc32fast::hash(kernel).to_le_bytes() != *sum {
        return None;
    }
    ciborium::from_reader(kernel).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// As the runtime would write it: names of fields and variants are its own.
    fn kernel(words: usize) -> SpirvCacheEntry {
        let words: Vec<u32> = (0..words as u32).map(|word| word.wrapping_mul(0x9e37_79b9)).collect();
        let text = serde_json::json!({
            "entrypoint_name": "product",
            "kernel": {
                "assembled_module": words,
                "bindings": [],
                "io": null,
                "shared_size": 64,
                "immediate_size": 24,
                "info_visibility": "Read",
            },
        });
        serde_json::from_value(text).unwrap()
    }

    fn folder(path: &Path) -> Folder {
        Folder { path: path.to_owned(), bytes: AtomicU64::new(bytes(path)) }
    }

    #[test]
    fn a_kernel_comes_back_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        folder(place.path()).save("12ab-0f", &kernel(1000));
        let back = folder(place.path()).load("12ab-0f").unwrap();
        assert_eq!(back, kernel(1000));
        assert_eq!((back.entrypoint_name.as_str(), back.kernel.immediate_size), ("product", Some(24)));
        assert_eq!(folder(place.path()).load("12ab-10"), None);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_harmed_is_not_there() {
        let whole = encode(&kernel(100)).unwrap();
        assert!(decode(&whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(decode(&whole[..end]), None, "{end} bytes");
        }
        for at in 0..whole.len() {
            let mut harmed = whole.clone();
            harmed[at] ^= 0x10;
            assert_eq!(decode(&harmed), None, "byte {at}");
        }
        assert_eq!(decode(&vec![0; MOST_FILE as usize + 1]), None);
    }

    #[test]
    fn names_stay_in_the_folder() {
        for name in ["", "../up", "a/b", "a.b", &"f".repeat(201)] {
            assert_eq!(file_name(name), None, "{name}");
        }
    }

    #[test]
    fn no_more_than_there_is_room_for() {
        let place = tempfile::tempdir().unwrap();
        let full = Folder { path: place.path().to_owned(), bytes: AtomicU64::new(MOST_FOLDER) };
        full.save("12ab-0f", &kernel(10));
        assert_eq!(full.bytes.load(Ordering::Relaxed), MOST_FOLDER);
        // A word takes five bytes.
        folder(place.path()).save("12ab-0f", &kernel(1 << 20));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn programs_that_ran_last_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let named = |index: u64| place.path().join(format!("{index:x}-ff"));
        for index in 0..6 {
            fs::create_dir(named(index)).unwrap();
            let used = fs::File::create(named(index).join("used")).unwrap();
            used.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000 + index)).unwrap();
        }
        fs::create_dir(place.path().join("of somebody else")).unwrap();
        forget(place.path(), &named(0));
        let left: Vec<bool> = (0..6).map(|index| named(index).exists()).collect();
        assert_eq!(left, [true, false, false, true, true, true]);
        assert!(place.path().join("of somebody else").exists());
    }
}
