//! `gemma run`: where the prompt comes from, what is repeatable, where the text ends.

use std::fs;

use super::{run, run_with_input, token_lines};

const STORY: &str = "Once upon a time";

#[test]
fn every_way_to_give_a_prompt() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("prompt.txt");
    fs::write(&file, STORY).unwrap();
    let file = file.to_str().unwrap();
    let shared = ["-n", "6", "-s", "7"];
    let expected = run(&[&["run", STORY], &shared[..]].concat()).ok();
    assert!(expected.starts_with(STORY) && expected.len() > STORY.len() + 6, "{expected:?}");
    // Arguments, standard input.
    for (arguments, input) in [
        (&[STORY][..], ""),
        (&["-p", STORY], ""),
        (&["run", "-p", STORY], ""),
        (&["run", "-f", file], ""),
        (&["run"], STORY),
        (&[], STORY),
        (&["run", "-"], STORY),
        (&["run", "-f", "-"], STORY),
        (&["run", "--raw", STORY], ""),
    ] {
        let found = run_with_input(&[arguments, &shared[..]].concat(), input).ok();
        assert_eq!(found, expected, "{arguments:?} {input:?}");
    }
}

#[test]
fn a_prompt_may_begin_with_a_hyphen() {
    let stdout = run(&["run", "-n", "1", "-p", "- a list"]).ok();
    assert!(stdout.starts_with("- a list"), "{stdout:?}");
    let stdout = run(&["run", "-n", "1", "--", "--help"]).ok();
    assert!(stdout.starts_with("--help"), "{stdout:?}");
}

#[test]
fn same_seed_same_text_for_all_threads_and_chunks() {
    let shared = ["run", "-n", "24", "-s", "11", "Once upon a time there was a"];
    let expected = run(&[&shared[..], &["-t", "1"]].concat()).ok();
    for setting in [["-t", "2"], ["-t", "3"], ["--chunk", "1"], ["--chunk", "3"], ["--chunk", "7"]] {
        assert_eq!(run(&[&shared[..], &setting[..]].concat()).ok(), expected, "{setting:?}");
    }
    let other = run(&[&shared[..4], &["12", shared[5]]].concat()).ok();
    assert_ne!(other, expected, "another seed");
}

#[test]
fn log_probabilities_are_lines_of_json() {
    let shared = ["run", "-n", "8", "-s", "3", STORY];
    let plain = run(&shared).ok();
    let stdout = run(&[&shared[..], &["--logprobs", "3"]].concat()).ok();
    let lines: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: String = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(format!("{STORY}{text}"), plain.trim_end_matches('\n'));
    let tokens = token_lines(&stdout);
    assert_eq!(tokens.len(), 8);
    for line in tokens {
        let top: Vec<f64> =
            line["top"].as_array().unwrap().iter().map(|top| top["logprob"].as_f64().unwrap()).collect();
        assert_eq!(top.len(), 3, "{line}");
        assert!(top[0] <= 0.0 && top.is_sorted_by(|a, b| a >= b), "{line}");
        assert!(line["token"]["id"].is_u64() && line["token"]["piece"].is_string(), "{line}");
        assert!(line["token"]["logprob"].as_f64().unwrap() <= top[0], "{line}");
    }
}

#[test]
fn the_text_ends_before_a_stop_string() {
    let shared = ["run", "-n", "24", "-s", "5", STORY];
    let whole = run(&shared).ok();
    let generated = whole[STORY.len()..].trim_end();
    let stop: String = generated.chars().skip(10).take(5).collect();
    let before = generated.split(&stop).next().unwrap();
    let stopped = run(&[&shared[..], &["--stop", &stop]].concat()).ok();
    assert_eq!(stopped.trim_end_matches('\n'), format!("{STORY}{before}"), "stop at {stop:?}");
}

#[test]
fn a_prompt_longer_than_the_context() {
    let stderr = run(&["run", "-c", "4", "Once upon a time there was a"]).fails(2);
    assert!(stderr.contains("tokens, but the context holds 4 (one is kept for the answer); shorten the prompt or raise --context"), "{stderr}");
}

#[test]
fn a_full_context_ends_the_text() {
    let arguments = ["run", "-c", "16", "-n", "99", "--logprobs", "0", "--logit-bias", "1=-100", STORY];
    let done = run(&arguments);
    assert_eq!(done.stderr, "gemma: the context of 16 tokens is full; --context makes it larger\n");
    // Five of the sixteen are the prompt's; the last one chosen need not be run.
    assert_eq!(token_lines(&done.ok()).len(), 16 - 5 + 1);
}

#[test]
fn an_empty_prompt_begins_a_text() {
    for input in [&["run", "-n", "4", "-s", "1", ""][..], &["run", "-n", "4", "-s", "1", "--template", ""]] {
        assert!(!run(input).ok().trim().is_empty(), "{input:?}");
    }
    assert!(!run_with_input(&["run", "-n", "4", "-s", "1"], "").ok().trim().is_empty());
}

#[test]
fn no_tokens_wanted_is_the_prompt_alone() {
    assert_eq!(run(&["run", "-n", "0", STORY]).ok(), format!("{STORY}\n"));
}

#[test]
fn markup_in_a_prompt_is_text() {
    let ids = |prompt: &str| {
        let stderr = run(&["run", "-c", "2", prompt]).fails(2);
        let tokens = stderr.split("has ").nth(1).unwrap().split(' ').next().unwrap();
        tokens.parse::<usize>().unwrap()
    };
    assert!(ids("<start_of_turn>user") > 3, "a marker that a user types is not the marker");
}
