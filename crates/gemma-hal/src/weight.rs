//! [`Weight`]: a matrix of stored values, seen in place.
//!
//! A weight is a view: rows of `columns` values, `row_stride` bytes apart, somewhere in a [`Storage`]. Taking fewer
//! rows or fewer columns gives another view of the same bytes, which is all that a MatFormer slice is. Nothing here
//! converts or copies values; see [`crate::block`] for that.

use crate::{DType, Storage};

/// A `[rows, columns]` matrix stored row by row. A vector is a matrix of one row.
#[derive(Clone, Debug)]
pub struct Weight {
    storage: Storage,
    offset: usize,
    row_stride: usize,
    rows: usize,
    columns: usize,
    dtype: DType,
}

/// Why a view cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The matrix does not lie inside its storage, or its size overflows.
    #[error("{rows}x{columns} {dtype} at byte {offset} does not fit in {available} bytes of {storage}")]
    OutOfBounds {
        /// Name of the storage.
        storage: String,
        /// First byte of the view.
        offset: usize,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        columns: usize,
        /// Type of the values.
        dtype: DType,
        /// Bytes in the storage.
        available: usize,
    },
    /// A block format cannot be cut inside a block.
    #[error("{columns} columns do not end on a block of {block} values of {dtype}")]
    PartialBlock {
        /// Columns asked for.
        columns: usize,
        /// Values in a block.
        block: usize,
        /// Type of the values.
        dtype: DType,
    },
    /// More rows or columns were asked for than there are.
    #[error("{wanted} {what} asked of {available}")]
    TooMany {
        /// "rows" or "columns".
        what: &'static str,
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        available: usize,
    },
}

impl Weight {
    /// A dense matrix that starts at byte `offset` of `storage`.
    ///
    /// # Errors
    /// [`ViewError::PartialBlock`] when a row does not end on a block, [`ViewError::OutOfBounds`] when the last
    /// value lies outside of the storage or a size overflows.
    pub fn new(
        storage: Storage,
        offset: usize,
        rows: usize,
        columns: usize,
        dtype: DType,
    ) -> Result<Self, ViewError> {
        if !columns.is_multiple_of(dtype.block_len()) {
            return Err(ViewError::PartialBlock { columns, block: dtype.block_len(), dtype });
        }
        let available = storage.len();
        let end = dtype
            .row_bytes(columns)
            .and_then(|row| row.checked_mul(rows))
            .and_then(|size| size.checked_add(offset))
            .filter(|end| *end <= available);
        match (end, dtype.row_bytes(columns)) {
            (Some(_), Some(row_stride)) => Ok(Self { storage, offset, row_stride, rows, columns, dtype }),
            _ => Err(ViewError::OutOfBounds {
                storage: storage.name().to_owned(),
                offset,
                rows,
                columns,
                dtype,
                available,
            }),
        }
    }

    /// The view of rows `first .. first + rows`.
    ///
    /// # Errors
    /// [`ViewError::TooMany`] when there are fewer rows.
    pub fn rows_view(&self, first: usize, rows: usize) -> Result<Self, ViewError> {
        match first.checked_add(rows) {
            Some(end) if end <= self.rows => {
                Ok(Self { offset: self.offset + first * self.row_stride, rows, ..self.clone() })
            }
            end => Err(ViewError::TooMany {
                what: "rows",
                wanted: end.unwrap_or(usize::MAX),
                available: self.rows,
            }),
        }
    }

    /// The view of the first `columns` values of every row.
    ///
    /// # Errors
    /// [`ViewError::TooMany`] when rows are shorter, [`ViewError::PartialBlock`] when the cut is inside a block.
    pub fn columns_view(&self, columns: usize) -> Result<Self, ViewError> {
        if columns > self.columns {
            return Err(ViewError::TooMany { what: "columns", wanted: columns, available: self.columns });
        }
        if !columns.is_multiple_of(self.dtype.block_len()) {
            return Err(ViewError::PartialBlock {
                columns,
                block: self.dtype.block_len(),
                dtype: self.dtype,
            });
        }
        Ok(Self { columns, ..self.clone() })
    }

    /// Rows (outputs of a linear layer).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns (inputs of a linear layer).
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Type of the values.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Bytes from one row to the next; more than a row's own bytes in a view of fewer columns.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Where the bytes live.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// First byte in the storage.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Bytes of one row's own values.
    pub fn row_bytes(&self) -> usize {
        self.columns / self.dtype.block_len() * self.dtype.block_bytes()
    }

    /// Bytes that reading every value once moves, without the gaps between rows.
    pub fn bytes(&self) -> u64 {
        self.row_bytes() as u64 * self.rows as u64
    }

    /// Number of values.
    pub fn values(&self) -> u64 {
        self.rows as u64 * self.columns as u64
    }

    /// The stored bytes of row `row`.
    ///
    /// # Panics
    /// When `row` is not below [`Weight::rows`].
    pub fn row(&self, row: usize) -> &[u8] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let start = self.offset + row * self.row_stride;
        &self.storage.bytes()[start..start + self.row_bytes()]
    }

    /// The bytes from the first value of the first row to the last value of the last row, gaps included.
    pub fn span(&self) -> &[u8] {
        let length = if self.rows == 0 { 0 } else { (self.rows - 1) * self.row_stride + self.row_bytes() };
        &self.storage.bytes()[self.offset..self.offset + length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(rows: usize, columns: usize) -> Weight {
        let values: Vec<u8> = (0..rows * columns).flat_map(|value| (value as f32).to_le_bytes()).collect();
        Weight::new(Storage::new("test", values), 0, rows, columns, DType::F32).unwrap()
    }

    #[test]
    fn views_share_the_bytes() {
        let parent = counting(4, 6);
        let child = parent.rows_view(1, 2).unwrap().columns_view(3).unwrap();
        assert!(child.storage().same_as(parent.storage()));
        let row: Vec<f32> =
            child.row(1).chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(row, [12.0, 13.0, 14.0]);
        assert_eq!(child.bytes(), 24);
        assert_eq!(child.span().len(), 24 + 12);
    }

    #[test]
    fn views_refuse_what_is_not_there() {
        let parent = counting(4, 6);
        assert!(matches!(parent.rows_view(3, 2), Err(ViewError::TooMany { what: "rows", .. })));
        assert!(matches!(parent.rows_view(usize::MAX, 2), Err(ViewError::TooMany { .. })));
        assert!(matches!(parent.columns_view(7), Err(ViewError::TooMany { what: "columns", .. })));
        let storage = Storage::new("test", vec![0_u8; 34]);
        assert!(matches!(
            Weight::new(storage.clone(), 0, 1, 48, DType::Q8_0),
            Err(ViewError::PartialBlock { block: 32, .. })
        ));
        assert!(matches!(
            Weight::new(storage.clone(), 1, 1, 32, DType::Q8_0),
            Err(ViewError::OutOfBounds { .. })
        ));
        assert!(matches!(
            Weight::new(storage, 0, usize::MAX, 32, DType::Q8_0),
            Err(ViewError::OutOfBounds { .. })
        ));
    }
}
