//! Scalar operations with two sources (SOP2), comparisons (SOPC), and those with a constant in the instruction (SOPK).

/// What a scalar operation reads. Sources of 32 bits are zero-extended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inputs {
    pub(crate) a: u64,
    pub(crate) b: u64,
    /// The destination's value before.
    pub(crate) before: u64,
    /// The scalar condition code.
    pub(crate) condition: bool,
}

/// What it gives: the value and, where it sets it, the condition code.
pub(crate) type Output = (u64, Option<bool>);

/// A scalar operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar {
    pub(crate) opcode: u16,
    pub(crate) name: &'static str,
    /// Registers of destination and sources; 0 where there is none.
    pub(crate) widths: [u8; 3],
    /// Whether the destination is read too.
    pub(crate) reads_destination: bool,
    pub(crate) run: fn(Inputs) -> Output,
}

/// A row; `widths` are those of destination, first and second source.
macro_rules! row {
    ($opcode:expr, $name:expr, $widths:expr, $run:expr) => {
        $crate::operations::scalar::Scalar {
            opcode: $opcode,
            name: $name,
            widths: $widths,
            reads_destination: false,
            run: $run,
        }
    };
    ($opcode:expr, $name:expr, $widths:expr, keeping, $run:expr) => {
        $crate::operations::scalar::Scalar {
            opcode: $opcode,
            name: $name,
            widths: $widths,
            reads_destination: true,
            run: $run,
        }
    };
}

pub(crate) use row;

const NARROW: [u8; 3] = [1, 1, 1];
const WIDE: [u8; 3] = [2, 2, 2];
const SHIFT: [u8; 3] = [2, 2, 1];
const TEST: [u8; 3] = [0, 1, 1];
const TEST_WIDE: [u8; 3] = [0, 2, 2];

