//! Graphics processors as the kernel tells of them, found without any driver's library.
//!
//! Loading Vulkan takes longer than a short answer from a small model; where these files name nothing it is not loaded.

use std::fs;
use std::path::Path;

/// PCI ids of AMD.
pub(crate) const AMD: u32 = 0x1002;

/// Nodes through which drivers reach a GPU where there is no render node: NVIDIA's own, and that of WSL.
const OTHER_NODES: [&str; 2] = ["dev/nvidia0", "dev/dxg"];

/// Name of a maker of graphics processors by its PCI id.
pub(crate) const fn maker(vendor: u32) -> Option<&'static str> {
    match vendor {
        AMD => Some("AMD"),
        0x10de => Some("NVIDIA"),
        0x8086 => Some("Intel"),
        _ => None,
    }
}

/// Whether a Vulkan driver could find a GPU: some node that programs compute through is there. Only Linux can tell.
pub(crate) fn may_have_gpu(root: &Path) -> bool {
    let render = || names(&root.join("dev/dri")).iter().any(|name| name.starts_with("renderD"));
    !cfg!(target_os = "linux") || render() || OTHER_NODES.iter().any(|node| root.join(node).exists())
}

/// The makers of this machine's graphics processors; those of virtual machines and management consoles are left out.
pub(crate) fn gpus(root: &Path) -> Vec<&'static str> {
    let drm = root.join("sys/class/drm");
    let mut found: Vec<&str> = names(&drm)
        .into_iter()
        .filter(|name| is_card(name))
        .filter_map(|name| maker(vendor(&drm.join(name).join("device/vendor"))?))
        .collect();
    if found.is_empty() && root.join(OTHER_NODES[0]).exists() {
        found.push("NVIDIA");
    }
    found
}

/// `card0`, but not its connectors, `card0-HDMI-A-1`.
pub(crate) fn is_card(name: &str) -> bool {
    let digits = name.strip_prefix("card").unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn vendor(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn nodes_and_makers_are_found_without_a_driver() {
        for (files, may, makers) in [
            (&[][..], false, &[][..]),
            (
                &[("dev/dri/renderD128", ""), ("sys/class/drm/card1/device/vendor", "0x1002\n")],
                true,
                &["AMD"],
            ),
            (&[("dev/dri/card0", ""), ("sys/class/drm/card0/device/vendor", "0x1a03\n")], false, &[]),
            (&[("dev/dri/renderD128", ""), ("sys/class/drm/card0/device/vendor", "0x1af4\n")], true, &[]),
            (&[("dev/nvidia0", "")], true, &["NVIDIA"]),
            (&[("dev/nvidia0", ""), ("sys/class/drm/card0/device/vendor", "0x10de\n")], true, &["NVIDIA"]),
            (&[("dev/dxg", "")], true, &[]),
            (
                &[
                    ("dev/dri/renderD128", ""),
                    ("sys/class/drm/card0/device/vendor", "0x8086"),
                    ("sys/class/drm/card1/device/vendor", "0x10de"),
                    ("sys/class/drm/card1-DP-1/device/vendor", "0x1002"),
                    ("sys/class/drm/card2/device/vendor", "nonsense"),
                ],
                true,
                &["Intel", "NVIDIA"],
            ),
        ] {
            let tree = TempDir::new().unwrap();
            for (path, text) in files {
                let path = tree.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            assert_eq!(gpus(tree.path()), makers, "{files:?}");
            assert_eq!(may_have_gpu(tree.path()), may || !cfg!(target_os = "linux"), "{files:?}");
        }
    }
}
