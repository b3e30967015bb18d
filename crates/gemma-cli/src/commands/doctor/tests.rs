//! Made-up machines: each case is a tree of files and what must be found in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{Finding, Status, findings, machine::Machine};
use crate::vulkan::Adapter;

const ANYONE: &dyn Fn(&Path) -> bool = &|_| true;
const NOBODY: &dyn Fn(&Path) -> bool = &|_| false;

/// Files of a laptop with a Ryzen 9 8945HS on which everything is set up.
const LAPTOP: &[(&str, &str)] = &[
    (
        "proc/cpuinfo",
        "processor\t: 0\nmodel name\t: AMD Ryzen 9 8945HS w/ Radeon 780M Graphics\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu fma f16c avx2 avx512f avx512bw avx512vl avx512_vnni avx512_bf16\n\nprocessor\t: 1\nmodel name\t: AMD Ryzen 9 8945HS w/ Radeon 780M Graphics\nphysical id\t: 0\ncore id\t\t: 0\nflags\t\t: fpu\n\nprocessor\t: 2\nphysical id\t: 0\ncore id\t\t: 1\n",
    ),
    (
        "proc/meminfo",
        "MemTotal:       32614024 kB\nMemFree:         1000000 kB\nMemAvailable:   16777216 kB\n",
    ),
    ("proc/sys/kernel/osrelease", "6.14.0-24-generic\n"),
    ("etc/os-release", "NAME=\"Ubuntu\"\nVERSION_ID=\"24.04\"\nID=ubuntu\nVERSION_CODENAME=noble\n"),
    ("sys/class/drm/card1/device/vendor", "0x1002\n"),
    ("sys/class/drm/card1/device/device", "0x1900\n"),
    ("sys/class/drm/card1/device/mem_info_vram_total", "536870912\n"),
    ("sys/class/drm/card1/device/mem_info_gtt_total", "16106127360\n"),
    ("sys/class/drm/card1-HDMI-A-1/status", "disconnected\n"),
    ("sys/class/drm/version", "drm 1.1.0 20060810\n"),
    ("dev/dri/renderD128", ""),
    ("dev/kfd", ""),
    ("dev/accel/accel0", ""),
    ("usr/share/vulkan/icd.d/radeon_icd.x86_64.json", "{}"),
    ("usr/lib/x86_64-linux-gnu/libamdhip64.so.5", ""),
    ("usr/lib/x86_64-linux-gnu/libxrt_coreutil.so.2", ""),
    ("sys/bus/pci/devices/0000:c5:00.1/vendor", "0x1022\n"),
    ("sys/bus/pci/devices/0000:c5:00.1/device", "0x1502\n"),
    ("sys/bus/pci/devices/0000:c5:00.1/revision", "0x00\n"),
    ("sys/module/amdxdna/refcnt", "0\n"),
    ("lib/firmware/amdnpu/1502_00/npu.sbin.zst", ""),
    ("sys/class/power_supply/AC/type", "Mains\n"),
    ("sys/class/power_supply/AC/online", "1\n"),
    ("sys/class/power_supply/BAT0/type", "Battery\n"),
    ("sys/class/power_supply/BAT0/status", "Charging\n"),
    ("sys/firmware/acpi/platform_profile", "balanced\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "amd-pstate-epp\n"),
    ("sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference", "balance_performance\n"),
    ("sys/class/hwmon/hwmon3/name", "k10temp\n"),
    ("sys/class/hwmon/hwmon3/temp1_input", "48250\n"),
];

/// The laptop with some of its files changed, or taken away where the text is none.
fn laptop(changes: &[(&str, Option<&str>)]) -> TempDir {
    let tree = TempDir::new().unwrap();
    let mut files: BTreeMap<&str, &str> = LAPTOP.iter().copied().collect();
    for (path, text) in changes {
        match text {
            Some(text) => files.insert(path, text),
            None => {
                Some(files.remove(path).unwrap_or_else(|| panic!("{path} is not there to be taken away")))
            }
        };
    }
    for (path, text) in files {
        let path = tree.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    #[cfg(unix)]
    if tree.path().join("sys/class/drm/card1/device").is_dir() {
        let driver = tree.path().join("sys/class/drm/card1/device/driver");
        std::os::unix::fs::symlink("../../../bus/pci/drivers/amdgpu", driver).unwrap();
    }
    tree
}

fn look(tree: &Path, may_use: &dyn Fn(&Path) -> bool, memlock: Option<u64>) -> Vec<Finding> {
    look_with(tree, may_use, memlock, Some(vec![radeon()]))
}

fn adapter(id: &str, name: &str, kind: &'static str) -> Adapter {
    Adapter {
        id: id.to_owned(),
        name: name.to_owned(),
        kind,
        driver: "Mesa 25.0.7".to_owned(),
        memory: 8 << 30,
        shares_memory: kind == "integrated",
        subgroup: (32, 64),
        has: vec!["int8 dot", "f16"],
        lacks: vec!["16x16x16 matrix units"],
    }
}

fn radeon() -> Adapter {
    adapter("vulkan:0", "AMD Radeon 780M", "integrated")
}

fn look_with(
    tree: &Path,
    may_use: &dyn Fn(&Path) -> bool,
    memlock: Option<u64>,
    adapters: Option<Vec<Adapter>>,
) -> Vec<Finding> {
    findings(&Machine { root: tree, may_use, memlock, adapters })
}

fn topic<'a>(findings: &'a [Finding], topic: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.topic == topic).unwrap_or_else(|| panic!("{topic}: {findings:#?}"))
}

