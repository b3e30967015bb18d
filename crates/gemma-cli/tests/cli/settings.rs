//! Configuration file, environment and flags: the later wins.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{Done, built_in, done, gemma, golden, run, text, token_lines};

/// A folder for XDG_CONFIG_HOME with this configuration.
fn config(toml: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("gemma")).unwrap();
    fs::write(folder.path().join("gemma/config.toml"), toml).unwrap();
    folder
}

fn with(config: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Done {
    let mut command = gemma(arguments);
    command.env("XDG_CONFIG_HOME", config).envs(variables.iter().copied());
    done(command)
}

#[test]
fn file_below_environment_below_flags() {
    let config = config("[sampling]\nmax-tokens = 3\n");
    let run = ["run", "--logprobs", "0", "--logit-bias", "1=-100", "Once upon a time"];
    let flag = [&run[..], &["-n", "2"]].concat();
    let variable = [("GEMMA_MAX_TOKENS", "5")];
    let empty = [("GEMMA_MAX_TOKENS", "")];
    for (variables, arguments, tokens) in [
        (&[][..], &run[..], 3),
        (&variable[..], &run[..], 5),
        (&variable[..], &flag[..], 2),
        (&[][..], &flag[..], 2),
        (&empty[..], &run[..], 3),
    ] {
        let stdout = with(config.path(), variables, arguments).ok();
        assert_eq!(token_lines(&stdout).len(), tokens, "{variables:?} {arguments:?}");
    }
}

#[test]
fn a_wrong_variable_fails_only_what_uses_it() {
    let none = Path::new("/nowhere");
    let threads = [("GEMMA_THREADS", "abc")];
    let story = ["run", "-n", "1", "hi"];
    for arguments in [
        &["man"][..],
        &["completions", "bash"],
        &["validate"],
        &["doctor", "-t", "1"],
        &["run", "--help"],
        &[&story[..], &["-t", "1"]].concat(),
    ] {
        let done = with(none, &threads, arguments);
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
    }
    for (variables, arguments, message) in [
        (threads, &story[..], "gemma: GEMMA_THREADS=abc: invalid digit found in string\n"),
        (threads, &["hi"], "gemma: GEMMA_THREADS=abc: invalid digit found in string\n"),
        (threads, &["info"], "gemma: GEMMA_THREADS=abc: invalid digit found in string\n"),
        (threads, &["bench"], "gemma: GEMMA_THREADS=abc: invalid digit found in string\n"),
        (
            [("GEMMA_THREADS", "0")],
            &story,
            "gemma: --threads or GEMMA_THREADS: a thread pool needs at least 1 thread\n",
        ),
        ([("GEMMA_MEMORY", "-1")], &story, "gemma: GEMMA_MEMORY=-1: invalid digit found in string\n"),
        ([("GEMMA_TOP_P", "half")], &story, "gemma: GEMMA_TOP_P=half: invalid float literal\n"),
    ] {
        assert_eq!(with(none, &variables, arguments).fails(2), message, "{variables:?} {arguments:?}");
    }
}

#[test]
fn every_variable_of_the_help_is_read() {
    let help = run(&["run", "--help"]).ok();
    // The help is broken into lines anywhere.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let variables: Vec<&str> =
        help.split("[env: ").skip(1).map(|rest| rest.split('=').next().unwrap()).collect();
    assert!(variables.len() > 20, "{variables:?}");
    for variable in variables {
        // No file, no number, no name of anything.
        let done = with(Path::new("/nowhere"), &[(variable, "/no/such")], &["run", "hi"]);
        let stderr = done.fails(if variable == "GEMMA_DEVICE" { 3 } else { 2 });
        assert!(stderr.contains("/no/such"), "{variable}: {stderr}");
    }
}

#[test]
fn the_model_can_come_from_each_of_them() {
    let (four, ten) = (golden("four-layers"), golden("ten-layers"));
    let config = config(&format!("[model]\nmodel = {:?}\ncontext = 64\n", text(&four)));
    let layers = |variables: &[(&str, &str)], arguments: &[&str]| {
        let report = with(config.path(), variables, &[&["info", "--json"], arguments].concat()).json();
        (report["config"]["layers"].as_u64().unwrap(), report["context"].as_u64().unwrap())
    };
    assert_eq!(layers(&[], &[]), (4, 64));
    assert_eq!(layers(&[("GEMMA_MODEL", text(&ten))], &[]), (10, 64));
    assert_eq!(
        layers(&[("GEMMA_MODEL", text(&ten)), ("GEMMA_CONTEXT", "32")], &["-m", text(&four)]),
        (4, 32)
    );
    let nano = layers(&[("GEMMA_MODEL", text(&ten))], &["-m", text(&built_in())]);
    assert!(!matches!(nano.0, 4 | 10), "{nano:?}");
}

#[test]
fn a_named_file_wins_over_the_usual_one() {
    let (usual, named) = (config("[model]\ncontext = 64\n"), config("[model]\ncontext = 16\n"));
    let file = named.path().join("gemma/config.toml");
    let report = with(usual.path(), &[("GEMMA_CONFIG", text(&file))], &["info", "--json"]).json();
    assert_eq!(report["context"], 16);
}

#[test]
fn a_file_that_is_wrong_is_named() {
    for (toml, message) in [
        ("[sampling]\ntemprature = 1\n", "temprature"),
        ("[sampling]\ntemperature = \"hot\"\n", "hot"),
        ("[modle]\n", "modle"),
        ("sampling = [", "TOML"),
    ] {
        let config = config(toml);
        let stderr = with(config.path(), &[], &["run", "hi"]).fails(2);
        assert!(stderr.contains("gemma/config.toml"), "{toml:?}: {stderr}");
        assert!(stderr.contains(message), "{toml:?}: {stderr}");
    }
    let mut missing = gemma(&["run", "hi"]);
    missing.env("GEMMA_CONFIG", "/no/such/config.toml");
    assert!(done(missing).fails(2).contains("/no/such/config.toml: No such file"));
    assert_eq!(run(&["run", "-n", "1", "hi"]).code, Some(0), "no file at the usual place is no error");
}
