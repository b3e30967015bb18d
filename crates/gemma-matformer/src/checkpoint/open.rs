//! From a path to a [`Checkpoint`]: which files make up the model, and which of their tensors it uses.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use gemma_hal::{Storage, Weight};
use serde_json::{Map, Value};

use super::file::{MappedFile, io_error, read_text};
use super::gguf::{self, Gguf};
use super::tensors::{ALTUP_PROJECTIONS, ALTUP_UNEMBED, EMBED, KV, LAYER, MODEL, PLE_TABLE, in_stack};
use super::{
    Checkpoint, CheckpointError, FoundTensor, SkipReason, Skipped, TokenizerSource, Unusable, Unused,
    safetensors,
};
use crate::Config;
use crate::config::{Fields, MAX_CONFIG_BYTES};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// What stands before canonical names in the layouts seen so far.
const PREFIXES: [&str; 4] = ["model.language_model.", "language_model.model.", "model.", ""];

impl Checkpoint {
    /// Opens a model: a folder (config.json with model.safetensors or its shards, or exactly one .gguf), a
    /// .safetensors file with config.json beside it, or a .gguf file.
    ///
    /// # Errors
    /// [`CheckpointError`], which names the file and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let metadata = fs::metadata(path).map_err(|error| io_error(path, error))?;
        let path = if metadata.is_dir() { model_in(path)? } else { path.to_owned() };
        if path.to_string_lossy().ends_with(".index.json") {
            return open_shards(&path);
        }
        let file = MappedFile::open(&path)?;
        if gguf::looks_like(file.storage.bytes()) || path.extension().is_some_and(|e| e == "gguf") {
            return open_gguf(&file.storage.clone(), vec![file]);
        }
        if safetensors::looks_like(file.storage.bytes())
            || path.extension().is_some_and(|e| e == "safetensors")
        {
            return open_safetensors(file);
        }
        Err(CheckpointError::UnknownFormat(path))
    }

    /// Opens a GGUF file that is in memory already, such as one embedded in the program.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; [`CheckpointError::Tensor`] when the bytes are not aligned for their types.
    pub fn from_gguf_storage(storage: &Storage) -> Result<Self, CheckpointError> {
        open_gguf(storage, Vec::new())
    }
}

fn open_gguf(storage: &Storage, files: Vec<MappedFile>) -> Result<Checkpoint, CheckpointError> {
    let gguf = Gguf::parse(storage)?;
    let config = gguf.config()?;
    let tokenizer = gguf.vocabulary()?.map(|vocabulary| TokenizerSource::Gguf(Box::new(vocabulary)));
    let mut found = gguf.found();
    // llama.cpp pads the PLE table with rows of zeros, which the model must not use.
    let mut padding = Vec::new();
    for tensor in found.iter_mut().filter(|tensor| tensor.name == PLE_TABLE.canonical) {
        let Ok(whole) = &tensor.weight else { continue };
        let (used, rows) = (config.ple_vocabulary, whole.rows());
        if let (Ok(table), Ok(rest)) =
            (whole.rows_view(0, used), whole.rows_view(used, rows.saturating_sub(used)))
        {
            padding.push(Unused { name: tensor.name.clone(), first_row: used, weight: Ok(rest) });
            tensor.weight = Ok(table);
        }
    }
    let mut checkpoint = assemble(config, tokenizer, found, storage.name(), files)?;
    checkpoint.unused.append(&mut padding);
    checkpoint.about = gguf.about()?;
    Ok(checkpoint)
}

/// The file that stands for the model in a folder.
fn model_in(folder: &Path) -> Result<PathBuf, CheckpointError> {
    for name in [SINGLE, INDEX] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    for kind in ["safetensors", "gguf"] {
        let mut found = files_ending(folder, kind)?;
        match (found.pop(), found.len()) {
            (None, _) => {}
            (Some(only), 0) => return Ok(only),
            (Some(_), others) => {
                return Err(CheckpointError::SeveralModels {
                    path: folder.to_owned(),
                    count: others + 1,
                    kind,
                });
            }
        }
    }
    Err(CheckpointError::NoModel(folder.to_owned()))
}

