//! GPUs through Vulkan: listed by `doctor`, named by `--device`, and reported with figures of their own alone.

use super::{gemma, run, run_in_f32};

/// What `--device` takes for the adapter that tests run on: a software driver where there is one.
fn device() -> String {
    let found = listed();
    found.split(": ").next().unwrap().to_owned()
}

/// Whether that is a software driver, and this machine has no GPU.
fn device_is_software() -> bool {
    let nodes = std::path::Path::new("/dev/dri").exists() || std::path::Path::new("/dev/nvidia0").exists();
    !nodes && listed().contains(", software, ")
}

/// What `doctor` says of that adapter.
fn listed() -> String {
    let report = run(&["doctor", "-t", "1", "--json"]).json();
    let findings = report["findings"].as_array().unwrap();
    let listed = findings.iter().filter(|finding| finding["topic"] == "vulkan-adapter");
    let listed: Vec<&str> = listed
        .map(|finding| finding["found"].as_str().unwrap())
        .filter(|found| found.starts_with("vulkan:"))
        .collect();
    let adapter = listed.iter().find(|found| found.contains(", software, ")).or(listed.first());
    let adapter = adapter.unwrap_or_else(|| {
        panic!("no Vulkan adapter; a software driver will do: apt-get install mesa-vulkan-drivers libvulkan1")
    });
    (*adapter).to_owned()
}

#[test]
fn the_gpu_writes_what_the_cpu_writes() {
    let device = device();
    let story = |device: &str| {
        run_in_f32(&["run", "--device", device, "--temperature", "0", "-n", "24", "Once upon a time"]).ok()
    };
    assert_eq!(story(&device), story("cpu"));
}

#[test]
fn the_name_may_come_from_the_environment() {
    let device = device();
    let mut command = gemma(&["info", "--json"]);
    command.env("GEMMA_DEVICE", &device);
    assert_eq!(super::done(command).json()["device"], device.as_str());
}

#[test]
fn the_statistics_hold_no_figure_of_another_device() {
    let device = device();
    let mut command =
        gemma(&["run", "--device", &device, "-n", "4", "-s", "1", "--stats", "Once upon a time"]);
    // A folder that nobody can make: nothing that was measured of this device before.
    command.env("XDG_CACHE_HOME", "/proc/nowhere");
    let done = super::done(command);
    for part in ["prompt 5 tokens", "prefill", "decode", "GB/s", "peak RSS", &device] {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
    for part in ["measured", "threads"] {
        assert!(!done.stderr.contains(part), "{part}: {}", done.stderr);
    }
}

#[test]
fn bench_holds_a_gpu_against_its_own_bandwidth_alone() {
    let device = device();
    let bench =
        ["bench", "--shape", "nano", "--prefill", "4", "--decode", "2", "--repeat", "1", "--device", &device];
    let report = run(&[&bench[..], &["--json"]].concat()).json();
    assert!(report["device"].as_str().unwrap().starts_with(&device), "{report}");
    for key in ["threads", "peaks", "choice"] {
        assert!(report.as_object().unwrap()[key].is_null(), "{key}: {report}");
    }
    let read = report["measured_gb_per_s"].as_f64().unwrap();
    assert!(read > 0.0, "{report}");
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        assert!(result["tokens_per_s"]["median"].as_f64().unwrap() > 0.0, "{result}");
        let share = result["gb_per_s"].as_f64().unwrap() / read;
        assert!((result["bandwidth_fraction"].as_f64().unwrap() / share - 1.0).abs() < 1e-9, "{result}");
        for key in ["roofline_fraction", "bound", "arithmetic_fraction"] {
            assert!(result.as_object().unwrap()[key].is_null(), "{key}: {result}");
        }
    }
    let text = run(&bench).ok();
    assert!(text.contains("% of measured bandwidth") && text.contains("measured: read"), "{text}");
    assert!(!text.contains("roofline") && !text.contains("peaks"), "{text}");
}

/// What a driver that computes on the CPU could do better than the CPU is nothing.
#[test]
fn auto_does_not_take_a_software_adapter() {
    if !device_is_software() {
        return;
    }
    for device in [&[][..], &["--device", "auto"]] {
        let done = run(&[&["run", "-n", "2", "-s", "1", "--stats", "-v", "Once"], device].concat());
        assert!(done.stderr.contains("| cpu, ") && !done.stderr.contains("chosen"), "{}", done.stderr);
    }
}

#[test]
fn info_lists_adapters_with_what_they_have() {
    let report = run(&["info", "--json", "--device", "cpu"]).json();
    let listed = report["adapters"].as_array().unwrap();
    let adapter = listed.iter().find(|adapter| adapter.as_str().unwrap().starts_with(&device()));
    let adapter = adapter.unwrap().as_str().unwrap();
    for part in ["subgroups of", "int8 dot", "f16", "16x16x16 matrix units"] {
        assert!(adapter.contains(part), "{part}: {adapter}");
    }
    let text = run(&["info", "--device", "cpu"]).ok();
    assert!(text.contains("device       cpu") && text.contains(&format!("adapter      {adapter}")), "{text}");
}

#[test]
fn an_adapter_that_is_not_there_is_exit_code_3() {
    let stderr = run(&["run", "--device", "vulkan:99", "hi"]).fails(3);
    for part in ["--device vulkan:99: there is no such adapter", "gemma doctor", &device()] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

#[test]
fn no_driver_is_exit_code_3() {
    for device in ["vulkan", "igpu", "vulkan:0"] {
        let mut command = gemma(&["run", "--device", device, "hi"]);
        // The loader then finds no driver.
        command.env("VK_DRIVER_FILES", "/nowhere").env("VK_ICD_FILENAMES", "/nowhere");
        let stderr = super::done(command).fails(3);
        assert!(stderr.contains(&format!("--device {device}: no Vulkan loader or no driver")), "{stderr}");
        assert!(stderr.contains("gemma doctor"), "{stderr}");
    }
}

#[test]
fn more_than_the_memory_is_refused() {
    let stderr = run(&["run", "--device", &device(), "--memory", "8", "hi"]).fails(2);
    assert!(stderr.contains("out of memory"), "{stderr}");
}
