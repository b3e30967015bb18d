//! Exit codes, who writes where, and readers that go away.

use std::io::Read;
use std::process::{Child, Stdio};

use super::{gemma, golden, run, run_with_input, spawnable, text};

#[test]
fn exit_code_of_usage_and_run_time_errors_is_2() {
    let four_layers = golden("four-layers");
    let model = text(&four_layers);
    // Arguments, and what the message says.
    for (arguments, message) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["run", "a", "b"], "unexpected argument 'b'"),
        (&["bench", "--prefill", "many"], "many"),
        (&["run", "-m", "/no/such/model", "hi"], "/no/such/model: No such file or directory"),
        (&["run", "-m", model, "hi"], "no tokenizer.json beside the weights"),
        (&["run", "-f", "/no/such/prompt"], "/no/such/prompt: No such file or directory"),
        (&["info", "--slice", "1/7"], "1/7"),
        (&["info", "--context", "0"], "--context: 0 is not possible: this model has a context of 1 to"),
        (&["info", "--context", "1000000"], "--context: 1000000 is not possible"),
        (&["info", "--chunk", "0"], "--chunk: 0 is not possible"),
        (&["info", "--memory", "0"], "out of memory for activations"),
        (&["info", "--memory", "18446744073709551615"], "--memory 18446744073709551615: too many MiB"),
        (&["info", "--cache-type", "q4_0"], "--cache-type q4_0: choose f16, q8_0 or f32"),
        (&["run", "-t", "0", "hi"], "--threads or GEMMA_THREADS: a thread pool needs at least 1 thread"),
        (&["run", "-t", "1000000", "hi"], "--threads or GEMMA_THREADS: 1000000 threads asked for"),
        (&["run", "--temperature", "-1", "hi"], "temperature is -1; it must be 0 to 100"),
        (&["run", "--temperature", "NaN", "hi"], "temperature is NaN; it must be 0 to 100"),
        (&["run", "--top-p", "-0.5", "hi"], "top_p is -0.5"),
        (&["run", "--logit-bias", "x", "hi"], "--logit-bias x: write ID=X, such as 42=-1.5"),
        (&["run", "--logit-bias", "999999=1", "hi"], "logit_bias names token 999999"),
        (&["run", "--mirostat-eta", "0.1", "hi"], "--mirostat-eta needs --mirostat-tau"),
        (&["run", "--stop", "", "hi"], "stop string 0 is empty"),
        (&["chat", "--logprobs", "1"], "--logprobs: a chat shows text"),
        (&["bench", "--repeat", "0"], "--repeat 0: measure at least once"),
        (&["bench", "--type", "q9_k"], "--type q9_k: choose f32, f16, bf16"),
        (
            &["bench", "--prefill", "8", "--decode", "0", "-c", "4"],
            "--context 4: these lengths need 8 positions",
        ),
        (&["bench", "--depth", "18446744073709551615"], "is not possible"),
        (&["perplexity", "-f", "/no/such/text"], "/no/such/text: No such file or directory"),
    ] {
        let stderr = run(arguments).fails(2);
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
}

#[test]
fn exit_code_of_a_device_that_is_not_there_is_3() {
    for device in ["npu", "hipster", "vulkan0"] {
        let stderr = run(&["run", "--device", device, "hi"]).fails(3);
        assert!(stderr.contains(&format!("--device {device}: not in this build")), "{stderr}");
        assert!(stderr.contains("gemma doctor"), "{stderr}");
    }
}

