//! GGUF: files of other programs, and broken ones with the error that each promises.

mod checkpoint_support;

use std::fs;

use checkpoint_support::{error_of, gguf_bytes, load, storage, tiny_for, tiny_gguf};
use gemma_hal::DType;
use gemma_matformer::checkpoint::gguf::write::{GgufWriter, MetadataValue};
use gemma_matformer::checkpoint::{GgufVocabulary, TokenizerSource};
use gemma_matformer::{Checkpoint, Config, LayerKind, synthetic};
use proptest::prelude::*;
use tempfile::TempDir;

const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

fn open(bytes: &[u8]) -> Result<Checkpoint, String> {
    Checkpoint::from_gguf_storage(&storage(bytes)).map_err(|error| error.to_string())
}

/// The promised error of bytes that are no sound GGUF file: `memory: byte {at}: {problem}; fetch the file again`.
fn assert_fault(case: &str, bytes: &[u8], at: usize, problem: &str) {
    let expected = format!("memory: byte {at}: {problem}; fetch the file again");
    assert_eq!(open(bytes).unwrap_err(), expected, "{case}");
}

/// Bytes of a GGUF file, written piece by piece.
#[derive(Clone, Default)]
struct Raw(Vec<u8>);

impl Raw {
    fn header(tensors: u64, entries: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(entries)
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn text(mut self, text: &str) -> Self {
        self = self.u64(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn tensor(mut self, name: &str, dimensions: &[u64], kind: u32, offset: u64) -> Self {
        self = self.text(name).u32(dimensions.len() as u32);
        for dimension in dimensions {
            self = self.u64(*dimension);
        }
        self.u32(kind).u64(offset)
    }

    /// Zeros up to the next multiple of 32, and then `bytes` more.
    fn data(mut self, bytes: usize) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(32) + bytes, 0);
        self.0
    }
}

#[test]
fn a_file_opens_by_itself_and_as_the_only_one_of_a_folder() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tiny.gguf");
    let bytes = tiny_gguf(DType::Q8_0, &[]);
    fs::write(&path, &bytes).unwrap();
    fs::write(folder.path().join("mmproj-tiny.gguf"), b"").unwrap();
    for name in [path.as_path(), folder.path()] {
        let (checkpoint, weights) = load(name).unwrap();
        assert_eq!(checkpoint.files(), [(path.clone(), bytes.len() as u64)]);
        assert!(checkpoint.tokenizer().is_none());
        assert!(weights.embed.storage().same_as(weights.layers[0].up.storage()));
    }
    fs::write(folder.path().join("other.gguf"), b"").unwrap();
    assert_eq!(error_of(folder.path(), folder.path()), "DIR: 2 gguf files in this folder; name one of them");
}

#[test]
fn the_vocabulary_is_handed_on() {
    let texts = |texts: &[&str]| MetadataValue::Strings(texts.iter().map(|t| (*t).to_owned()).collect());
    let further = [
        ("tokenizer.ggml.model", MetadataValue::String("llama".to_owned())),
        ("tokenizer.ggml.tokens", texts(&["<pad>", "▁a", ""])),
        ("tokenizer.ggml.scores", MetadataValue::F32s(vec![0.0, -1.0, 2.5])),
        ("tokenizer.ggml.token_type", MetadataValue::I32s(vec![3, 1, 6])),
        ("tokenizer.ggml.merges", texts(&["▁ a"])),
        ("tokenizer.ggml.unknown_token_id", MetadataValue::U32(2)),
        ("tokenizer.ggml.add_bos_token", MetadataValue::Bool(true)),
        ("tokenizer.chat_template", MetadataValue::String("{{ x }}".to_owned())),
        ("tokenizer.huggingface.json", MetadataValue::String("{}".to_owned())),
        // The configuration's own ids stand.
        ("tokenizer.ggml.bos_token_id", MetadataValue::U32(40)),
    ]
    .map(|(key, value)| (key.to_owned(), value));
    let checkpoint = open(&tiny_gguf(DType::BF16, &further)).unwrap();
    let expected = GgufVocabulary {
        model: "llama".to_owned(),
        tokens: vec!["<pad>".to_owned(), "▁a".to_owned(), String::new()],
        scores: vec![0.0, -1.0, 2.5],
        token_types: vec![3, 1, 6],
        merges: vec!["▁ a".to_owned()],
        bos: Some(3),
        eos: Some(1),
        end_of_turn: Some(7),
        unknown: Some(2),
        padding: None,
        add_bos: Some(true),
        add_space_prefix: None,
        chat_template: Some("{{ x }}".to_owned()),
        huggingface_json: Some("{}".to_owned()),
    };
    assert_eq!(checkpoint.tokenizer(), Some(&TokenizerSource::Gguf(Box::new(expected))));
}

