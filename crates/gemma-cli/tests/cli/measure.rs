//! `info`, `bench`, `perplexity`, `doctor`: their JSON, and that their numbers agree with each other.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::{done, gemma, golden, run, run_with_input, text};

fn positive(value: &Value) -> f64 {
    let number = value.as_f64().unwrap_or_else(|| panic!("{value} is a number"));
    assert!(number > 0.0, "{number}");
    number
}

#[test]
fn bench_has_the_fixed_form() {
    let report = run(&[
        "bench",
        "--shape",
        "nano",
        "--type",
        "q4_0",
        "--prefill",
        "4,9",
        "--decode",
        "2",
        "--threads",
        "2",
        "--repeat",
        "2",
        "--json",
    ])
    .json();
    let results = report["results"].as_array().unwrap();
    let runs: Vec<_> =
        results.iter().map(|run| (run["phase"].as_str().unwrap(), run["tokens"].as_u64().unwrap())).collect();
    assert_eq!(runs, [("prefill", 4), ("prefill", 9), ("decode", 2)]);
    for result in results {
        let rate = &result["tokens_per_s"];
        let rates = [positive(&rate["min"]), positive(&rate["median"]), positive(&rate["max"])];
        assert!(rates.is_sorted(), "{rates:?}");
        let fraction = positive(&result["gb_per_s"]) / positive(&report["measured_gb_per_s"]);
        assert!((fraction / positive(&result["bandwidth_fraction"]) - 1.0).abs() < 1e-9, "{result}");
        let bound = if result["bound"] == "memory" { "bandwidth_fraction" } else { "arithmetic_fraction" };
        assert_eq!(positive(&result["roofline_fraction"]), positive(&result[bound]), "{result}");
        positive(&result["gflop_per_s"]);
        assert_eq!(result["seconds"].as_array().unwrap().len(), 2, "every repetition: {result}");
    }
    for peak in ["read_gb_per_s", "f32_gflop_per_s", "f32_one_thread_gflop_per_s", "int8_gop_per_s"] {
        positive(&report["peaks"][peak]);
    }
    assert_eq!(report["repeat"], 2);
    assert!(report["first_token_s"].is_null(), "of files only: {report}");
    assert!(report["command"].as_str().unwrap().contains("bench --shape nano --type q4_0 --prefill 4,9"));
    assert!(report["device"].as_str().unwrap().starts_with("cpu"), "{report}");
    positive(&report["load_s"]);
    positive(&report["peak_rss_bytes"]);
    assert_eq!(report["threads"], 2);
}

#[test]
fn bench_of_a_file_says_its_types() {
    let model = golden("four-layers-gguf/model.gguf");
    let arguments =
        ["bench", "--shape", text(&model), "--prefill", "4", "--decode", "0", "--repeat", "1", "--json"];
    let report = run(&arguments).json();
    for name in ["f32", "f16", "bf16", "q8_0", "q4_0"] {
        assert!(report["type"].as_str().unwrap().split('+').any(|part| part == name), "{name}: {report}");
    }
    assert_eq!(report["results"].as_array().unwrap().len(), 1, "no decode of 0 tokens: {report}");
    assert!(positive(&report["first_token_s"]) > positive(&report["load_s"]), "{report}");
}

