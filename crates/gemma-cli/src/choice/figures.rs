//! [`Figures`]: what was measured of a device, and the file in which the user's cache keeps it.
//!
//! The file is a convenience: one that is damaged, from another version of the program or cannot be written is as good as none.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

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

impl Figures {
    /// Whether a machine could reach them.
    fn plausible(&self) -> bool {
        let rate = |value: f64| (1e3..1e18).contains(&value);
        rate(self.read_bytes_per_s) && rate(self.operations_per_s) && (0.0..1.0).contains(&self.launch_s)
    }
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Of the program that measured: kernels change.
    version: String,
    devices: BTreeMap<String, Figures>,
}

/// The file of a cache folder.
pub(crate) struct Cache {
    path: Option<PathBuf>,
}

impl Cache {
    /// The user's; nothing is kept where the system names no place for it.
    pub(crate) fn of_user() -> Self {
        Self { path: folders::cache().map(|folder| folder.join("devices.json")) }
    }

    /// What is known of the device that `key` names: its name, its driver and what else its speed depends on.
    pub(crate) fn get(&self, key: &str) -> Option<Figures> {
        self.read().devices.get(key).copied().filter(Figures::plausible)
    }

    /// Keeps figures, if it can.
    pub(crate) fn put(&self, key: &str, figures: Figures) {
        let Some(path) = &self.path else { return };
        let mut kept = self.read();
        if kept.devices.len() >= MAX_DEVICES {
            kept.devices.clear();
        }
        kept.devices.insert(key.to_owned(), figures);
        let Ok(text) = serde_json::to_string_pretty(&kept) else { return };
        if let Err(error) = folders::write(path, &(text + "\n")) {
            tracing::info!(path = %path.display(), %error, "figures of devices are not kept");
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.path.iter().for_each(|path| drop(std::fs::remove_file(path)));
    }

    fn read(&self) -> Kept {
        let version = env!("CARGO_PKG_VERSION");
        let kept = self.path.as_deref().and_then(read).filter(|kept| kept.version == version);
        kept.unwrap_or_else(|| Kept { version: version.to_owned(), ..Kept::default() })
    }
}

fn read(path: &Path) -> Option<Kept> {
    let text = input::read_text(File::open(path).ok()?, "figures of devices", MAX_FILE_BYTES).ok()?;
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
        let cache = Cache { path: Some(path.clone()) };
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
            let cache = Cache { path };
            cache.put("a", FIGURES);
            assert_eq!(cache.get("a"), None);
            cache.clear();
        }
    }

    #[test]
    fn the_file_does_not_grow_without_end() {
        let folder = TempDir::new().unwrap();
        let cache = Cache { path: Some(folder.path().join("devices.json")) };
        for device in 0..3 * MAX_DEVICES {
            cache.put(&device.to_string(), FIGURES);
        }
        let last = (3 * MAX_DEVICES - 1).to_string();
        assert!(cache.get(&last).is_some() && cache.read().devices.len() <= MAX_DEVICES);
    }
}
