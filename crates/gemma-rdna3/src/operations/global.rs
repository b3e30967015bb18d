//! Accesses to memory through vector addresses (FLAT, GLOBAL), and what atomic operations compute, in memory and in LDS.

/// What an access does with each lane's address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    /// Reads so many bytes; how they fill the register.
    Load(u8, Fill),
    /// Writes so many bytes; whether those of the upper half of the register.
    Store(u8, bool),
    /// Reads so many bytes, writes what the function makes of them.
    Atomic(u8, Atomic),
}

/// How a value that is smaller than its registers fills them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Zeros,
    Sign,
    /// Only one half of the register is written; the upper one if `high`, sign-extended to 16 bits if `sign`.
    Half {
        high: bool,
        sign: bool,
    },
}

/// An atomic operation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Atomic {
    /// From what is there and the operand.
    Apply(fn(u64, u64) -> u64),
    /// Writes the first operand where memory holds the second.
    CompareSwap,
    /// As `CompareSwap`, with floats compared by value.
    CompareSwapFloat,
}

/// Rows of the table, with the mnemonics of both segments.
macro_rules! rows {
    ($($opcode:literal $name:literal $access:expr;)*) => {
        &[$(($opcode, concat!("global_", $name), concat!("flat_", $name), $access)),*]
    };
}

/// (number, mnemonic where the address is one of memory, mnemonic where it may be one of LDS, what it does).
pub(crate) static TABLE: &[(u32, &str, &str, Access)] = rows! {
    0x10 "load_u8" Access::Load(1, Fill::Zeros);
    0x11 "load_i8" Access::Load(1, Fill::Sign);
    0x12 "load_u16" Access::Load(2, Fill::Zeros);
    0x13 "load_i16" Access::Load(2, Fill::Sign);
    0x14 "load_b32" Access::Load(4, Fill::Zeros);
    0x15 "load_b64" Access::Load(8, Fill::Zeros);
    0x16 "load_b96" Access::Load(12, Fill::Zeros);
    0x17 "load_b128" Access::Load(16, Fill::Zeros);
    0x18 "store_b8" Access::Store(1, false);
    0x19 "store_b16" Access::Store(2, false);
    0x1a "store_b32" Access::Store(4, false);
    0x1b "store_b64" Access::Store(8, false);
    0x1c "store_b96" Access::Store(12, false);
    0x1d "store_b128" Access::Store(16, false);
    0x1e "load_d16_u8" Access::Load(1, Fill::Half { high: false, sign: false });
    0x1f "load_d16_i8" Access::Load(1, Fill::Half { high: false, sign: true });
    0x20 "load_d16_b16" Access::Load(2, Fill::Half { high: false, sign: false });
    0x21 "load_d16_hi_u8" Access::Load(1, Fill::Half { high: true, sign: false });
    0x22 "load_d16_hi_i8" Access::Load(1, Fill::Half { high: true, sign: true });
    0x23 "load_d16_hi_b16" Access::Load(2, Fill::Half { high: true, sign: false });
    0x24 "store_d16_hi_b8" Access::Store(1, true);
    0x25 "store_d16_hi_b16" Access::Store(2, true);
    0x33 "atomic_swap_b32" Access::Atomic(4, Atomic::Apply(swap));
    0x34 "atomic_cmpswap_b32" Access::Atomic(4, Atomic::CompareSwap);
    0x35 "atomic_add_u32" Access::Atomic(4, Atomic::Apply(add));
    0x36 "atomic_sub_u32" Access::Atomic(4, Atomic::Apply(subtract));
    0x38 "atomic_min_i32" Access::Atomic(4, Atomic::Apply(minimum_i32));
    0x39 "atomic_min_u32" Access::Atomic(4, Atomic::Apply(minimum));
    0x3a "atomic_max_i32" Access::Atomic(4, Atomic::Apply(maximum_i32));
    0x3b "atomic_max_u32" Access::Atomic(4, Atomic::Apply(maximum));
    0x3c "atomic_and_b32" Access::Atomic(4, Atomic::Apply(and));
    0x3d "atomic_or_b32" Access::Atomic(4, Atomic::Apply(or));
    0x3e "atomic_xor_b32" Access::Atomic(4, Atomic::Apply(xor));
    0x3f "atomic_inc_u32" Access::Atomic(4, Atomic::Apply(increment));
    0x40 "atomic_dec_u32" Access::Atomic(4, Atomic::Apply(decrement));
    0x41 "atomic_swap_b64" Access::Atomic(8, Atomic::Apply(swap));
    0x42 "atomic_cmpswap_b64" Access::Atomic(8, Atomic::CompareSwap);
    0x43 "atomic_add_u64" Access::Atomic(8, Atomic::Apply(add));
    0x44 "atomic_sub_u64" Access::Atomic(8, Atomic::Apply(subtract));
    0x45 "atomic_min_i64" Access::Atomic(8, Atomic::Apply(minimum_i64));
    0x46 "atomic_min_u64" Access::Atomic(8, Atomic::Apply(minimum));
    0x47 "atomic_max_i64" Access::Atomic(8, Atomic::Apply(maximum_i64));
    0x48 "atomic_max_u64" Access::Atomic(8, Atomic::Apply(maximum));
    0x49 "atomic_and_b64" Access::Atomic(8, Atomic::Apply(and));
    0x4a "atomic_or_b64" Access::Atomic(8, Atomic::Apply(or));
    0x4b "atomic_xor_b64" Access::Atomic(8, Atomic::Apply(xor));
    0x4c "atomic_inc_u64" Access::Atomic(8, Atomic::Apply(increment));
    0x4d "atomic_dec_u64" Access::Atomic(8, Atomic::Apply(decrement));
    0x50 "atomic_cmpswap_f32" Access::Atomic(4, Atomic::CompareSwapFloat);
    0x51 "atomic_min_f32" Access::Atomic(4, Atomic::Apply(minimum_f32));
    0x52 "atomic_max_f32" Access::Atomic(4, Atomic::Apply(maximum_f32));
    0x56 "atomic_add_f32" Access::Atomic(4, Atomic::Apply(add_f32));
};

