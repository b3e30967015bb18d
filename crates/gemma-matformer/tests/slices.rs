//! Slices: the published ones, files, rules, and that taking one copies nothing.

mod checkpoint_support;

use std::fs;

use checkpoint_support::{tiny, tiny_for, tiny_weights, values};
use gemma_hal::{DType, Weight};
use gemma_matformer::slice::PUBLISHED;
use gemma_matformer::{Config, LayerKind, Slice, synthetic};
use tempfile::TempDir;

const TABLE: &str = "name,# Layers,# Effective Params (B),MMLU PT accuracy,FFN Hidden Dims,Layers Skipped
Main model,4,0,,\"[2_0 * 4, 96,128, 1 * 2 * 80]\",
Config for E2 (layer-level),3,0,,\"[64, 96, 64]\",\"[2]\"
Config for E2 (block-level),3,0,,\"[32, 96, 64]\",\"[2]\"
Broken,3,0,,\"[64, x]\",\"[2]\"
";

/// All parameters but those of the embeddings, in billions.
fn effective(config: &Config) -> f64 {
    let (d, p, r) = (config.hidden, config.ple_width, config.laurel_rank);
    let attention = 2 * d * config.query_width() + 2 * d * config.kv_width();
    let layer = attention + 2 * d * r + 3 * d * p;
    let ffn: usize = config.ffn_widths.iter().map(|width| 3 * d * width).sum();
    (ffn + config.layers() * layer + 6 * d * d) as f64 / 1e9
}

#[test]
fn published_slices_have_the_published_size() {
    let parent = Config::e4b();
    for published in PUBLISHED {
        let (config, kept) = Slice::resolve(published.name, &parent).unwrap().apply(&parent).unwrap();
        let computed = effective(&config);
        // Published figures are rounded and count a few small tensors differently.
        assert!((computed - f64::from(published.effective)).abs() < 0.025, "{}: {computed}", published.name);
        assert_eq!(kept.len(), config.layers());
    }
}

#[test]
fn e2b_inside_of_e4b_is_e2b() {
    for name in ["e2b", "E2B"] {
        let (config, kept) = Slice::named(name).unwrap().apply(&Config::e4b()).unwrap();
        assert_eq!(config, Config::e2b());
        assert_eq!(kept, (0..20).chain(25..35).collect::<Vec<_>>());
    }
}

#[test]
fn names_are_taken_with_and_without_the_e() {
    assert_eq!(Slice::named("E2.54B"), Slice::named("2.54b"));
    assert_eq!(Slice::named("2.54b").unwrap().ffn_widths[3..6], [8192, 16_384, 8192]);
    assert_eq!(
        Slice::resolve("9b", &tiny()).unwrap_err().to_string(),
        "no slice is named \"9b\"; use full, 1/2, 1/4, a .toml or .csv file, or one of e4b, e2b, 1.96b, 2.54b, \
         2.69b, 2.98b, 3.18b, 3.39b, 3.59b, 3.79b, 2.49b, 2.73b, 2.98b-block, 3.24b, 3.49b, 3.79b-block"
    );
}

#[test]
fn a_published_slice_belongs_to_e4b() {
    assert_eq!(Slice::resolve("e2b", &Config::e2b()).unwrap(), Slice::full(&Config::e2b()));
    assert_eq!(
        Slice::resolve("1.96b", &Config::e2b()).unwrap_err().to_string(),
        "the slice 1.96b is taken from E4B (35 layers of FFN width 16384), but this model has 30 layers; \
         use 1/2, 1/4 or a .toml file"
    );
}

#[test]
fn fractions_narrow_every_layer() {
    let parent = Config { ffn_widths: vec![128, 256, 384, 512], ..tiny() };
    assert_eq!(Slice::resolve("full", &parent).unwrap().ffn_widths, parent.ffn_widths);
    assert_eq!(Slice::resolve("1/2", &parent).unwrap().ffn_widths, [64, 128, 192, 256]);
    assert_eq!(Slice::resolve("1/4", &parent).unwrap().ffn_widths, [32, 64, 96, 128]);
    assert_eq!(
        Slice::resolve("1/2", &tiny()).unwrap_err().to_string(),
        "1/2 of FFN width 96 is not a multiple of 32; give widths in a .toml file"
    );
}

