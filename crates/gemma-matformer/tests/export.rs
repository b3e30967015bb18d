//! Writing GGUF files: what is in them, interrupted runs, refusals.

mod checkpoint_support;

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use checkpoint_support::{assert_same, gguf_bytes, tiny, tiny_gguf, tiny_weights, values};
use gemma_hal::DType;
use gemma_matformer::export::{self, Class, Export, Filling, Rule, Run, TypeRules};
use gemma_matformer::{Checkpoint, Config, Slice, Weights};
use proptest::prelude::*;
use tempfile::TempDir;

const RUN: Run<'static> = Run { source: None, threads: 2, restart: false, force: false, measure: false };

fn rules(dtype: DType) -> TypeRules {
    TypeRules { matrices: Some(dtype), ..TypeRules::default() }
}

fn export_of<'a>(config: &Config, weights: &'a Weights, rules: &TypeRules) -> Export<'a> {
    Export::new(config, weights, rules, &[], Filling::default()).unwrap()
}

/// Writes it, ending the run when `stop` says so.
fn write(export: &Export<'_>, out: &Path, run: Run<'_>, stop: impl Fn(u64) -> bool) -> Result<u64, String> {
    let written = export.write(out, run, &mut |progress| !stop(progress.done));
    written.map(|written| written.resumed_at).map_err(|error| error.to_string())
}

/// A model in a file, and the folder that both it and what is made of it are in.
fn source(dtype: DType) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("in.gguf");
    fs::write(&path, tiny_gguf(dtype, &[])).unwrap();
    (folder, path)
}

fn partial(out: &Path) -> PathBuf {
    Export::partial_path(out)
}

fn journal(out: &Path) -> PathBuf {
    out.with_extension("gguf.partial.json")
}