#[test]
fn a_laptop_with_everything() {
    let tree = laptop(&[]);
    let all = look(tree.path(), ANYONE, None);
    for (name, expected) in [
        ("processor", "AMD Ryzen 9 8945HS w/ Radeon 780M Graphics, 2 cores, 3 threads"),
        ("features", "avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni avx512_bf16 (not: avx_vnni)"),
        ("memory", "31.10 GiB, 16.00 GiB available"),
        ("gpu", "AMD Radeon 780M or 760M, Hawk Point, gfx1103 (1002:1900), driver amdgpu"),
        ("gpu-memory", "512.00 MiB of its own (VRAM), 15.00 GiB of main memory (GTT)"),
        ("gpu-node", "/dev/dri/renderD128: may be used"),
        ("vulkan", "radeon_icd.x86_64"),
        ("kfd", "/dev/kfd: may be used"),
        ("hip", "/usr/lib/x86_64-linux-gnu/libamdhip64.so.5"),
        ("npu", "XDNA (Phoenix, Hawk Point) (1022:1502, revision 00)"),
        ("npu-driver", "amdxdna is loaded, kernel 6.14.0-24-generic"),
        ("npu-node", "/dev/accel/accel0: may be used"),
        ("npu-firmware", "/lib/firmware/amdnpu/1502_00: npu.sbin.zst"),
        ("xrt", "/usr/lib/x86_64-linux-gnu/libxrt_coreutil.so.2"),
        ("memlock", "memory can be locked without limit"),
        ("power", "plugged in"),
        ("power-profile", "balanced"),
        ("governor", "powersave (amd-pstate-epp, preference balance_performance)"),
        ("temperature", "48 °C"),
    ] {
        let finding = topic(&all, name);
        assert_eq!((finding.status, finding.found.as_str()), (Status::Ok, expected), "{name}");
        assert_eq!(finding.remedy, None, "{name}");
    }
    assert_eq!(all.len(), 21, "the 19 above, vulkan-adapter and npu-power-mode: {all:#?}");
}

