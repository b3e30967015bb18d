//! A folder with a safetensors file of any bytes beside a sound config.json: opened or refused, never a panic.
//!
//! The first two bytes say what follows: 0 a whole file; anything else a header alone, to which its length and this
//! many times 32 zeros of tensor data are added, so that headers of real models fit into small inputs.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use gemma_matformer::Checkpoint;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const CONFIG: &[u8] = include_bytes!("../../crates/gemma-matformer/tests/goldens/four-layers/config.json");
/// Values of a block; every tensor of a real model ends on one.
const DATA_STEP: usize = 32;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    fs::write(folder.path().join("config.json"), CONFIG).expect("room for a config");
    folder
});

fuzz_target!(|data: &[u8]| {
    let Some((steps, rest)) = data.split_first_chunk() else { return };
    let steps = usize::from(u16::from_le_bytes(*steps));
    let mut file = Vec::new();
    if steps != 0 {
        file.extend((rest.len() as u64).to_le_bytes());
    }
    file.extend(rest);
    file.resize(file.len() + steps * DATA_STEP, 0);
    let path: PathBuf = FOLDER.path().join("model.safetensors");
    fs::write(&path, &file).expect("room for a model");
    if let Ok(checkpoint) = Checkpoint::open(&path) {
        let _ = checkpoint.weights();
        let _ = checkpoint.still_whole();
    }
});
