//! Puts the library where a test wants it, and speaks with that copy of it.
//!
//! Each copy is a library of its own, with its own memory, faults and counts; so tests do not disturb each other.

use std::ffi::{CString, c_char, c_int};
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use libloading::Library;

/// The file that Cargo makes of this crate.
const BUILT: &str = "libgemma_hip_standin.so";
/// What the file is called in an installation.
const INSTALLED: &str = "lib/libamdhip64.so.6";
/// Bytes for a message.
const MESSAGE_BYTES: usize = 4096;

// SAFETY: types alone, of what `exports::control` exports.
type Set = unsafe extern "C" fn(*const c_char) -> c_int;
// SAFETY: as above.
type Message = unsafe extern "C" fn(*mut c_char, usize);
// SAFETY: as above.
type Count = unsafe extern "C" fn(*const c_char) -> u64;

/// An installed copy, loaded in this process.
pub struct StandIn {
    path: PathBuf,
    /// Never unloaded: what was loaded through `hip-sys` is not either.
    library: ManuallyDrop<Library>,
}

impl StandIn {
    /// Copies the library to `lib/libamdhip64.so.6` in a folder, which then is a folder for `HIP_PATH`.
    ///
    /// # Errors
    /// Where it is not built (`cargo test` builds it for every crate that has this one among its dependencies for tests), or cannot be
    /// copied or loaded.
    pub fn install(folder: &Path) -> Result<Self> {
        Self::install_without(folder, &[])
    }

    /// As [`StandIn::install`], without these functions: an incomplete library.
    ///
    /// # Errors
    /// As [`StandIn::install`], and where the library has no such function.
    pub fn install_without(folder: &Path, functions: &[&str]) -> Result<Self> {
        let mut file = fs::read(built()?)?;
        for function in functions {
            hide(&mut file, function)?;
        }
        let path = folder.join(INSTALLED);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(&path, file)?;
        // SAFETY: it is this crate's own library, which may be loaded at any time.
        let library = unsafe { Library::new(&path) }.map_err(Error::other)?;
        Ok(Self { path, library: ManuallyDrop::new(library) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the budget, faults and so on: `NAME=VALUE;…`, with the names `memory`, `device-memory`, `emulation`, `seed`, `fail-allocation`,
    /// `fail-launch`, `lose-device`, `hang`, `refuse`, and `reset`, which has no value. The environment's `GEMMA_HIP_STANDIN` is read first.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] with what is wrong; nothing is set then.
    pub fn set(&self, settings: &str) -> Result<()> {
        let settings = CString::new(settings)?;
        // SAFETY: the library exports it with this type.
        let set = unsafe { self.library.get::<Set>(b"gemma_hip_standin_set\0") }.map_err(Error::other)?;
        // SAFETY: the string ends, and lives as long as the call.
        let code = unsafe { set(settings.as_ptr()) };
        if code == 0 { Ok(()) } else { Err(Error::new(ErrorKind::InvalidInput, self.message())) }
    }

    /// Why the last call failed, in words; empty before the first failure.
    pub fn message(&self) -> String {
        let mut bytes = [0_u8; MESSAGE_BYTES];
        // SAFETY: the library exports it with this type.
        if let Ok(get) = unsafe { self.library.get::<Message>(b"gemma_hip_standin_message\0") } {
            // SAFETY: there are so many bytes.
            unsafe { get(bytes.as_mut_ptr().cast(), bytes.len()) };
        }
        let message = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(message).into_owned()
    }

    /// What has been counted: `allocations` and `bytes` in use, `kernels` and `graphs` that ran, `copied-bytes`. None of other names.
    pub fn count(&self, name: &str) -> Option<u64> {
        let name = CString::new(name).ok()?;
        // SAFETY: the library exports it with this type.
        let get = unsafe { self.library.get::<Count>(b"gemma_hip_standin_count\0") }.ok()?;
        // SAFETY: the string ends, and lives as long as the call.
        let count = unsafe { get(name.as_ptr()) };
        (count != u64::MAX).then_some(count)
    }
}

/// The library beside the running test, or one folder up.
fn built() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let mut places = test.ancestors().skip(1).take(2).map(|folder| folder.join(BUILT));
    places.find(|path| path.is_file()).ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!("no {BUILT} beside {}: build gemma-hip-standin", test.display()),
        )
    })
}

/// Makes the dynamic linker miss a function: its name, which it compares, gets another last letter.
fn hide(file: &mut [u8], function: &str) -> Result<()> {
    let name = [b"\0", function.as_bytes(), b"\0"].concat();
    let places: Vec<_> = (0..file.len().saturating_sub(name.len()))
        .filter(|at| file[*at..].starts_with(&name))
        .map(|at| at + name.len() - 2)
        .collect();
    if places.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, format!("the library has no {function}")));
    }
    places.into_iter().for_each(|at| file[at] = b'_');
    Ok(())
}
