//! `cargo xtask default-model`: the small model that is embedded in the program, from its bf16 checkpoint.
//!
//! Matrices become Q8_0, or F16 where a row does not end on a block. The file is read back before it is kept: its
//! configuration, every weight and its tokenizer must be those of the source. It trains nothing and downloads nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use gemma_hal::block::dequantise_row;
use gemma_hal::{DType, Weight};
use gemma_matformer::checkpoint::gguf::write::{MetadataValue, write_model};
use gemma_matformer::checkpoint::{GgufVocabulary, TokenizerSource};
use gemma_matformer::{Checkpoint, Weights};
use gemma_text::{SpecialTokens, Tokenizer, TokenizerConfig, Vocabulary};
use serde_json::Value;

/// Where the model is kept, from the root of the repository.
pub(crate) const PLACE: &str = "assets/nano-q8_0.gguf";
/// What a clone and the program can bear.
const MAX_BYTES: u64 = 30_000_000;
/// llama.cpp's number for files that are mostly Q8_0.
const FILE_TYPE_Q8_0: u32 = 7;
/// Texts that both tokenizers of the file must encode alike.
const SAMPLES: [&str; 4] = [
    "Once upon a time, there was a robot.",
    "  two spaces\n\nand lines",
    "naïve café 🙂 \u{1}",
    "1234567890",
];

/// How far the stored values of one type are from the source.
#[derive(Clone, Copy, Debug, Default)]
struct Distance {
    tensors: usize,
    values: u64,
    largest: f64,
    total: f64,
    square: f64,
    signal: f64,
}

/// Writes `out` from the checkpoint in `from`, and checks it.
pub(crate) fn make(from: &Path, out: &Path) -> anyhow::Result<()> {
    let source = Checkpoint::open(from)?;
    let weights = source.weights()?;
    let dtypes = choose_dtypes(&weights);
    let dtype = |name: &str| dtypes.get(name).copied().unwrap_or(DType::F32);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = BufWriter::new(fs::File::create(out).with_context(|| out.display().to_string())?);
    write_model(&mut file, source.config(), &weights, &dtype, &metadata(&source)?)?;
    file.flush()?;
    check(&source, &weights, out)
}

/// The type of every matrix: Q8_0 where its rows end on a block, F16 otherwise.
fn choose_dtypes(weights: &Weights) -> BTreeMap<String, DType> {
    let mut dtypes = BTreeMap::new();
    weights.for_each(&mut |name, weight| {
        let fits = weight.columns().is_multiple_of(DType::Q8_0.block_len());
        dtypes.insert(name.to_owned(), if fits { DType::Q8_0 } else { DType::F16 });
    });
    dtypes
}