#[test]
fn bench_takes_a_decode_step_apart() {
    let quick = ["bench", "--prefill", "0", "--decode", "3", "--repeat", "1", "-t", "1", "--profile"];
    let report = run(&[&quick[..], &["--json"]].concat()).json();
    let profile = &report["profile"];
    assert_eq!((profile["steps"].as_u64(), profile["depth"].as_u64()), (Some(3), Some(0)));
    let operations = profile["operations"].as_array().unwrap();
    for what in ["time_fraction", "bytes_fraction"] {
        let sum: f64 = operations.iter().map(|operation| operation[what].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{what}: {sum}");
    }
    let times: Vec<_> = operations.iter().map(|operation| operation["ms"].as_f64().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let names: Vec<_> = operations.iter().map(|operation| operation["operation"].as_str().unwrap()).collect();
    for name in ["feed_forward sparse", "feed_forward", "attention sliding", "attention full", "unembed"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    let text = run(&quick).ok();
    assert!(text.contains("a decode step at depth 0, median of 3"), "{text}");
    let none = run(&["bench", "--decode", "0", "--profile"]).fails(2);
    assert!(none.contains("--decode says none"), "{none}");
}

#[test]
fn bench_compares_reports_and_fails_only_when_told_to() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (old, page, peers) = (file("old.json"), file("page.html"), file("peers.json"));
    let quick = ["bench", "--prefill", "0", "--decode", "2", "--repeat", "4", "-t", "1"];
    let with = |more: &[&str]| run(&[&quick[..], more].concat());
    let mut report = with(&["--json"]).json();
    let rate = &mut report["results"][0]["tokens_per_s"];
    for what in ["min", "median", "max"] {
        rate[what] = (rate[what].as_f64().unwrap() * 1e6).into();
    }
    fs::write(&old, report.to_string()).unwrap();
    fs::write(&peers, serde_json::json!([{ "name": "a <peer>", "results": report["results"] }]).to_string())
        .unwrap();

    let text = with(&["--compare", &old, "--report", &page, "--peers", &peers]).ok();
    assert!(text.contains("SLOWER") && text.contains("ranges from min to max"), "{text}");
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.contains("a &lt;peer&gt;") && page.contains("SLOWER"), "{page}");

    let failed = with(&["--compare", &old, "--fail-on-regression", "--json"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    let compared: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(compared["comparison"]["phases"][0]["verdict"], "slower");
}

#[test]
fn bench_refuses_files_before_it_measures() {
    for (arguments, part) in [
        (&["bench", "--compare", "/nowhere/old.json"][..], "/nowhere/old.json"),
        (&["bench", "--report", "/nowhere/page.html"], "/nowhere/page.html"),
        (&["bench", "--fail-on-regression"], "--compare"),
        (&["bench", "--peers", "x"], "--report"),
    ] {
        let message = run(arguments).fails(2);
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn info_adds_up() {
    let report = run(&["info", "--json"]).json();
    let phases = report["phases"].as_array().unwrap();
    let names: Vec<_> = phases.iter().map(|phase| phase["phase"].as_str().unwrap()).collect();
    assert_eq!(names, ["decode", "prefill", "prefill_only"]);
    for phase in phases {
        for what in ["flops", "weight_bytes", "cache_bytes"] {
            let parts =
                phase["by_operation"].as_array().unwrap().iter().map(|part| part[what].as_u64().unwrap());
            assert_eq!(parts.sum::<u64>(), phase[what].as_u64().unwrap(), "{what} of {}", phase["phase"]);
        }
    }
    let types = report["weight_types"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap());
    assert_eq!(types.sum::<u64>(), report["weight_bytes"].as_u64().unwrap());
}

/// Nobody asked to run anything.
#[test]
fn info_tells_the_size_of_a_cache_that_does_not_fit() {
    let report = run(&["info", "--json", "--memory", "1"]).json();
    assert!(report["cache_bytes"].as_u64().unwrap() > 1 << 20, "{report}");
}

#[test]
fn a_cache_in_blocks_takes_and_reads_little_more_than_half() {
    let report = |dtype: &str| run(&["info", "--json", "--cache-type", dtype, "--position", "100"]).json();
    let (halves, blocks) = (report("f16"), report("q8_0"));
    let bytes = |report: &Value| {
        let read = &report["phases"][0]["cache_bytes"];
        [&report["cache_bytes"], read].map(|bytes| bytes.as_u64().unwrap())
    };
    assert_eq!(bytes(&blocks), bytes(&halves).map(|bytes| bytes / 64 * 34));
}

#[test]
fn info_of_a_slice_is_smaller() {
    let whole = run(&["info", "--json"]).json();
    let half = run(&["info", "--json", "--slice", "1/2"]).json();
    let widths = |report: &Value| -> Vec<u64> {
        report["slice"]["ffn_widths"]
            .as_array()
            .unwrap()
            .iter()
            .map(|width| width.as_u64().unwrap())
            .collect()
    };
    assert_eq!(widths(&half), widths(&whole).iter().map(|width| width / 2).collect::<Vec<_>>());
    assert!(half["phases"][0]["flops"].as_u64() < whole["phases"][0]["flops"].as_u64());
    let text = run(&["info", "--slice", "1/2"]).ok();
    for part in ["model ", "FFN widths", "PLE table", "KV cache", "decode of 1", "prefill of"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn info_takes_positions_of_any_size_to_the_last_of_the_context() {
    let huge = u64::MAX.to_string();
    let report = run(&["info", "--json", "-c", "64", "--position", &huge, "--prefill", &huge]).json();
    assert_eq!(report["phases"][0]["position"], 63);
    assert_eq!(report["phases"][1]["tokens"], 64);
}

#[test]
fn info_reports_what_it_does_not_use() {
    let model = golden("multimodal-layout");
    let report = run(&["info", "--json", "-m", text(&model)]).json();
    let reasons: Vec<_> =
        report["skipped"].as_array().unwrap().iter().map(|part| part["reason"].as_str().unwrap()).collect();
    for part in ["vision tower", "audio tower", "keys and values of layers that share another's"] {
        assert!(reasons.contains(&part), "{part}: {reasons:?}");
    }
}

#[test]
fn perplexity_prefers_sense() {
    let folder = TempDir::new().unwrap();
    let story =
        "Once upon a time there was a little girl who lived in a small house near the forest. ".repeat(3);
    let mut words: Vec<&str> = story.split(' ').collect();
    words.reverse();
    let measure = |text_of: &str, more: &[&str]| {
        let file = folder.path().join("text.txt");
        fs::write(&file, text_of).unwrap();
        let report = run(&[&["perplexity", "-f", text(&file), "--json"], more].concat()).json();
        let (mean, perplexity) = (positive(&report["nats_per_token"]), positive(&report["perplexity"]));
        assert!((mean.exp() / perplexity - 1.0).abs() < 1e-9, "{report}");
        (report["tokens"].as_u64().unwrap(), perplexity)
    };
    let (tokens, sense) = measure(&story, &[]);
    let (_, nonsense) = measure(&words.join(" "), &[]);
    assert!(sense * 4.0 < nonsense, "{sense} and {nonsense}");
    let (_, rounded) = measure(&story, &["--cache-type", "q8_0"]);
    assert!((rounded / sense - 1.0).abs() < 0.01, "{rounded} with a cache in blocks, {sense} without");
    assert!(rounded.to_bits() != sense.to_bits(), "the cache's type is used");
    let (_, short) = measure(&story, &["--window", "8"]);
    assert!(sense < short, "more context, less surprise: {sense} and {short}");

    let report = run_with_input(&["perplexity", "-f", "-", "--json"], story).json();
    assert_eq!(report["tokens"].as_u64(), Some(tokens), "from standard input");
}

#[test]
fn perplexity_of_too_little() {
    for (text_of, more) in [("", &[][..]), ("a", &[]), ("Once upon a time", &["--window", "1"])] {
        let stderr = run_with_input(&[&["perplexity", "-f", "-"], more].concat(), text_of).fails(2);
        assert!(stderr.contains("need at least two tokens"), "{text_of:?}: {stderr}");
    }
}

#[test]
fn doctor_looks_and_does_not_fail() {
    let done = run(&["doctor", "-t", "1", "--json"]);
    assert_eq!(done.stderr, "");
    let report = done.json();
    assert!(report["note"].as_str().unwrap().starts_with("Models run on the CPU"), "{report}");
    let findings = report["findings"].as_array().unwrap();
    for topic in ["processor", "memory", "gpu", "vulkan", "npu", "bandwidth"] {
        assert!(findings.iter().any(|finding| finding["topic"] == topic), "{topic}: {report}");
    }
    for finding in findings {
        assert!(matches!(finding["status"].as_str(), Some("ok" | "missing" | "warning")), "{finding}");
        assert!(!finding["found"].as_str().unwrap().is_empty(), "{finding}");
    }
    let text = run(&["doctor", "-t", "1"]).ok();
    assert!(text.contains("GB/s read, measured"), "{text}");
}

#[test]
fn tune_keeps_what_it_measures_in_the_users_cache_and_nowhere_else() {
    let folder = TempDir::new().unwrap();
    let (cache, current) = (folder.path().join("cache"), folder.path().join("current"));
    fs::create_dir(&current).unwrap();
    let tune = |cache: &str| {
        let mut command = gemma(&["tune", "-t", "1", "--json"]);
        command.env("XDG_CACHE_HOME", cache).current_dir(&current);
        done(command).json()
    };
    let report = tune(text(&cache));
    assert_eq!(report[0]["device"], "cpu", "{report}");
    for what in ["read_bytes_per_s", "operations_per_s"] {
        positive(&report[0]["figures"][what]);
    }
    let path = cache.join("gemma/devices.json");
    let kept: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let devices = kept["devices"].as_object().unwrap();
    assert!(devices.values().any(|figures| *figures == report[0]["figures"]), "{kept}");
    // The specification wants an absolute path; what is damaged is written over.
    fs::write(&path, "{").unwrap();
    tune("relative");
    tune(text(&cache));
    assert!(serde_json::from_str::<Value>(&fs::read_to_string(&path).unwrap()).is_ok());
    assert_eq!(fs::read_dir(&current).unwrap().count(), 0, "nothing in the current folder");
    let text = run(&["tune", "-t", "1"]).ok();
    assert!(text.starts_with("cpu ") && text.contains("GB/s"), "{text}");
}
