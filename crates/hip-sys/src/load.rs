//! Finds the library, loads it and checks what it is.
//!
//! The first one that can be loaded is the one: two HIP runtimes in one process share devices and would get in each other's
//! way. It is never unloaded, as it runs threads of its own.

use std::ffi::{CStr, c_char, c_int};
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use libloading::Library;

use crate::search::{Place, VARIABLES, places};
use crate::{Error, Functions, hipError_t, hipSuccess};

/// The oldest version that is accepted.
pub const OLDEST: Version = Version { major: 5, minor: 7, patch: 0 };

/// The newest version whose headers the types and numbers of this crate were compared with. A newer library is loaded, if it has all
/// functions.
pub const NEWEST_COMPARED: Version = Version { major: 7, minor: 14, patch: 0 };

/// What to do where there is no library. Debian 12 has one, of HIP 5.2, which is too old.
const ADVICE: &str = "Install AMD's HIP runtime (Debian 13 and Ubuntu: libamdhip64-5 or newer, Fedora: rocm-hip, Arch and AMD's \
                      own packages: hip-runtime-amd), or name ROCm's folder in ROCM_PATH";

/// The version of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 6 of 6.2.41134.
    pub major: u32,
    /// 2 of 6.2.41134.
    pub minor: u32,
    /// 41134 of 6.2.41134: a number of the build, which ROCm's own version does not have.
    pub patch: u32,
}

/// A loaded library. [`Functions`] are its fields: `(hip.hipMalloc)(…)`.
pub struct Hip {
    functions: Functions,
    version: Version,
    path: PathBuf,
    /// Keeps the functions where they are; see above why it is not dropped.
    _library: ManuallyDrop<Library>,
}

/// Why there is no library.
#[derive(Debug)]
pub enum LoadError {
    /// There is none in these folders, and none of these files could be loaded, for these reasons.
    NotFound(Vec<(PathBuf, String)>),
    /// It does not say its version.
    NoVersion {
        /// The library's file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// It is older than [`OLDEST`].
    TooOld {
        /// The library's file.
        path: PathBuf,
        /// Its version.
        version: Version,
    },
    /// It lacks a function that every supported version has.
    MissingFunction {
        /// The library's file.
        path: PathBuf,
        /// Its version.
        version: Version,
        /// The function's name.
        function: &'static str,
    },
}

impl Hip {
    /// Finds and loads the library: in the folder that `HIP_PATH` names, then `ROCM_PATH`, then in `/opt/rocm`, `/opt/rocm/core-*`,
    /// `/opt/rocm-*`, and last wherever the system's loader looks. In each the newest library comes first.
    ///
    /// # Errors
    /// [`LoadError`], with every place that was looked at.
    pub fn load() -> Result<Self, LoadError> {
        let mut tried = Vec::new();
        for place in places() {
            let path = match place {
                Place::File(path) => path,
                Place::Name(name) => PathBuf::from(name),
                Place::Empty(folder) => {
                    tried.push((folder, "has no libamdhip64".to_owned()));
                    continue;
                }
            };
            match library(&path) {
                Ok(library) => return Self::of(library, path),
                Err(problem) => tried.push((path, problem)),
            }
        }
        Err(LoadError::NotFound(tried))
    }

    /// Loads the library of this file.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        match library(path) {
            Ok(library) => Self::of(library, path.to_owned()),
            Err(problem) => Err(LoadError::NotFound(vec![(path.to_owned(), problem)])),
        }
    }

    /// Its version, which is that of HIP and, but for the patch, that of ROCm.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Its file, or the name by which the system's loader found it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a call returned, as a result.
    ///
    /// # Errors
    /// The code with its name and the library's text, where it is not [`hipSuccess`].
    pub fn check(&self, code: hipError_t) -> Result<(), Error> {
        if code == hipSuccess {
            return Ok(());
        }
        // SAFETY: both take any code and return a string that stays.
        let (name, text) =
            unsafe { (text((self.hipGetErrorName)(code)), text((self.hipGetErrorString)(code))) };
        // A library does not know the names that came after it.
        let name = code.name().map(str::to_owned).or(name).unwrap_or_else(|| format!("{code:?}"));
        Err(Error { code, name, text: text.unwrap_or_else(|| "no text".to_owned()) })
    }

    fn of(library: Library, path: PathBuf) -> Result<Self, LoadError> {
        // A library that is refused stays loaded too: it may have started threads.
        let library = ManuallyDrop::new(library);
        let version = match version(&library) {
            Ok(version) if version < OLDEST => return Err(LoadError::TooOld { path, version }),
            Ok(version) => version,
            Err(problem) => return Err(LoadError::NoVersion { path, problem }),
        };
        // SAFETY: the library's name and version say that it is libamdhip64, and it is never unloaded.
        match unsafe { Functions::find(&library) } {
            Ok(functions) => Ok(Self { functions, version, path, _library: library }),
            Err(function) => Err(LoadError::MissingFunction { path, version, function }),
        }
    }
}