/// What the file says beside its configuration: its name and licence, its tokenizer, its chat template.
fn metadata(source: &Checkpoint) -> anyhow::Result<Vec<(String, MetadataValue)>> {
    use MetadataValue::{Bool, F32s, I32s, String as Text, Strings, U32};
    let Some(TokenizerSource::Files { tokenizer, config: Some(config), .. }) = source.tokenizer() else {
        bail!("{}: put tokenizer.json and tokenizer_config.json beside the weights", source.name());
    };
    let json = String::from_utf8(TokenizerSource::read(tokenizer)?)?;
    let vocabulary = Pieces::read(&json)?;
    let config = TokenizerConfig::from_json(&TokenizerSource::read(config)?, &config.display().to_string())?;
    let template = config.chat_templates.into_iter().find(|(name, _)| name == "default");
    let (_, template) = template.context("tokenizer_config.json has no chat template")?;
    let mut entries = vec![
        ("general.name", Text("nano".to_owned())),
        (
            "general.description",
            Text("A Gemma 3n of 22.6 M parameters that tells stories; see assets/README.md".into()),
        ),
        ("general.license", Text("MIT OR Apache-2.0".to_owned())),
        ("general.file_type", U32(FILE_TYPE_Q8_0)),
        ("tokenizer.ggml.model", Text("llama".to_owned())),
        ("tokenizer.ggml.tokens", Strings(vocabulary.tokens)),
        ("tokenizer.ggml.scores", F32s(vocabulary.scores)),
        ("tokenizer.ggml.token_type", I32s(vocabulary.types)),
        ("tokenizer.ggml.merges", Strings(vocabulary.merges)),
        ("tokenizer.ggml.add_bos_token", Bool(true)),
        ("tokenizer.ggml.add_space_prefix", Bool(false)),
        ("tokenizer.chat_template", Text(template)),
        ("tokenizer.huggingface.json", Text(compact(&json)?)),
    ];
    for (key, id) in [
        ("tokenizer.ggml.padding_token_id", vocabulary.padding),
        ("tokenizer.ggml.unknown_token_id", vocabulary.unknown),
    ] {
        entries.extend(id.map(|id| (key, U32(id))));
    }
    Ok(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The same JSON without white space.
fn compact(json: &str) -> anyhow::Result<String> {
    Ok(serde_json::from_str::<Value>(json)?.to_string())
}

/// A tokenizer.json as ggml's arrays.
struct Pieces {
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i32>,
    merges: Vec<String>,
    padding: Option<u32>,
    unknown: Option<u32>,
}

impl Pieces {
    const NORMAL: i32 = 1;
    const UNKNOWN: i32 = 2;
    const CONTROL: i32 = 3;
    const BYTE: i32 = 6;

    fn read(json: &str) -> anyhow::Result<Self> {
        let file: Value = serde_json::from_str(json)?;
        let vocabulary = file["model"]["vocab"].as_object().context("tokenizer.json: no model.vocab")?;
        let mut tokens = vec![String::new(); vocabulary.len()];
        for (piece, id) in vocabulary {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
            let slot = id.and_then(|id| tokens.get_mut(id)).context("tokenizer.json: ids have gaps")?;
            slot.clone_from(piece);
        }
        let added = file["added_tokens"].as_array().context("tokenizer.json: no added_tokens")?;
        let control = |piece: &String| added.iter().any(|token| token["content"] == **piece);
        let unknown = file["model"]["unk_token"].as_str();
        let kind = |piece: &String| match piece {
            _ if Some(piece.as_str()) == unknown => Self::UNKNOWN,
            _ if control(piece) => Self::CONTROL,
            _ if piece.starts_with("<0x") && piece.len() == "<0x00>".len() => Self::BYTE,
            _ => Self::NORMAL,
        };
        let merges = file["model"]["merges"].as_array().context("tokenizer.json: no model.merges")?;
        let merges = merges.iter().map(merge).collect::<anyhow::Result<Vec<_>>>()?;
        let id = |piece: Option<&str>| tokens.iter().position(|token| Some(token.as_str()) == piece);
        let (padding, unknown) = (id(Some("<pad>")), id(unknown));
        let types: Vec<i32> = tokens.iter().map(kind).collect();
        // Ids follow the order of merging, so a SentencePiece reader merges in the same order.
        let scores =
            types.iter().enumerate().map(|(id, kind)| if *kind == Self::NORMAL { -(id as f32) } else { 0.0 });
        Ok(Self {
            scores: scores.collect(),
            types,
            merges,
            padding: padding.map(|id| id as u32),
            unknown: unknown.map(|id| id as u32),
            tokens,
        })
    }
}

/// A merge, a pair or a line, as a line.
fn merge(value: &Value) -> anyhow::Result<String> {
    match value {
        Value::String(line) => Ok(line.clone()),
        Value::Array(pair) => {
            match (pair.first().and_then(Value::as_str), pair.get(1).and_then(Value::as_str)) {
                (Some(left), Some(right)) => Ok(format!("{left} {right}")),
                _ => bail!("tokenizer.json: a merge that is not two pieces: {value}"),
            }
        }
        _ => bail!("tokenizer.json: a merge that is not two pieces: {value}"),
    }
}

/// Reads `out` back and compares all of it with the source.
fn check(source: &Checkpoint, weights: &Weights, out: &Path) -> anyhow::Result<()> {
    let bytes = fs::metadata(out)?.len();
    ensure!(bytes <= MAX_BYTES, "{}: {bytes} bytes, more than {MAX_BYTES}", out.display());
    let made = Checkpoint::open(out)?;
    ensure!(made.config() == source.config(), "the configuration read back is another one");
    let made_weights = made.weights()?;
    made_weights.check_finite()?;
    for (dtype, distance) in compare(weights, &made_weights)? {
        println!("{dtype:>5}: {distance}");
    }
    check_tokenizer(source, &made)?;
    println!("{}: {bytes} bytes, {} values", out.display(), made_weights.parameters());
    Ok(())
}

/// The distance of every value from the source, by the type it is stored in.
fn compare(source: &Weights, made: &Weights) -> anyhow::Result<BTreeMap<String, Distance>> {
    let mut tensors: BTreeMap<String, &Weight> = BTreeMap::new();
    source.for_each(&mut |name, weight| {
        tensors.insert(name.to_owned(), weight);
    });
    let mut distances: BTreeMap<String, Distance> = BTreeMap::new();
    let mut result = Ok(());
    made.for_each(&mut |name, weight| {
        let distance = distances.entry(weight.dtype().to_string()).or_default();
        let added = match tensors.remove(name) {
            Some(source) => distance.add(name, source, weight),
            None => Err(anyhow::anyhow!("{name} is not in the source")),
        };
        if result.is_ok() {
            result = added;
        }
    });
    result?;
    ensure!(tensors.is_empty(), "left out: {:?}", tensors.keys());
    Ok(distances)
}

impl Distance {
    fn add(&mut self, name: &str, source: &Weight, made: &Weight) -> anyhow::Result<()> {
        let (rows, columns) = (source.rows(), source.columns());
        ensure!((made.rows(), made.columns()) == (rows, columns), "{name} has another shape");
        let (mut wanted, mut found) = (vec![0.0_f32; columns], vec![0.0_f32; columns]);
        for row in 0..rows {
            dequantise_row(source.dtype(), source.row(row), &mut wanted);
            dequantise_row(made.dtype(), made.row(row), &mut found);
            let largest = wanted.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            for (wanted, found) in wanted.iter().zip(&found) {
                let error = f64::from((wanted - found).abs());
                // Half a step of the row's largest block, and the rounding of its scale to f16.
                let allowed = f64::from(largest) * (0.51 / 127.0 + 1.0 / 2048.0);
                ensure!(error <= allowed, "{name}: row {row}: {wanted} became {found}");
                self.largest = self.largest.max(error);
                self.total += error;
                self.square += error * error;
                self.signal += f64::from(*wanted).powi(2);
            }
        }
        self.tensors += 1;
        self.values += source.values();
        Ok(())
    }
}

impl std::fmt::Display for Distance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = self.values.max(1) as f64;
        let (mean, rms) = (self.total / count, (self.signal / count).sqrt());
        let nmse = self.square / self.signal.max(f64::MIN_POSITIVE);
        write!(
            f,
            "{} tensors, {} values of rms {rms:.4}: largest error {:.2e}, mean {mean:.2e}, NMSE {nmse:.2e}",
            self.tensors, self.values, self.largest
        )
    }
}

