//! Whether the machine runs on its battery, as Linux tells it; elsewhere it never seems to.
//!
//! Read once, when a pool is made: a laptop that is unplugged later keeps the patience it began with.

use std::fs;
use std::path::Path;

/// Whether this machine runs on its battery.
pub(super) fn on_battery() -> bool {
    discharging(Path::new("/sys/class/power_supply"))
}

/// Whether the supplies under `root` have a system battery that discharges and nothing that feeds the machine.
fn discharging(root: &Path) -> bool {
    let Ok(supplies) = fs::read_dir(root) else { return false };
    let (mut fed, mut drained) = (false, false);
    for supply in supplies.flatten() {
        let field = |name: &str| fs::read_to_string(supply.path().join(name)).unwrap_or_default();
        match field("type").trim() {
            // A mouse or a headset has a battery too; its scope is "Device".
            "Battery" if field("scope").trim() != "Device" => {
                drained |= field("status").trim() == "Discharging";
            }
            "Mains" | "USB" => fed |= field("online").trim() == "1",
            _ => {}
        }
    }
    drained && !fed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of files and what they say.
    type Supply<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn a_battery_counts_when_nothing_feeds_the_machine() {
        const BATTERY: [(&str, &str); 2] = [("type", "Battery"), ("status", "Discharging")];
        const MOUSE: [(&str, &str); 3] =
            [("type", "Battery"), ("status", "Discharging"), ("scope", "Device")];
        const FULL: [(&str, &str); 2] = [("type", "Battery"), ("status", "Full")];
        const PLUGGED: [(&str, &str); 2] = [("type", "Mains"), ("online", "1")];
        const UNPLUGGED: [(&str, &str); 2] = [("type", "Mains"), ("online", "0")];
        let cases: [(&[Supply<'_>], bool); 6] = [
            (&[], false),
            (&[&BATTERY], true),
            (&[&BATTERY, &UNPLUGGED], true),
            (&[&BATTERY, &PLUGGED], false),
            (&[&FULL, &UNPLUGGED], false),
            (&[&MOUSE], false),
        ];
        for (supplies, expected) in cases {
            let root = tempfile::TempDir::new().unwrap();
            for (index, fields) in supplies.iter().enumerate() {
                let folder = root.path().join(index.to_string());
                fs::create_dir(&folder).unwrap();
                for (name, value) in *fields {
                    fs::write(folder.join(name), format!("{value}\n")).unwrap();
                }
            }
            assert_eq!(discharging(root.path()), expected, "{supplies:?}");
        }
        assert!(!discharging(Path::new("/nowhere")));
    }
}
