//! Model files that are not what they should be: the message names the file and says what to do.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{built_in, golden, run, text};

fn copy(golden_path: &str, to: &Path) {
    fs::copy(golden(golden_path), to.join(golden_path.rsplit('/').next().unwrap())).unwrap();
}

/// Opens the model in `folder`, or the file of it, and returns what is said.
fn refused(folder: &TempDir, file: &str) -> String {
    let path = folder.path().join(file);
    let stderr = run(&["info", "-m", text(&path)]).fails(2);
    assert!(stderr.contains(text(folder.path())), "names the file: {stderr}");
    stderr
}

#[test]
fn a_folder_without_a_model() {
    let folder = TempDir::new().unwrap();
    let stderr = refused(&folder, "");
    assert!(
        stderr.contains("no model.safetensors, model.safetensors.index.json or .gguf file in this folder"),
        "{stderr}"
    );
}

#[test]
fn a_git_lfs_pointer() {
    let folder = TempDir::new().unwrap();
    copy("four-layers/config.json", folder.path());
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 464504\n";
    fs::write(folder.path().join("model.safetensors"), pointer).unwrap();
    for file in ["", "model.safetensors"] {
        let stderr = refused(&folder, file);
        assert!(stderr.contains("a Git LFS pointer, not the weights; run `git lfs pull`"), "{stderr}");
    }
}

#[test]
fn an_index_without_its_shards() {
    let folder = TempDir::new().unwrap();
    copy("multimodal-layout/config.json", folder.path());
    copy("multimodal-layout/model.safetensors.index.json", folder.path());
    let stderr = refused(&folder, "");
    assert!(
        stderr.contains("2 of 2 shards are missing, the first is model-00001-of-00002.safetensors"),
        "{stderr}"
    );
}

#[test]
fn weights_without_a_configuration() {
    let folder = TempDir::new().unwrap();
    copy("four-layers/model.safetensors", folder.path());
    let stderr = refused(&folder, "");
    assert!(stderr.contains("config.json"), "{stderr}");
}

#[test]
fn a_file_of_another_kind() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("notes.txt"), "Dear diary, today I looked for a model.").unwrap();
    let stderr = refused(&folder, "notes.txt");
    assert!(stderr.contains("neither safetensors nor GGUF"), "{stderr}");
}

#[test]
fn a_file_that_was_cut_short() {
    let folder = TempDir::new().unwrap();
    copy("four-layers/config.json", folder.path());
    let whole = fs::read(golden("four-layers/model.safetensors")).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(folder.path().join("model.safetensors"), &whole[..length]).unwrap();
        let stderr = refused(&folder, "");
        assert!(stderr.contains("model.safetensors"), "{length} bytes: {stderr}");
        let validated = run(&["validate", "-m", text(folder.path())]);
        assert_eq!(validated.code, Some(1), "{length} bytes: {}", validated.stdout);
    }
}

/// A tokenizer of `tokens` tokens, which has nothing but special ones.
fn tokenizer(tokens: usize) -> String {
    let special: Vec<_> = (0..tokens)
        .map(|id| serde_json::json!({ "id": id, "content": format!("<special_{id}>"), "special": true }))
        .collect();
    let spaces = serde_json::json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " });
    serde_json::json!({
        "added_tokens": special,
        "normalizer": { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
        "decoder": { "type": "Sequence", "decoders": [spaces, { "type": "Fuse" }] },
        "model": { "type": "BPE", "unk_token": "<special_0>", "vocab": { "<special_0>": 0 }, "merges": [] },
    })
    .to_string()
}

#[test]
fn a_tokenizer_of_another_model() {
    let folder = TempDir::new().unwrap();
    copy("four-layers/config.json", folder.path());
    copy("four-layers/model.safetensors", folder.path());
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(golden("four-layers/config.json")).unwrap()).unwrap();
    let rows = config["vocab_size"].as_u64().unwrap() as usize;
    for (tokens, valid) in [(rows - 1, true), (rows, true), (rows + 1, false)] {
        fs::write(folder.path().join("tokenizer.json"), tokenizer(tokens)).unwrap();
        let done = run(&["validate", "-m", text(folder.path())]);
        assert_eq!(done.code, Some(i32::from(!valid)), "{tokens} tokens: {}{}", done.stdout, done.stderr);
        let problem = format!("the tokenizer has {tokens} tokens, but the embedding {rows} rows");
        assert_eq!(done.stdout.contains(&problem), !valid, "{tokens} tokens: {}", done.stdout);
    }
}

#[cfg(unix)]
#[test]
fn a_file_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    copy("four-layers-gguf/model.gguf", folder.path());
    let file = folder.path().join("model.gguf");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&file).is_ok() {
        // The superuser reads everything.
        return;
    }
    let stderr = refused(&folder, "model.gguf");
    assert!(stderr.contains("Permission denied"), "{stderr}");
}

/// A file that shrinks while it is mapped raises SIGBUS at the next access: a message, not a core dump.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_shrinks_while_it_is_used() {
    use std::io::Read;
    use std::process::Stdio;

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("model.gguf");
    fs::copy(built_in(), &file).unwrap();
    let prompt = "Once upon a time";
    let arguments = [
        "run",
        "-m",
        text(&file),
        "--raw",
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
    let mut child = super::spawnable(&arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = vec![0; prompt.len() + 8];
    stdout.read_exact(&mut text).unwrap();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(100_000).unwrap();
    stdout.read_to_end(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("a model file was cut short") && stderr.contains("(SIGBUS)"), "{stderr}");
    assert!(text.starts_with(prompt.as_bytes()), "what was generated is kept");
}