#[test]
fn a_file_is_the_same_with_any_number_of_threads_and_in_memory() {
    let weights = tiny_weights(DType::F32);
    let folder = TempDir::new().unwrap();
    for dtype in DType::ALL {
        let export = export_of(&tiny(), &weights, &rules(dtype));
        let expected = gguf_bytes(&tiny(), &weights, dtype, &[]);
        for threads in [1, 3] {
            let out = folder.path().join(format!("{dtype}-{threads}.gguf"));
            assert_eq!(write(&export, &out, Run { threads, ..RUN }, |_| false), Ok(0));
            assert!(fs::read(&out).unwrap() == expected, "{dtype}, {threads} threads");
            assert!(!partial(&out).exists() && !journal(&out).exists());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_file_cut_anywhere_is_continued_to_the_same_bytes(at in 0.0_f64..1.0, stop in 0.0_f64..1.0) {
        let (folder, path) = source(DType::F32);
        let checkpoint = Checkpoint::open(&path).unwrap();
        let weights = checkpoint.weights().unwrap();
        let export = export_of(checkpoint.config(), &weights, &rules(DType::Q8_0));
        let (whole, out) = (folder.path().join("whole.gguf"), folder.path().join("out.gguf"));
        let run = Run { source: Some(&checkpoint), ..RUN };
        write(&export, &whole, run, |_| false).unwrap();
        let total = export.bytes() as f64;
        let error = write(&export, &out, run, |done| done as f64 >= stop * total).unwrap_err();
        prop_assert!(error.contains("the same command goes on"), "{error}");
        prop_assert!(!out.exists());
        let there = fs::metadata(partial(&out)).unwrap().len();
        let kept = (at * there as f64) as u64;
        OpenOptions::new().write(true).open(partial(&out)).unwrap().set_len(kept).unwrap();
        let resumed = write(&export, &out, run, |_| false).unwrap();
        prop_assert!(resumed <= kept);
        prop_assert!(fs::read(&out).unwrap() == fs::read(&whole).unwrap());
    }
}

#[test]
fn a_started_file_is_continued_where_it_stopped() {
    let weights = tiny_weights(DType::F32);
    let export = export_of(&tiny(), &weights, &rules(DType::Q4_0));
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.gguf");
    let half = export.bytes() / 2;
    write(&export, &out, RUN, |done| done >= half).unwrap_err();
    let there = fs::metadata(partial(&out)).unwrap().len();
    assert!(there >= half);
    assert_eq!(write(&export, &out, RUN, |_| false), Ok(there));
    assert!(fs::read(&out).unwrap() == gguf_bytes(&tiny(), &weights, DType::Q4_0, &[]));
}

#[test]
fn a_started_file_of_something_else_is_not_continued() {
    let (folder, path) = source(DType::F32);
    let out = folder.path().join("out.gguf");
    let begin = |rules: &TypeRules, run: Run<'_>| {
        let checkpoint = Checkpoint::open(&path).unwrap();
        let weights = checkpoint.weights().unwrap();
        let export = export_of(checkpoint.config(), &weights, rules);
        write(&export, &out, Run { source: Some(&checkpoint), ..run }, |done| done > export.bytes() / 2)
    };
    let (q8, q4) = (rules(DType::Q8_0), rules(DType::Q4_0));
    begin(&q8, RUN).unwrap_err();
    let partial = partial(&out).display().to_string();
    assert_eq!(
        begin(&q4, RUN).unwrap_err(),
        format!(
            "{partial}: was begun with other options or another version of this program; --restart begins anew, or give the options of then"
        )
    );
    // The same bytes, but another time.
    fs::write(&path, fs::read(&path).unwrap()).unwrap();
    let changed = fs::canonicalize(&path).unwrap().display().to_string();
    assert_eq!(
        begin(&q8, RUN).unwrap_err(),
        format!("{partial}: was begun from another state of {changed}; --restart begins anew")
    );
    for (text, problem) in [(Some("{"), "its journal is damaged"), (None, "its journal is missing")] {
        match text {
            Some(text) => fs::write(journal(&out), text).unwrap(),
            None => fs::remove_file(journal(&out)).unwrap(),
        }
        let error = begin(&q8, RUN).unwrap_err();
        assert!(error.contains(problem) && error.contains("--restart"), "{error}");
    }
    let error = begin(&q8, Run { restart: true, ..RUN }).unwrap_err();
    assert!(error.starts_with("stopped"), "{error}");
}

#[test]
fn no_file_is_replaced_unasked_and_no_source_ever() {
    let (folder, path) = source(DType::F32);
    let checkpoint = Checkpoint::open(&path).unwrap();
    let weights = checkpoint.weights().unwrap();
    let export = export_of(checkpoint.config(), &weights, &rules(DType::Q8_0));
    let run = Run { source: Some(&checkpoint), ..RUN };
    let other = folder.path().join("other.gguf");
    fs::write(&other, "mine").unwrap();
    let error = write(&export, &other, run, |_| false).unwrap_err();
    assert!(error.ends_with("is there already; choose another name, or --force to replace it"), "{error}");
    assert_eq!(fs::read(&other).unwrap(), b"mine");
    let around = folder.path().join("..").join(folder.path().file_name().unwrap()).join("in.gguf");
    let error = write(&export, &around, Run { force: true, ..run }, |_| false).unwrap_err();
    assert!(error.contains("is a file of the model that is read"), "{error}");
    assert_eq!(write(&export, &other, Run { force: true, ..run }, |_| false), Ok(0));
    let error = write(&export, &folder.path().join("no/out.gguf"), run, |_| false).unwrap_err();
    assert!(error.ends_with("check that its folder is there"), "{error}");
}

#[test]
fn two_processes_do_not_write_the_same_file() {
    let weights = tiny_weights(DType::F32);
    let export = export_of(&tiny(), &weights, &rules(DType::Q8_0));
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.gguf");
    let other = fs::File::create(partial(&out)).unwrap();
    other.lock().unwrap();
    let error = write(&export, &out, RUN, |_| false).unwrap_err();
    assert!(error.ends_with("another process is writing it; wait for it to end"), "{error}");
}

#[test]
fn types_follow_the_rules() {
    let weights = tiny_weights(DType::BF16);
    let dtype_of = |rules: &TypeRules, name: &str| {
        let export = export_of(&tiny(), &weights, rules);
        export.tensors().iter().find(|tensor| tensor.name == name).unwrap().dtype
    };
    let rule = |text| Rule::parse(text).unwrap();
    let quantised = TypeRules::quantised(DType::Q4_0);
    let ruled = TypeRules {
        rules: vec![rule("ffn_.*=q5_0"), rule("ffn_down=q8_0"), rule("token_embd=f16")],
        ..quantised.clone()
    };
    let stored = TypeRules::default();
    for (rules, name, dtype) in [
        (&quantised, "blk.0.ffn_down.weight", DType::Q4_0),
        (&quantised, "per_layer_token_embd.weight", DType::Q4_0),
        (&quantised, "altup_proj.weight", DType::Q8_0),
        (&quantised, "blk.0.laurel_l.weight", DType::Q8_0),
        (&quantised, "blk.0.attn_norm.weight", DType::F32),
        (&quantised, "blk.0.altup_predict_coef.weight", DType::F32),
        // 64 columns do not end on one of Q6_K's blocks.
        (&quantised, "token_embd.weight", DType::Q8_0),
        (&ruled, "blk.1.ffn_up.weight", DType::Q5_0),
        (&ruled, "blk.1.ffn_down.weight", DType::Q8_0),
        (&ruled, "token_embd.weight", DType::F16),
        (&ruled, "blk.1.attn_q.weight", DType::Q4_0),
        (&stored, "blk.1.attn_q.weight", DType::BF16),
        (&stored, "output_norm.weight", DType::F32),
    ] {
        assert_eq!(dtype_of(rules, name), dtype, "{name}");
    }
    let export = export_of(&tiny(), &weights, &quantised);
    let embed = export.tensors().iter().find(|tensor| tensor.class == Class::Embedding).unwrap();
    assert_eq!(embed.unfit, Some(DType::Q6K));
}

#[test]
fn rules_that_cannot_be_meant_are_refused() {
    for (text, expected) in [
        ("ffn_down", "the rule \"ffn_down\" has no type"),
        ("ffn_down=q9", "names the unknown type \"q9\"; choose f32, f16"),
        ("ffn_(down=q8_0", "is no regular expression"),
    ] {
        let error = Rule::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let weights = tiny_weights(DType::F32);
    // Norms are f32 whatever a rule says, so a rule for norms alone does nothing.
    for pattern in ["no_such=q8_0", "attn_norm=q8_0"] {
        let rules = TypeRules { rules: vec![Rule::parse(pattern).unwrap()], ..rules(DType::Q8_0) };
        let error = Export::new(&tiny(), &weights, &rules, &[], Filling::default()).unwrap_err().to_string();
        assert!(error.contains("matches none of the"), "{error}");
    }
}

#[test]
fn what_llama_cpp_wants_is_written_along() {
    let e2b = Config::e2b();
    assert_eq!(export::llama_cpp_limits(&e2b), [""; 0]);
    let limits = export::llama_cpp_limits(&tiny());
    assert!(limits.iter().any(|limit| limit.contains("LAuReL's rank")), "{limits:?}");
    let weights = export::shapes(&e2b).unwrap();
    let filling = Filling { seed: Some(1), importance: None };
    let export = Export::new(&e2b, &weights, &rules(DType::Q4_0), &[], filling).unwrap();
    let find = |name: &str| export.tensors().iter().find(|tensor| tensor.name == name).unwrap();
    assert_eq!(find("per_layer_token_embd.weight").rows(), e2b.vocabulary);
    for layer in 0..e2b.layers() {
        let k = find(&format!("blk.{layer}.attn_k.weight"));
        assert_eq!((k.rows(), k.columns(), k.dtype), (512, 2048, DType::Q4_0), "{layer}");
        assert_eq!(find(&format!("blk.{layer}.attn_k_norm.weight")).dtype, DType::F32);
    }
    assert_eq!(export.tensors().len(), 727);
}

#[test]
fn keys_and_values_that_nobody_uses_are_handed_on() {
    let config = tiny();
    let weights = tiny_weights(DType::F32);
    let last = config.layers() - 1;
    assert!(!config.owns_kv(last));
    let mut with_unused = weights.clone();
    with_unused.layers[last].unused_kv.clone_from(&weights.layers[0].kv);
    let bytes = gguf_bytes(&config, &with_unused, DType::F32, &[]);
    let checkpoint = Checkpoint::from_gguf_storage(&checkpoint_support::storage(&bytes)).unwrap();
    let back = checkpoint.weights().unwrap();
    assert_same(&back, &weights);
    let (unused, wanted) =
        (back.layers[last].unused_kv.as_ref().unwrap(), weights.layers[0].kv.as_ref().unwrap());
    assert_eq!(values(&unused.k), values(&wanted.k));
    assert_eq!(values(&unused.v), values(&wanted.v));
    // A slice keeps those of the layers that it keeps.
    let slice = Slice { skip_layers: vec![2], ffn_widths: vec![32, 96, 64] };
    let (_, sliced) = back.slice(&config, &slice).unwrap();
    assert!(sliced.layers.last().unwrap().unused_kv.is_some());
}

#[test]
fn synthetic_files_have_values_everywhere_and_a_vocabulary() {
    let config = tiny();
    let weights = export::shapes(&config).unwrap();
    let vocabulary = export::synthetic_vocabulary(&config);
    assert_eq!(vocabulary.tokens.len(), config.vocabulary);
    let filling = Filling { seed: Some(3), importance: None };
    let mut bytes = Vec::new();
    let further = vocabulary.metadata();
    Export::new(&config, &weights, &rules(DType::Q8_0), &further, filling)
        .unwrap()
        .write_to(&mut bytes)
        .unwrap();
    let checkpoint = Checkpoint::from_gguf_storage(&checkpoint_support::storage(&bytes)).unwrap();
    assert_eq!(checkpoint.config(), &config);
    let back = checkpoint.weights().unwrap();
    back.check_finite().unwrap();
    back.for_each(&mut |name, weight| {
        assert!(values(weight).iter().any(|value| *value != 0.0), "{name}");
    });
}

#[test]
fn the_distance_from_the_source_is_measured() {
    let weights = tiny_weights(DType::F32);
    let folder = TempDir::new().unwrap();
    let mut relative = Vec::new();
    for dtype in [DType::F32, DType::Q8_0, DType::Q4_0] {
        let export = export_of(&tiny(), &weights, &rules(dtype));
        let out = folder.path().join(format!("{dtype}.gguf"));
        let run = Run { measure: true, ..RUN };
        let written = export.write(&out, run, &mut |_| true).unwrap();
        let index = export.tensors().iter().position(|tensor| tensor.name == "blk.0.ffn_up.weight").unwrap();
        relative.push(written.distances[index].relative());
    }
    assert_eq!(relative[0], 0.0);
    assert!(relative[1] > 1e-4 && relative[1] < 0.01, "{relative:?}");
    assert!(relative[2] > 0.02 && relative[2] < 0.2, "{relative:?}");
}
