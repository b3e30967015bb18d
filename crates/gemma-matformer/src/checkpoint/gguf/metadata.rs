//! Metadata values. Scalars are kept; strings and arrays stay in the file and are read when somebody asks.

use std::ops::Range;

use super::reader::{Fault, MAX_STRING_BYTES, Reader, Size};

/// Most elements of one array; half a million merges are the largest known.
pub const MAX_ARRAY: u64 = 1 << 24;
/// Deepest nesting of arrays; real files have none.
pub const MAX_ARRAY_DEPTH: u32 = 4;

/// The type of a value, by GGUF's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

/// A value, or where it is in the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(Range<usize>),
    Array { kind: Kind, count: usize, place: Range<usize> },
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        let number = reader.clone().u32()?;
        match Self::ALL.into_iter().find(|kind| *kind as u32 == number) {
            Some(kind) => reader.u32().map(|_| kind),
            None => reader.fail(format!("{number} is not the type of a metadata value")),
        }
    }

    /// Bytes of a value of fixed size.
    fn size(self) -> Option<Size> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(Size(1)),
            Self::U16 | Self::I16 => Some(Size(2)),
            Self::U32 | Self::I32 | Self::F32 => Some(Size(4)),
            Self::U64 | Self::I64 | Self::F64 => Some(Size(8)),
            Self::String | Self::Array => None,
        }
    }
}

impl Value {
    /// Reads a value of `kind` that stands inside of `depth` arrays.
    pub(crate) fn read(reader: &mut Reader<'_>, kind: Kind, depth: u32) -> Result<Self, Fault> {
        Ok(match kind {
            Kind::U8 => Self::Unsigned(reader.array::<1>()?[0].into()),
            Kind::I8 => Self::Signed(i8::from_le_bytes(reader.array()?).into()),
            Kind::U16 => Self::Unsigned(u16::from_le_bytes(reader.array()?).into()),
            Kind::I16 => Self::Signed(i16::from_le_bytes(reader.array()?).into()),
            Kind::U32 => Self::Unsigned(reader.u32()?.into()),
            Kind::I32 => Self::Signed(i32::from_le_bytes(reader.array()?).into()),
            Kind::U64 => Self::Unsigned(reader.u64()?),
            Kind::I64 => Self::Signed(i64::from_le_bytes(reader.array()?)),
            Kind::F32 => Self::Float(f32::from_le_bytes(reader.array()?).into()),
            Kind::F64 => Self::Float(f64::from_le_bytes(reader.array()?)),
            Kind::Bool => Self::Bool(reader.array::<1>()?[0] != 0),
            Kind::String => Self::String(reader.string_range(MAX_STRING_BYTES)?),
            Kind::Array => Self::read_array(reader, depth)?,
        })
    }

    fn read_array(reader: &mut Reader<'_>, depth: u32) -> Result<Self, Fault> {
        if depth >= MAX_ARRAY_DEPTH {
            return reader.fail(format!("arrays nested deeper than {MAX_ARRAY_DEPTH}"));
        }
        let kind = Kind::read(reader)?;
        let count = reader.count("elements in an array", MAX_ARRAY)?;
        let start = reader.at();
        match kind.size().and_then(|size| size.times(count)) {
            Some(bytes) => {
                reader.range(bytes)?;
            }
            None => {
                for _ in 0..count.0 {
                    Self::read(reader, kind, depth + 1)?;
                }
            }
        }
        Ok(Self::Array { kind, count: count.0 as usize, place: start..reader.at() })
    }
}