/// SOP2, by number.
pub(crate) static TWO: &[Scalar] = &[
    row!(0x00, "s_add_u32", NARROW, |i| carried(i.a + i.b)),
    row!(0x01, "s_sub_u32", NARROW, |i| (low(i.a.wrapping_sub(i.b)), Some(i.b > i.a))),
    row!(0x02, "s_add_i32", NARROW, |i| overflowing(i64::from(i.a as i32) + i64::from(i.b as i32))),
    row!(0x03, "s_sub_i32", NARROW, |i| overflowing(i64::from(i.a as i32) - i64::from(i.b as i32))),
    row!(0x04, "s_addc_u32", NARROW, |i| carried(i.a + i.b + u64::from(i.condition))),
    row!(0x05, "s_subb_u32", NARROW, |i| {
        let taken = i.b + u64::from(i.condition);
        (low(i.a.wrapping_sub(taken)), Some(taken > i.a))
    }),
    row!(0x06, "s_absdiff_i32", NARROW, |i| nonzero(u64::from(
        (i.a as i32).wrapping_sub(i.b as i32).unsigned_abs()
    ))),
    row!(0x08, "s_lshl_b32", NARROW, |i| nonzero(low(i.a << (i.b & 31)))),
    row!(0x09, "s_lshl_b64", SHIFT, |i| nonzero(i.a << (i.b & 63))),
    row!(0x0a, "s_lshr_b32", NARROW, |i| nonzero(i.a >> (i.b & 31))),
    row!(0x0b, "s_lshr_b64", SHIFT, |i| nonzero(i.a >> (i.b & 63))),
    row!(0x0c, "s_ashr_i32", NARROW, |i| nonzero(signed(i64::from(i.a as i32) >> (i.b & 31)))),
    row!(0x0d, "s_ashr_i64", SHIFT, |i| nonzero((i.a as i64 >> (i.b & 63)) as u64)),
    row!(0x0e, "s_lshl1_add_u32", NARROW, |i| carried((i.a << 1) + i.b)),
    row!(0x0f, "s_lshl2_add_u32", NARROW, |i| carried((i.a << 2) + i.b)),
    row!(0x10, "s_lshl3_add_u32", NARROW, |i| carried((i.a << 3) + i.b)),
    row!(0x11, "s_lshl4_add_u32", NARROW, |i| carried((i.a << 4) + i.b)),
    row!(0x12, "s_min_i32", NARROW, |i| chosen(i, (i.a as i32) < i.b as i32)),
    row!(0x13, "s_min_u32", NARROW, |i| chosen(i, i.a < i.b)),
    row!(0x14, "s_max_i32", NARROW, |i| chosen(i, i.a as i32 >= i.b as i32)),
    row!(0x15, "s_max_u32", NARROW, |i| chosen(i, i.a >= i.b)),
    row!(0x16, "s_and_b32", NARROW, |i| nonzero(i.a & i.b)),
    row!(0x17, "s_and_b64", WIDE, |i| nonzero(i.a & i.b)),
    row!(0x18, "s_or_b32", NARROW, |i| nonzero(i.a | i.b)),
    row!(0x19, "s_or_b64", WIDE, |i| nonzero(i.a | i.b)),
    row!(0x1a, "s_xor_b32", NARROW, |i| nonzero(i.a ^ i.b)),
    row!(0x1b, "s_xor_b64", WIDE, |i| nonzero(i.a ^ i.b)),
    row!(0x1c, "s_nand_b32", NARROW, |i| nonzero(low(!(i.a & i.b)))),
    row!(0x1d, "s_nand_b64", WIDE, |i| nonzero(!(i.a & i.b))),
    row!(0x1e, "s_nor_b32", NARROW, |i| nonzero(low(!(i.a | i.b)))),
    row!(0x1f, "s_nor_b64", WIDE, |i| nonzero(!(i.a | i.b))),
    row!(0x20, "s_xnor_b32", NARROW, |i| nonzero(low(!(i.a ^ i.b)))),
    row!(0x21, "s_xnor_b64", WIDE, |i| nonzero(!(i.a ^ i.b))),
    row!(0x22, "s_and_not1_b32", NARROW, |i| nonzero(low(i.a & !i.b))),
    row!(0x23, "s_and_not1_b64", WIDE, |i| nonzero(i.a & !i.b)),
    row!(0x24, "s_or_not1_b32", NARROW, |i| nonzero(low(i.a | !i.b))),
    row!(0x25, "s_or_not1_b64", WIDE, |i| nonzero(i.a | !i.b)),
    row!(0x26, "s_bfe_u32", NARROW, |i| nonzero(field(i.a, i.b & 31, (i.b >> 16 & 0x7f).min(32)))),
    row!(0x27, "s_bfe_i32", NARROW, |i| {
        nonzero(signed(signed_field(i64::from(i.a as i32), i.b & 31, (i.b >> 16 & 0x7f).min(32))))
    }),
    row!(0x28, "s_bfe_u64", SHIFT, |i| nonzero(field(i.a, i.b & 63, (i.b >> 16 & 0x7f).min(64)))),
    row!(0x29, "s_bfe_i64", SHIFT, |i| {
        nonzero(signed_field(i.a as i64, i.b & 63, (i.b >> 16 & 0x7f).min(64)) as u64)
    }),
    row!(0x2a, "s_bfm_b32", NARROW, |i| (low(((1 << (i.a & 31)) - 1) << (i.b & 31)), None)),
    row!(0x2b, "s_bfm_b64", [2, 1, 1], |i| (((1 << (i.a & 63)) - 1) << (i.b & 63), None)),
    row!(0x2c, "s_mul_i32", NARROW, |i| (low(i.a.wrapping_mul(i.b)), None)),
    row!(0x2d, "s_mul_hi_u32", NARROW, |i| ((i.a * i.b) >> 32, None)),
    row!(0x2e, "s_mul_hi_i32", NARROW, |i| (
        signed((i64::from(i.a as i32) * i64::from(i.b as i32)) >> 32),
        None
    )),
    row!(0x30, "s_cselect_b32", NARROW, |i| (if i.condition { i.a } else { i.b }, None)),
    row!(0x31, "s_cselect_b64", WIDE, |i| (if i.condition { i.a } else { i.b }, None)),
    row!(0x32, "s_pack_ll_b32_b16", NARROW, |i| (i.a & 0xffff | (i.b & 0xffff) << 16, None)),
    row!(0x33, "s_pack_lh_b32_b16", NARROW, |i| (i.a & 0xffff | i.b & 0xffff_0000, None)),
    row!(0x34, "s_pack_hh_b32_b16", NARROW, |i| (i.a >> 16 | i.b & 0xffff_0000, None)),
    row!(0x35, "s_pack_hl_b32_b16", NARROW, |i| (i.a >> 16 | (i.b & 0xffff) << 16, None)),
];

