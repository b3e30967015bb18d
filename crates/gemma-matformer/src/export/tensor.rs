//! One tensor of the file to be: its name, shape and type, and where its rows come from.
//!
//! Rows are made one at a time from stored weights, from a generator, or as a constant; nothing here writes files.

use std::ops::Range;

use gemma_hal::block::{dequantise_row, quantise_row, quantise_row_weighted};
use gemma_hal::{DType, Weight};

use super::types::Class;
use crate::synthetic;

/// A tensor of the file to be.
#[derive(Debug)]
pub struct TensorPlan<'a> {
    /// Name in the file.
    pub name: String,
    /// What the tensor is for.
    pub class: Class,
    /// Type in the file.
    pub dtype: DType,
    /// Type that was asked for, where its blocks do not fit the rows.
    pub unfit: Option<DType>,
    /// Bytes of the same values in the source; none where they are made here.
    pub source_bytes: Option<u64>,
    pub(super) columns: usize,
    /// Parts one behind the other.
    pub(super) parts: Vec<Part<'a>>,
    /// Matrices that are stacked along the third dimension; 1 for all others.
    pub(super) stacked: usize,
}

/// Rows from one place.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) rows: usize,
    pub(super) source: Source<'a>,
    /// Weight of the error of each column.
    pub(super) importance: Option<&'a [f32]>,
}

#[derive(Debug)]
pub(super) enum Source<'a> {
    Stored {
        weight: &'a Weight,
        /// Rows in blocks of this many: the blocks that are taken.
        rows: Option<(usize, &'a [usize])>,
        /// Columns in blocks of this many: the blocks that are taken.
        columns: Option<(usize, &'a [usize])>,
    },
    Synthetic(synthetic::Rows),
    /// Every value is this.
    Constant(f32),
}

/// Squared error of stored values, and of how much.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distance {
    /// Values compared.
    pub values: u64,
    /// Sum of squared differences.
    pub error: f64,
    /// Sum of squared source values.
    pub signal: f64,
    /// Values of the source that are NaN or infinite, which block formats cannot hold.
    pub lost: u64,
}

impl Distance {
    /// Root of the mean squared difference; 0 for no values.
    pub fn rmse(self) -> f64 {
        if self.values == 0 { 0.0 } else { (self.error / self.values as f64).sqrt() }
    }

    /// [`Distance::rmse`] by the root mean square of the source.
    pub fn relative(self) -> f64 {
        if self.signal == 0.0 { 0.0 } else { (self.error / self.signal).sqrt() }
    }

    /// This and another together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            values: self.values + other.values,
            error: self.error + other.error,
            signal: self.signal + other.signal,
            lost: self.lost + other.lost,
        }
    }
}

/// Memory that a thread keeps between rows.
#[derive(Default)]
pub(super) struct Scratch {
    whole: Vec<f32>,
    kept: Vec<f32>,
    back: Vec<f32>,
}

impl TensorPlan<'_> {
    /// Rows of all parts.
    pub fn rows(&self) -> usize {
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// Values of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of values.
    pub fn values(&self) -> u64 {
        self.rows() as u64 * self.columns as u64
    }

    /// Bytes of a row in the file.
    pub fn row_bytes(&self) -> usize {
        self.dtype.row_bytes(self.columns).expect("the type was chosen for these columns")
    }

    /// Bytes in the file.
    pub fn bytes(&self) -> u64 {
        self.row_bytes() as u64 * self.rows() as u64
    }

    /// In GGUF's order: columns, rows, matrices.
    pub(super) fn dimensions(&self) -> Vec<u64> {
        let (columns, rows) = (self.columns as u64, self.rows() as u64);
        match self.class {
            Class::AltupStack => vec![columns, rows / self.stacked as u64, self.stacked as u64],
            _ if rows == 1 => vec![columns],
            _ => vec![columns, rows],
        }
    }

    /// Writes row `row` of the whole tensor; with `measure`, says how far it is from the source.
    pub(super) fn write_row(
        &self,
        mut row: usize,
        out: &mut [u8],
        scratch: &mut Scratch,
        measure: bool,
    ) -> Distance {
        for part in &self.parts {
            if row < part.rows {
                return self.write_part(part, row, out, scratch, measure);
            }
            row -= part.rows;
        }
        panic!("{}: {row} rows too many", self.name);
    }

    fn write_part(
        &self,
        part: &Part<'_>,
        row: usize,
        out: &mut [u8],
        scratch: &mut Scratch,
        measure: bool,
    ) -> Distance {
        let exact = Distance::default();
        match &part.source {
            Source::Constant(value) => {
                scratch.kept.clear();
                scratch.kept.resize(self.columns, *value);
                out.copy_from_slice(&quantise_row(self.dtype, &scratch.kept));
                exact
            }
            Source::Synthetic(rows) => {
                rows.write(self.dtype, row, out);
                exact
            }
            Source::Stored { weight, rows, columns } => {
                let row = rows.map_or(row, |(height, blocks)| blocks[row / height] * height + row % height);
                let (width, blocks) = columns.unwrap_or((weight.columns(), &[0]));
                let stored = weight.row(row);
                if let (true, Some(bytes)) = (weight.dtype() == self.dtype, self.dtype.row_bytes(width)) {
                    for (block, out) in blocks.iter().zip(out.chunks_exact_mut(bytes)) {
                        out.copy_from_slice(&stored[block * bytes..(block + 1) * bytes]);
                    }
                    return exact;
                }
                scratch.whole.resize(weight.columns(), 0.0);
                dequantise_row(weight.dtype(), stored, &mut scratch.whole);
                scratch.kept.clear();
                for block in blocks {
                    scratch.kept.extend_from_slice(&scratch.whole[block * width..(block + 1) * width]);
                }
                let lost = scratch.kept.iter().filter(|value| !value.is_finite()).count() as u64;
                out.copy_from_slice(&quantise_row_weighted(self.dtype, &scratch.kept, part.importance));
                let distance = if measure { scratch.distance(self.dtype, out) } else { exact };
                Distance { lost, ..distance }
            }
        }
    }

    /// The stored weights behind `rows` of this tensor, and their own rows.
    pub(super) fn stored(&self, rows: &Range<usize>) -> Vec<(&Weight, Range<usize>)> {
        let mut first = 0;
        let mut found = Vec::new();
        for part in &self.parts {
            let of_part = rows.start.max(first)..rows.end.min(first + part.rows);
            // Blocks of rows are those of a matrix that is small enough to be left where it is.
            if let (false, Source::Stored { weight, rows: None, .. }) = (of_part.is_empty(), &part.source) {
                found.push((*weight, of_part.start - first..of_part.end - first));
            }
            first += part.rows;
        }
        found
    }
}

impl Scratch {
    fn distance(&mut self, dtype: DType, out: &[u8]) -> Distance {
        self.back.resize(self.kept.len(), 0.0);
        dequantise_row(dtype, out, &mut self.back);
        let pairs = || self.kept.iter().zip(&self.back);
        Distance {
            values: self.kept.len() as u64,
            error: pairs().map(|(wanted, found)| f64::from(wanted - found).powi(2)).sum(),
            signal: self.kept.iter().map(|value| f64::from(*value).powi(2)).sum(),
            lost: 0,
        }
    }
}
