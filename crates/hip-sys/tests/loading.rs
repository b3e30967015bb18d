//! Libraries that are absent, old, incomplete or something else, made by the C compiler with what each test needs.

#![cfg(unix)]

use std::env;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hip_sys::{Functions, Hip, LoadError, Version, hipError_t, hipErrorOutOfMemory, hipSuccess};

/// Set in a process that is to load what its environment names: the file it shall find.
const EXPECTED: &str = "HIP_SYS_TEST_EXPECTED";

/// A library of functions that return 0, and of the version; `source` is what it has besides.
fn library(path: &Path, version: u32, functions: &[&str], source: &str) {
    let mut text =
        format!("int hipRuntimeGetVersion(int *version) {{ *version = {version}; return 0; }}\n{source}\n");
    let own = |name: &str| text.contains(&format!(" {name}(")) || text.contains(&format!("*{name}("));
    let plain: Vec<_> = functions.iter().filter(|name| !own(name)).collect();
    for name in plain {
        writeln!(text, "int {name}(void) {{ return 0; }}").expect("text");
    }
    compile(path, &text);
}

fn compile(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("folder")).expect("folder");
    let source = path.with_extension("c");
    std::fs::write(&source, text).expect("source");
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(path).arg(&source).status();
    assert!(status.expect("a C compiler").success());
}

/// A folder and a library's name in it. The folder stays, as libraries are never unloaded.
fn place() -> (PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("folder").keep();
    let path = folder.join("lib").join("libamdhip64.so.6");
    (folder, path)
}

#[test]
fn a_whole_library_is_loaded() {
    let (_, path) = place();
    let texts = "const char *hipGetErrorName(int code) { return code == 55 ? \"hipErrorNewer\" : \"hipErrorOutOfMemory\"; }
        const char *hipGetErrorString(int code) { return code == 56 ? 0 : \"out of memory\"; }";
    library(&path, 60_241_134, Functions::REQUIRED, texts);
    let hip = Hip::open(&path).expect("library");
    assert_eq!(hip.version(), Version { major: 6, minor: 2, patch: 41134 });
    assert_eq!(hip.path(), path);
    assert!(hip.hipGraphUpload.is_none());
    assert_eq!(hip.check(hipSuccess), Ok(()));
    for (code, shown) in [
        (hipErrorOutOfMemory, "hipErrorOutOfMemory (2): out of memory"),
        (hipError_t(55), "hipErrorNewer (55): out of memory"),
        (hipError_t(56), "hipErrorOutOfMemory (56): no text"),
    ] {
        assert_eq!(hip.check(code).expect_err("an error").to_string(), shown);
    }
    // It has neither function that gives properties.
    assert!(hip.architecture(0).is_err());
}

#[test]
fn a_function_that_is_missing_is_named() {
    let (_, path) = place();
    let mut lacking = Functions::REQUIRED.to_vec();
    let at = lacking.iter().position(|name| *name == "hipGraphLaunch").expect("function");
    lacking.remove(at);
    library(&path, 70_051_831, &lacking, "");
    let error = Hip::open(&path).expect_err("incomplete");
    assert!(matches!(error, LoadError::MissingFunction { function: "hipGraphLaunch", .. }));
    let text = error.to_string();
    assert!(text.contains("HIP 7.0.51831") && text.contains("hipGraphLaunch"), "{text}");
}

#[test]
fn an_old_library_is_refused_with_its_version() {
    let (_, path) = place();
    library(&path, 50_631_062, Functions::REQUIRED, "");
    let text = Hip::open(&path).expect_err("too old").to_string();
    assert!(text.contains("HIP 5.6.31062") && text.contains("5.7 or newer"), "{text}");
}

#[test]
fn what_is_no_hip_runtime_is_refused() {
    for (source, words) in [
        ("int other(void) { return 0; }", "no hipRuntimeGetVersion"),
        ("int hipRuntimeGetVersion(int *v) { return 100; }", "hipErrorNoDevice"),
        ("int hipRuntimeGetVersion(int *v) { *v = -1; return 0; }", "no version"),
    ] {
        let (_, path) = place();
        compile(&path, source);
        let error = Hip::open(&path).expect_err("something else");
        assert!(matches!(error, LoadError::NoVersion { .. }) && error.to_string().contains(words), "{error}");
    }
}

#[test]
fn what_is_not_there_is_said_with_what_to_do() {
    let (folder, path) = place();
    let text = Hip::open(&path).expect_err("absent").to_string();
    assert!(text.contains(path.to_str().expect("text")) && text.contains("Install"), "{text}");
    std::fs::create_dir_all(folder.join("lib")).expect("folder");
    std::fs::write(&path, "not a library").expect("file");
    assert!(matches!(Hip::open(&path), Err(LoadError::NotFound(tried)) if tried.len() == 1));
}

/// Loads in a process of its own, whose environment no other test sees.
#[test]
fn the_environment_says_where() {
    if let Some(expected) = env::var_os(EXPECTED) {
        let found = Hip::load().expect("library");
        assert_eq!(found.path(), Path::new(&expected));
        return;
    }
    let ((newer, newer_path), (older, older_path)) = (place(), place());
    library(&newer_path, 70_051_831, Functions::REQUIRED, "");
    library(&older_path, 50_731_921, Functions::REQUIRED, "");
    let newest = newer_path.with_file_name("libamdhip64.so.7");
    std::fs::copy(&newer_path, &newest).expect("copy");
    let empty = tempfile::tempdir().expect("folder");
    for (hip_path, rocm_path, expected) in [
        (newer.as_path(), older.as_path(), newest.as_path()),
        (older.as_path(), newer.as_path(), older_path.as_path()),
        (empty.path(), older.as_path(), older_path.as_path()),
        (Path::new(""), older.as_path(), older_path.as_path()),
    ] {
        let mut child = Command::new(env::current_exe().expect("path"));
        child.args(["--exact", "the_environment_says_where"]);
        child.env("HIP_PATH", hip_path).env("ROCM_PATH", rocm_path).env(EXPECTED, expected);
        let output = child.output().expect("process");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