#[test]
fn adapters_are_listed_with_the_flag_that_uses_them() {
    let tree = laptop(&[]);
    let software = Adapter {
        memory: 0,
        subgroup: (8, 8),
        has: vec!["int8 dot", "f16", "16x16x16 matrix units"],
        lacks: Vec::new(),
        ..adapter("vulkan:1", "llvmpipe", "software")
    };
    let virtual_one = adapter("vulkan:2", "Virtio", "other");
    let found = |adapters: Option<Vec<Adapter>>| {
        let all = look_with(tree.path(), ANYONE, None, adapters).into_iter();
        let adapters = all.filter(|finding| finding.topic == "vulkan-adapter");
        adapters.map(|finding| (finding.status, finding.found, finding.remedy)).collect::<Vec<_>>()
    };
    let ok = |found: &str, remedy: Option<&str>| (Status::Ok, found.to_owned(), remedy.map(str::to_owned));
    assert_eq!(
        found(Some(vec![radeon(), software, virtual_one])),
        [
            ok(
                "vulkan:0: AMD Radeon 780M, integrated, Mesa 25.0.7, 8.00 GiB of main memory (UMA), \
                 subgroups of 32 to 64, int8 dot, f16 (not: 16x16x16 matrix units)",
                Some("--device vulkan:0 runs models on it; auto measures it and may choose it")
            ),
            ok(
                "vulkan:1: llvmpipe, software, Mesa 25.0.7, memory not told, subgroups of 8, int8 dot, f16, \
                 16x16x16 matrix units",
                Some("--device vulkan:1 computes on the CPU, slowly: for tests")
            ),
            ok(
                "vulkan:2: Virtio, other, Mesa 25.0.7, 8.00 GiB of its own, subgroups of 32 to 64, int8 dot, f16 \
                 (not: 16x16x16 matrix units)",
                None
            ),
        ]
    );
    for (adapters, part) in [(Some(Vec::new()), "there is no loader"), (None, "(feature igpu)")] {
        let [(status, text, _)] = &found(adapters)[..] else { panic!("one finding: {part}") };
        assert!(*status == Status::Missing && text.contains(part), "{text}");
    }
}

#[test]
fn a_build_without_the_backend_says_which_gpu_it_leaves_unused() {
    let tree = laptop(&[]);
    let all = look_with(tree.path(), ANYONE, None, None);
    let finding = topic(&all, "vulkan-adapter");
    assert!(finding.found.ends_with("which could use the GPU: AMD"), "{finding:?}");
    assert!(finding.remedy.as_deref().unwrap().ends_with("then gemma --device vulkan"), "{finding:?}");
}

#[test]
fn features_of_another_architecture() {
    for (features, expected) in [
        ("fp asimd evtstrm fphp asimdhp asimddp i8mm bf16", "asimd asimddp i8mm"),
        ("fp asimd evtstrm crc32", "asimd (not: asimddp i8mm)"),
    ] {
        let info = format!("processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: {features}\nCPU part\t: 0xd0b\n");
        let tree = laptop(&[("proc/cpuinfo", Some(&info))]);
        let all = look(tree.path(), ANYONE, None);
        let finding = topic(&all, "features");
        assert_eq!((finding.status, finding.found.as_str()), (Status::Ok, expected));
    }
}

