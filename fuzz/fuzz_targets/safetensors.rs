//! A folder with a safetensors file of any bytes beside a sound config.json: opened or refused, never a panic.
//!
//! The first two bytes say what follows: 0 a whole file; anything else a header alone, to which its length and this
//! many times 32 zeros of tensor data are added, so that headers of real models fit into small inputs.
#![no_main]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
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
    let path = FOLDER.path().join("model.safetensors");
    write(&path, steps, rest).expect("room for a model");
    if let Ok(checkpoint) = Checkpoint::open(&path) {
        let _ = checkpoint.weights();
        let _ = checkpoint.still_whole();
    }
});

/// Zeros are a hole in the file, which costs nothing.
fn write(path: &Path, steps: usize, rest: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    if steps != 0 {
        file.write_all(&(rest.len() as u64).to_le_bytes())?;
    }
    file.write_all(rest)?;
    let length = file.metadata()?.len();
    file.set_len(length + (steps * DATA_STEP) as u64)
}
