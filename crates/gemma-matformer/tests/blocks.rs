//! Block formats against ggml's: the bytes that its quantisers make and the values that it reads from them.
//!
//! Stored results are those of the `gguf` package; see `goldens/README.md`.

use std::path::Path;

use gemma_hal::DType;
use gemma_hal::block::{dequantise_row, quantise_row};
use safetensors::SafeTensors;

const ROWS: usize = 16;
const COLUMNS: usize = 128;
/// Blocks of each format in `stored.safetensors`.
const BLOCKS: usize = 24;

struct Golden(Vec<u8>);

impl Golden {
    /// Values, and what the package makes of them.
    fn quantised() -> Self {
        Self::read("blocks.safetensors")
    }

    /// Blocks of random bits, and what they mean.
    fn stored() -> Self {
        Self::read("stored.safetensors")
    }

    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/blocks").join(name);
        Self(std::fs::read(path).unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.0).unwrap().tensor(name).unwrap().data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.bytes(name).as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Those that the package can quantise to.
fn quantised_formats() -> impl Iterator<Item = DType> {
    DType::ALL.into_iter().filter(|dtype| *dtype != DType::F32 && dtype.block_len() <= 32)
}

fn assert_values(dtype: DType, golden: &Golden, columns: usize) {
    let bytes = golden.bytes(&format!("{dtype}.bytes"));
    let expected = golden.floats(&format!("{dtype}.values"));
    let rows = bytes.chunks_exact(dtype.row_bytes(columns).unwrap());
    assert_eq!(rows.len(), expected.len() / columns, "{dtype}");
    for (row, (bytes, expected)) in rows.zip(expected.chunks_exact(columns)).enumerate() {
        let mut found = vec![f32::NAN; columns];
        dequantise_row(dtype, bytes, &mut found);
        assert_eq!(bits(&found), bits(expected), "{dtype}, row {row}");
    }
}

#[test]
fn quantised_bytes_are_ggml_s() {
    let golden = Golden::quantised();
    let values = golden.floats("values");
    assert_eq!(values.len(), ROWS * COLUMNS);
    for dtype in quantised_formats() {
        let expected = golden.bytes(&format!("{dtype}.bytes"));
        let row_bytes = dtype.row_bytes(COLUMNS).unwrap();
        assert_eq!(expected.len(), ROWS * row_bytes, "{dtype}");
        for (row, (values, expected)) in
            values.chunks_exact(COLUMNS).zip(expected.chunks_exact(row_bytes)).enumerate()
        {
            assert_eq!(quantise_row(dtype, values), expected, "{dtype}, row {row}");
        }
    }
}

#[test]
fn dequantised_values_are_ggml_s_to_the_bit() {
    let golden = Golden::quantised();
    for dtype in quantised_formats() {
        assert_values(dtype, &golden, COLUMNS);
    }
}

#[test]
fn any_bits_mean_what_they_mean_to_ggml() {
    let golden = Golden::stored();
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.block_len() > 1) {
        assert_eq!(golden.bytes(&format!("{dtype}.bytes")).len(), BLOCKS * dtype.block_bytes());
        assert_values(dtype, &golden, dtype.block_len());
    }
}

#[test]
fn the_golden_holds_the_edge_cases() {
    let values = Golden::quantised().floats("values");
    let blocks: Vec<&[f32]> = values.chunks_exact(32).collect();
    let some = |what: &str, is: &dyn Fn(&[f32]) -> bool| {
        assert!(blocks.iter().any(|block| is(block)), "no block {what}");
    };
    some("of zeros", &|block| block.iter().all(|value| *value == 0.0));
    some("whose extreme is positive", &|block| extreme(block) > 0.0);
    some("whose extreme is negative", &|block| extreme(block) < 0.0);
    some("with a tie of both signs", &|block| block.contains(&1.25) && block.contains(&-1.25));
    some("at f16's largest", &|block| extreme(block).abs() == 65504.0);
    // 2^-24 is the least magnitude of f16.
    some("below f16's least scale", &|block| {
        extreme(block) != 0.0 && extreme(block).abs() < 127.0 * 2.0_f32.powi(-25)
    });
}

fn extreme(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |most: f32, value| if value.abs() > most.abs() { *value } else { most })
}
