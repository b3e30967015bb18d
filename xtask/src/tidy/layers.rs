//! The layers of the house: which crate of the workspace may use which, and what every manifest inherits.
//!
//! [`LAYERS`] is the one place where a direction of dependency is decided; a crate that is missing there is refused.

use std::path::Path;

use toml::{Table, Value};

use super::Finding;

/// A crate, the crates of ours it may use, and those that its tests may use besides.
type Layer = (&'static str, &'static [&'static str], &'static [&'static str]);

/// Lowest first. Only the program, tests, benches and what joins a backend with another framework name one; a backend never
/// knows the model, though its tests may run one.
const LAYERS: [Layer; 18] = [
    ("gemma-hal", &[], &[]),
    ("gemma-cpu", &["gemma-hal"], &["gemma-matformer"]),
    // What kernels are called with; it talks to no GPU.
    ("gemma-hip-kernels", &["gemma-hal"], &["gemma-cpu", "gemma-matformer", "gemma-rdna3"]),
    ("gemma-igpu", &["gemma-hal"], &["gemma-cpu", "gemma-matformer"]),
    // A driver that proofs run on; it knows none of us, and nobody links it.
    ("gemma-radv", &[], &[]),
    // AMD's runtime as it is, for whoever has it; then a library with the same interface that computes on the CPU.
    ("hip-sys", &[], &[]),
    ("gemma-hip-standin", &["hip-sys"], &[]),
    (
        "gemma-hip",
        &["gemma-hal", "gemma-hip-kernels", "hip-sys"],
        &["gemma-cpu", "gemma-hip-standin", "gemma-matformer", "gemma-orchestrator"],
    ),
    // Another one, that computes on an NVIDIA GPU.
    ("gemma-hip-cuda", &["hip-sys"], &[]),
    // Executes kernels' machine code in tests; it knows none of us, and nothing that is shipped knows it.
    ("gemma-rdna3", &[], &[]),
    // Designs for the NPU as data; it knows no compiler and no driver, and until there is a backend none of us.
    ("gemma-npu-kernels", &[], &[]),
    ("gemma-matformer", &["gemma-hal"], &["gemma-cpu"]),
    ("gemma-text", &[], &[]),
    ("gemma-orchestrator", &["gemma-hal", "gemma-matformer", "gemma-text"], &["gemma-cpu", "gemma-igpu"]),
    ("gemma-burn", &["gemma-hal", "gemma-igpu", "gemma-matformer"], &["gemma-cpu", "gemma-orchestrator"]),
    (
        "gemma-cli",
        &[
            "gemma-hal",
            "gemma-cpu",
            "gemma-hip",
            "gemma-igpu",
            "gemma-matformer",
            "gemma-text",
            "gemma-orchestrator",
        ],
        &[],
    ),
    (
        "gemma-benches",
        &[],
        &["gemma-hal", "gemma-cpu", "gemma-matformer", "gemma-text", "gemma-orchestrator"],
    ),
    (
        "xtask",
        &[
            "gemma-hal",
            "gemma-hip-kernels",
            "gemma-matformer",
            "gemma-npu-kernels",
            "gemma-text",
            "gemma-orchestrator",
            "gemma-cli",
        ],
        &[],
    ),
];

/// What a manifest takes from the workspace.
const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];

/// Checks the text of a crate's manifest.
pub(super) fn check(file: &Path, text: &str) -> Vec<Finding> {
    let found = |line, rule, problem: String| Finding { file: file.to_owned(), line, rule, problem };
    let manifest: Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![found(1, "manifest", format!("is not TOML: {error}"))],
    };
    let package = manifest.get("package").and_then(Value::as_table).cloned().unwrap_or_default();
    let name = package.get("name").and_then(Value::as_str).unwrap_or_default();
    let mut findings = Vec::new();
    for field in INHERITED {
        if !of_workspace(package.get(field)) {
            findings.push(found(1, "inherit", format!("write {field}.workspace = true")));
        }
    }
    if !package.contains_key("description") {
        findings.push(found(1, "inherit", "say in package.description what the crate is for".to_owned()));
    }
    if !of_workspace(manifest.get("lints")) {
        findings.push(found(1, "lints", "write [lints] with workspace = true".to_owned()));
    }
    let Some((_, normal, tests)) = LAYERS.iter().find(|(layer, ..)| *layer == name) else {
        let problem =
            format!("{name} has no place among the layers; give it one in xtask/src/tidy/layers.rs");
        findings.push(found(1, "layers", problem));
        return findings;
    };
    for (kind, dependency, value) in dependencies(&manifest) {
        let line = line_of(text, &dependency);
        if !of_workspace(Some(&value)) {
            let problem =
                format!("write {dependency}.workspace = true, and its version in the root's Cargo.toml");
            findings.push(found(line, "versions", problem));
        }
        let ours = LAYERS.iter().any(|(layer, ..)| *layer == dependency) || dependency.starts_with("gemma-");
        let allowed =
            normal.contains(&&*dependency) || kind == "dev-dependencies" && tests.contains(&&*dependency);
        if ours && !allowed {
            let problem =
                format!("{name} must not use {dependency} ({kind}); move what it needs to a lower layer");
            findings.push(found(line, "layers", problem));
        }
    }
    findings
}

/// (kind, name, entry) of every dependency, those of single targets included.
fn dependencies(manifest: &Table) -> Vec<(&'static str, String, Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(|targets| targets.values().filter_map(Value::as_table));
    let mut found = Vec::new();
    for table in std::iter::once(manifest).chain(targets) {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let entries = table.get(kind).and_then(Value::as_table).into_iter().flatten();
            found.extend(entries.map(|(name, value)| (kind, name.clone(), value.clone())));
        }
    }
    found
}

