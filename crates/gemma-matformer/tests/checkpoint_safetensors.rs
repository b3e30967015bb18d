//! safetensors folders: layouts that open, and broken ones with the error that each promises.

mod checkpoint_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use checkpoint_support::{
    Entry, assert_same, config_json, entries, error_of, load, safetensors_bytes, tiny, tiny_weights, values,
    write_folder, write_index, write_shards,
};
use gemma_hal::DType;
use gemma_matformer::checkpoint::{SkipReason, TokenizerSource};
use gemma_matformer::{Checkpoint, CheckpointError};
use proptest::prelude::*;
use safetensors::tensor::Dtype;
use serde_json::json;
use tempfile::TempDir;

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    write_folder(folder.path(), &entries(&tiny_weights(DType::BF16), "model."));
    folder
}

/// The promised error of a folder after `break_it`.
fn broken(break_it: impl Fn(&Path)) -> String {
    let folder = folder();
    break_it(folder.path());
    error_of(folder.path(), folder.path())
}

/// The promised error of a model.safetensors with these bytes.
fn broken_file(bytes: &[u8]) -> String {
    broken(|folder| fs::write(folder.join("model.safetensors"), bytes).unwrap())
}

/// A file of this header and this many bytes of tensors.
fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn every_prefix_opens_and_the_rest_is_reported() {
    let weights = tiny_weights(DType::BF16);
    let vector = |name: &str| -> Entry { (name.to_owned(), Dtype::F32, vec![2], vec![0; 8]) };
    for prefix in ["model.language_model.", "language_model.model.", "model.", ""] {
        let folder = TempDir::new().unwrap();
        let mut all = entries(&weights, prefix);
        let others = [
            ("model.vision_tower.stem.weight".to_owned(), SkipReason::Vision),
            ("model.embed_audio.norm.weight".to_owned(), SkipReason::Audio),
            ("lm_head.weight".to_owned(), SkipReason::TiedHead),
            (format!("{prefix}layers.2.self_attn.k_proj.weight"), SkipReason::SharedKv),
            (format!("{prefix}rotary.inv_freq"), SkipReason::Unknown),
        ];
        all.extend(others.iter().map(|(name, _)| vector(name)));
        write_folder(folder.path(), &all);
        let (checkpoint, loaded) = load(folder.path()).unwrap();
        assert_eq!(checkpoint.config(), &tiny());
        assert_same(&loaded, &weights);
        for (name, reason) in others {
            let skipped = checkpoint.skipped().iter().find(|skipped| skipped.name == name).unwrap();
            assert_eq!((skipped.reason, skipped.bytes), (reason, 8), "{prefix} {name}");
        }
        assert_eq!(checkpoint.skipped().len(), 5);
    }
}

#[test]
fn matrices_are_used_in_place_and_norms_as_f32() {
    let folder = folder();
    let (checkpoint, weights) = load(folder.path()).unwrap();
    assert_eq!(weights.embed.dtype(), DType::BF16);
    assert!(weights.embed.storage().same_as(checkpoint.tensor("embed_tokens.weight").unwrap().storage()));
    assert_eq!(weights.embed.storage().len() as u64, checkpoint.files()[0].1);
    assert_eq!(weights.norm.dtype(), DType::F32);
    assert!(weights.layers[1].kv.is_some() && weights.layers[2].kv.is_none());
}

#[test]
fn half_precision_norms_become_f32() {
    let folder = TempDir::new().unwrap();
    let mut all = entries(&tiny_weights(DType::F16), "");
    let norm = all.iter_mut().find(|entry| entry.0 == "norm.weight").unwrap();
    (norm.1, norm.3) = (Dtype::BF16, [0x80, 0x3F].repeat(64));
    write_folder(folder.path(), &all);
    let (_, weights) = load(folder.path()).unwrap();
    assert_eq!((weights.norm.dtype(), values(&weights.norm)), (DType::F32, vec![1.0; 64]));
}

