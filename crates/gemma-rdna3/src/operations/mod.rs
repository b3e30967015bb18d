//! What each operation computes, as tables: number in the encoding, mnemonic, types, and the function of one lane.
//!
//! A table is both what the decoder knows and what the machine does. Nothing here knows registers, memory or time.
//! Source of the definitions: AMD, "RDNA3 Instruction Set Architecture", chapters 15 and 16.

pub(crate) mod compare;
pub(crate) mod data_share;
pub(crate) mod global;
pub(crate) mod number;
pub(crate) mod packed;
pub(crate) mod scalar;
pub(crate) mod scalar_one;
pub(crate) mod vector_one;
pub(crate) mod vector_three;
pub(crate) mod vector_three_float;
pub(crate) mod vector_two;

use number::Kind;

/// Lanes of a wave.
pub(crate) const LANES: usize = 32;
/// A 32-bit value for each lane.
pub(crate) type Lanes = [u32; LANES];
/// A 64-bit value for each lane.
pub(crate) type Wide = [u64; LANES];

/// A vector operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) opcode: u16,
    pub(crate) name: &'static str,
    pub(crate) result: Kind,
    pub(crate) sources: &'static [Kind],
    pub(crate) run: Run,
}

/// How a vector operation is carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    /// Lane by lane, on at most 32 bits.
    Narrow(fn(&[Lanes; 3], &mut Lanes)),
    /// Lane by lane, with 64 bits somewhere.
    Wide(fn(&[Wide; 3], &mut Wide)),
    /// A condition of each lane, as a bit of the result.
    Test(fn(&[Lanes; 3]) -> u32),
    /// A condition on 64 bits.
    TestWide(fn(&[Wide; 3]) -> u32),
    /// What needs more than values of its own lane.
    Special(Special),
}

/// Operations that are more than a function of one lane's sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    /// Chooses by a bit of a scalar register.
    Select,
    /// A sum with carry out, and carry in if `true`; the order of the subtraction.
    Carry(Carry, bool),
    DivisionScale,
    DivisionScaleWide,
    DivisionFused,
    DivisionFusedWide,
    /// 32 x 32 + 64 bits with carry out; whether signed.
    MultiplyAddWide(bool),
    ReadFirstLane,
    ReadLane,
    WriteLane,
    /// Lanes of a row by two scalar registers; whether of the other row.
    Permute(bool),
    Swap,
    /// A move whose destination is counted from M0.
    MoveToRelative,
    /// A move whose source is counted from M0.
    MoveFromRelative,
    /// Bits of a mask below the lane; whether of its upper half, which one wave of 32 lanes does not have.
    CountBelow(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carry {
    Add,
    Subtract,
    SubtractReversed,
}

/// Finds an operation by its number.
pub(crate) fn find(table: &'static [Entry], opcode: u32) -> Option<&'static Entry> {
    table.iter().find(|entry| u32::from(entry.opcode) == opcode)
}

/// A row for an operation on at most 32 bits a lane: `narrow!(3, "v_add_f32", f32 = |a: f32, b: f32| a + b)`.
macro_rules! narrow {
    ($opcode:expr, $name:expr, $result:ty = |$($source:ident: $type:ty),*| $value:expr) => {
        $crate::operations::Entry {
            opcode: $opcode,
            name: $name,
            result: <$result as $crate::operations::number::Number>::KIND,
            sources: &[$(<$type as $crate::operations::number::Number>::KIND),*],
            run: $crate::operations::Run::Narrow({
                #[allow(unused_assignments, unused_mut, unused_variables)]
                fn run(sources: &[$crate::operations::Lanes; 3], result: &mut $crate::operations::Lanes) {
                    use $crate::operations::number::Number;
                    for lane in 0..$crate::operations::LANES {
                        let mut index = 0;
                        $(
                            let $source = <$type as Number>::of(u64::from(sources[index][lane]));
                            index += 1;
                        )*
                        let value: $result = $value;
                        result[lane] = Number::bits(value) as u32;
                    }
                }
                run
            }),
        }
    };
}

/// A row for an operation with 64 bits somewhere.
macro_rules! wide {
    ($opcode:expr, $name:expr, $result:ty = |$($source:ident: $type:ty),*| $value:expr) => {
        $crate::operations::Entry {
            opcode: $opcode,
            name: $name,
            result: <$result as $crate::operations::number::Number>::KIND,
            sources: &[$(<$type as $crate::operations::number::Number>::KIND),*],
            run: $crate::operations::Run::Wide({
                #[allow(unused_assignments, unused_mut)]
                fn run(sources: &[$crate::operations::Wide; 3], result: &mut $crate::operations::Wide) {
                    use $crate::operations::number::Number;
                    for lane in 0..$crate::operations::LANES {
                        let mut index = 0;
                        $(
                            let $source = <$type as Number>::of(sources[index][lane]);
                            index += 1;
                        )*
                        let value: $result = $value;
                        result[lane] = Number::bits(value);
                    }
                }
                run
            }),
        }
    };
}

/// A row for one of the operations that are done by hand.
macro_rules! special {
    ($opcode:expr, $name:expr, $special:expr, $result:ident = $($source:ident),*) => {
        $crate::operations::Entry {
            opcode: $opcode,
            name: $name,
            result: $crate::operations::number::Kind::$result,
            sources: &[$($crate::operations::number::Kind::$source),*],
            run: $crate::operations::Run::Special($special),
        }
    };
}

pub(crate) use {narrow, special, wide};
