//! What lies in a model's files and is not used is looked at by those who ask for it, and by nobody else.

mod checkpoint_support;

use checkpoint_support::*;
use gemma_hal::DType;
use gemma_matformer::{Checkpoint, CheckpointError};
use safetensors::tensor::Dtype;
use tempfile::TempDir;

fn open(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::from_gguf_storage(&storage(bytes))
}

#[test]
fn what_is_not_used_is_looked_at_when_asked_for() {
    let two =
        |second: f32| [1.0_f32, second].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let tower = "model.vision_tower.stem.weight";
    for (dtype, shape, value, found) in [
        (Dtype::F32, vec![2, 1], 1.0, None),
        (Dtype::F32, vec![2, 1], f32::NAN, Some("row 1 holds NaN")),
        (Dtype::F32, vec![2], f32::INFINITY, Some("row 0 holds inf")),
        // Of a type that is not read there is no value to look at.
        (Dtype::I64, vec![1], f32::NAN, None),
    ] {
        let folder = TempDir::new().unwrap();
        let mut all = entries(&tiny_weights(DType::BF16), "model.");
        all.push((tower.to_owned(), dtype, shape, two(value)));
        write_folder(folder.path(), &all);
        let (checkpoint, weights) = load(folder.path()).unwrap();
        weights.check_finite().unwrap();
        let error = checkpoint.check_unused().err().map(|error| error.to_string());
        match found {
            None => assert_eq!(error, None),
            Some(found) => {
                let error = error.unwrap();
                assert!(error.contains(&format!("model.safetensors: {tower}: {found}")), "{error}");
            }
        }
    }
}

/// Rows 36 to 39 of the table are padding when the file says that 36 are used.
#[test]
fn padding_of_the_ple_table_is_looked_at_when_asked_for() {
    let mut bytes = tiny_gguf(DType::F32, &[]);
    let key = b"gemma3n.vocab_size_per_layer_input";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap();
    // Behind the key its type, u32, and the value.
    let value = at + key.len() + 4;
    assert_eq!(bytes[value..value + 4], 40_u32.to_le_bytes());
    bytes[value..value + 4].copy_from_slice(&36_u32.to_le_bytes());
    let table = open(&bytes).unwrap().tensor("embed_tokens_per_layer.weight").unwrap().clone();
    assert_eq!(table.rows(), 36);
    open(&bytes).unwrap().check_unused().unwrap();
    let row = table.offset() + 38 * table.row_stride();
    bytes[row..row + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let checkpoint = open(&bytes).unwrap();
    checkpoint.weights().unwrap().check_finite().unwrap();
    let error = checkpoint.check_unused().unwrap_err().to_string();
    assert!(error.contains("embed_tokens_per_layer.weight: row 38 holds NaN"), "{error}");
}
