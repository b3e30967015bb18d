//! `gemma chat` with a script on standard input.

use serde_json::Value;

use super::{run_with_input, text};

const SHARED: [&str; 5] = ["chat", "-n", "8", "--temperature", "0"];

#[test]
fn reset_forgets() {
    let once = run_with_input(&SHARED, "Tell me a story.\n").ok();
    let twice = run_with_input(&SHARED, "Tell me a story.\n/reset\nTell me a story.\n").ok();
    assert!(!once.trim().is_empty());
    assert_eq!(twice, format!("{once}{once}"));
}

#[test]
fn a_saved_conversation_goes_on_where_it_was() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("talk.json");
    let file = text(&file);
    let first = run_with_input(&SHARED, format!("Tell me a story.\n/save {file}\nAnd then?\n")).ok();
    let saved: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let messages = saved["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 2, "{saved}");
    assert_eq!((&messages[0]["role"], &messages[0]["content"]), (&"user".into(), &"Tell me a story.".into()));
    assert_eq!(messages[1]["role"], "assistant");
    let answer = messages[1]["content"].as_str().unwrap();
    let second =
        first.strip_prefix(answer).unwrap_or_else(|| panic!("{first:?} begins with {answer:?}")).trim_start();

    let by_flag = run_with_input(&[&SHARED[..], &["--load", file]].concat(), "And then?\n").ok();
    assert_eq!(by_flag, second);
    let by_command = run_with_input(&SHARED, format!("/load {file}\nAnd then?\n")).ok();
    assert_eq!(by_command, second);
}

#[test]
fn stats_show_on_standard_error() {
    let done = run_with_input(&SHARED, "/stats\nTell me a story.\n");
    assert!(done.stderr.contains("decode") && done.stderr.contains("tok/s"), "{}", done.stderr);
    let done = run_with_input(&SHARED, "Tell me a story.\n");
    assert_eq!(done.stderr, "");
}

#[test]
fn later_turns_reuse_the_cache() {
    let done = run_with_input(&[&SHARED[..], &["--stats"]].concat(), "Tell me a story.\nAnd then?\n");
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", done.stderr);
    assert!(!lines[0].contains("reused") && lines[1].contains(" reused)"), "{}", done.stderr);
}

#[test]
fn what_cannot_be_done_is_told() {
    let folder = tempfile::TempDir::new().unwrap();
    let wrong = folder.path().join("wrong.json");
    std::fs::write(&wrong, r#"{"messages": [{"role": "narrator", "content": "x"}]}"#).unwrap();
    let load_wrong = format!("/load {}\n", text(&wrong));
    for (input, message) in [
        ("/nonsense\n", "/nonsense: no such command; /help shows them"),
        ("/save\n", "/save: name a file"),
        ("/load /no/such/file\n", "/no/such/file: No such file or directory"),
        ("/save /no/such/folder/talk.json\n", "/no/such/folder/talk.json: No such file or directory"),
        (&load_wrong, "no role is called \"narrator\""),
    ] {
        let stderr = run_with_input(&SHARED, input).fails(2);
        assert!(stderr.contains(message), "{input:?}: {stderr}");
    }
}

#[test]
fn a_conversation_out_of_turn_is_refused_with_the_place() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("talk.json");
    for (roles, message) in [
        (&["user", "user"][..], "message 1 has the role user where assistant is due"),
        (&["model", "user"], "message 0 has the role assistant where system or user is due"),
        (&["user", "model", "system"], "message 2 has the role system where user is due"),
        (&["system", "user", "model", "user"], "message 3 is a user's without an answer"),
    ] {
        let messages: Vec<_> =
            roles.iter().map(|role| serde_json::json!({"role": role, "content": "x"})).collect();
        std::fs::write(&file, serde_json::json!({ "messages": messages }).to_string()).unwrap();
        for (arguments, input) in [
            (SHARED.to_vec(), format!("/load {}\nnever answered\n", text(&file))),
            ([&SHARED[..], &["--load", text(&file)]].concat(), "never answered\n".to_owned()),
        ] {
            let stderr = run_with_input(&arguments, input).fails(2);
            assert!(stderr.contains("talk.json: ") && stderr.contains(message), "{roles:?}: {stderr}");
        }
    }
}

#[test]
fn help_and_exit() {
    let done = run_with_input(&SHARED, "/help\n/exit\nnever answered\n");
    assert!(done.stderr.contains("/save FILE"), "{}", done.stderr);
    assert_eq!(done.ok(), "");
}

#[test]
fn a_conversation_that_fills_the_context() {
    let done = run_with_input(
        &["chat", "-c", "40", "--temperature", "0", "--logit-bias", "1=-100"],
        "Tell me a story.\n",
    );
    assert!(done.stderr.contains("the context is full; /reset"), "{}", done.stderr);
    assert!(!done.ok().trim().is_empty());
}

#[test]
fn a_line_without_end_is_refused() {
    let stderr = run_with_input(&SHARED, vec![b'a'; (16 << 20) + 2]).fails(2);
    assert!(stderr.contains("standard input: a line longer than 16777216 bytes"), "{stderr}");
}
