//! Stop strings over token borders, stop tokens, and that nothing depends on how a text is cut.

mod common;

use common::{END, tokenizer};
use gemma_text::{SpecialTokens, StopMatcher, StopReason, StopRuleError, StopRules, TextStream};
use proptest::prelude::*;

fn rules(strings: &[&str]) -> StopRules {
    StopRules { tokens: vec![END], strings: strings.iter().map(ToString::to_string).collect() }
}

/// What is emitted and which string stopped it.
fn run(strings: &[&str], parts: &[&str]) -> (String, Option<String>) {
    let mut matcher = StopMatcher::new(&rules(strings)).unwrap();
    let mut text = String::new();
    for part in parts {
        let step = matcher.push(part);
        text.push_str(&step.text);
        if step.stopped.is_some() {
            return (text, step.stopped);
        }
    }
    (text + &matcher.flush(), None)
}

#[test]
fn text_before_the_stop_string_is_emitted_and_nothing_after() {
    let cases: [(&[&str], &[&str], &str, Option<&str>); 8] = [
        (&["END"], &["one END two"], "one ", Some("END")),
        (&["END"], &["one E", "N", "D two"], "one ", Some("END")),
        (&["END"], &["one E", "NE", "ND"], "one EN", Some("END")),
        (&["END"], &["one EN"], "one EN", None),
        (&["bc", "abcd"], &["abcd"], "a", Some("bc")),
        (&["bc", "abc"], &["xab", "c"], "x", Some("abc")),
        (&["日本"], &["a日", "本b"], "a", Some("日本")),
        (&[], &["a", "b"], "ab", None),
    ];
    for (strings, parts, text, stopped) in cases {
        assert_eq!(
            run(strings, parts),
            (text.to_owned(), stopped.map(str::to_owned)),
            "{strings:?} {parts:?}"
        );
    }
}

#[test]
fn only_what_may_begin_a_stop_string_is_held_back() {
    let mut matcher = StopMatcher::new(&rules(&["\n\nUser:"])).unwrap();
    let emitted = ["Hi", "\n", "\n", "there", "\n\nUs", "e"].map(|part| matcher.push(part).text);
    assert_eq!(emitted, ["Hi", "", "", "\n\nthere", "", ""]);
    assert_eq!(matcher.flush(), "\n\nUse");
}

#[test]
fn nothing_follows_a_stop() {
    let mut matcher = StopMatcher::new(&rules(&["x"])).unwrap();
    assert_eq!(matcher.push("ax").stopped.as_deref(), Some("x"));
    assert_eq!(matcher.push("more").text, "");
    assert_eq!(matcher.flush(), "");
}

#[test]
fn rules_that_cannot_work_are_errors() {
    assert_eq!(rules(&["a", ""]).validate(), Err(StopRuleError::Empty { index: 1 }));
    let long = "x".repeat(StopRules::MAX_STRING_BYTES + 1);
    let limit = StopRules::MAX_STRING_BYTES;
    assert_eq!(rules(&[&long]).validate(), Err(StopRuleError::TooLong { index: 0, size: limit + 1, limit }));
    let many = vec!["a"; StopRules::MAX_RULES + 1];
    let limit = StopRules::MAX_RULES;
    assert_eq!(rules(&many).validate(), Err(StopRuleError::TooMany { count: limit + 1, limit }));
}

#[test]
fn stop_string_over_token_borders_ends_the_stream() {
    let tokenizer = tokenizer();
    let mut stream = TextStream::new(&tokenizer, &rules(&["stop👍"])).unwrap();
    let mut text = String::new();
    let mut stopped = None;
    for id in tokenizer.encode("the sto story stop👍 more", SpecialTokens::AsText).unwrap() {
        let step = stream.push(id);
        text.push_str(&step.text);
        stopped = stopped.or(step.stopped);
    }
    assert_eq!(text + &stream.finish(), "the sto story ");
    assert_eq!(stopped, Some(StopReason::String("stop👍".to_owned())));
}

#[test]
fn stop_token_ends_the_stream_and_lets_go_of_held_text() {
    let tokenizer = tokenizer();
    let mut stream = TextStream::new(&tokenizer, &rules(&["stop"])).unwrap();
    let ids = tokenizer.encode("the sto", SpecialTokens::AsText).unwrap();
    let text: String = ids.iter().map(|id| stream.push(*id).text).collect();
    assert_eq!(text, "the ");
    let step = stream.push(END);
    assert_eq!((step.text.as_str(), step.stopped), ("sto", Some(StopReason::Token(END))));
    assert_eq!(stream.push(ids[0]).text, "");
}

#[test]
fn chat_stops_at_the_end_of_a_turn_and_of_a_text() {
    assert_eq!(StopRules::chat(&tokenizer()).tokens, [END, 1]);
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_how_the_text_is_cut(
        text in "[abé]{0,24}",
        strings in proptest::collection::vec("[abé]{1,4}", 0..4),
        cuts in proptest::collection::vec(1_usize..4, 24),
    ) {
        let strings: Vec<&str> = strings.iter().map(String::as_str).collect();
        let characters: Vec<String> = text.chars().map(String::from).collect();
        let mut parts = Vec::new();
        let mut rest = &characters[..];
        for cut in cuts {
            let (part, after) = rest.split_at(cut.min(rest.len()));
            parts.push(part.concat());
            rest = after;
        }
        parts.push(rest.concat());
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let (emitted, stopped) = run(&strings, &parts);
        prop_assert_eq!((&emitted, &stopped), (&run(&strings, &[&text]).0, &run(&strings, &[&text]).1));
        match stopped {
            Some(string) => {
                let after = &text[emitted.len()..];
                prop_assert!(text.starts_with(&emitted) && after.starts_with(&string));
            }
            None => {
                prop_assert!(!strings.iter().any(|string| text.contains(string)));
                prop_assert_eq!(emitted, text);
            }
        }
    }
}