#[test]
fn a_file_of_another_name_opens_with_the_config_beside_it() {
    let folder = folder();
    let other = folder.path().join("weights.safetensors");
    fs::rename(folder.path().join("model.safetensors"), &other).unwrap();
    load(&other).unwrap();
    load(folder.path()).unwrap();
}

#[test]
fn shards_open_as_one_model() {
    let folder = TempDir::new().unwrap();
    write_shards(folder.path());
    for path in [folder.path().to_owned(), folder.path().join("model.safetensors.index.json")] {
        let (checkpoint, weights) = load(&path).unwrap();
        assert_eq!(checkpoint.files().len(), 2);
        assert_same(&weights, &tiny_weights(DType::BF16));
        checkpoint.still_whole().unwrap();
    }
}

#[test]
fn more_end_tokens_than_the_limit_are_refused() {
    let ends = |ids: &[u32]| {
        broken(|folder| {
            let path = folder.join("generation_config.json");
            fs::write(path, json!({ "eos_token_id": ids }).to_string()).unwrap();
        })
    };
    let refused = |count: usize| {
        format!(
            "DIR/generation_config.json: eos_token_id: {count} ids, but at most 64 are read; \
             copy "
        )
    };
    let many: Vec<u32> = vec![1; 65];
    assert!(ends(&many).starts_with(&refused(65)), "{}", ends(&many));
    // 64 here and 3 others in config.json.
    let others: Vec<u32> = (100..164).collect();
    assert!(ends(&others).starts_with(&refused(67)), "{}", ends(&others));
}

#[test]
fn an_index_of_many_tensors_is_checked_in_reasonable_time() {
    let folder = TempDir::new().unwrap();
    write_shards(folder.path());
    let header = |prefix: &str| {
        let entry = |i: usize| format!(r#""{prefix}{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#);
        raw(&format!("{{{}}}", (0..200_000).map(entry).collect::<Vec<_>>().join(",")), 0)
    };
    fs::write(folder.path().join("a.safetensors"), header("a")).unwrap();
    let mut map: serde_json::Map<_, _> =
        (0..200_000).map(|i| (format!("a{i}"), json!("a.safetensors"))).collect();
    map.insert("z".to_owned(), json!("a.safetensors"));
    write_index(folder.path(), &json!(map));
    let start = Instant::now();
    let error = error_of(folder.path(), folder.path());
    assert!(error.contains("promises z in a.safetensors, but it is not there"), "{error}");
    // About 1 s; a search of every list for every name would take minutes.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn the_files_beside_are_found() {
    let folder = folder();
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    fs::write(folder.path().join("chat_template.jinja"), "").unwrap();
    fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [1, 11]}"#).unwrap();
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.config().eos, [1, 7, 9, 11]);
    let expected = TokenizerSource::Files {
        tokenizer: folder.path().join("tokenizer.json"),
        config: None,
        template: Some(folder.path().join("chat_template.jinja")),
    };
    assert_eq!(checkpoint.tokenizer(), Some(&expected));
    assert_eq!(TokenizerSource::read(&folder.path().join("tokenizer.json")).unwrap(), b"{}");
}