impl Deref for Hip {
    type Target = Functions;

    fn deref(&self) -> &Functions {
        &self.functions
    }
}

impl fmt::Debug for Hip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hip")
            .field("path", &self.path)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

fn library(path: &Path) -> Result<Library, String> {
    // SAFETY: the file has the name of AMD's runtime, or the caller names it as such, and that one may be loaded at any time.
    unsafe { Library::new(path) }.map_err(|error| {
        // The system's own words are one level down.
        let words = std::error::Error::source(&error).map(ToString::to_string);
        words.unwrap_or_else(|| error.to_string())
    })
}

fn version(library: &Library) -> Result<Version, String> {
    // SAFETY: a type alone.
    type Get = unsafe extern "C" fn(*mut c_int) -> hipError_t;
    // SAFETY: every version of the runtime has this function with this type, and it needs no device.
    let get = unsafe { library.get::<Get>(b"hipRuntimeGetVersion\0") };
    let get = get.map_err(|_| "it has no hipRuntimeGetVersion, so it is not a HIP runtime".to_owned())?;
    let mut number = 0;
    // SAFETY: the place lives as long as the call.
    let code = unsafe { get(&raw mut number) };
    match (code, Version::of(number)) {
        (hipSuccess, Some(version)) => Ok(version),
        (hipSuccess, None) => Err(format!("hipRuntimeGetVersion gives {number}, which is no version")),
        _ => Err(format!("hipRuntimeGetVersion failed with {code:?}")),
    }
}

/// # Safety
/// The address is null or that of a string that ends and stays.
unsafe fn text(address: *const c_char) -> Option<String> {
    // SAFETY: as the caller promises.
    (!address.is_null()).then(|| unsafe { CStr::from_ptr(address) }.to_string_lossy().into_owned())
}

impl Version {
    /// Of `hipRuntimeGetVersion`'s number: 10,000,000 times the first number, 100,000 times the second, and the third.
    fn of(number: c_int) -> Option<Self> {
        let number = u32::try_from(number).ok()?;
        Some(Self { major: number / 10_000_000, minor: number / 100_000 % 100, patch: number % 100_000 })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(tried) => {
                write!(f, "no HIP runtime (libamdhip64) was found. {ADVICE}. ")?;
                for variable in VARIABLES.iter().filter(|variable| std::env::var_os(variable).is_none()) {
                    write!(f, "{variable} is not set. ")?;
                }
                write!(f, "Looked at:")?;
                tried.iter().try_for_each(|(path, problem)| write!(f, "\n  {}: {problem}", path.display()))
            }
            Self::NoVersion { path, problem } => write!(f, "{}: {problem}", path.display()),
            Self::TooOld { path, version } => write!(
                f,
                "{} is HIP {version}, which is too old: {}.{} or newer is needed. {ADVICE}",
                path.display(),
                OLDEST.major,
                OLDEST.minor,
            ),
            Self::MissingFunction { path, version, function } => write!(
                f,
                "{} (HIP {version}) has no function {function}, which every HIP since {}.{} has; its installation is \
                 incomplete or not AMD's",
                path.display(),
                OLDEST.major,
                OLDEST.minor,
            ),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<LoadError> for io::Error {
    fn from(error: LoadError) -> Self {
        let kind = match error {
            LoadError::NotFound(_) => io::ErrorKind::NotFound,
            _ => io::ErrorKind::Unsupported,
        };
        Self::new(kind, error)
    }
}