/// SOPC, by number.
pub(crate) static COMPARE: &[Scalar] = &[
    row!(0x00, "s_cmp_eq_i32", TEST, |i| condition(i.a == i.b)),
    row!(0x01, "s_cmp_lg_i32", TEST, |i| condition(i.a != i.b)),
    row!(0x02, "s_cmp_gt_i32", TEST, |i| condition(i.a as i32 > i.b as i32)),
    row!(0x03, "s_cmp_ge_i32", TEST, |i| condition(i.a as i32 >= i.b as i32)),
    row!(0x04, "s_cmp_lt_i32", TEST, |i| condition((i.a as i32) < i.b as i32)),
    row!(0x05, "s_cmp_le_i32", TEST, |i| condition(i.a as i32 <= i.b as i32)),
    row!(0x06, "s_cmp_eq_u32", TEST, |i| condition(i.a == i.b)),
    row!(0x07, "s_cmp_lg_u32", TEST, |i| condition(i.a != i.b)),
    row!(0x08, "s_cmp_gt_u32", TEST, |i| condition(i.a > i.b)),
    row!(0x09, "s_cmp_ge_u32", TEST, |i| condition(i.a >= i.b)),
    row!(0x0a, "s_cmp_lt_u32", TEST, |i| condition(i.a < i.b)),
    row!(0x0b, "s_cmp_le_u32", TEST, |i| condition(i.a <= i.b)),
    row!(0x0c, "s_bitcmp0_b32", TEST, |i| condition(i.a >> (i.b & 31) & 1 == 0)),
    row!(0x0d, "s_bitcmp1_b32", TEST, |i| condition(i.a >> (i.b & 31) & 1 == 1)),
    row!(0x0e, "s_bitcmp0_b64", [0, 2, 1], |i| condition(i.a >> (i.b & 63) & 1 == 0)),
    row!(0x0f, "s_bitcmp1_b64", [0, 2, 1], |i| condition(i.a >> (i.b & 63) & 1 == 1)),
    row!(0x10, "s_cmp_eq_u64", TEST_WIDE, |i| condition(i.a == i.b)),
    row!(0x11, "s_cmp_lg_u64", TEST_WIDE, |i| condition(i.a != i.b)),
];

/// SOPK, by number. `a` is the register, `b` the constant, sign-extended to 32 bits.
pub(crate) static CONSTANT: &[Scalar] = &[
    row!(0x00, "s_movk_i32", [1, 0, 0], |i| (i.b, None)),
    row!(0x02, "s_cmovk_i32", [1, 0, 0], keeping, |i| (if i.condition { i.b } else { i.before }, None)),
    row!(0x03, "s_cmpk_eq_i32", [0, 1, 0], |i| condition(i.a == i.b)),
    row!(0x04, "s_cmpk_lg_i32", [0, 1, 0], |i| condition(i.a != i.b)),
    row!(0x05, "s_cmpk_gt_i32", [0, 1, 0], |i| condition(i.a as i32 > i.b as i32)),
    row!(0x06, "s_cmpk_ge_i32", [0, 1, 0], |i| condition(i.a as i32 >= i.b as i32)),
    row!(0x07, "s_cmpk_lt_i32", [0, 1, 0], |i| condition((i.a as i32) < i.b as i32)),
    row!(0x08, "s_cmpk_le_i32", [0, 1, 0], |i| condition(i.a as i32 <= i.b as i32)),
    row!(0x09, "s_cmpk_eq_u32", [0, 1, 0], |i| condition(i.a == i.b & 0xffff)),
    row!(0x0a, "s_cmpk_lg_u32", [0, 1, 0], |i| condition(i.a != i.b & 0xffff)),
    row!(0x0b, "s_cmpk_gt_u32", [0, 1, 0], |i| condition(i.a > i.b & 0xffff)),
    row!(0x0c, "s_cmpk_ge_u32", [0, 1, 0], |i| condition(i.a >= i.b & 0xffff)),
    row!(0x0d, "s_cmpk_lt_u32", [0, 1, 0], |i| condition(i.a < i.b & 0xffff)),
    row!(0x0e, "s_cmpk_le_u32", [0, 1, 0], |i| condition(i.a <= i.b & 0xffff)),
    row!(0x0f, "s_addk_i32", [1, 0, 0], keeping, |i| {
        overflowing(i64::from(i.before as i32) + i64::from(i.b as i32))
    }),
    row!(0x10, "s_mulk_i32", [1, 0, 0], keeping, |i| (low(i.before.wrapping_mul(i.b)), None)),
];

/// Finds an operation by its number.
pub(crate) fn find(table: &'static [Scalar], opcode: u32) -> Option<&'static Scalar> {
    table.iter().find(|row| u32::from(row.opcode) == opcode)
}

/// A value that sets the condition where it is not zero.
pub(crate) fn nonzero(value: u64) -> Output {
    (value, Some(value != 0))
}

pub(crate) fn low(value: u64) -> u64 {
    value & 0xffff_ffff
}

/// A signed value as 32 bits.
pub(crate) fn signed(value: i64) -> u64 {
    low(value as u64)
}

fn condition(value: bool) -> Output {
    (0, Some(value))
}

fn carried(sum: u64) -> Output {
    (low(sum), Some(sum >> 32 != 0))
}

fn overflowing(value: i64) -> Output {
    (signed(value), Some(i64::from(value as i32) != value))
}

fn chosen(i: Inputs, first: bool) -> Output {
    (if first { i.a } else { i.b }, Some(first))
}

fn field(value: u64, offset: u64, width: u64) -> u64 {
    value >> offset & 1_u64.checked_shl(width as u32).map_or(u64::MAX, |bit| bit - 1)
}

fn signed_field(value: i64, offset: u64, width: u64) -> i64 {
    if width == 0 {
        return 0;
    }
    let field = value >> offset;
    field << (64 - width) >> (64 - width)
}