fn of_workspace(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
}

fn line_of(text: &str, dependency: &str) -> usize {
    text.lines().position(|line| line.trim_start().starts_with(dependency)).map_or(1, |line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"gemma-cpu\"\ndescription = \"x\"\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n\n[dependencies]\ngemma-hal.workspace = true\n\n[lints]\nworkspace = true\n";

    fn rules(text: &str) -> Vec<&'static str> {
        check(Path::new("Cargo.toml"), text).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_good_manifest_passes() {
        assert!(rules(GOOD).is_empty());
    }

    #[test]
    fn every_fault_of_a_manifest_is_found() {
        for (from, to, rule) in [
            ("gemma-hal.w", "gemma-matformer.w", "layers"),
            ("gemma-hal.w", "gemma-unheard-of.w", "layers"),
            ("gemma-cpu\"", "gemma-new\"", "layers"),
            (
                "[dependencies]",
                "[target.'cfg(unix)'.dependencies]\ngemma-text.workspace = true\n[dependencies]",
                "layers",
            ),
            ("gemma-hal.workspace = true", "serde = \"1\"", "versions"),
            ("version.workspace = true\nedition", "version = \"1.0.0\"\nedition", "inherit"),
            ("description = \"x\"\n", "", "inherit"),
            ("[lints]\nworkspace = true\n", "", "lints"),
            ("[lints]", "[lints", "manifest"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(rules(&GOOD.replacen(from, to, 1)), [rule], "{to}");
        }
    }

    #[test]
    fn tests_may_name_a_backend() {
        let of = |kind: &str| {
            GOOD.replace("gemma-cpu\"", "gemma-orchestrator\"")
                .replace("gemma-hal.w", "gemma-cpu.w")
                .replace("[dependencies]", kind)
        };
        assert!(rules(&of("[dev-dependencies]")).is_empty());
        assert_eq!(rules(&of("[dependencies]")), ["layers"]);
    }

    #[test]
    fn layers_only_look_down() {
        for (index, (name, normal, _)) in LAYERS.iter().enumerate() {
            for used in *normal {
                assert!(LAYERS[..index].iter().any(|(lower, ..)| lower == used), "{name} uses {used}");
            }
        }
    }
}
