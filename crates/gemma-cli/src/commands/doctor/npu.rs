//! AMD's NPU (XDNA): the PCI device, kernel driver, device node, firmware and run-time library.

use super::Finding;
use super::gpu::JOIN_GROUPS;
use super::machine::Machine;

/// Vendor of the NPU, as sysfs writes it. Not AMD's graphics id.
const VENDOR: u32 = 0x1022;
const NPUS: [(u32, &str); 2] = [(0x1502, "XDNA (Phoenix, Hawk Point)"), (0x17f0, "XDNA 2 (Strix, Krackan)")];
/// First kernel with the driver in its tree.
const FIRST_KERNEL: (u32, u32) = (6, 14);

/// What the system tells.
pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    let Some((name, device, revision)) = find(machine) else {
        let found =
            "none on the PCI bus (a Ryzen 7040 or newer has one; the firmware set-up may switch it off)";
        return vec![Finding::missing("npu", found)];
    };
    vec![
        Finding::ok("npu", format!("{name} (1022:{device:04x}, revision {revision:02x})")),
        driver(machine),
        node(machine),
        firmware(machine, device, revision),
        runtime(machine),
        power_mode(),
    ]
}

/// Whether there is one.
pub(super) fn is_there(machine: &Machine<'_>) -> bool {
    find(machine).is_some()
}

/// Name, device id and revision.
fn find(machine: &Machine<'_>) -> Option<(&'static str, u32, u32)> {
    machine.names("sys/bus/pci/devices").iter().find_map(|slot| {
        let read = |file: &str| machine.hex(&format!("sys/bus/pci/devices/{slot}/{file}"));
        let (vendor, device) = (read("vendor")?, read("device")?);
        let (_, name) = NPUS.iter().find(|(id, _)| vendor == VENDOR && *id == device)?;
        Some((*name, device, read("revision").unwrap_or(0)))
    })
}

fn driver(machine: &Machine<'_>) -> Finding {
    let release = machine.text("proc/sys/kernel/osrelease").unwrap_or_default();
    if machine.has("sys/module/amdxdna") {
        return Finding::ok("npu-driver", format!("amdxdna is loaded, kernel {release}"));
    }
    if kernel_version(&release).is_some_and(|version| version >= FIRST_KERNEL) {
        return Finding::missing("npu-driver", format!("amdxdna is not loaded, kernel {release}"))
            .mended_by("sudo modprobe amdxdna");
    }
    let remedy = match machine.release("ID").as_str() {
        "ubuntu" => format!("sudo apt-get install linux-generic-hwe-{}", machine.release("VERSION_ID")),
        "debian" => format!(
            "sudo apt-get install -t {}-backports linux-image-amd64   # once backports are among the sources",
            machine.release("VERSION_CODENAME")
        ),
        "fedora" => "sudo dnf upgrade kernel".to_owned(),
        "arch" => "sudo pacman -Syu linux".to_owned(),
        _ => "install a kernel of 6.14 or later".to_owned(),
    };
    Finding::missing("npu-driver", format!("kernel {release} has no amdxdna; 6.14 is the first that has"))
        .mended_by(remedy)
}

/// `6.14.0-24-generic` is 6.14.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn node(machine: &Machine<'_>) -> Finding {
    let path = machine.path("dev/accel/accel0");
    if !path.exists() {
        return Finding::missing(
            "npu-node",
            "no /dev/accel/accel0; the driver makes it when the firmware starts",
        )
        .mended_by("sudo dmesg | grep -i xdna   # says why not");
    }
    if (machine.may_use)(&path) {
        Finding::ok("npu-node", "/dev/accel/accel0: may be used")
    } else {
        Finding::warning("npu-node", "/dev/accel/accel0: no permission").mended_by(JOIN_GROUPS)
    }
}

fn firmware(machine: &Machine<'_>, device: u32, revision: u32) -> Finding {
    let folder = format!("lib/firmware/amdnpu/{device:04x}_{revision:02x}");
    let files = machine.names(&folder);
    if !files.is_empty() {
        return Finding::ok("npu-firmware", format!("/{folder}: {}", files.join(", ")));
    }
    let remedy = if machine.release("ID") == "ubuntu" {
        "sudo apt-get install linux-firmware"
    } else {
        "git clone --depth 1 https://gitlab.com/kernel-firmware/linux-firmware && sudo cp -r linux-firmware/amdnpu /lib/firmware/"
    };
    Finding::missing("npu-firmware", format!("nothing in /{folder}")).mended_by(remedy)
}

fn runtime(machine: &Machine<'_>) -> Finding {
    if let Some(path) = machine.library("libxrt_coreutil.so") {
        return Finding::ok("xrt", path.display().to_string());
    }
    let remedy = match machine.release("ID").as_str() {
        "ubuntu" => "sudo add-apt-repository ppa:amd-team/xrt && sudo apt-get install libxrt-npu2",
        "arch" => "sudo pacman -S xrt xrt-plugin-amdxdna",
        _ => "git clone --recursive https://github.com/amd/xdna-driver   # and build it as its README says",
    };
    Finding::missing("xrt", "no libxrt_coreutil, AMD's run-time library for the NPU").mended_by(remedy)
}

/// No file tells it, only XRT's own tool.
fn power_mode() -> Finding {
    Finding::warning("npu-power-mode", "cannot be read without XRT; the default saves power")
        .mended_by("xrt-smi configure --pmode performance")
}