/// Files of one ending; image projectors, which llama.cpp keeps beside the model, are not counted.
fn files_ending(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| io_error(folder, error))? {
        let path = entry.map_err(|error| io_error(folder, error))?.path();
        let projector = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mmproj"));
        if path.extension().is_some_and(|e| e == ending) && !projector {
            found.push(path);
        }
    }
    Ok(found)
}

fn open_safetensors(file: MappedFile) -> Result<Checkpoint, CheckpointError> {
    let found = safetensors::directory(&file.storage)?;
    let (config, tokenizer) = read_beside(&file.path)?;
    let (name, about) = (file.path.display().to_string(), about(&file.path));
    Ok(Checkpoint { about, ..assemble(config, tokenizer, found, &name, vec![file])? })
}

/// A model's name is that of its folder.
fn about(weights: &Path) -> Vec<(String, String)> {
    let folder = fs::canonicalize(weights).ok();
    let name = folder.as_deref().and_then(Path::parent).and_then(Path::file_name);
    name.map(|name| ("general.name".to_owned(), name.to_string_lossy().into_owned())).into_iter().collect()
}

fn open_shards(index: &Path) -> Result<Checkpoint, CheckpointError> {
    let (files, promised) = safetensors::shards(index)?;
    let mut found = Vec::new();
    let mut places = Vec::new();
    for file in &files {
        let directory = safetensors::directory(&file.storage)?;
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        places.push((name, found.len()..found.len() + directory.len()));
        found.extend(directory);
    }
    // An index may name a million tensors: one look-up each.
    let names: HashMap<&str, HashSet<&str>> = places
        .iter()
        .map(|(name, range)| (name.as_str(), found[range.clone()].iter().map(|t| t.name.as_str()).collect()))
        .collect();
    let there = |tensor: &str, shard: &str| names.get(shard).is_some_and(|names| names.contains(tensor));
    if let Some((tensor, shard)) = promised.iter().find(|(tensor, shard)| !there(tensor, shard)) {
        let problem = format!("promises {tensor} in {shard}, but it is not there");
        return Err(CheckpointError::Index { path: index.to_owned(), problem });
    }
    let (config, tokenizer) = read_beside(index)?;
    let name = index.display().to_string();
    Ok(Checkpoint { about: about(index), ..assemble(config, tokenizer, found, &name, files)? })
}

/// The configuration and the tokenizer in the folder of `weights`.
fn read_beside(weights: &Path) -> Result<(Config, Option<TokenizerSource>), CheckpointError> {
    let folder = weights.parent().unwrap_or(Path::new("."));
    let path = folder.join("config.json");
    let mut config = Config::from_json(&read_text(&path, MAX_CONFIG_BYTES)?, &path.display().to_string())?;
    add_generation_ends(&mut config, &folder.join("generation_config.json"))?;
    let optional = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
    let tokenizer = optional("tokenizer.json").map(|tokenizer| TokenizerSource::Files {
        tokenizer,
        config: optional("tokenizer_config.json"),
        template: optional("chat_template.jinja"),
    });
    Ok((config, tokenizer))
}

/// Adds the end tokens that only generation_config.json knows of (the end of a turn, in instruction-tuned models).
fn add_generation_ends(config: &mut Config, path: &Path) -> Result<(), CheckpointError> {
    if !path.is_file() {
        return Ok(());
    }
    let file = path.display().to_string();
    let object: Map<String, Value> = serde_json::from_slice(&read_text(path, MAX_CONFIG_BYTES)?)
        .map_err(|error| crate::ConfigError::Json { file: file.clone(), reason: error.to_string() })?;
    for id in (Fields { file: &file, object: &object }).ids("eos_token_id")?.unwrap_or_default() {
        if !config.eos.contains(&id) {
            config.eos.push(id);
        }
    }
    Ok(config.validate(&file)?)
}

