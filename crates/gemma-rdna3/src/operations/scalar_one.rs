//! Scalar operations with one source (SOP1), and what the others of SOP1 do to EXEC and to the program counter.

use super::scalar::{Scalar, low, nonzero, row, signed};

const NARROW: [u8; 3] = [1, 1, 0];
const WIDE: [u8; 3] = [2, 2, 0];
const DOWN: [u8; 3] = [1, 2, 0];
const UP: [u8; 3] = [2, 1, 0];

/// SOP1, by number.
pub(crate) static ONE: &[Scalar] = &[
    row!(0x00, "s_mov_b32", NARROW, |i| (i.a, None)),
    row!(0x01, "s_mov_b64", WIDE, |i| (i.a, None)),
    row!(0x02, "s_cmov_b32", NARROW, keeping, |i| (if i.condition { i.a } else { i.before }, None)),
    row!(0x03, "s_cmov_b64", WIDE, keeping, |i| (if i.condition { i.a } else { i.before }, None)),
    row!(0x04, "s_brev_b32", NARROW, |i| (u64::from((i.a as u32).reverse_bits()), None)),
    row!(0x05, "s_brev_b64", WIDE, |i| (i.a.reverse_bits(), None)),
    row!(0x08, "s_ctz_i32_b32", NARROW, |i| (count(i.a, i.a.trailing_zeros()), None)),
    row!(0x09, "s_ctz_i32_b64", DOWN, |i| (count(i.a, i.a.trailing_zeros()), None)),
    row!(0x0a, "s_clz_i32_u32", NARROW, |i| (count(i.a, (i.a as u32).leading_zeros()), None)),
    row!(0x0b, "s_clz_i32_u64", DOWN, |i| (count(i.a, i.a.leading_zeros()), None)),
    row!(0x0c, "s_cls_i32", NARROW, |i| {
        let alike = (i.a as u32 ^ (i.a as i32 >> 31) as u32).leading_zeros();
        (count(u64::from(alike != 32), alike), None)
    }),
    row!(0x0d, "s_cls_i32_i64", DOWN, |i| {
        let alike = (i.a ^ (i.a as i64 >> 63) as u64).leading_zeros();
        (count(u64::from(alike != 64), alike), None)
    }),
    row!(0x0e, "s_sext_i32_i8", NARROW, |i| (signed(i64::from(i.a as i8)), None)),
    row!(0x0f, "s_sext_i32_i16", NARROW, |i| (signed(i64::from(i.a as i16)), None)),
    row!(0x10, "s_bitset0_b32", NARROW, keeping, |i| (low(i.before & !(1 << (i.a & 31))), None)),
    row!(0x11, "s_bitset0_b64", UP, keeping, |i| (i.before & !(1 << (i.a & 63)), None)),
    row!(0x12, "s_bitset1_b32", NARROW, keeping, |i| (low(i.before | 1 << (i.a & 31)), None)),
    row!(0x13, "s_bitset1_b64", UP, keeping, |i| (i.before | 1 << (i.a & 63), None)),
    row!(0x14, "s_bitreplicate_b64_b32", UP, |i| {
        ((0..32).fold(0, |all, bit| all | ((i.a >> bit & 1) * 3) << (2 * bit)), None)
    }),
    row!(0x15, "s_abs_i32", NARROW, |i| nonzero(u64::from((i.a as i32).unsigned_abs()))),
    row!(0x16, "s_bcnt0_i32_b32", NARROW, |i| nonzero(u64::from((i.a as u32).count_zeros()))),
    row!(0x17, "s_bcnt0_i32_b64", DOWN, |i| nonzero(u64::from(i.a.count_zeros()))),
    row!(0x18, "s_bcnt1_i32_b32", NARROW, |i| nonzero(u64::from(i.a.count_ones()))),
    row!(0x19, "s_bcnt1_i32_b64", DOWN, |i| nonzero(u64::from(i.a.count_ones()))),
    row!(0x1a, "s_quadmask_b32", NARROW, |i| nonzero(quads(i.a, 8))),
    row!(0x1b, "s_quadmask_b64", WIDE, |i| nonzero(quads(i.a, 16))),
    row!(0x1c, "s_wqm_b32", NARROW, |i| nonzero(whole_quads(i.a, 8))),
    row!(0x1d, "s_wqm_b64", WIDE, |i| nonzero(whole_quads(i.a, 16))),
    row!(0x1e, "s_not_b32", NARROW, |i| nonzero(low(!i.a))),
    row!(0x1f, "s_not_b64", WIDE, |i| nonzero(!i.a)),
];

/// What becomes of EXEC, from the source and EXEC before.
pub(crate) type Masking = fn(u32, u32) -> u32;

/// SOP1 on EXEC in waves of 32: (number, mnemonic, the new EXEC from source and old one, whether the destination takes
/// the old EXEC; else it takes the new one).
pub(crate) static EXEC: [(u32, &str, Masking, bool); 12] = [
    (0x20, "s_and_saveexec_b32", |source, exec| source & exec, true),
    (0x22, "s_or_saveexec_b32", |source, exec| source | exec, true),
    (0x24, "s_xor_saveexec_b32", |source, exec| source ^ exec, true),
    (0x26, "s_nand_saveexec_b32", |source, exec| !(source & exec), true),
    (0x28, "s_nor_saveexec_b32", |source, exec| !(source | exec), true),
    (0x2a, "s_xnor_saveexec_b32", |source, exec| !(source ^ exec), true),
    (0x2c, "s_and_not0_saveexec_b32", |source, exec| !source & exec, true),
    (0x2e, "s_or_not0_saveexec_b32", |source, exec| !source | exec, true),
    (0x30, "s_and_not1_saveexec_b32", |source, exec| source & !exec, true),
    (0x32, "s_or_not1_saveexec_b32", |source, exec| source | !exec, true),
    (0x34, "s_and_not0_wrexec_b32", |source, exec| !source & exec, false),
    (0x36, "s_and_not1_wrexec_b32", |source, exec| source & !exec, false),
];

/// A count, all ones where there was nothing to find.
fn count(found: u64, count: u32) -> u64 {
    if found == 0 { 0xffff_ffff } else { u64::from(count) }
}

fn quads(value: u64, quads: u32) -> u64 {
    (0..quads).fold(0, |all, quad| all | u64::from(value >> (4 * quad) & 15 != 0) << quad)
}

fn whole_quads(value: u64, quads: u32) -> u64 {
    (0..quads).fold(0, |all, quad| all | (u64::from(value >> (4 * quad) & 15 != 0) * 15) << (4 * quad))
}
