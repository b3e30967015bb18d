//! The page against a committed one, whatever strings it is given, and what is read of files.

use std::path::Path;

use gemma_cpu::measure::{Int8Peak, Peaks};
use gemma_hal::Cost;

use super::compare::{Comparison, Older, Verdict};
use super::html::page;
use super::input::{self, Peer};
use super::profile::{Operation, Profile};
use super::report::{Report, Runs, print};
use super::work::{Bound, Work};

/// Set to write the page instead of comparing it.
const UPDATE: &str = "GEMMA_UPDATE_DOCS";

/// 40 GB/s, 500 GFLOP/s, 2000 GOP/s.
fn peaks() -> Peaks {
    let int8 = |operations| Int8Peak { instruction: "AVX-512 vpdpbusd 512", operations };
    Peaks {
        read_bandwidth: 40e9,
        f32_flops: 500e9,
        f32_flops_one_thread: 260e9,
        int8: int8(2000e9),
        int8_one_thread: int8(1050e9),
    }
}

fn runs(phase: &'static str, tokens: usize, seconds: &[f64], bytes: u64, flops: u64) -> Runs {
    let cost = Cost { flops, weight_bytes: bytes, cache_bytes: 0 };
    let work = Work { cost, integer_flops: flops / 10 * 9, active_units: None };
    Runs { phase, tokens, depth: 0, seconds: seconds.to_vec(), work }
}

/// A report whose free texts are all `text`.
fn report(text: &str) -> Report {
    let prefill = runs("prefill", 128, &[1.1, 1.0, 1.2, 1.0, 1.1], 1_360_000_000, 400_000_000_000);
    let decode = runs("decode", 32, &[1.6, 1.7, 1.5, 1.6, 1.6], 43_000_000_000, 130_000_000_000);
    let operation = Operation {
        operation: format!("linear {text}"),
        count: 30,
        ms: 12.5,
        time_fraction: 0.25,
        bytes_fraction: 0.2,
        gb_per_s: 21.5,
        gflop_per_s: 43.0,
    };
    let profile =
        Profile { steps: 32, depth: 0, step_ms: 50.0, other_fraction: 0.01, operations: vec![operation] };
    let peaks = Some(peaks());
    Report {
        shape: text.to_owned(),
        dtype: "q4_0".to_owned(),
        slice: Some(text.to_owned()),
        context: 512,
        chunk: 128,
        cache_type: "f16",
        repeat: 5,
        results: vec![
            prefill.measured(peaks.as_ref(), Some(40e9)),
            decode.measured(peaks.as_ref(), Some(40e9)),
        ],
        load_s: 0.25,
        first_token_s: Some(0.5),
        tokenizer_s: None,
        peak_rss_bytes: Some(1 << 30),
        device: text.to_owned(),
        features: vec![text.to_owned()],
        threads: Some(2),
        measured_gb_per_s: Some(40.0),
        peaks: peaks.as_ref().map(Into::into),
        profile: Some(profile),
        choice: None,
        comparison: None,
        version: "0.0.0",
        command: text.to_owned(),
    }
}

fn older(text: &str) -> Older {
    let older = serde_json::json!({
        "shape": text, "type": "q4_0", "device": text, "threads": 1, "repeat": 5,
        "results": [
            { "phase": "decode", "tokens": 32, "tokens_per_s": { "min": 24.0, "median": 25.0, "max": 26.0 } },
            { "phase": text, "tokens": 8, "tokens_per_s": { "min": 1.0, "median": 1.0, "max": 1.0 } },
        ],
    });
    serde_json::from_value(older).unwrap()
}

fn peer(text: &str) -> Peer {
    let peer = serde_json::json!({
        "name": text, "command": text,
        "results": [
            { "phase": "decode", "tokens": 32, "tokens_per_s": { "min": 11.0, "median": 11.5, "max": 12.0 } },
        ],
    });
    serde_json::from_value(peer).unwrap()
}