#[test]
fn a_header_that_cannot_be_trusted_is_refused() {
    let tensor = |shape: &str, from: u64, to: u64| {
        format!(r#""dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]"#)
    };
    let one = |shape: &str, from, to| format!(r#"{{"x":{{{}}}}}"#, tensor(shape, from, to));
    let two = format!(r#"{{"x":{{{}}},"y":{{{}}}}}"#, tensor("[2]", 0, 8), tensor("[2]", 4, 12));
    let twice = format!(r#"{{"x":{{{}}},"x":{{{}}}}}"#, tensor("[2]", 0, 8), tensor("[2]", 8, 16));
    let half = 1_u64 << 60;
    let wraps: Vec<String> = (0..16)
        .map(|i: u64| {
            let (from, to) = (i * half, if i == 15 { u64::MAX } else { (i + 1) * half });
            let length = to - from;
            format!(r#""t{i:02}":{{"dtype":"U8","shape":[{length}],"data_offsets":[{from},{to}]}}"#)
        })
        .collect();
    let offset = "invalid offset for tensor `x`";
    for (case, bytes, problem) in [
        ("empty file", Vec::new(), "the file has 0 bytes, too few for a header"),
        ("cut in the length", vec![1; 7], "the file has 7 bytes, too few for a header"),
        (
            "cut in the header",
            raw(&one("[2]", 0, 8), 0)[..20].to_vec(),
            "54 bytes long, but the file ends after 12",
        ),
        ("cut in the data", raw(&one("[2]", 0, 8), 7), "describes 8 bytes of tensors, but the file has 7"),
        ("bytes left over", raw(&one("[2]", 0, 8), 9), "describes 8 bytes of tensors, but the file has 9"),
        ("offset past the end", raw(&one("[2]", 8, 16), 16), offset),
        ("end before start", raw(&one("[2]", 8, 0), 8), offset),
        ("overlap", raw(&two, 12), "invalid offset for tensor `y`"),
        ("a name twice", raw(&twice, 16), offset),
        ("shape of other size", raw(&one("[3]", 0, 8), 8), "invalid shape, data type, or offset for tensor"),
        (
            "shape overflows",
            raw(&one("[4294967296,4294967296]", 0, 8), 8),
            "overflow computing buffer size from shape and/or element type",
        ),
        (
            "bytes overflow",
            raw(&one("[4611686018427387904]", 0, 8), 8),
            "overflow computing buffer size from shape and/or element type",
        ),
        (
            "end wraps",
            raw(&format!("{{{}}}", wraps.join(",")), 0),
            "describes 18446744073709551615 bytes of tensors, but the file has 0",
        ),
        ("not JSON", raw("{nonsense", 0), "key must be a string at line 1 column 2"),
        (
            "nested",
            raw(&format!("{{\"x\":{}", "[".repeat(5000)), 0),
            "recursion limit exceeded at line 1 column 132",
        ),
    ] {
        let expected = format!("DIR/model.safetensors: safetensors header: {problem}; fetch the file again");
        assert_eq!(broken_file(&bytes), expected, "{case}");
    }
}

#[test]
fn a_header_of_more_than_100_mb_is_not_parsed() {
    let mut bytes = 100_000_001_u64.to_le_bytes().to_vec();
    bytes.extend_from_slice(b"{}");
    assert_eq!(
        broken_file(&bytes),
        "DIR/model.safetensors: safetensors header: 100000001 bytes long, but at most 100000000 are read; \
         fetch the file again"
    );
}

#[test]
fn a_shard_that_is_cut_is_refused() {
    let folder = TempDir::new().unwrap();
    write_shards(folder.path());
    let shard = folder.path().join("b.safetensors");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..100]).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(
        error_of(folder.path(), folder.path()),
        format!(
            "DIR/b.safetensors: safetensors header: {header} bytes long, but the file ends after 92; fetch the file again"
        )
    );
}

#[test]
fn an_index_that_cannot_be_trusted_is_refused() {
    let index = "DIR/model.safetensors.index.json";
    for (case, map, expected) in [
        (
            "a path upwards",
            json!({"x": "../a.safetensors"}),
            "the shard \"../a.safetensors\" is not a plain file name; fetch the index again",
        ),
        (
            "an absolute path",
            json!({"x": "/etc/passwd"}),
            "the shard \"/etc/passwd\" is not a plain file name; fetch the index again",
        ),
        (
            "the folder itself",
            json!({"x": ".."}),
            "the shard \"..\" is not a plain file name; fetch the index again",
        ),
        ("no shards", json!({}), "names 0 shards, not between 1 and 1024; fetch the index again"),
        (
            "missing shards",
            json!({"x": "a.safetensors", "y": "m.safetensors", "z": "n.safetensors"}),
            "2 of 3 shards are missing, the first is m.safetensors; fetch them into the same folder",
        ),
        (
            "a tensor that is not there",
            json!({"model.norm.bias": "a.safetensors"}),
            "promises model.norm.bias in a.safetensors, but it is not there; fetch the index again",
        ),
        (
            "not a map",
            json!("x"),
            "not an index: invalid type: string \"x\", expected a map at line 1 column 17; fetch the index again",
        ),
    ] {
        let folder = TempDir::new().unwrap();
        write_shards(folder.path());
        write_index(folder.path(), &map);
        assert_eq!(error_of(folder.path(), folder.path()), format!("{index}: {expected}"), "{case}");
    }
}

#[test]
fn an_index_alone_says_what_is_missing() {
    let folder = TempDir::new().unwrap();
    write_index(folder.path(), &json!({"x": "1.safetensors", "y": "2.safetensors"}));
    assert_eq!(
        error_of(folder.path(), folder.path()),
        "DIR/model.safetensors.index.json: 2 of 2 shards are missing, the first is 1.safetensors; \
         fetch them into the same folder"
    );
}

#[test]
fn what_is_no_model_file_is_refused() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    let in_place = |name: &'static str, text: &'static str| {
        move |folder: &Path| fs::write(folder.join(name), text).unwrap()
    };
    let lfs = "a Git LFS pointer, not the weights; run `git lfs pull` in its folder";
    assert_eq!(broken(in_place("model.safetensors", pointer)), format!("DIR/model.safetensors: {lfs}"));
    assert_eq!(broken(in_place("config.json", pointer)), format!("DIR/config.json: {lfs}"));
    assert_eq!(
        broken(|folder| fs::remove_file(folder.join("model.safetensors")).unwrap()),
        "DIR: no model.safetensors, model.safetensors.index.json or .gguf file in this folder; \
         name a model's folder or file"
    );
    assert_eq!(
        broken(|folder| {
            fs::rename(folder.join("model.safetensors"), folder.join("a.safetensors")).unwrap();
            fs::write(folder.join("b.safetensors"), "").unwrap();
        }),
        "DIR: 2 safetensors files in this folder; name one of them"
    );
    assert_eq!(
        broken(|folder| fs::remove_file(folder.join("config.json")).unwrap()),
        "DIR/config.json: No such file or directory (os error 2); check the path"
    );
    assert_eq!(
        broken(|folder| {
            fs::remove_file(folder.join("config.json")).unwrap();
            fs::create_dir(folder.join("config.json")).unwrap();
        }),
        "DIR/config.json: a folder, not a file; name the model's folder or a .safetensors or .gguf file"
    );
}

#[test]
fn another_file_is_refused() {
    let folder = folder();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "hello, this is a text").unwrap();
    assert_eq!(
        error_of(&path, folder.path()),
        "DIR/notes.txt: neither safetensors nor GGUF; name a model folder, a .safetensors or a .gguf file"
    );
    assert_eq!(
        error_of(&folder.path().join("nothing"), folder.path()),
        "DIR/nothing: No such file or directory (os error 2); check the path"
    );
}

#[test]
fn a_file_without_permission_says_what_to_do() {
    let folder = folder();
    let file = folder.path().join("model.safetensors");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let path = folder.path().to_owned();
    let as_nobody = std::thread::spawn(move || {
        // SAFETY: changes the file-system user of this thread alone, which ends with this closure. Root would be
        // allowed to read the file whatever its mode; for anyone else the call does nothing.
        unsafe { libc::setfsuid(65_534) };
        error_of(&path, &path)
    });
    assert_eq!(
        as_nobody.join().unwrap(),
        "DIR/model.safetensors: Permission denied (os error 13); \
         allow your user to read it (chmod u+r, or change its owner)"
    );
}

/// The promised error of the tiny model after `change` to its tensors.
fn changed(change: impl Fn(&mut Vec<Entry>)) -> String {
    let folder = TempDir::new().unwrap();
    let mut all = entries(&tiny_weights(DType::BF16), "model.");
    change(&mut all);
    write_folder(folder.path(), &all);
    error_of(folder.path(), folder.path())
}

fn entry<'a>(entries: &'a mut [Entry], name: &str) -> &'a mut Entry {
    entries.iter_mut().find(|entry| entry.0 == name).unwrap()
}