/// What llama.cpp's converter writes for a model of `layers` layers, and tensors enough to read the configuration.
fn as_llama_cpp_writes(layers: u32, further: &[(&str, MetadataValue)]) -> Vec<u8> {
    let mut writer = GgufWriter::default();
    for (key, value) in [
        ("general.architecture", MetadataValue::String("gemma3n".to_owned())),
        ("gemma3n.context_length", MetadataValue::U32(32_768)),
        ("gemma3n.embedding_length", MetadataValue::U32(64)),
        ("gemma3n.block_count", MetadataValue::U32(layers)),
        ("gemma3n.feed_forward_length", MetadataValue::U32(96)),
        ("gemma3n.attention.head_count", MetadataValue::U32(2)),
        ("gemma3n.attention.head_count_kv", MetadataValue::U32(1)),
        ("gemma3n.attention.sliding_window", MetadataValue::U32(512)),
    ]
    .iter()
    .chain(further)
    {
        writer.metadata(key, value.clone());
    }
    let ple = 256 * u64::from(layers);
    let tensors: [(&str, &[u64]); 3] = [
        ("token_embd.weight", &[64, 300]),
        ("per_layer_token_embd.weight", &[ple, 260]),
        ("blk.0.laurel_l.weight", &[64, 16]),
    ];
    for (name, dimensions) in tensors {
        writer.tensor(name, dimensions, DType::BF16);
    }
    let mut bytes = writer.header();
    let end = writer.places().last().map_or(0, |(first, length)| (first + length) as usize);
    bytes.resize(bytes.len() + end, 0);
    bytes
}

#[test]
fn keys_that_llama_cpp_leaves_out_take_what_it_hard_codes() {
    for (layers, shared) in [(30, 10), (35, 15)] {
        let checkpoint = open(&as_llama_cpp_writes(layers, &[])).unwrap();
        let expected = Config {
            hidden: 64,
            ffn_widths: vec![96; layers as usize],
            heads: 2,
            kv_heads: 1,
            vocabulary: 300,
            ple_vocabulary: 260,
            laurel_rank: 16,
            eos: vec![1],
            ..if layers == 30 { Config::e2b() } else { Config::e4b() }
        };
        assert_eq!(expected.shared_kv_layers, shared);
        assert_eq!(checkpoint.config(), &expected);
    }
    assert_eq!(
        open(&as_llama_cpp_writes(31, &[])).unwrap_err(),
        "memory: gemma3n.attention.shared_kv_layers: is missing; convert the model again"
    );
}

#[test]
fn llama_cpp_s_own_keys_are_understood() {
    let checkpoint = open(&as_llama_cpp_writes(
        5,
        &[
            ("gemma3n.attention.shared_kv_layers", MetadataValue::U32(2)),
            (
                "gemma3n.attention.sliding_window_pattern",
                MetadataValue::Bools(vec![true, false, true, false, true]),
            ),
            (
                "gemma3n.activation_sparsity_scale",
                MetadataValue::F32s(vec![1.644_853_6, f32::NEG_INFINITY, 0.0, 0.841_621_2, 1.644_853_5]),
            ),
            ("gemma3n.rope.freq_base_swa", MetadataValue::F32(20_000.0)),
            ("tokenizer.ggml.eos_token_id", MetadataValue::U32(1)),
            ("tokenizer.ggml.eot_token_id", MetadataValue::U32(106)),
        ],
    ))
    .unwrap();
    let config = checkpoint.config();
    assert_eq!(config.sparsity, [0.95, 0.0, 0.5, 0.8, 0.95]);
    assert_eq!(config.layer_kinds[..2], [LayerKind::Sliding, LayerKind::Full]);
    assert_eq!((config.rope_local_theta, config.shared_kv_layers), (20_000.0, 2));
    assert_eq!(config.eos, [1, 106]);
}