/// What changes, the topic, its status, and a part of the remedy.
type Amiss = (&'static [(&'static str, Option<&'static str>)], &'static str, Status, &'static str);

const AMISS: &[Amiss] = &[
    (&[("dev/dri/renderD128", None)], "gpu-node", Status::Missing, "modprobe amdgpu"),
    (&[("dev/kfd", None)], "kfd", Status::Missing, "modprobe amdgpu"),
    (
        &[("usr/share/vulkan/icd.d/radeon_icd.x86_64.json", None)],
        "vulkan",
        Status::Missing,
        "sudo apt-get install libvulkan1 mesa-vulkan-drivers",
    ),
    (&[("usr/lib/x86_64-linux-gnu/libamdhip64.so.5", None)], "hip", Status::Missing, "libamdhip64-5"),
    (&[("sys/module/amdxdna/refcnt", None)], "npu-driver", Status::Missing, "sudo modprobe amdxdna"),
    (
        &[("sys/module/amdxdna/refcnt", None), ("proc/sys/kernel/osrelease", Some("6.8.0-60-generic"))],
        "npu-driver",
        Status::Missing,
        "sudo apt-get install linux-generic-hwe-24.04",
    ),
    (&[("dev/accel/accel0", None)], "npu-node", Status::Missing, "dmesg"),
    (
        &[("lib/firmware/amdnpu/1502_00/npu.sbin.zst", None)],
        "npu-firmware",
        Status::Missing,
        "sudo apt-get install linux-firmware",
    ),
    (&[("usr/lib/x86_64-linux-gnu/libxrt_coreutil.so.2", None)], "xrt", Status::Missing, "ppa:amd-team/xrt"),
    (
        &[
            ("sys/class/power_supply/AC/online", Some("0")),
            ("sys/class/power_supply/BAT0/status", Some("Discharging")),
        ],
        "power",
        Status::Warning,
        "plug",
    ),
    (
        &[("sys/firmware/acpi/platform_profile", Some("low-power"))],
        "power-profile",
        Status::Warning,
        "echo performance",
    ),
    (
        &[("sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference", None)],
        "governor",
        Status::Warning,
        "scaling_governor",
    ),
    (&[("sys/class/hwmon/hwmon3/temp1_input", Some("97000"))], "temperature", Status::Warning, "cool"),
];

#[test]
fn one_thing_amiss_on_the_laptop() {
    for (changes, name, status, remedy) in AMISS {
        let tree = laptop(changes);
        let all = look(tree.path(), ANYONE, None);
        let finding = topic(&all, name);
        assert_eq!(finding.status, *status, "{finding:?}");
        let told = finding.remedy.as_deref().unwrap_or_default();
        assert!(told.contains(remedy), "{name}: {told}");
        let others = all.iter().filter(|finding| finding.status != Status::Ok && finding.topic != *name);
        assert_eq!(others.map(|finding| finding.topic).collect::<Vec<_>>(), ["npu-power-mode"], "{name}");
    }
}

#[test]
fn no_permission_names_the_groups() {
    let tree = laptop(&[]);
    let all = look(tree.path(), NOBODY, None);
    for name in ["gpu-node", "kfd", "npu-node"] {
        let finding = topic(&all, name);
        assert_eq!(finding.status, Status::Warning, "{finding:?}");
        assert!(finding.found.ends_with("no permission"), "{finding:?}");
        let remedy = finding.remedy.as_deref().unwrap_or_default();
        assert!(remedy.starts_with("sudo usermod -aG render,video $USER"), "{remedy}");
    }
}

#[test]
fn little_memory_to_lock() {
    let tree = laptop(&[]);
    let all = look(tree.path(), ANYONE, Some(8 << 20));
    let finding = topic(&all, "memlock");
    assert_eq!(finding.status, Status::Warning);
    assert_eq!(finding.found, "only 8.00 MiB of memory can be locked; the NPU needs more");
    assert!(finding.remedy.as_deref().unwrap().contains("/etc/security/limits.d/"), "{finding:?}");
}

#[test]
fn a_machine_with_nothing() {
    let tree = TempDir::new().unwrap();
    let all = look_with(tree.path(), NOBODY, Some(0), Some(Vec::new()));
    let found: Vec<_> = all.iter().map(|finding| (finding.topic, finding.status)).collect();
    assert_eq!(
        found,
        [
            ("processor", Status::Warning),
            ("features", Status::Warning),
            ("memory", Status::Warning),
            ("gpu", Status::Missing),
            ("vulkan", Status::Missing),
            ("vulkan-adapter", Status::Missing),
            ("npu", Status::Missing),
        ]
    );
}

#[test]
fn nonsense_in_the_files_is_no_panic() {
    for nonsense in ["", "0x", "-1", "99999999999999999999999", "\u{0}", ": :\n::", "processor"] {
        let changes: Vec<_> = LAPTOP
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(path, _)| (*path, Some(nonsense)))
            .collect();
        let tree = laptop(&changes);
        let all = look(tree.path(), ANYONE, None);
        assert_eq!(topic(&all, "memory").status, Status::Warning, "{nonsense:?}");
        assert_eq!(topic(&all, "npu").status, Status::Missing, "{nonsense:?}");
    }
}