#[cfg(feature = "hip")]
#[test]
fn without_hips_runtime_its_devices_say_where_it_was_looked_for() {
    let nowhere = tempfile::tempdir().unwrap();
    for device in ["hip", "hip:0"] {
        let mut command = spawnable(&["run", "--device", device, "hi"]);
        let output = command.env("HIP_PATH", nowhere.path()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        // A machine that has the runtime has no such GPU, or one on which it runs.
        if output.status.code() != Some(0) {
            assert_eq!(output.status.code(), Some(3), "{stderr}");
            assert!(stderr.contains(&format!("--device {device}: ")) && stderr.contains("hip"), "{stderr}");
        }
    }
}

#[cfg(not(feature = "igpu"))]
#[test]
fn a_build_without_the_gpu_says_how_to_get_it() {
    for device in ["vulkan", "igpu", "vulkan:0"] {
        let stderr = run(&["run", "--device", device, "hi"]).fails(3);
        assert!(stderr.contains(&format!("--device {device}: not in this build")), "{stderr}");
        assert!(stderr.contains("cargo build --release -p gemma-cli"), "{stderr}");
    }
}

#[test]
fn exit_code_of_a_failed_validation_is_1_and_of_a_passed_one_0() {
    let model = golden("four-layers");
    let failed = run(&["validate", "-m", text(&model), "--json"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    let report: serde_json::Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(report["valid"], false);
    let problems: Vec<_> =
        report["checks"].as_array().unwrap().iter().filter(|check| !check["problem"].is_null()).collect();
    assert_eq!(problems.len(), 1, "{report}");
    assert_eq!(problems[0]["what"], "tokenizer");

    let passed = run(&["validate"]).ok();
    assert_eq!(passed.lines().count(), 7, "{passed}");
    assert!(passed.lines().all(|line| line.ends_with(": ok")), "{passed}");
}

#[test]
fn help_and_version_are_results() {
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"]] {
        let done = run(arguments);
        assert_eq!(done.stderr, "", "{arguments:?}");
        assert!(done.ok().contains("gemma"), "{arguments:?}");
    }
}

#[test]
fn statistics_go_to_standard_error() {
    let arguments = ["run", "-n", "4", "-s", "1", "Once upon a time"];
    let plain = run(&arguments);
    assert_eq!(plain.stderr, "", "statistics are for terminals unless asked for");
    let with = run(&[&arguments[..], &["--stats"]].concat());
    for part in
        ["prompt 5 tokens", "first token", "prefill", "decode", "GB/s", "% of measured", "peak RSS", "cpu"]
    {
        assert!(with.stderr.contains(part), "{part}: {}", with.stderr);
    }
    assert_eq!(plain.ok(), with.ok());
}

#[test]
fn bytes_that_are_not_utf_8_are_refused_with_their_place() {
    let stderr = run_with_input(&["run"], b"caf\xe9".to_vec()).fails(2);
    assert_eq!(stderr, "gemma: standard input: not UTF-8 from byte 3 on; save it as UTF-8\n");
    let stderr = run_with_input(&["perplexity", "-f", "-"], b"\xff".to_vec()).fails(2);
    assert!(stderr.contains("standard input: not UTF-8 from byte 0 on"), "{stderr}");
    let stderr = run_with_input(&["chat"], b"caf\xe9\n".to_vec()).fails(2);
    assert!(stderr.contains("standard input: not UTF-8"), "{stderr}");
}

fn spawn(arguments: &[&str]) -> Child {
    spawnable(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_reader_that_had_enough_is_no_failure() {
    for arguments in [
        &["run", "-n", "64", "-s", "1", "Once upon a time"][..],
        &["run", "-n", "64", "-s", "1", "--logprobs", "2", "Once upon a time"],
        &["info", "--json"],
        &["man"],
        &["completions", "zsh"],
    ] {
        let mut child = spawn(arguments);
        let mut stdout = child.stdout.take().unwrap();
        if arguments[0] == "run" {
            stdout.read_exact(&mut [0]).unwrap();
        }
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_closed_standard_error_changes_no_exit_code() {
    for (arguments, code) in [
        (&["info", "-m", "/no/such/model"][..], 2),
        (&["run", "--device", "npu", "hi"], 3),
        (&["run", "-n", "2", "--stats", "hi"], 0),
    ] {
        let mut child = spawn(arguments);
        drop(child.stderr.take());
        assert_eq!(child.wait_with_output().unwrap().status.code(), Some(code), "{arguments:?}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_text_and_exits_with_130() {
    let prompt = "Once upon a time";
    let arguments = [
        "run",
        "--device",
        "reference",
        "-n",
        "1500",
        "--temperature",
        "0",
        "--logit-bias",
        "1=-100",
        prompt,
    ];
    let mut child = spawn(&arguments);
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0; prompt.len() + 8];
    stdout.read_exact(&mut text).unwrap();
    interrupt(&child);
    stdout.read_to_end(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with(prompt) && text.ends_with('\n'), "{text:?}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_program_that_waits_for_input() {
    let mut child = spawnable(&["chat"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Once it has answered this it waits for the next line.
    // Who waits for a child closes its input, which would end it too.
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"/help\n").unwrap();
    child.stderr.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    drop(stdin);
}

#[cfg(unix)]
pub(super) fn interrupt(child: &Child) {
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
}

#[test]
fn the_shells_get_their_scripts() {
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef gemma"), ("fish", "complete -c gemma")] {
        let script = run(&["completions", shell]).ok();
        assert!(script.contains(part), "{shell}");
        assert!(script.contains("perplexity"), "{shell} knows the verbs");
    }
}

#[test]
fn the_manual_page_has_every_verb() {
    let page = run(&["man"]).ok();
    let help = run(&["--help"]).ok();
    let commands = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    let verbs: Vec<&str> =
        commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    let verbs: Vec<&str> = verbs.into_iter().filter(|verb| !verb.is_empty() && *verb != "help").collect();
    assert!(verbs.len() >= 10, "{verbs:?}");
    for verb in verbs {
        assert!(page.contains(&format!(".SH \"GEMMA {}\"", verb.to_uppercase())), "{verb}");
    }
}

#[test]
fn an_unknown_model_variable_is_named() {
    let mut command = gemma(&["info"]);
    command.env("GEMMA_MODEL", "/no/such/model");
    let stderr = super::done(command).fails(2);
    assert!(stderr.contains("/no/such/model"), "{stderr}");
}