/// Both tokenizers of the file, the embedded JSON and ggml's arrays, must encode as the source's does.
fn check_tokenizer(source: &Checkpoint, made: &Checkpoint) -> anyhow::Result<()> {
    let (Some(TokenizerSource::Files { tokenizer, .. }), Some(TokenizerSource::Gguf(gguf))) =
        (source.tokenizer(), made.tokenizer())
    else {
        bail!("the tokenizer was lost");
    };
    let wanted = Tokenizer::from_json(&TokenizerSource::read(tokenizer)?, "the source")?;
    let json = gguf.huggingface_json.as_deref().context("the embedded tokenizer.json was lost")?;
    let made = [
        Tokenizer::from_json(json.as_bytes(), "the embedded JSON")?,
        from_arrays(gguf, true)?,
        from_arrays(gguf, false)?,
    ];
    for text in SAMPLES {
        let ids = wanted.encode(text, SpecialTokens::AsText)?;
        for made in &made {
            let found = made.encode(text, SpecialTokens::AsText)?;
            ensure!(found == ids, "{made:?} encodes {text:?} as {found:?}, not {ids:?}");
            ensure!(made.bos_id() == wanted.bos_id(), "{made:?} has another <bos>");
        }
    }
    Ok(())
}

fn from_arrays(gguf: &GgufVocabulary, merges: bool) -> anyhow::Result<Tokenizer> {
    Ok(Tokenizer::from_vocabulary(Vocabulary {
        name: if merges { "ggml's merges" } else { "ggml's scores" }.to_owned(),
        tokens: gguf.tokens.clone(),
        scores: Some(gguf.scores.clone()),
        merges: merges.then(|| gguf.merges.clone()),
        token_types: gguf.token_types.clone(),
        bos: gguf.bos,
        eos: gguf.eos,
        unk: gguf.unknown,
        pad: gguf.padding,
        add_bos: gguf.add_bos.unwrap_or(true),
        add_space_prefix: gguf.add_space_prefix.unwrap_or(false),
    })?)
}
