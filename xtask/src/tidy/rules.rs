//! The rules for one Rust file: size, unsafe code, unfinished work, docs, paths of one machine.
//!
//! Each rule is a function from a [`Source`] to findings; it looks at no other file.

use std::path::Path;

use super::Finding;
use super::source::{Source, words};

/// Most lines of code of a file, without blank lines, comments and its `#[cfg(test)]` modules.
const MAX_FILE_LINES: usize = 500;
/// Most lines of code of a function outside of tests.
const MAX_FUNCTION_LINES: usize = 60;
/// Macros, attributes and words of unfinished work.
const UNFINISHED: [&str; 5] = ["todo!", "unimplemented!", "dbg!", "#[ignore", "FIXME"];
/// First folders of paths that exist on one machine only.
const MACHINE_FOLDERS: [&str; 6] = ["home", "root", "Users", "mnt", "tmp", "work"];
/// Functions that are long for a reason: (file, function, reason).
const LONG_FUNCTIONS: [(&str, &str, &str); 1] =
    [("crates/gemma-hal/src/check.rs", "tail_shapes", "one match with an arm for each operation")];

/// Checks a Rust file.
pub(super) fn check(file: &Path, text: &str) -> Vec<Finding> {
    let source = Source::read(text);
    let mut findings = Vec::new();
    let mut add = |line: usize, rule, problem| {
        findings.push(Finding { file: file.to_owned(), line: line + 1, rule, problem });
    };
    unsafe_code(&source, &mut add);
    sizes(file, &source, &mut add);
    unfinished(&source, &mut add);
    documented(text, &mut add);
    findings.extend(machine_paths(file, text));
    findings
}

/// Finds paths of one machine in a file of any kind.
pub(super) fn machine_paths(file: &Path, text: &str) -> Vec<Finding> {
    let path = |line: &str| {
        MACHINE_FOLDERS.iter().find_map(|folder| {
            let path = format!("/{folder}/");
            line.match_indices(&path)
                .any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "._-/}~*".contains(c))
                })
                .then_some(path)
        })
    };
    let lines = text.lines().enumerate().filter_map(|(line, text)| Some((line, path(text)?)));
    lines
        .map(|(line, path)| Finding {
            file: file.to_owned(),
            line: line + 1,
            rule: "machine-path",
            problem: format!(
                "{path} is a folder of one machine; take the path from an argument or the environment"
            ),
        })
        .collect()
}

