//! Weights made in memory, for benchmarks and tests that have no model file.
//!
//! Values are random but sane: a decoder with them computes finite numbers at the cost of a real one. The PLE table
//! is zeros that no page of memory holds until somebody reads it, and then only the pages read.

use std::io;
use std::mem::offset_of;
use std::num::NonZero;
use std::path::Path;

use gemma_hal::block::BlockQ6K;
use gemma_hal::random::SplitMix64;
use gemma_hal::{DType, Storage, Weight};
use half::{bf16, f16};
use memmap2::{MmapMut, MmapOptions};

use crate::checkpoint::tensors::{PLE_TABLE, is_small};
use crate::{CheckpointError, Config, Weights};

/// Name of the storage of synthetic weights.
const NAME: &str = "synthetic";
const REMEDY: &str = "choose a smaller shape or type, or free memory";
/// Bytes from which on a tensor is filled by several threads.
const PARALLEL_BYTES: usize = 1 << 20;

/// Random weights for `config`, the same for the same `seed`. Matrices have type `dtype`, or bf16 where their rows do
/// not end on a block of it; norms and coefficients are f32.
///
/// # Errors
/// [`CheckpointError::Config`] for a config that is not valid, [`CheckpointError::Io`] when memory is not to be had.
pub fn weights(config: &Config, dtype: DType, seed: u64) -> Result<Weights, CheckpointError> {
    config.validate(NAME)?;
    Weights::from_source(config, &|name, rows, columns| {
        let dtype = match () {
            () if is_small(name) => DType::F32,
            () if columns.is_multiple_of(dtype.block_len()) => dtype,
            () => DType::BF16,
        };
        matrix(name, rows, columns, dtype, seed)
    })
}

/// Weights of `config`'s shapes that hold nothing and take no memory, for whoever writes [`Rows`] in their place.
///
/// # Errors
/// As [`weights`].
pub(crate) fn shapes(config: &Config) -> Result<Weights, CheckpointError> {
    config.validate(NAME)?;
    Weights::from_source(config, &|name, rows, columns| {
        let dtype = if is_small(name) { DType::F32 } else { DType::BF16 };
        let failed = |error| CheckpointError::Io { path: Path::new(NAME).join(name), error, remedy: REMEDY };
        let bytes = dtype.row_bytes(columns).and_then(|row| row.checked_mul(rows));
        let map = bytes.ok_or_else(|| io::ErrorKind::OutOfMemory.into()).and_then(zeros).map_err(failed)?;
        let map = map.make_read_only().map_err(failed)?;
        let weight = Weight::new(Storage::new(NAME, map), 0, rows, columns, dtype);
        Ok(weight.expect("the map was made for these rows and columns"))
    })
}

/// The rows of one synthetic tensor, made one at a time; those of [`weights`], but for a PLE table that is not zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    columns: usize,
    positive: bool,
    seed: u64,
}

impl Rows {
    /// Of the tensor with this canonical name.
    pub(crate) fn new(name: &str, rows: usize, columns: usize, seed: u64) -> Self {
        Self { columns, positive: rows == 1, seed: hash(name, seed) }
    }

    /// Writes row `row` in `dtype`, whose blocks its columns fill.
    pub(crate) fn write(&self, dtype: DType, row: usize, out: &mut [u8]) {
        let filling = Filling { dtype, columns: self.columns, positive: self.positive };
        filling.fill_row(out, &mut Random::of_row(self.seed, row));
    }
}

fn matrix(
    name: &str,
    rows: usize,
    columns: usize,
    dtype: DType,
    seed: u64,
) -> Result<Weight, CheckpointError> {
    let failed = |error| CheckpointError::Io { path: Path::new(NAME).join(name), error, remedy: REMEDY };
    let row_bytes = dtype.row_bytes(columns).expect("the type was chosen for these columns");
    let bytes = row_bytes.checked_mul(rows).ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
    let mut map = zeros(bytes).map_err(failed)?;
    if name != PLE_TABLE.canonical {
        let filling = Filling { dtype, columns, positive: rows == 1 };
        fill(&mut map, row_bytes, filling, hash(name, seed));
    }
    let map = map.make_read_only().map_err(failed)?;
    let weight = Weight::new(Storage::new(NAME, map), 0, rows, columns, dtype);
    Ok(weight.expect("the map was made for these rows and columns"))
}

/// Zeroed memory that is claimed page by page when it is touched.
fn zeros(bytes: usize) -> io::Result<MmapMut> {
    MmapOptions::new().len(bytes).no_reserve_swap().map_anon()
}

/// How the rows of a matrix are made.
#[derive(Clone, Copy)]
struct Filling {
    dtype: DType,
    columns: usize,
    /// Norms and scales: values around 1 instead of around 0.
    positive: bool,
}