#[test]
fn files_of_other_content_are_refused() {
    let text = |text: &str| MetadataValue::String(text.to_owned());
    let only = |key: &str, value: MetadataValue| {
        let mut writer = GgufWriter::default();
        writer.metadata(key, value);
        writer.header()
    };
    let architecture = "but only Gemma 3n (gemma3n, gemma3n_text) and Gemma 3 (gemma3, gemma3_text) can be run; use one of these";
    let shared = ("gemma3n.attention.shared_kv_layers", MetadataValue::U32(0));
    let five = |key, value| as_llama_cpp_writes(5, &[shared.clone(), (key, value)]);
    for (case, bytes, expected) in [
        (
            "another architecture",
            only("general.architecture", text("llama")),
            format!("memory: the architecture is 'llama', {architecture}"),
        ),
        (
            "no architecture",
            only("x", text("y")),
            format!("memory: the architecture is not named, {architecture}"),
        ),
        (
            "an architecture that is no text",
            only("general.architecture", MetadataValue::U32(1)),
            "memory: general.architecture is not a text; convert the model again".to_owned(),
        ),
        (
            "no layers",
            only("general.architecture", text("gemma3n")),
            "memory: gemma3n.block_count: is missing; convert the model again".to_owned(),
        ),
        (
            "a part of a split file",
            five("split.count", MetadataValue::U32(3)),
            "memory: one part of a model split over several files; join them with llama-gguf-split --merge"
                .to_owned(),
        ),
        (
            "too many layers",
            as_llama_cpp_writes(1025, &[]),
            "memory: gemma3n.block_count: 1025 is not between 1 and 1024; convert the model again".to_owned(),
        ),
        (
            "too few widths",
            as_llama_cpp_writes(
                5,
                &[shared.clone(), ("gemma3n.activation_sparsity", MetadataValue::F32s(vec![0.5]))],
            ),
            "memory: gemma3n.activation_sparsity: 1 values for 5 layers; convert the model again".to_owned(),
        ),
        (
            "a width of keys that is not that of values",
            five("gemma3n.attention.value_length", MetadataValue::U32(128)),
            "memory: gemma3n.attention.value_length: differs from gemma3n.attention.key_length; \
             convert the model again"
                .to_owned(),
        ),
        (
            "a number that is a text",
            five("gemma3n.rope.freq_base", text("x")),
            "memory: gemma3n.rope.freq_base is not a number; convert the model again".to_owned(),
        ),
        (
            "a period of nothing",
            five("gemma3n.attention.sliding_window_pattern", MetadataValue::U32(0)),
            "memory: gemma3n.attention.sliding_window_pattern: is 0; convert the model again".to_owned(),
        ),
        (
            "tokens that are numbers",
            five("tokenizer.ggml.tokens", MetadataValue::U32s(vec![1])),
            "memory: tokenizer.ggml.tokens is not a list of texts in UTF-8; convert the model again"
                .to_owned(),
        ),
    ] {
        assert_eq!(open(&bytes).unwrap_err(), expected, "{case}");
    }
}

#[test]
fn a_missing_tensor_is_named() {
    let shared = ("gemma3n.attention.shared_kv_layers", MetadataValue::U32(0));
    let checkpoint = open(&as_llama_cpp_writes(5, &[shared])).unwrap();
    assert_eq!(
        checkpoint.weights().unwrap_err().to_string(),
        "memory: per_layer_model_projection.weight is missing; the file is not a whole text model"
    );
}

#[test]
fn a_type_that_is_not_read_is_named() {
    let mut bytes = tiny_gguf(DType::Q8_0, &[]);
    // Type 20 is IQ4_NL: also blocks of 32, and smaller, so that the directory stays sound.
    let name = b"blk.1.ffn_up.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    let kind = at + 4 + 2 * 8;
    assert_eq!(bytes[kind], 8);
    bytes[kind] = 20;
    assert_eq!(
        open(&bytes).unwrap_err(),
        "memory: layers.1.mlp.up_proj.weight is stored as IQ4_NL, but weights are read from F32, F16, BF16, Q8_0, \
         Q6_K, Q5_K, Q5_0, Q4_1, Q4_K and Q4_0; convert the model to one of these"
    );
    bytes[kind] = 99;
    assert_fault("unknown type", &bytes, kind, "the tensor \"blk.1.ffn_up.weight\" has the unknown type 99");
}

