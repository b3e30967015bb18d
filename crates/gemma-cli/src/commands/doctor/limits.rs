//! What holds a machine back: locked memory, battery, power profile, clock governor, heat.

use super::Finding;
use super::machine::Machine;
use super::npu;
use crate::output;

/// Buffers that an NPU shares with programs are locked; a model's staging buffers and caches fit into this.
const NEEDED_MEMLOCK: u64 = 1 << 30;
/// From here on laptops lower their clock, in degrees Celsius.
const HOT: f64 = 90.0;
/// Names of the sensors in processors: AMD's (two drivers) and Intel's.
const PROCESSOR_SENSORS: [&str; 3] = ["k10temp", "zenpower", "coretemp"];

/// What the system tells.
pub(super) fn findings(machine: &Machine<'_>) -> Vec<Finding> {
    let all = [memlock(machine), supply(machine), profile(machine), governor(machine), temperature(machine)];
    all.into_iter().flatten().collect()
}

fn memlock(machine: &Machine<'_>) -> Option<Finding> {
    let finding = match machine.memlock {
        None => Finding::ok("memlock", "memory can be locked without limit"),
        Some(bytes) if bytes >= NEEDED_MEMLOCK => {
            Finding::ok("memlock", format!("{} of memory can be locked", output::size(bytes)))
        }
        Some(bytes) => {
            Finding::warning("memlock", format!("only {} of memory can be locked; the NPU needs more", output::size(bytes)))
                .mended_by("echo '* - memlock unlimited' | sudo tee /etc/security/limits.d/99-memlock.conf   # then log in again")
        }
    };
    // Nothing but an NPU needs it.
    npu::is_there(machine).then_some(finding)
}

fn supply(machine: &Machine<'_>) -> Option<Finding> {
    let folder = "sys/class/power_supply";
    let names = machine.names(folder);
    let field = |name: &String, file: &str| machine.text(&format!("{folder}/{name}/{file}"));
    let plugged = names.iter().any(|name| field(name, "online").as_deref() == Some("1"));
    let is_battery = |name: &&String| {
        // A mouse has a battery too, but its scope is its own.
        field(name, "type").as_deref() == Some("Battery") && field(name, "scope").as_deref() != Some("Device")
    };
    let battery = names.iter().find(is_battery)?;
    let discharging = field(battery, "status").as_deref() == Some("Discharging");
    Some(if discharging && !plugged {
        Finding::warning("power", "on battery, which lowers clocks").mended_by("plug the machine in")
    } else {
        Finding::ok("power", "plugged in")
    })
}

fn profile(machine: &Machine<'_>) -> Option<Finding> {
    let profile = machine.text("sys/firmware/acpi/platform_profile")?;
    let finding = Finding::ok("power-profile", profile.clone());
    if matches!(profile.as_str(), "low-power" | "quiet" | "cool") {
        let remedy = "echo performance | sudo tee /sys/firmware/acpi/platform_profile";
        return Some(Finding::warning("power-profile", profile).mended_by(remedy));
    }
    Some(finding)
}

fn governor(machine: &Machine<'_>) -> Option<Finding> {
    let folder = "sys/devices/system/cpu/cpu0/cpufreq";
    let governor = machine.text(&format!("{folder}/scaling_governor"))?;
    let driver = machine.text(&format!("{folder}/scaling_driver")).unwrap_or_default();
    let preference = machine.text(&format!("{folder}/energy_performance_preference"));
    let found = match &preference {
        Some(preference) => format!("{governor} ({driver}, preference {preference})"),
        None => format!("{governor} ({driver})"),
    };
    // With a preference the processor chooses its clock itself and "powersave" is the usual name of that.
    let slow = match &preference {
        Some(preference) => preference == "power",
        None => governor == "powersave",
    };
    if !slow {
        return Some(Finding::ok("governor", found));
    }
    let remedy = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor";
    Some(Finding::warning("governor", found).mended_by(remedy))
}

fn temperature(machine: &Machine<'_>) -> Option<Finding> {
    let sensors = machine.names("sys/class/hwmon").into_iter().map(|name| format!("sys/class/hwmon/{name}"));
    let mut sensors = sensors.filter(|folder| {
        let name = machine.text(&format!("{folder}/name")).unwrap_or_default();
        PROCESSOR_SENSORS.contains(&name.as_str())
    });
    let sensor = sensors.find_map(|folder| machine.number(&format!("{folder}/temp1_input")));
    let zones = || {
        let names = machine.names("sys/class/thermal").into_iter();
        let names = names.filter(|name| name.starts_with("thermal_zone"));
        names.filter_map(|name| machine.number(&format!("sys/class/thermal/{name}/temp"))).max()
    };
    let degrees = sensor.or_else(zones)?;
    let degrees = degrees as f64 / 1000.0;
    let found = format!("{degrees:.0} °C");
    Some(if degrees < HOT {
        Finding::ok("temperature", found)
    } else {
        Finding::warning("temperature", format!("{found}: the clock is probably lowered"))
            .mended_by("let it cool down, clear the air vents")
    })
}
