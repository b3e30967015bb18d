//! [`Machine`]: where the system tells about itself, so that tests can put a made-up tree in its place.

use std::fs;
use std::path::{Path, PathBuf};

use crate::vulkan::{self, Adapter};

/// Most of a file that is read: the beginning of a longer one still tells what is looked for, so that here, other than
/// in [`crate::input`], more is no error.
const MAX_BYTES: usize = 1 << 20;

/// What `gemma doctor` looks at.
pub(super) struct Machine<'a> {
    /// Folder that holds `sys`, `proc`, `dev`, `usr`, ...
    pub(super) root: &'a Path,
    /// Whether this user may read and write a device node.
    pub(super) may_use: &'a dyn Fn(&Path) -> bool,
    /// The most memory this user may lock, in bytes; none is without limit.
    pub(super) memlock: Option<u64>,
    /// What the Vulkan loader lists; none where this build lacks the backend.
    pub(super) adapters: Option<Vec<Adapter>>,
}

impl Machine<'static> {
    /// The one that this program runs on.
    pub(super) fn this() -> Self {
        Self { root: Path::new("/"), may_use: &may_use, memlock: memlock(), adapters: vulkan::adapters() }
    }
}

impl Machine<'_> {
    /// A place in the tree; `path` is relative to its root.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file's text without the blanks around it; none where there is none.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        read(&self.path(path))
    }

    /// Names in a folder, sorted; none where there is no folder.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// A hexadecimal number such as `0x1002`.
    pub(super) fn hex(&self, path: &str) -> Option<u32> {
        let text = self.text(path)?;
        u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
    }

    /// A whole number.
    pub(super) fn number(&self, path: &str) -> Option<i64> {
        self.text(path)?.parse().ok()
    }

    /// Name of what a link points to.
    pub(super) fn link_name(&self, path: &str) -> Option<String> {
        fs::read_link(self.path(path)).ok()?.file_name()?.to_str().map(str::to_owned)
    }

    /// A shared library whose file name begins with `name`, where libraries usually are.
    pub(super) fn library(&self, name: &str) -> Option<PathBuf> {
        let folders = [
            "usr/lib/x86_64-linux-gnu",
            "usr/lib/aarch64-linux-gnu",
            "usr/lib64",
            "usr/lib",
            "usr/local/lib",
            "opt/rocm/lib",
            "opt/xilinx/xrt/lib",
        ];
        folders.iter().find_map(|folder| {
            let names = self.names(folder);
            names
                .iter()
                .find(|file| file.starts_with(name))
                .map(|file| Path::new("/").join(folder).join(file))
        })
    }

    /// A field of /etc/os-release, such as `ID`; empty where it is not there.
    pub(super) fn release(&self, field: &str) -> String {
        let text = self.text("etc/os-release").unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    }
}

fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(MAX_BYTES as u64).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Asks the system rather than the file's mode: access may also be given by a list (ACL).
#[cfg(unix)]
fn may_use(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: `path` is a string that ends with a zero byte and lives throughout the call, which keeps nothing.
    unsafe { libc::access(path.as_ptr(), libc::R_OK | libc::W_OK) == 0 }
}

#[cfg(not(unix))]
fn may_use(_path: &Path) -> bool {
    false
}

#[cfg(target_os = "linux")]
fn memlock() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer, and RLIMIT_MEMLOCK a resource that Linux knows.
    let answered = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) } == 0;
    (answered && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

#[cfg(not(target_os = "linux"))]
fn memlock() -> Option<u64> {
    None
}