#[test]
fn infinite_scales_are_found() {
    for (dtype, place) in [
        (DType::Q8_0, 0),
        (DType::Q6K, 208),
        (DType::Q5K, 0),
        (DType::Q5K, 2),
        (DType::Q5_0, 0),
        (DType::Q4_1, 0),
        (DType::Q4_1, 2),
        (DType::Q4K, 0),
        (DType::Q4K, 2),
        (DType::Q4_0, 0),
    ] {
        let config = tiny_for(dtype);
        let weights = synthetic::weights(&config, dtype, 7).unwrap();
        let mut bytes = gguf_bytes(&config, &weights, dtype, &[]);
        let checkpoint = open(&bytes).unwrap();
        let down = &checkpoint.weights().unwrap().layers[3].down;
        // A scale of the second block of row 5.
        let scale = down.offset() + 5 * down.row_stride() + dtype.block_bytes() + place;
        bytes[scale..scale + 2].copy_from_slice(&[0x00, 0xFC]);
        let broken = open(&bytes).unwrap().weights().unwrap();
        assert_eq!(broken.parameters(), weights.parameters());
        assert_eq!(
            broken.check_finite().unwrap_err().to_string(),
            "memory: layers.3.mlp.down_proj.weight: row 5 holds -inf; the weights are damaged, fetch them again",
            "{dtype}"
        );
    }
}

#[test]
fn a_header_that_cannot_be_trusted_is_refused() {
    let key = |kind: u32| Raw::header(0, 1).text("k").u32(kind);
    let nested = (0..1000).fold(key(ARRAY), |raw, _| raw.u32(ARRAY).u64(1));
    let twice = Raw::header(0, 2).text("k").u32(U32).u32(1).text("k").u32(U32).u32(1);
    let alignment = |value| Raw::header(0, 1).text("general.alignment").u32(U32).u32(value);
    let alignment_text = Raw::header(0, 1).text("general.alignment").u32(STRING).text("32");
    let big_endian = Raw(b"GGUF".to_vec()).u32(3_u32.swap_bytes());
    let alignment_problem =
        |value| format!("general.alignment is {value}, not a power of two of at most 1048576");
    let left = |bytes: u64, left| format!("{bytes} bytes are needed, but the file ends after {left}");
    let limit = |count: u64, what: &str, limit| format!("{count} {what}, but at most {limit} are read");
    let of = str::to_owned;
    for (case, raw, at, problem) in [
        ("another file", Raw(b"GGML\0\0\0\0".to_vec()), 0, of("the file does not start with GGUF")),
        ("version 1", Raw(b"GGUF".to_vec()).u32(1), 4, of("version 1; versions 2 and 3 are read")),
        ("big-endian", big_endian, 4, of("a big-endian file; only little-endian ones are read")),
        ("tensors", Raw::header(65_537, 0), 8, limit(65_537, "tensors", 65_536)),
        ("entries", Raw::header(0, u64::MAX), 16, limit(u64::MAX, "metadata entries", 65_536)),
        ("key past the end", Raw::header(0, 1).u64(9), 32, left(9, 0)),
        ("long key", Raw::header(0, 1).u64(65_536), 24, limit(65_536, "bytes in a string", 65_535)),
        ("type of value", key(13), 33, of("13 is not the type of a metadata value")),
        ("value past the end", key(U32), 37, left(4, 0)),
        ("string of 1 GiB", key(STRING).u64(1 << 30), 37, limit(1 << 30, "bytes in a string", 64 << 20)),
        ("string past the end", key(STRING).u64(1 << 20), 45, left(1 << 20, 0)),
        ("long array", key(ARRAY).u32(U32).u64(1 << 30), 41, limit(1 << 30, "elements in an array", 1 << 24)),
        ("array past the end", key(ARRAY).u32(U32).u64(1 << 20), 49, left(4 << 20, 0)),
        ("strings past the end", key(ARRAY).u32(STRING).u64(1 << 20), 49, left(8, 0)),
        ("nested arrays", nested, 85, of("arrays nested deeper than 4")),
        ("key twice", twice, 41, of("the key \"k\" stands there twice")),
        ("alignment 0", alignment(0), 57, alignment_problem(0)),
        ("alignment 24", alignment(24), 57, alignment_problem(24)),
        ("alignment of 2 MiB", alignment(1 << 21), 57, alignment_problem(1 << 21)),
        ("alignment as text", alignment_text, 63, of("general.alignment is not a count")),
    ] {
        assert_fault(case, &raw.0, at, &problem);
    }
}

