//! [`Figures`]: what was measured of a device, and [`Cache`]: the files in which the user's cache keeps that and how devices are tuned.
//!
//! The file is a convenience: one that is damaged, from another version of the program or cannot be written is as good as none.

use std::collections::BTreeMap;
use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{folders, input};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 16;

/// Most devices that are kept.
const MAX_DEVICES: usize = 32;

/// What was measured of a device.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_field_names, reason = "the names say the units")]
pub(crate) struct Figures {
    /// Bytes read from its memory a second.
    pub(crate) read_bytes_per_s: f64,
    /// Seconds that a launch takes which waits for the one before; 0 where there are no launches.
    pub(crate) launch_s: f64,
    /// Operations a second of this program's product of many rows with weights in blocks.
    pub(crate) operations_per_s: f64,
}

/// What is kept of a device.
pub(crate) trait Keep: Copy + DeserializeOwned + Serialize {
    /// The file's name.
    const FILE: &'static str;

    /// Whether it can be true.
    fn plausible(&self) -> bool;
}

impl Keep for Figures {
    const FILE: &'static str = "devices.json";

    /// Whether a machine could reach them.
    fn plausible(&self) -> bool {
        let rate = |value: f64| (1e3..1e18).contains(&value);
        rate(self.read_bytes_per_s) && rate(self.operations_per_s) && (0.0..1.0).contains(&self.launch_s)
    }
}

#[cfg(feature = "igpu")]
impl Keep for gemma_igpu::Tuning {
    const FILE: &'static str = "tuning.json";

    fn plausible(&self) -> bool {
        self.is_possible()
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept<T> {
    /// Of the program that measured: kernels change.
    version: String,
    devices: BTreeMap<String, T>,
}

/// A file of a cache folder.
pub(crate) struct Cache<T> {
    path: Option<PathBuf>,
    of: PhantomData<T>,
}

impl<T: Keep> Cache<T> {
    /// The user's; nothing is kept where the system names no place for it.
    pub(crate) fn of_user() -> Self {
        Self::at(folders::cache().map(|folder| folder.join(T::FILE)))
    }

    fn at(path: Option<PathBuf>) -> Self {
        Self { path, of: PhantomData }
    }

    /// What is known of the device that `key` names: its name, its driver and what else its speed depends on.
    pub(crate) fn get(&self, key: &str) -> Option<T> {
        self.read().devices.get(key).copied().filter(T::plausible)
    }

    /// Keeps what is said of a device, if it can.
    pub(crate) fn put(&self, key: &str, kept_of_it: T) {
        let mut kept = self.read();
        if kept.devices.len() >= MAX_DEVICES {
            kept.devices.clear();
        }
        kept.devices.insert(key.to_owned(), kept_of_it);
        self.write(&kept);
    }

    fn write(&self, kept: &Kept<T>) {
        let Some(path) = &self.path else { return };
        let Ok(text) = serde_json::to_string_pretty(kept) else { return };
        if let Err(error) = folders::write(path, &(text + "\n")) {
            tracing::info!(path = %path.display(), %error, "what was measured of devices is not kept");
        }
    }

    /// Forgets one device.
    #[cfg_attr(not(feature = "igpu"), allow(dead_code, reason = "nothing is tuned"))]
    pub(crate) fn forget(&self, key: &str) {
        let mut kept = self.read();
        if kept.devices.remove(key).is_some() {
            self.write(&kept);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.path.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }

    fn read(&self) -> Kept<T> {
        let version = env!("CARGO_PKG_VERSION");
        let kept = self.path.as_deref().and_then(read).filter(|kept| kept.version == version);
        kept.unwrap_or_else(|| Kept { version: version.to_owned(), devices: BTreeMap::new() })
    }
}

fn read<T: Keep>(path: &Path) -> Option<Kept<T>> {
    let text = input::read_text(File::open(path).ok()?, T::FILE, MAX_FILE_BYTES).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const FIGURES: Figures = Figures { read_bytes_per_s: 5e10, launch_s: 4e-6, operations_per_s: 1e12 };

    #[test]
    fn figures_come_back_and_damage_is_as_good_as_nothing() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("deep/devices.json");
        let cache = Cache::at(Some(path.clone()));
        assert_eq!(cache.get("a"), None, "no file yet");
        cache.put("a", FIGURES);
        cache.put("b", Figures { launch_s: 0.0, ..FIGURES });
        assert_eq!((cache.get("a"), cache.get("c")), (Some(FIGURES), None));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
        let whole = fs::read_to_string(&path).unwrap();
        for damaged in [
            "",
            "{",
            "[]",
            "\u{0}",
            &whole[..whole.len() / 2],
            &whole.replace(env!("CARGO_PKG_VERSION"), "0.0.0"),
            &whole.replace("read_bytes_per_s", "read"),
            &whole.replace("50000000000.0", "-1.0"),
            &whole.replace("50000000000.0", "1e300"),
            &" ".repeat(MAX_FILE_BYTES as usize + 1),
        ] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.get("a"), None, "{damaged:.80}");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(cache.get("a"), None, "not UTF-8");
        cache.put("a", FIGURES);
        assert_eq!(cache.get("a"), Some(FIGURES), "damage is written over");
        cache.clear();
        assert_eq!(cache.get("a"), None);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_no_error() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [None, Some(file.join("devices.json")), Some(folder.path().to_owned())] {
            let cache = Cache::at(path);
            cache.put("a", FIGURES);
            assert_eq!(cache.get("a"), None);
            cache.clear();
        }
    }

    #[test]
    fn the_file_does_not_grow_without_end() {
        let folder = TempDir::new().unwrap();
        let cache = Cache::at(Some(folder.path().join("devices.json")));
        for device in 0..3 * MAX_DEVICES {
            cache.put(&device.to_string(), FIGURES);
        }
        let last = (3 * MAX_DEVICES - 1).to_string();
        assert!(cache.get(&last).is_some() && cache.read().devices.len() <= MAX_DEVICES);
    }
}
