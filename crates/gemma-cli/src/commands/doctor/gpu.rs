//! Graphics processors, their device nodes and memory, and the drivers that programs load: Vulkan, HIP.

use super::Finding;
use super::machine::Machine;
use crate::hardware::{self, AMD};
use crate::{output, vulkan};

/// AMD's integrated GPUs, by PCI id.
const INTEGRATED: [(u32, &str); 6] = [
    (0x15bf, "Radeon 780M or 760M, Phoenix, gfx1103"),
    (0x15c8, "Radeon 740M, Phoenix 2, gfx1103"),
    (0x1900, "Radeon 780M or 760M, Hawk Point, gfx1103"),
    (0x1901, "Radeon 740M, Hawk Point 2, gfx1103"),
    (0x150e, "Radeon 890M or 880M, Strix, gfx1150"),
    (0x1586, "Radeon 8060S or 8050S, Strix Halo, gfx1151"),
];

/// Gives access to device nodes, once logged in again.
pub(super) const JOIN_GROUPS: &str = "sudo usermod -aG render,video $USER   # then log in again";

/// What the system tells.
pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    let cards = machine.names("sys/class/drm").into_iter().filter(|name| hardware::is_card(name));
    let cards: Vec<Card> = cards.filter_map(|name| Card::read(machine, &name)).collect();
    let mut all: Vec<Finding> = cards.iter().flat_map(|card| card.findings(machine)).collect();
    if cards.is_empty() {
        all.push(Finding::missing("gpu", "no graphics processor with a driver (/sys/class/drm)"));
    } else {
        all.push(nodes(machine));
    }
    all.push(drivers(machine));
    all.extend(adapters(machine));
    if cards.iter().any(|card| card.vendor == AMD) {
        all.extend([compute_node(machine), hip(machine)]);
    }
    all
}

struct Card {
    /// Folder in sysfs.
    folder: String,
    vendor: u32,
    device: u32,
}

impl Card {
    /// None for cards without PCI ids, such as the console of a virtual machine.
    fn read(machine: &Machine<'_>, name: &str) -> Option<Self> {
        let folder = format!("sys/class/drm/{name}/device");
        let (vendor, device) =
            (machine.hex(&format!("{folder}/vendor"))?, machine.hex(&format!("{folder}/device"))?);
        Some(Self { folder, vendor, device })
    }

    fn findings(&self, machine: &Machine<'_>) -> Vec<Finding> {
        let ids = format!("{:04x}:{:04x}", self.vendor, self.device);
        let name = INTEGRATED.iter().find(|(id, _)| self.vendor == AMD && *id == self.device);
        let maker = hardware::maker(self.vendor).unwrap_or("vendor not known");
        let name = name.map_or_else(|| maker.to_owned(), |(_, name)| format!("{maker} {name}"));
        let mut all = vec![match machine.link_name(&format!("{}/driver", self.folder)) {
            Some(driver) => Finding::ok("gpu", format!("{name} ({ids}), driver {driver}")),
            None => Finding::warning("gpu", format!("{name} ({ids}), no driver bound")),
        }];
        let memory = |file: &str| {
            let bytes = u64::try_from(machine.number(&format!("{}/{file}", self.folder))?).ok()?;
            Some(output::size(bytes))
        };
        if let (Some(vram), Some(gtt)) = (memory("mem_info_vram_total"), memory("mem_info_gtt_total")) {
            let found = format!("{vram} of its own (VRAM), {gtt} of main memory (GTT)");
            all.push(Finding::ok("gpu-memory", found));
        }
        all
    }
}

fn nodes(machine: &Machine<'_>) -> Finding {
    let nodes: Vec<String> =
        machine.names("dev/dri").into_iter().filter(|name| name.starts_with("renderD")).collect();
    let refused = nodes.iter().find(|node| !(machine.may_use)(&machine.path(&format!("dev/dri/{node}"))));
    match (nodes.is_empty(), refused) {
        (true, _) => Finding::missing("gpu-node", "no /dev/dri/renderD*, so programs cannot compute on it")
            .mended_by(
                "sudo modprobe amdgpu   # or the driver of another maker; in a container, pass /dev/dri on",
            ),
        (_, Some(node)) => {
            Finding::warning("gpu-node", format!("/dev/dri/{node}: no permission")).mended_by(JOIN_GROUPS)
        }
        _ => Finding::ok("gpu-node", format!("/dev/dri/{}: may be used", nodes.join(", /dev/dri/"))),
    }
}

fn drivers(machine: &Machine<'_>) -> Finding {
    let folders = ["usr/share/vulkan/icd.d", "etc/vulkan/icd.d"];
    let files = folders.iter().flat_map(|folder| machine.names(folder));
    let drivers: Vec<String> =
        files.filter_map(|file| Some(file.strip_suffix(".json")?.to_owned())).collect();
    if drivers.is_empty() {
        let remedy = match machine.release("ID").as_str() {
            "fedora" => "sudo dnf install vulkan-loader mesa-vulkan-drivers",
            "arch" => "sudo pacman -S vulkan-icd-loader vulkan-radeon",
            _ => "sudo apt-get install libvulkan1 mesa-vulkan-drivers",
        };
        return Finding::missing("vulkan", "no driver (/usr/share/vulkan/icd.d)").mended_by(remedy);
    }
    Finding::ok("vulkan", drivers.join(", "))
}

/// What `--device vulkan:N` can name.
fn adapters(machine: &Machine<'_>) -> Vec<Finding> {
    let topic = "vulkan-adapter";
    let Some(adapters) = &machine.adapters else {
        let gpus = hardware::gpus(machine.root);
        let found = "this build has no Vulkan backend (feature igpu)";
        return vec![if gpus.is_empty() {
            Finding::missing(topic, found).mended_by(vulkan::BUILD)
        } else {
            let found = format!("{found}, which could use the GPU: {}", gpus.join(", "));
            Finding::missing(topic, found).mended_by(format!("{}, then gemma --device vulkan", vulkan::BUILD))
        }];
    };
    if adapters.is_empty() {
        let found = "no adapter: there is no loader (libvulkan.so.1), or none of its drivers finds a device";
        return vec![Finding::missing(topic, found)];
    }
    let described = adapters.iter().map(|adapter| {
        let finding = Finding::ok(topic, adapter.describe());
        let id = &adapter.id;
        match adapter.kind {
            _ if adapter.is_gpu() => finding
                .mended_by(format!("--device {id} runs models on it; auto measures it and may choose it")),
            "software" => finding.mended_by(format!("--device {id} computes on the CPU, slowly: for tests")),
            _ => finding,
        }
    });
    described.collect()
}

fn compute_node(machine: &Machine<'_>) -> Finding {
    let path = machine.path("dev/kfd");
    if !path.exists() {
        return Finding::missing("kfd", "no /dev/kfd, which HIP needs").mended_by("sudo modprobe amdgpu");
    }
    if (machine.may_use)(&path) {
        Finding::ok("kfd", "/dev/kfd: may be used")
    } else {
        Finding::warning("kfd", "/dev/kfd: no permission").mended_by(JOIN_GROUPS)
    }
}

fn hip(machine: &Machine<'_>) -> Finding {
    match machine.library("libamdhip64.so") {
        Some(path) => Finding::ok("hip", path.display().to_string()),
        None => Finding::missing("hip", "no libamdhip64 (optional; Vulkan does without)")
            .mended_by("sudo apt-get install libamdhip64-5   # Debian 13, Ubuntu 24.04; elsewhere hip-runtime-amd of AMD's ROCm, 5.7 or later"),
    }
}