#[test]
fn tensors_that_cannot_be_in_the_file_are_refused() {
    let one =
        |dimensions: &[u64], kind, offset| Raw::header(1, 0).tensor("t", dimensions, kind, offset).data(64);
    let two = |first, second| {
        let raw = Raw::header(2, 0).tensor("a", &[8], 0, first).tensor("b", &[8], 0, second);
        raw.data(96)
    };
    // Where the shape of the first tensor stands, and where the entry of the second starts.
    let (shape, second) = (24 + 9, 24 + 9 + 4 + 8 + 4 + 8);
    let past_end = "the tensor \"t\" ends past the end of the file";
    let overflows = "the shape of the tensor \"t\" overflows";
    for (case, bytes, at, problem) in [
        ("longer than the file", one(&[17], 0, 0), 24, past_end),
        ("starts at the end", one(&[1], 0, 64), 24, past_end),
        ("offset wraps", one(&[8], 0, u64::MAX - 31), 24, past_end),
        ("offset and start wrap", one(&[32], 24, u64::MAX - 63), 24, past_end),
        ("product overflows", one(&[1 << 32, 1 << 32], 0, 0), shape, overflows),
        ("bytes overflow", one(&[1 << 62, 1], 0, 0), shape, overflows),
        ("zero times overflow", one(&[0, u64::MAX, u64::MAX], 0, 0), shape, overflows),
        ("no dimensions", one(&[], 0, 0), shape, "the tensor \"t\" has 0 dimensions, not 1 to 4"),
        ("five dimensions", one(&[1; 5], 0, 0), shape, "the tensor \"t\" has 5 dimensions, not 1 to 4"),
        ("unaligned", one(&[4], 0, 16), shape, "the tensor \"t\" does not start at a multiple of 32 bytes"),
        (
            "partial block",
            one(&[48], 8, 0),
            shape,
            "the tensor \"t\" has rows of 48 values, which do not end on a block of 32 (Q8_0)",
        ),
        ("overlap", two(0, 0), second, "the tensor \"b\" overlaps another"),
        ("overlap backwards", two(32, 32), second, "the tensor \"b\" overlaps another"),
        (
            "name twice",
            Raw::header(2, 0).tensor("a", &[8], 0, 0).tensor("a", &[8], 0, 32).data(64),
            second,
            "the tensor \"a\" stands there twice",
        ),
        (
            "name that is no text",
            Raw(Raw::header(1, 0).u64(1).0.into_iter().chain([0xFF]).collect()).0,
            24,
            "a tensor name is not UTF-8",
        ),
    ] {
        assert_fault(case, &bytes, at, problem);
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = tiny_gguf(DType::Q8_0, &[]);
    let first = Checkpoint::from_gguf_storage(&storage(&bytes)).unwrap();
    let header = first.tensor("embed_tokens.weight").unwrap().offset();
    let cuts = (0..header).chain((header..bytes.len() - 32).step_by(997));
    for cut in cuts {
        let error = open(&bytes[..cut]).unwrap_err();
        assert!(error.starts_with("memory: byte ") && error.contains("the file"), "cut at {cut}: {error}");
    }
}

#[test]
fn bytes_that_are_not_aligned_are_refused() {
    let bytes = tiny_gguf(DType::F32, &[]);
    let mut shifted = vec![0_u8; 1];
    shifted.extend_from_slice(&bytes);
    struct Odd(Vec<u64>, usize);
    impl AsRef<[u8]> for Odd {
        fn as_ref(&self) -> &[u8] {
            &bytemuck::cast_slice(&self.0)[1..self.1]
        }
    }
    let mut words = vec![0_u64; shifted.len().div_ceil(8)];
    bytemuck::cast_slice_mut(&mut words)[..shifted.len()].copy_from_slice(&shifted);
    let storage = gemma_hal::Storage::new("memory", Odd(words, shifted.len()));
    assert_eq!(
        Checkpoint::from_gguf_storage(&storage).unwrap_err().to_string(),
        "memory: embed_tokens.weight: its values are not aligned to 4 bytes; fetch or convert the file again"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((0_usize..6000, any::<u8>()), 1..6),
        length in prop::option::of(0_usize..9000),
    ) {
        let tokens = MetadataValue::Strings(vec!["a".to_owned(), "b".to_owned()]);
        let mut bytes = tiny_gguf(DType::Q8_0, &[("tokenizer.ggml.tokens".to_owned(), tokens)]);
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(length.unwrap_or(usize::MAX));
        if let Ok(checkpoint) = open(&bytes)
            && let Ok(weights) = checkpoint.weights()
        {
            drop(weights.check_finite());
        }
    }
}
