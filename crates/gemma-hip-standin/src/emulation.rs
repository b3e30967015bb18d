//! The library that runs our kernels on the CPU: the same sources, compiled for the host.
//!
//! It is one shared library with two functions in C. Nothing here knows what a kernel computes.

use std::collections::HashSet;
use std::env;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use hip_sys::{hipErrorInvalidDeviceFunction, hipErrorLaunchFailure, hipErrorSharedObjectInitFailed};
use libloading::Library;

use crate::failure::{Outcome, fail};

/// Names the library.
const VARIABLE: &str = "GEMMA_HIP_EMULATION";
/// Where `cargo xtask build-kernels` writes it, from the workspace's root on.
const BUILT: &str = "target/kernels/emulation/libgemma_kernels_emulated.so";
/// Bytes for what the library has to say.
const MESSAGE_BYTES: usize = 1024;

// SAFETY: a type alone.
type Launch = unsafe extern "C" fn(
    kernel: *const c_char,
    grid: *const [u32; 3],
    block: *const [u32; 3],
    dynamic_shared_bytes: u32,
    arguments: *const c_void,
    argument_bytes: usize,
    seed: u64,
    message: *mut c_char,
    message_bytes: usize,
) -> c_int;
// SAFETY: a type alone.
type Kernels = unsafe extern "C" fn() -> *const c_char;

/// A loaded library.
pub(crate) struct Emulation {
    launch: Launch,
    kernels: HashSet<String>,
    path: PathBuf,
    /// It stays loaded: it may have threads.
    _library: ManuallyDrop<Library>,
}

/// A launch's sizes: blocks of the grid, work-items of a block, bytes of dynamic shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) dynamic_shared_bytes: u32,
}

impl Emulation {
    /// Loads the named library, else that of the environment, else the one that is built in this workspace.
    pub(crate) fn load(named: Option<&Path>) -> Outcome<Self> {
        let path = named
            .map(Path::to_owned)
            .or_else(|| env::var_os(VARIABLE).map(PathBuf::from))
            .unwrap_or_else(built);
        Self::open(&path).or_else(|problem| {
            let reason = format!(
                "{}: {problem}. Kernels are emulated by this library: build it with cargo xtask build-kernels, or name \
                 one in {VARIABLE}",
                path.display()
            );
            fail(hipErrorSharedObjectInitFailed, reason)
        })
    }

    /// Whether it has the kernel.
    pub(crate) fn knows(&self, kernel: &str) -> Outcome {
        if self.kernels.contains(kernel) {
            return Ok(());
        }
        let reason =
            format!("{} has no kernel {kernel}; was it built from the same sources?", self.path.display());
        fail(hipErrorInvalidDeviceFunction, reason)
    }

    /// Runs a launch to its end.
    ///
    /// # Safety
    /// The words are the kernel's arguments, `bytes` bytes of them, and each address in them is that of memory that the kernel may use.
    pub(crate) unsafe fn run(
        &self,
        kernel: &str,
        shape: &Shape,
        words: &[u64],
        bytes: usize,
        seed: u64,
    ) -> Outcome {
        let Ok(name) = CString::new(kernel) else {
            return fail(hipErrorInvalidDeviceFunction, "a name with a zero");
        };
        let mut message = [0_u8; MESSAGE_BYTES];
        // SAFETY: everything outlives the call; what the arguments point to is as the caller promises.
        let result = unsafe {
            (self.launch)(
                name.as_ptr(),
                &raw const shape.grid,
                &raw const shape.block,
                shape.dynamic_shared_bytes,
                words.as_ptr().cast(),
                bytes,
                seed,
                message.as_mut_ptr().cast(),
                message.len(),
            )
        };
        if result == 0 {
            return Ok(());
        }
        let said = message.split(|byte| *byte == 0).next().unwrap_or_default();
        fail(hipErrorLaunchFailure, format!("kernel {kernel}: {}", String::from_utf8_lossy(said)))
    }

    fn open(path: &Path) -> Result<Self, String> {
        // SAFETY: the file is the emulation, whose loading has no conditions, as the variable's name says.
        let library = unsafe { Library::new(path) }.map_err(|error| error.to_string())?;
        let library = ManuallyDrop::new(library);
        // SAFETY: the emulation exports both with these types.
        let (launch, kernels) = unsafe {
            let launch =
                library.get::<Launch>(b"gemma_emulated_launch\0").map_err(|error| error.to_string())?;
            let kernels =
                library.get::<Kernels>(b"gemma_emulated_kernels\0").map_err(|error| error.to_string())?;
            (*launch, *kernels)
        };
        // SAFETY: it has no conditions, and gives a string that ends and stays.
        let names = unsafe { CStr::from_ptr(kernels()) }.to_string_lossy();
        let kernels = names.lines().map(str::to_owned).collect();
        Ok(Self { launch, kernels, path: path.to_owned(), _library: library })
    }
}

/// Where the workspace that this was compiled in keeps it.
fn built() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    root.join(BUILT)
}
