//! Element types and block formats of stored weights, and the arithmetic of their sizes.
//!
//! Activations are always f32; a [`DType`] describes bytes in a model file. Sizes are computed with checked
//! arithmetic, because the counts come from files that nobody has vetted.

use std::fmt;

/// How the values of a weight are stored.
///
/// Block formats follow ggml's layouts, so that GGUF tensors are used in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 binary32: 32 bits a value, about 7 decimal digits. Activations and norms.
    F32,
    /// IEEE 754 binary16: 16 bits a value, 11 of them significant, up to 65 504.
    F16,
    /// The upper half of a binary32: 16 bits a value, 8 of them significant, the range of f32.
    BF16,
    /// 32 signed bytes and one f16 scale: 34 bytes, 8.5 bits a value. See [`crate::block::BlockQ8_0`].
    Q8_0,
    /// 256 values of 6 bits in 16 groups with scales of 8 bits: 210 bytes, 6.56 bits a value. See
    /// [`crate::block::BlockQ6K`].
    Q6K,
    /// 256 values of 5 bits in 8 groups with scales and minima of 6 bits: 176 bytes, 5.5 bits a value. See
    /// [`crate::block::BlockQ5K`].
    Q5K,
    /// 32 values of 5 bits and one f16 scale: 22 bytes, 5.5 bits a value. See [`crate::block::BlockQ5_0`].
    Q5_0,
    /// 32 nibbles, an f16 scale and an f16 minimum: 20 bytes, 5 bits a value. See [`crate::block::BlockQ4_1`].
    Q4_1,
    /// 256 nibbles in 8 groups with scales and minima of 6 bits: 144 bytes, 4.5 bits a value. See
    /// [`crate::block::BlockQ4K`].
    Q4K,
    /// 32 signed nibbles and one f16 scale: 18 bytes, 4.5 bits a value. See [`crate::block::BlockQ4_0`].
    Q4_0,
}

impl DType {
    /// Every type, in the order in which reports list them.
    pub const ALL: [Self; 10] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q6K,
        Self::Q5K,
        Self::Q5_0,
        Self::Q4_1,
        Self::Q4K,
        Self::Q4_0,
    ];

    /// Values in one block: 1 for plain types.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q5_0 | Self::Q4_1 | Self::Q4_0 => 32,
            Self::Q6K | Self::Q5K | Self::Q4K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q8_0 => 34,
            Self::Q6K => 210,
            Self::Q5K => 176,
            Self::Q5_0 => 22,
            Self::Q4_1 => 20,
            Self::Q4K => 144,
            Self::Q4_0 => 18,
        }
    }

    /// Alignment in bytes of a plain value, or of the f16 scales in a block; model files keep it.
    pub const fn alignment(self) -> usize {
        match self {
            Self::F32 => 4,
            _ => 2,
        }
    }

    /// Bytes of a row of `columns` values, or `None` when the row does not end on a block or the size overflows.
    pub const fn row_bytes(self, columns: usize) -> Option<usize> {
        if !columns.is_multiple_of(self.block_len()) {
            return None;
        }
        (columns / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Bits a value, scales included.
    pub const fn bits_per_value(self) -> f64 {
        self.block_bytes() as f64 * 8.0 / self.block_len() as f64
    }

    /// The lower-case name that command lines and reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q6K => "q6_k",
            Self::Q5K => "q5_k",
            Self::Q5_0 => "q5_0",
            Self::Q4_1 => "q4_1",
            Self::Q4K => "q4_k",
            Self::Q4_0 => "q4_0",
        }
    }

    /// The type that [`DType::name`] spells, in either case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_bytes_refuses_partial_blocks_and_overflow() {
        assert_eq!(DType::BF16.row_bytes(5), Some(10));
        assert_eq!(DType::Q8_0.row_bytes(64), Some(68));
        assert_eq!(DType::Q4_0.row_bytes(33), None);
        assert_eq!(DType::Q6K.row_bytes(512), Some(420));
        assert_eq!(DType::Q4K.row_bytes(128), None);
        assert_eq!(DType::F32.row_bytes(usize::MAX / 2), None);
    }

    #[test]
    fn names_round_trip() {
        for dtype in DType::ALL {
            assert_eq!(DType::from_name(&dtype.name().to_uppercase()), Some(dtype));
        }
        assert_eq!(DType::from_name("q3_k"), None);
    }
}
