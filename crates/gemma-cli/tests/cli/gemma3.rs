//! Every verb that takes a model, with a Gemma 3 one.

use super::{golden, run, run_with_input, text};

fn path() -> String {
    text(&golden("gemma3-one-key/model.gguf")).to_owned()
}

#[test]
fn info_shows_a_plan_of_plain_layers() {
    let model = path();
    let report = run(&["info", "-m", &model, "--json"]).json();
    assert_eq!(report["config"]["family"], "Gemma 3");
    assert_eq!((&report["config"]["kv_heads"], &report["config"]["altup_streams"]), (&1.into(), &1.into()));
    assert_eq!(report["config"]["full_layers"], serde_json::json!([1, 4]));
    assert_eq!(report["ple_table_bytes"], 0);
    assert_eq!(report["skipped"], serde_json::json!([]));
    let decode = report["phases"][0]["by_operation"].as_array().unwrap();
    let names: Vec<&str> = decode.iter().map(|op| op["operation"].as_str().unwrap()).collect();
    let expected =
        ["embed", "rms_norm", "linear", "rotary", "attention", "add_norm", "feed_forward", "unembed"];
    assert_eq!(names, expected);
}

#[test]
fn text_goes_in_and_out() {
    let model = path();
    let arguments = ["run", "-m", &model, "--raw", "--temperature", "0", "-n", "5", "the king"];
    let first = run(&arguments).ok();
    assert!(first.starts_with("the king"), "{first}");
    assert_eq!(run(&arguments).ok(), first);
    // The file's own chat template.
    run(&["run", "-m", &model, "-n", "3", "the king"]).ok();
    run_with_input(&["chat", "-m", &model, "-n", "3"], "the king\n").ok();
}

#[test]
fn it_is_measured_and_validated() {
    let model = path();
    run(&["validate", "-m", &model]).ok();
    let report =
        run_with_input(&["perplexity", "-m", &model, "-f", "-", "--json"], "the king of the ring").json();
    assert!(report["perplexity"].as_f64().unwrap() > 1.0, "{report}");
    let bench = ["bench", "--shape", &model, "--prefill", "8", "--decode", "2", "--repeat", "1", "--json"];
    let report = run(&bench).json();
    assert_eq!(report["results"].as_array().unwrap().len(), 2);
}

#[test]
fn slices_are_refused() {
    let model = path();
    for arguments in [
        ["info", "-m", &model, "--slice", "1/2"],
        ["bench", "--shape", &model, "--slice", "e2b"],
        ["run", "-m", &model, "--slice", "full"],
    ] {
        let stderr = run_with_input(&arguments, "the king").fails(2);
        assert!(stderr.contains("Gemma 3 models have no slices"), "{stderr}");
    }
    // A report of what is wrong, on standard output.
    let validated = run(&["validate", "-m", &model, "--slice", "1/2"]);
    assert_eq!(validated.code, Some(1), "{}", validated.stderr);
    assert!(validated.stdout.contains("Gemma 3 models have no slices"), "{}", validated.stdout);
}