/// Sorts found tensors into those the model uses, by canonical name, and those it does not.
fn assemble(
    config: Config,
    tokenizer: Option<TokenizerSource>,
    found: Vec<FoundTensor>,
    name: &str,
    files: Vec<MappedFile>,
) -> Result<Checkpoint, CheckpointError> {
    let prefix = PREFIXES
        .into_iter()
        .find(|prefix| found.iter().any(|t| t.name.strip_prefix(prefix) == Some(EMBED.canonical)))
        .unwrap_or("");
    let (mut tensors, mut skipped) = (BTreeMap::new(), Vec::new());
    let (mut unused, mut shared_kv) = (Vec::new(), BTreeMap::new());
    for tensor in found {
        match tensor
            .name
            .strip_prefix(prefix)
            .ok_or(SkipReason::Unknown)
            .and_then(|name| wanted(&config, name))
        {
            Ok(()) => {
                let canonical = tensor.name[prefix.len()..].to_owned();
                let (file, twice) = (name.to_owned(), tensor.name.clone());
                if tensors.insert(canonical, usable(tensor, name)?).is_some() {
                    let problem = "is there twice".to_owned();
                    return Err(CheckpointError::Tensor { file, tensor: twice, problem });
                }
            }
            Err(reason) => {
                let reason = if reason == SkipReason::Unknown { outside(&tensor.name) } else { reason };
                skipped.push(Skipped { name: tensor.name.clone(), bytes: tensor.bytes, reason });
                if reason == SkipReason::SharedKv
                    && let Ok(weight) = &tensor.weight
                {
                    shared_kv.insert(tensor.name[prefix.len()..].to_owned(), weight.clone());
                }
                unused.push(Unused { name: tensor.name, first_row: 0, weight: tensor.weight });
            }
        }
    }
    skipped.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(table) = tensors.get(PLE_TABLE.canonical) {
        for file in &files {
            file.advise_random(table);
        }
    }
    Ok(Checkpoint {
        config,
        tensors,
        skipped,
        unused,
        shared_kv,
        tokenizer,
        files,
        name: name.to_owned(),
        about: Vec::new(),
    })
}

/// Whether the text model uses the tensor of this canonical name, or why not.
fn wanted(config: &Config, name: &str) -> Result<(), SkipReason> {
    let known = |known: bool| if known { Ok(()) } else { Err(SkipReason::Unknown) };
    if let Some((layer, rest)) = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
        let layer: usize = layer.parse().map_err(|_| SkipReason::Unknown)?;
        if layer >= config.layers() {
            return Err(SkipReason::Unknown);
        }
        if !config.owns_kv(layer) && KV.iter().any(|name| name.canonical == rest) {
            return Err(SkipReason::SharedKv);
        }
        return known(LAYER.iter().any(|name| name.canonical == rest));
    }
    let stacked = (0..config.altup_streams - 1)
        .any(|index| [ALTUP_PROJECTIONS, ALTUP_UNEMBED].iter().any(|stack| in_stack(stack, index) == name));
    known(stacked || MODEL.iter().any(|model| model.canonical == name))
}

/// What a tensor that is not of the text model belongs to.
fn outside(name: &str) -> SkipReason {
    if name.contains("vision") || name.starts_with("v.") || name.starts_with("mm.") {
        SkipReason::Vision
    } else if name.contains("audio") || name.starts_with("a.") {
        SkipReason::Audio
    } else if name.ends_with("lm_head.weight") || name == "output.weight" {
        SkipReason::TiedHead
    } else {
        SkipReason::Unknown
    }
}

/// The weight, when its type is read and its values can be read in place.
fn usable(tensor: FoundTensor, file: &str) -> Result<Weight, CheckpointError> {
    let FoundTensor { name: tensor, weight, .. } = tensor;
    let place =
        |problem: String| CheckpointError::Tensor { file: file.to_owned(), tensor: tensor.clone(), problem };
    let weight = weight.map_err(|problem| match problem {
        Unusable::Type(found) => {
            CheckpointError::TensorType { file: file.to_owned(), tensor: tensor.clone(), found }
        }
        Unusable::Place(problem) => place(problem),
    })?;
    let alignment = weight.dtype().alignment();
    let address = weight.storage().bytes().as_ptr() as usize + weight.offset();
    if !address.is_multiple_of(alignment) || !weight.row_stride().is_multiple_of(alignment) {
        return Err(place(format!("its values are not aligned to {alignment} bytes")));
    }
    Ok(weight)
}