#[test]
fn toml_says_layers_and_widths() {
    let slice = Slice::from_toml(b"skip_layers = [2]\nffn_widths = [64, 96, 160]", "s.toml").unwrap();
    assert_eq!(slice, Slice { skip_layers: vec![2], ffn_widths: vec![64, 96, 160] });
    let slice = Slice::from_toml(b"ffn_widths = [1, 2]", "s.toml").unwrap();
    assert_eq!(slice, Slice { skip_layers: vec![], ffn_widths: vec![1, 2] });
    for (text, problem) in [
        (b"skip_layers = []".as_slice(), "missing field `ffn_widths`"),
        (b"ffn_widths = [-1]", "invalid value: integer `-1`, expected usize"),
        (b"ffn_widths = []\nwidths = []", "unknown field `widths`, expected `skip_layers` or `ffn_widths`"),
        (b"ffn_widths = [", "unclosed array"),
        (b"\xff", "not UTF-8"),
    ] {
        let error = Slice::from_toml(text, "s.toml").unwrap_err().to_string();
        assert!(
            error.starts_with("s.toml: ") && error.ends_with("; a slice has skip_layers and ffn_widths"),
            "{error}"
        );
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn the_lab_s_table_is_read_by_row() {
    let read = |row| Slice::from_csv(TABLE.as_bytes(), row, "t.csv").map_err(|error| error.to_string());
    assert_eq!(read("Main model"), Ok(Slice { skip_layers: vec![], ffn_widths: vec![80, 96, 128, 160] }));
    assert_eq!(read("e2 (LAYER"), Ok(Slice { skip_layers: vec![2], ffn_widths: vec![64, 96, 64] }));
    let names = "Main model, Config for E2 (layer-level), Config for E2 (block-level), Broken";
    assert_eq!(read("E2"), Err(format!("t.csv: 2 rows are named \"E2\"; name one of: {names}")));
    assert_eq!(read("E9"), Err(format!("t.csv: 0 rows are named \"E9\"; name one of: {names}")));
    assert_eq!(
        read("Broken"),
        Err("t.csv: column \"FFN Hidden Dims\" of row \"Broken\" is not a list; \
             a slice has skip_layers and ffn_widths"
            .to_owned())
    );
    assert_eq!(
        Slice::from_csv(b"a,b\n1,2", "1", "t.csv").unwrap_err().to_string(),
        "t.csv: no column \"name\"; a slice has skip_layers and ffn_widths"
    );
}

#[test]
fn paths_are_resolved() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("s.toml"), "ffn_widths = [64, 96, 128, 32]").unwrap();
    fs::write(path("t.csv"), TABLE).unwrap();
    fs::write(path("big.toml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    assert_eq!(Slice::resolve(&path("s.toml"), &tiny()).unwrap().ffn_widths, [64, 96, 128, 32]);
    assert_eq!(
        Slice::resolve(&path("t.csv#Main model"), &tiny()).unwrap(),
        Slice { skip_layers: vec![], ffn_widths: vec![80, 96, 128, 160] }
    );
    let error =
        |name: &str| Slice::resolve(&path(name), &tiny()).unwrap_err().to_string().replace(&path(""), "");
    assert_eq!(
        error("none.toml"),
        "none.toml: No such file or directory (os error 2); check the path of the slice"
    );
    assert_eq!(error("big.toml"), "big.toml: more than 1048576 bytes; is this a slice?");
    assert_eq!(
        error("t.csv"),
        "t.csv: a table of slices; name a row as t.csv#row; a slice has skip_layers and ffn_widths"
    );
}

#[test]
fn what_is_no_slice_of_the_parent_is_refused() {
    for (skip, widths, expected) in [
        (
            vec![4],
            vec![64, 96, 128],
            "skip_layers: layer 4 does not exist, the parent has 4 layers; drop layers below 4",
        ),
        (
            vec![usize::MAX],
            vec![],
            "skip_layers: layer 18446744073709551615 does not exist, the parent has 4 layers; drop layers below 4",
        ),
        (vec![2, 2], vec![64, 96], "skip_layers: layer 2 is there twice; name it once"),
        (vec![0, 1, 2, 3], vec![], "skip_layers: all 4 layers are dropped; keep at least one"),
        (
            vec![0],
            vec![96, 128, 160],
            "skip_layers: layer 0 cannot be dropped, because layer 2 uses its keys and values; keep it",
        ),
        (
            vec![1, 2],
            vec![64, 160],
            "skip_layers: layer 1 cannot be dropped, because layer 3 uses its keys and values; keep it",
        ),
        (vec![2], vec![64, 96, 128, 160], "ffn_widths: 4 widths for 3 kept layers; give one for each"),
        (
            vec![2],
            vec![64, 96, 161],
            "ffn_widths: width 161 of parent layer 3 is not between 1 and its own 160; \
             a slice is the first part of each FFN",
        ),
        (
            vec![],
            vec![0, 96, 128, 160],
            "ffn_widths: width 0 of parent layer 0 is not between 1 and its own 64; \
             a slice is the first part of each FFN",
        ),
    ] {
        let slice = Slice { skip_layers: skip, ffn_widths: widths };
        assert_eq!(slice.apply(&tiny()).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_source_may_be_dropped_with_all_who_use_it() {
    let slice = Slice { skip_layers: vec![1, 3], ffn_widths: vec![64, 128] };
    let (config, kept) = slice.apply(&tiny()).unwrap();
    assert_eq!(kept, [0, 2]);
    assert_eq!(config.layer_kinds, [LayerKind::Sliding; 2]);
    assert_eq!((config.shared_kv_layers, config.kv_source(1)), (1, 0));
    assert_eq!(config.sparsity, [0.95, 0.0]);
}

#[test]
fn a_width_that_cuts_a_block_is_refused() {
    let slice = Slice { skip_layers: vec![], ffn_widths: vec![64, 96, 100, 160] };
    tiny_weights(DType::F32).slice(&tiny(), &slice).unwrap();
    let error = tiny_weights(DType::Q4_0).slice(&tiny(), &slice).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ffn_widths: width 100 of parent layer 2 cuts a block of 32 q4_0 values of \
         layers.2.mlp.down_proj.weight; use a multiple of 32"
    );
}

#[test]
fn k_quants_are_cut_between_blocks_of_256() {
    for dtype in [DType::Q6K, DType::Q5K, DType::Q4K] {
        let config = tiny_for(dtype);
        let parent = synthetic::weights(&config, dtype, 7).unwrap();
        let slice = |width| Slice { skip_layers: vec![], ffn_widths: vec![256, 256, 256, width] };
        let (_, sliced) = parent.slice(&config, &slice(512)).unwrap();
        let (narrow, wide) = (values(&sliced.layers[3].down), values(&parent.layers[3].down));
        for (narrow, wide) in narrow.chunks_exact(512).zip(wide.chunks_exact(768)) {
            assert_eq!(narrow, &wide[..512], "{dtype}");
        }
        assert_eq!(
            parent.slice(&config, &slice(288)).unwrap_err().to_string(),
            format!(
                "ffn_widths: width 288 of parent layer 3 cuts a block of 256 {dtype} values of \
                 layers.3.mlp.down_proj.weight; use a multiple of 256"
            )
        );
    }
}

#[test]
fn weights_of_another_parent_are_refused() {
    let weights = tiny_weights(DType::F32);
    let e2b = Config::e2b();
    let error = weights.slice(&e2b, &Slice::full(&e2b)).unwrap_err().to_string();
    assert!(error.starts_with("the weights are not of this parent: "), "{error}");
}

#[test]
fn a_slice_copies_nothing() {
    let parent = tiny_weights(DType::Q8_0);
    let slice = Slice { skip_layers: vec![2], ffn_widths: vec![32, 96, 64] };
    let (config, sliced) = parent.slice(&tiny(), &slice).unwrap();
    assert_eq!(sliced.ple_blocks, [0, 1, 3]);
    assert_eq!(sliced.layers.len(), 3);
    let shares = |a: &Weight, b: &Weight| a.storage().same_as(b.storage()) && a.offset() == b.offset();
    assert!(shares(&sliced.ple_table, &parent.ple_table));
    assert!(shares(&sliced.ple_projection, &parent.ple_projection));
    for (layer, of) in [0, 1, 3].into_iter().enumerate() {
        let (child, whole) = (&sliced.layers[layer], &parent.layers[of]);
        let width = config.ffn_widths[layer];
        for (a, b) in [(&child.gate, &whole.gate), (&child.up, &whole.up)] {
            assert!(shares(a, b));
            assert_eq!((a.rows(), a.columns()), (width, 64));
        }
        assert!(shares(&child.down, &whole.down));
        assert_eq!((child.down.rows(), child.down.columns()), (64, width));
        assert_eq!(child.down.row_stride(), whole.down.row_stride());
    }
    let (narrow, wide) = (values(&sliced.layers[2].down), values(&parent.layers[3].down));
    for row in 0..64 {
        assert_eq!(narrow[row * 64..row * 64 + 64], wide[row * 160..row * 160 + 64]);
    }
}

#[test]
fn a_slice_of_a_slice_remembers_the_first_parent() {
    let first = Slice { skip_layers: vec![2], ffn_widths: vec![64, 96, 64] };
    let (config, sliced) = tiny_weights(DType::F32).slice(&tiny(), &first).unwrap();
    let second = Slice { skip_layers: vec![0], ffn_widths: vec![32, 32] };
    let (config, sliced) = sliced.slice(&config, &second).unwrap();
    assert_eq!(sliced.ple_blocks, [1, 3]);
    assert_eq!((config.layers(), config.shared_kv_layers, config.kv_source(1)), (2, 1, 0));
}