impl Access {
    /// Bytes that a lane reads or writes.
    pub(crate) fn bytes(self) -> u8 {
        match self {
            Self::Load(bytes, _) | Self::Store(bytes, _) | Self::Atomic(bytes, _) => bytes,
        }
    }
}

impl Atomic {
    /// What memory holds afterwards, of `bytes` bytes.
    pub(crate) fn apply(self, before: u64, operand: u64, comparand: u64, bytes: u8) -> u64 {
        let value = match self {
            Self::Apply(function) => function(before, operand),
            Self::CompareSwap if before == comparand => operand,
            Self::CompareSwapFloat if float(before) == float(comparand) => operand,
            Self::CompareSwap | Self::CompareSwapFloat => before,
        };
        if bytes == 4 { value & 0xffff_ffff } else { value }
    }

    pub(crate) fn compares(self) -> bool {
        !matches!(self, Self::Apply(_))
    }
}

pub(crate) fn swap(_: u64, operand: u64) -> u64 {
    operand
}

pub(crate) fn add(before: u64, operand: u64) -> u64 {
    before.wrapping_add(operand)
}

pub(crate) fn subtract(before: u64, operand: u64) -> u64 {
    before.wrapping_sub(operand)
}

pub(crate) fn subtract_reversed(before: u64, operand: u64) -> u64 {
    operand.wrapping_sub(before)
}

pub(crate) fn minimum(before: u64, operand: u64) -> u64 {
    before.min(operand)
}

pub(crate) fn maximum(before: u64, operand: u64) -> u64 {
    before.max(operand)
}

pub(crate) fn minimum_i32(before: u64, operand: u64) -> u64 {
    (before as i32).min(operand as i32) as u32 as u64
}

pub(crate) fn maximum_i32(before: u64, operand: u64) -> u64 {
    (before as i32).max(operand as i32) as u32 as u64
}

pub(crate) fn minimum_i64(before: u64, operand: u64) -> u64 {
    (before as i64).min(operand as i64) as u64
}

pub(crate) fn maximum_i64(before: u64, operand: u64) -> u64 {
    (before as i64).max(operand as i64) as u64
}

pub(crate) fn and(before: u64, operand: u64) -> u64 {
    before & operand
}

pub(crate) fn or(before: u64, operand: u64) -> u64 {
    before | operand
}

pub(crate) fn xor(before: u64, operand: u64) -> u64 {
    before ^ operand
}

/// Counts up to the operand, then from zero again.
pub(crate) fn increment(before: u64, operand: u64) -> u64 {
    if before >= operand { 0 } else { before + 1 }
}

/// Counts down to zero, then from the operand again.
pub(crate) fn decrement(before: u64, operand: u64) -> u64 {
    if before == 0 || before > operand { operand } else { before - 1 }
}

pub(crate) fn minimum_f32(before: u64, operand: u64) -> u64 {
    super::number::minimum(float(before), float(operand)).to_bits() as u64
}

pub(crate) fn maximum_f32(before: u64, operand: u64) -> u64 {
    super::number::maximum(float(before), float(operand)).to_bits() as u64
}

pub(crate) fn add_f32(before: u64, operand: u64) -> u64 {
    (float(before) + float(operand)).to_bits() as u64
}

fn float(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}
