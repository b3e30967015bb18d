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
use gemma_matformer::checkpoint::TokenizerSource;
use gemma_matformer::checkpoint::gguf::write::MetadataValue;
use gemma_matformer::export::{Export, Filling};
use gemma_matformer::{Checkpoint, Weights};
use gemma_orchestrator::{Model, vocabulary};
use gemma_text::{SpecialTokens, Tokenizer};

/// Where the model is kept, from the root of the repository.
pub(crate) const PLACE: &str = "assets/nano-q8_0.gguf";
/// What a clone and the program can bear.
const MAX_BYTES: u64 = 30_000_000;
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
    let model = Model::open(from, None)?;
    let (source, weights) = (model.checkpoint(), &model.weights);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = BufWriter::new(fs::File::create(out).with_context(|| out.display().to_string())?);
    let fits = |columns: usize| columns.is_multiple_of(DType::Q8_0.block_len());
    let export = Export::with_types(
        source.config(),
        weights,
        &|tensor| if fits(tensor.columns) { DType::Q8_0 } else { DType::F16 },
        &metadata(&model)?,
        Filling::default(),
    );
    export.write_to(&mut file)?;
    file.flush()?;
    check(source, weights, out)
}

/// What the file says beside its configuration: its name and licence, its tokenizer, its chat template.
fn metadata(model: &Model) -> anyhow::Result<Vec<(String, MetadataValue)>> {
    let vocabulary = model.gguf_vocabulary()?;
    let vocabulary =
        vocabulary.with_context(|| format!("{}: no tokenizer.json", model.checkpoint().name()))?;
    ensure!(vocabulary.chat_template.is_some(), "tokenizer_config.json has no chat template");
    let texts = [
        ("general.name", "nano"),
        ("general.description", "A Gemma 3n of 22.6 M parameters that tells stories; see assets/README.md"),
        ("general.license", "MIT OR Apache-2.0"),
    ];
    let texts = texts.map(|(key, text)| (key.to_owned(), MetadataValue::String(text.to_owned())));
    Ok(texts.into_iter().chain(vocabulary.metadata()).collect())
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

/// ggml's arrays, and the embedded JSON where there is one, must encode as the source's tokenizer does.
fn check_tokenizer(source: &Checkpoint, made: &Checkpoint) -> anyhow::Result<()> {
    let (Some(TokenizerSource::Files { tokenizer, .. }), Some(TokenizerSource::Gguf(gguf))) =
        (source.tokenizer(), made.tokenizer())
    else {
        bail!("the tokenizer was lost");
    };
    let wanted = Tokenizer::from_json(&TokenizerSource::read(tokenizer)?, "the source")?;
    let json = gguf.huggingface_json.as_deref();
    let json = json.map(|json| Tokenizer::from_json(json.as_bytes(), "the embedded JSON")).transpose()?;
    let arrays = Tokenizer::from_vocabulary(&vocabulary::from_gguf(gguf, "ggml's arrays")?)?;
    let made: Vec<Tokenizer> = json.into_iter().chain([arrays]).collect();
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