type Add<'a> = &'a mut dyn FnMut(usize, &'static str, String);

fn unsafe_code(source: &Source, add: Add<'_>) {
    for (line, code) in source.code.iter().enumerate() {
        for at in words(code, "unsafe") {
            let next = code[at + "unsafe".len()..].trim_start();
            // A block may open on the next line.
            let opens = next.is_empty() || ["{", "impl", "extern"].iter().any(|word| next.starts_with(word));
            if opens && !explained(source, line) {
                let problem = "write a // SAFETY: line right above that a reviewer can check".to_owned();
                add(line, "safety", problem);
            }
        }
    }
}

/// Whether a `SAFETY:` comment stands on this line or right above the statement that it is a part of.
fn explained(source: &Source, line: usize) -> bool {
    for above in (0..=line).rev() {
        if source.comments[above].contains("SAFETY:") {
            return true;
        }
        let code = source.code[above].trim();
        let (comment, attribute) = (!source.comments[above].is_empty(), code.starts_with("#["));
        // A line that ends a statement or a block belongs to what stands before.
        let ends = code.ends_with([';', '{', '}', ',']) && !attribute;
        if above != line && (ends || code.is_empty() && !comment) {
            return false;
        }
    }
    false
}

fn sizes(file: &Path, source: &Source, add: Add<'_>) {
    let lines = source.lines_of_code();
    if lines > MAX_FILE_LINES {
        add(0, "file-size", format!("{lines} lines of code, at most {MAX_FILE_LINES}; split it by idea"));
    }
    // The table of a test may be long.
    let is_test =
        file.components().any(|part| ["tests", "tests.rs"].iter().any(|name| part.as_os_str() == *name));
    let tests = source.test_modules();
    for function in source.functions() {
        let lines = function.lines.clone().filter(|line| source.has_code(*line)).count();
        let in_tests = is_test || tests.iter().any(|tests| tests.contains(function.lines.start()));
        let allowed =
            LONG_FUNCTIONS.iter().any(|(path, name, _)| file.ends_with(path) && *name == function.name);
        if lines > MAX_FUNCTION_LINES && !in_tests && !allowed {
            let problem = format!(
                "{} has {lines} lines of code, at most {MAX_FUNCTION_LINES}; split it",
                function.name
            );
            add(*function.lines.start(), "function-size", problem);
        }
    }
}

fn unfinished(source: &Source, add: Add<'_>) {
    for (line, (code, comment)) in source.code.iter().zip(&source.comments).enumerate() {
        let code = code.replace("# [", "#[");
        if let Some(word) = UNFINISHED.iter().find(|word| code.contains(**word) || comment.contains("FIXME"))
        {
            add(line, "unfinished", format!("{word}: finish it, or take it out and write an issue"));
        }
    }
}

fn documented(text: &str, add: Add<'_>) {
    if !text.trim_start().starts_with("//!") {
        add(
            0,
            "module-doc",
            "begin with a //! comment: what it is, what it never does, where it stands".to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> Vec<&'static str> {
        check(Path::new("a.rs"), text).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn bad_code_is_found() {
        for (text, rule) in [
            ("fn f() {\n    unsafe { g() }\n}", "safety"),
            ("// SAFETY: of g\nfn f() {\n    unsafe { g() }\n}", "safety"),
            ("unsafe impl Send for A {}", "safety"),
            ("// SAFETY: of another\n\nunsafe impl Send for A {}", "safety"),
            ("unsafe extern \"C\" {}", "safety"),
            ("fn f() {\n    todo!()\n}", "unfinished"),
            ("fn f() {\n    unimplemented!(\"x\")\n}", "unfinished"),
            ("#[test]\n#[ignore = \"slow\"]\nfn f() {}", "unfinished"),
            ("// FIXME later", "unfinished"),
            (concat!("const A: &str = \"/ho", "me/me/model\";"), "machine-path"),
            (concat!("// see /t", "mp/notes"), "machine-path"),
        ] {
            assert_eq!(rules(&format!("//! Doc.\n{text}\n")), [rule], "{text}");
        }
        assert_eq!(rules("fn f() {}"), ["module-doc"]);
    }

    #[test]
    fn good_code_passes() {
        for text in [
            "fn f() {\n    // SAFETY: g has no conditions\n    unsafe { g() }\n}",
            "// SAFETY: A has no fields,\n// none at all\n#[cfg(unix)]\nunsafe impl Send for A {}",
            "fn f() {\n    // SAFETY: g has no conditions\n    let a =\n        unsafe { g() };\n}",
            "unsafe fn f() {}\n#[unsafe(no_mangle)]\nfn g() {}",
            "const A: &str = \"unsafe { todo!() }\"; // unsafe { todo!() }",
            "const A: &str = \"https://a.org/home/b\";",
        ] {
            assert_eq!(rules(&format!("//! Doc.\n{text}\n")), [""; 0], "{text}");
        }
    }

    #[test]
    fn sizes_are_those_of_code() {
        let function =
            |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n    // why\n\n".repeat(lines - 2));
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(MAX_FUNCTION_LINES * 10));
        for (text, rule) in [
            (function(MAX_FUNCTION_LINES), None),
            (function(MAX_FUNCTION_LINES + 1), Some("function-size")),
            ("use a;\n".repeat(MAX_FILE_LINES), None),
            ("use a;\n".repeat(MAX_FILE_LINES + 1), Some("file-size")),
            (tests, None),
        ] {
            assert_eq!(rules(&format!("//! Doc.\n{text}")), Vec::from_iter(rule));
        }
    }
}
