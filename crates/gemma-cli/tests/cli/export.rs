//! `gemma convert` and `gemma quantize`: what they write runs as its source does, and what cannot be done is said.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{built_in, golden, run, run_in_f32, text};

const PROMPTS: &str = "[[2, 5, 9, 14, 20, 3, 7], [2, 40, 41, 42]]";

/// The logits of a model as the bytes of a file.
fn logits(folder: &Path, model: &Path, more: &[&str]) -> Vec<u8> {
    let (prompts, out) = (folder.join("prompts.json"), folder.join("logits.safetensors"));
    fs::write(&prompts, PROMPTS).unwrap();
    let arguments = ["eval", "-m", text(model), "--tokens", text(&prompts), "--out-logits", text(&out)];
    run_in_f32(&[&arguments[..], more].concat()).ok();
    fs::read(out).unwrap()
}

#[test]
fn a_converted_model_computes_the_same_bits() {
    let folder = TempDir::new().unwrap();
    let slice = golden("sliced-child/slice.toml");
    let sliced = ["--slice", text(&slice)];
    for (name, source, slice) in [
        ("whole", golden("four-layers"), &[][..]),
        ("towers", golden("multimodal-layout"), &[]),
        ("gguf", golden("four-layers-gguf/model.gguf"), &[]),
        ("slice", golden("sliced-parent"), &sliced[..]),
        // Its norms are stored as what is added to 1, and written as the sum.
        ("gemma3", golden("gemma3-one-key"), &[]),
        ("gemma3-stretched", golden("gemma3-long-window"), &[]),
        ("gemma3-gguf", golden("gemma3-one-key/model.gguf"), &[]),
    ] {
        let out = folder.path().join(format!("{name}.gguf"));
        run(&[&["convert", text(&source), text(&out), "--type", "f32"], slice].concat()).ok();
        let expected = logits(folder.path(), &source, slice);
        assert!(logits(folder.path(), &out, &[]) == expected, "{name}");
        run(&["validate", "-m", text(&out)]).fails_or_lacks_tokenizer();
    }
}

impl super::Done {
    /// The goldens have no tokenizer; all else about them is valid.
    #[track_caller]
    fn fails_or_lacks_tokenizer(self) {
        let problems: Vec<&str> = self.stdout.lines().filter(|line| !line.ends_with(": ok")).collect();
        assert!(problems.iter().all(|line| line.starts_with("tokenizer:")), "{problems:?}");
    }
}

#[test]
fn a_quantised_model_speaks_and_says_what_it_lost() {
    let folder = TempDir::new().unwrap();
    let (out, story) = (folder.path().join("small.gguf"), folder.path().join("story.txt"));
    fs::write(&story, "Once upon a time there was a little dog. The dog liked to play in the sun.").unwrap();
    let model = built_in();
    let common = ["quantize", text(&model), text(&out), "--type", "q4_0", "--report", "--json", "--force"];
    let plain = run(&common).json();
    let small = fs::metadata(&out).unwrap().len();
    assert_eq!(plain["bytes"], small);
    assert!(small < fs::metadata(built_in()).unwrap().len() * 3 / 4, "{small}");
    let types = plain["types"].as_array().unwrap();
    let q4 = types.iter().find(|of_type| of_type["dtype"] == "q4_0").unwrap();
    let error = q4["relative_rmse"].as_f64().unwrap();
    assert!(error > 0.01 && error < 0.2, "{error}");
    let without = fs::read(&out).unwrap();
    run(&[&common[..], &["--imatrix", text(&story)]].concat()).ok();
    let with = fs::read(&out).unwrap();
    assert_eq!(with.len(), without.len());
    assert!(with != without, "the text changes the rounding");
    run(&["validate", "-m", text(&out)]).ok();
    let spoken =
        run(&["run", "-m", text(&out), "--raw", "-n", "8", "--temperature", "0", "Once upon a time"]).ok();
    assert!(spoken.trim().len() > 8, "{spoken:?}");
}

#[test]
fn what_cannot_be_written_is_said() {
    let folder = TempDir::new().unwrap();
    let (out, there) = (folder.path().join("out.gguf"), folder.path().join("there.gguf"));
    fs::copy(built_in(), &there).unwrap();
    let (model, out, there) = (text(&built_in()).to_owned(), text(&out).to_owned(), text(&there).to_owned());
    for (arguments, expected) in [
        (vec!["convert", &model, &out, "--type", "q9"], "--type q9: choose f32, f16, bf16"),
        (vec!["convert", &model, &out, "--rule", "ffn"], "the rule \"ffn\" has no type"),
        (vec!["convert", &model, &out, "--rule", "ffx=q8_0"], "the rule \"ffx\" matches none"),
        (vec!["quantize", &model, &out, "--ple-type", "x"], "--ple-type x: choose"),
        (vec!["convert", &model, &there], "is there already; choose another name, or --force"),
        (vec!["convert", &there, &there, "--force"], "is a file of the model that is read"),
        (vec!["convert", "--shape", "e9", &out], "--shape e9: choose e2b, e4b or nano"),
        (vec!["convert", &model, &out, "--threads", "0"], "--threads 0: at least one"),
        (vec!["quantize", &model, &out, "--imatrix", "/nowhere/text"], "/nowhere/text"),
        (vec!["quantize", "/nowhere/model", &out], "/nowhere/model"),
    ] {
        let error = run(&arguments).fails(2);
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert!(!Path::new(&out).exists(), "{arguments:?}");
    }
}

#[test]
fn a_synthetic_model_runs() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("nano.gguf");
    run(&["convert", "--shape", "nano", "--type", "q8_0", text(&out)]).ok();
    run(&["validate", "-m", text(&out)]).ok();
    run(&["run", "-m", text(&out), "--raw", "-n", "4", "hello there"]).ok();
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_there_and_says_how_to_go_on() {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("big.gguf");
    let partial = folder.path().join("big.gguf.partial");
    let arguments = ["convert", "--shape", "e2b", "--type", "q4_0", text(&out)];
    let mut command = super::spawnable(&arguments);
    let child =
        command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    while !fs::metadata(&partial).is_ok_and(|partial| partial.len() > 0) {
        std::thread::yield_now();
    }
    super::streams::interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("the same command goes on from there"), "{error}");
    assert!(partial.exists() && !out.exists());
}