/// The whole page with every part that it can have.
fn whole(text: &str) -> String {
    let mut report = report(text);
    report.comparison = Some(Comparison::of(&report, &older("e2b"), Path::new(text)));
    page(&report, &[peer(text)])
}

#[test]
fn the_page_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/bench/page.html");
    let page = whole("e2b");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "{} is another page; {UPDATE}=1 and this test write it anew", path.display());
}

#[test]
fn no_string_becomes_markup_and_the_page_needs_nothing_else() {
    const HOSTILE: &str = "<script>alert(\"1\")</script>&<b a='x'>\u{0}";
    let (plain, hostile) = (whole("plain"), whole(HOSTILE));
    let tags = |page: &str| page.matches('<').count();
    assert_eq!(tags(&hostile), tags(&plain), "no string adds a tag");
    let quotes = |page: &str| page.matches('"').count();
    assert_eq!(quotes(&hostile), quotes(&plain), "no string ends an attribute");
    assert!(
        hostile.contains(
            "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&lt;b a=&#39;x&#39;&gt;\u{FFFD}"
        )
    );
    for outside in ["<script", "http:", "https:", "url(", "@import", "<link", "<img", "src="] {
        assert!(!plain.contains(outside), "{outside}");
    }
}

#[test]
fn every_tag_is_closed() {
    let page = whole("e2b");
    let mut open = Vec::new();
    for part in page.split('<').skip(1) {
        let tag = part.split('>').next().unwrap();
        let name = tag.split_whitespace().next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
            None if name == "!DOCTYPE" || name == "meta" || tag.ends_with('/') => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_run_is_held_against_the_peak_that_binds_it() {
    let report = report("x");
    let [prefill, decode] = &report.results[..] else { panic!("two phases") };
    // 40 Gop in f32 and 360 on bytes: 0.08 s + 0.18 s; its bytes take 0.034 s.
    assert_eq!(prefill.bound, Some(Bound::Arithmetic));
    assert!((prefill.roofline_fraction.unwrap() - 0.26 / 1.1).abs() < 1e-9, "{prefill:?}");
    // 43 GB take 1.075 s.
    assert_eq!(decode.bound, Some(Bound::Memory));
    assert!((decode.roofline_fraction.unwrap() - 1.075 / 1.6).abs() < 1e-9, "{decode:?}");
    for result in [prefill, decode] {
        let larger = result.bandwidth_fraction.unwrap().max(result.arithmetic_fraction.unwrap());
        assert_eq!(result.roofline_fraction, Some(larger));
    }
}

#[test]
fn a_device_without_peaks_is_held_against_none() {
    let mut report = report("gpu");
    let decode = || runs("decode", 32, &[1.6, 1.7, 1.5], 43_000_000_000, 130_000_000_000);
    report.results = vec![decode().measured(None, None)];
    (report.threads, report.measured_gb_per_s, report.peaks) = (None, None, None);
    let json = serde_json::to_value(&report).unwrap();
    for key in ["threads", "measured_gb_per_s", "peaks"] {
        assert!(json.as_object().unwrap()[key].is_null(), "{key}: {json}");
    }
    for key in ["roofline_fraction", "bound", "bandwidth_fraction", "arithmetic_fraction"] {
        assert!(json["results"][0].as_object().unwrap()[key].is_null(), "{key}: {json}");
    }
    assert!((json["results"][0]["gb_per_s"].as_f64().unwrap() - 43.0 / 1.6).abs() < 1e-9, "{json}");
    let mut text = Vec::new();
    print(&report, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let page = page(&report, &[peer("peer")]);
    for part in ["roofline", "peaks", "measured", "threads"] {
        assert!(!text.contains(part), "{part}: {text}");
        assert!(!page.contains(part), "{part}: {page}");
    }
    assert!(text.contains("20.00 tok/s") && page.contains("20.00"), "{text}{page}");
}

#[test]
fn a_device_with_a_bandwidth_alone_is_held_against_it() {
    let mut report = report("gpu");
    let decode = runs("decode", 32, &[1.6, 1.7, 1.5], 43_000_000_000, 130_000_000_000);
    report.results = vec![decode.measured(None, Some(400e9))];
    (report.threads, report.measured_gb_per_s, report.peaks) = (None, Some(400.0), None);
    let [decode] = &report.results[..] else { panic!("one phase") };
    assert!((decode.bandwidth_fraction.unwrap() - 43.0 / 400.0 / 1.6).abs() < 1e-9, "{decode:?}");
    assert_eq!((decode.roofline_fraction, decode.bound, decode.arithmetic_fraction), (None, None, None));
    let mut text = Vec::new();
    print(&report, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for part in ["measured: read 400.0 GB/s", "7 % of measured bandwidth"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_comparison_names_what_is_new_gone_and_unlike() {
    let report = report("x");
    let comparison = Comparison::of(&report, &older("e2b"), Path::new("old.json"));
    let verdicts: Vec<_> = comparison.phases.iter().map(|pair| (pair.phase.as_str(), pair.verdict)).collect();
    let expected = [("prefill", Verdict::New), ("decode", Verdict::Slower), ("e2b", Verdict::Gone)];
    assert_eq!(verdicts, expected);
    assert!(comparison.has_regression());
    assert_eq!(
        comparison.unlike,
        ["shape was e2b, is x", "device was e2b, is x", "threads was 1, is 2"],
        "the type is the same"
    );
    let mut text = Vec::new();
    let report = Report { comparison: Some(comparison), ..report };
    print(&report, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for part in ["SLOWER", "0.800", "ranges from min to max", "note: threads was 1, is 2", "linear x"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn files_that_are_no_reports_are_refused_by_name() {
    let folder = tempfile::TempDir::new().unwrap();
    let rate =
        |rate: &str| format!(r#"{{"results":[{{"phase":"decode","tokens":1,"tokens_per_s":{rate}}}]}}"#);
    for (text, error) in [
        ("{".to_owned(), "is not a report of `gemma bench --json`"),
        ("[]".to_owned(), "is not a report of `gemma bench --json`"),
        ("{}".to_owned(), "missing field `results`"),
        (rate(r#"{"min":0,"median":1,"max":2}"#), "tokens_per_s of decode 1 is not a rate"),
        (rate(r#"{"min":3,"median":1,"max":2}"#), "tokens_per_s of decode 1 is not a rate"),
        (rate(r#"{"min":1,"median":1,"max":1e999}"#), "number out of range"),
    ] {
        let path = folder.path().join("old.json");
        std::fs::write(&path, &text).unwrap();
        let crate::failure::Failure::Error(found) = Older::read(&path).unwrap_err() else { panic!("{text}") };
        let found = format!("{found:#}");
        assert!(found.contains(error) && found.contains("old.json"), "{text}: {found}");

        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn files_that_are_no_peers_are_refused_by_name() {
    let folder = tempfile::TempDir::new().unwrap();
    for (text, error) in [
        ("{}", "is not a list of peers"),
        (r#"[{"results":[]}]"#, "missing field `name`"),
        (r#"[{"name":"x","result":[]}]"#, "unknown field `result`"),
        (
            r#"[{"name":"x","results":[{"phase":"decode","tokens":1,"tokens_per_s":{"min":-1,"median":1,"max":2}}]}]"#,
            "tokens_per_s of decode 1 is not a rate",
        ),
    ] {
        let path = folder.path().join("peers.json");
        std::fs::write(&path, text).unwrap();
        let crate::failure::Failure::Error(found) = input::peers(&path).unwrap_err() else {
            panic!("{text}")
        };
        let found = format!("{found:#}");
        assert!(found.contains(error) && found.contains("peers.json"), "{text}: {found}");
    }
}