fn fill(bytes: &mut [u8], row_bytes: usize, filling: Filling, seed: u64) {
    let rows = bytes.len() / row_bytes;
    let threads = if bytes.len() < PARALLEL_BYTES {
        1
    } else {
        std::thread::available_parallelism().map_or(1, NonZero::get)
    };
    let share = rows.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (index, part) in bytes.chunks_mut(share * row_bytes).enumerate() {
            let mut work = move || {
                for (row, out) in part.chunks_exact_mut(row_bytes).enumerate() {
                    let row = index * share + row;
                    filling.fill_row(out, &mut Random::of_row(seed, row));
                }
            };
            if threads == 1 {
                work();
            } else {
                scope.spawn(work);
            }
        }
    });
}

impl Filling {
    fn fill_row(&self, row: &mut [u8], random: &mut Random) {
        if self.positive {
            for value in row.as_chunks_mut().0 {
                // 0.5 to 1.5
                *value = (random.0.next_unit() + 0.5).to_le_bytes();
            }
            return;
        }
        // Magnitudes between 1 and 2 times this, so that a product of a row and a vector of ones is about 1.
        let magnitude = (self.columns as f32).sqrt().log2().round().exp2().recip();
        match self.dtype {
            DType::F32 => random.fill_masked(row, pairs(0x807F_FFFF), pairs(magnitude.to_bits())),
            DType::BF16 => random.fill_masked(row, quads(0x807F), quads(bf16::from_f32(magnitude).to_bits())),
            DType::F16 => random.fill_masked(row, quads(0x83FF), quads(f16::from_f32(magnitude).to_bits())),
            DType::Q8_0 => random.fill_blocks(row, self.dtype, &[(0, magnitude / 64.0)]),
            DType::Q5_0 => random.fill_blocks(row, self.dtype, &[(0, magnitude / 8.0)]),
            DType::Q4_0 => random.fill_blocks(row, self.dtype, &[(0, magnitude / 4.0)]),
            // Minima put the middle of the steps at zero.
            DType::Q4_1 => {
                let step = magnitude / 4.0;
                random.fill_blocks(row, self.dtype, &[(0, step), (2, -7.5 * step)]);
            }
            // Scales of groups are random as well, so steps are about 32 (Q6_K: 64) of these.
            DType::Q4K => {
                let step = magnitude / 256.0;
                random.fill_blocks(row, self.dtype, &[(0, step), (2, 7.5 * step)]);
            }
            DType::Q5K => {
                let step = magnitude / 512.0;
                random.fill_blocks(row, self.dtype, &[(0, step), (2, 15.5 * step)]);
            }
            DType::Q6K => {
                let place = offset_of!(BlockQ6K, scale);
                random.fill_blocks(row, self.dtype, &[(place, magnitude / 1024.0)]);
            }
        }
    }
}

const fn pairs(word: u32) -> u64 {
    word as u64 | (word as u64) << 32
}

const fn quads(word: u16) -> u64 {
    pairs(word as u32 | (word as u32) << 16)
}

/// Values of one row.
struct Random(SplitMix64);

impl Random {
    fn of_row(seed: u64, row: usize) -> Self {
        Self(SplitMix64::new(seed ^ (row as u64).wrapping_mul(0xD134_2543_DE82_EF95)))
    }

    /// Random bits where `mask` is set, those of `fixed` elsewhere: floats of a fixed exponent.
    fn fill_masked(&mut self, out: &mut [u8], mask: u64, fixed: u64) {
        let fixed = fixed & !mask;
        let (words, rest) = out.as_chunks_mut::<8>();
        for word in words {
            *word = ((self.0.next_bits() & mask) | fixed).to_le_bytes();
        }
        let last = ((self.0.next_bits() & mask) | fixed).to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }

    /// Blocks of random bits with these f16 numbers at these places.
    fn fill_blocks(&mut self, out: &mut [u8], dtype: DType, scales: &[(usize, f32)]) {
        self.fill_masked(out, u64::MAX, 0);
        for block in out.chunks_exact_mut(dtype.block_bytes()) {
            for (place, scale) in scales {
                block[*place..place + 2].copy_from_slice(&f16::from_f32(*scale).to_le_bytes());
            }
        }
    }
}

/// FNV-1a of the name, so that every tensor has values of its own.
fn hash(name: &str, seed: u64) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325 ^ seed, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slice;

    #[test]
    fn e2b_has_the_published_number_of_parameters() {
        // transformers counts the keys and values that sharing layers carry and never use.
        let e2b = Config::e2b();
        let unused = 10 * (2 * e2b.kv_width() * e2b.hidden + e2b.head_dim) as u64;
        assert_eq!(shapes(&e2b).unwrap().parameters() + unused, 4_456_156_768);
        let e4b = Config::e4b();
        let (config, sliced) = shapes(&e4b).unwrap().slice(&e4b, &Slice::named("e2b").unwrap()).unwrap();
        assert_eq!(config, e2b);
        assert_eq!(sliced.parameters() + unused, 4_456_156_768);
    }
}