#[test]
fn tensors_that_do_not_fit_the_config_are_refused() {
    let gate = "model.layers.1.mlp.gate_proj.weight";
    assert_eq!(
        changed(|all| entry(all, gate).2 = vec![64, 96]),
        "DIR/model.safetensors: layers.1.mlp.gate_proj.weight has shape 64x96, but the configuration says 96x64; \
         use the config.json that belongs to these weights"
    );
    assert_eq!(
        changed(|all| entry(all, gate).1 = Dtype::I16),
        "DIR/model.safetensors: model.layers.1.mlp.gate_proj.weight is stored as I16, but weights are read from \
         F32, F16, BF16, Q8_0, Q6_K, Q5_K, Q5_0, Q4_1, Q4_K and Q4_0; convert the model to one of these"
    );
    assert_eq!(
        changed(|all| all.retain(|entry| entry.0 != gate)),
        "DIR/model.safetensors: layers.1.mlp.gate_proj.weight is missing; \
         the file is not a whole text model"
    );
    assert_eq!(
        changed(|all| {
            let norm = entry(all, "model.norm.weight");
            norm.3[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
        "DIR/model.safetensors: norm.weight: row 0 holds NaN; the weights are damaged, fetch them again"
    );
}

#[test]
fn values_that_are_not_aligned_are_refused() {
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) + 1;
    let mut shifted = length.to_le_bytes().to_vec();
    shifted.extend_from_slice(&bytes[8..length as usize + 7]);
    shifted.push(b' ');
    shifted.extend_from_slice(&bytes[length as usize + 7..]);
    fs::write(&path, shifted).unwrap();
    let error = error_of(folder.path(), folder.path());
    assert!(error.contains("its values are not aligned to "), "{error}");
}

#[test]
fn a_nan_in_a_matrix_is_found_by_validation() {
    let folder = TempDir::new().unwrap();
    let mut all = entries(&tiny_weights(DType::F16), "model.");
    let row = 3 * 64 * 2;
    entry(&mut all, "model.layers.1.mlp.up_proj.weight").3[row..row + 2].copy_from_slice(&[0x00, 0x7C]);
    write_folder(folder.path(), &all);
    let (_, weights) = load(folder.path()).unwrap();
    let error = weights.check_finite().unwrap_err().to_string();
    assert!(
        error.ends_with(
            "layers.1.mlp.up_proj.weight: row 3 holds inf; the weights are damaged, fetch them again"
        ),
        "{error}"
    );
}

#[test]
fn a_file_that_shrank_after_it_was_opened_is_noticed() {
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let (_, before) = checkpoint.files()[0];
    checkpoint.still_whole().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(1000).unwrap();
    let error = checkpoint.still_whole().unwrap_err();
    assert!(matches!(error, CheckpointError::Shrunk { now: 1000, .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "{}: 1000 bytes, but it had {before} when it was opened; put the whole file back and start again",
            path.display()
        )
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((0_usize..9000, any::<u8>()), 1..6),
        length in prop::option::of(0_usize..9000),
    ) {
        let folder = TempDir::new().unwrap();
        let mut bytes = safetensors_bytes(&entries(&tiny_weights(DType::BF16), "model."));
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(length.unwrap_or(usize::MAX));
        fs::write(folder.path().join("config.json"), config_json().to_string()).unwrap();
        fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        if let Ok((_, weights)) = load(folder.path()) {
            drop(weights.check_finite());
        }
    }

    #[test]
    fn changed_configs_never_panic(changes in prop::collection::vec((0_usize..800, any::<u8>()), 1..4)) {
        let mut text = config_json().to_string().into_bytes();
        for (at, byte) in changes {
            let at = at % text.len();
            text[at] = byte;
        }
        drop(gemma_matformer::Config::from_json(&text, "config.json"));
    }
}
