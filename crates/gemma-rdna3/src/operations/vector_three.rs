//! Vector operations of VOP3 on integers and bits, and those that look at other lanes or give a carry.

use super::number::middle;
use super::{Carry, Entry, Special, narrow, special, wide};

/// By number in VOP3.
pub(crate) static TABLE: &[Entry] = &[
    narrow!(
        0x20a,
        "v_mad_i32_i24",
        i32 = |a: i32, b: i32, c: i32| (a << 8 >> 8).wrapping_mul(b << 8 >> 8).wrapping_add(c)
    ),
    narrow!(
        0x20b,
        "v_mad_u32_u24",
        u32 = |a: u32, b: u32, c: u32| { (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff).wrapping_add(c) }
    ),
    narrow!(0x210, "v_bfe_u32", u32 = |a: u32, b: u32, c: u32| a >> (b & 31) & ((1 << (c & 31)) - 1)),
    narrow!(0x211, "v_bfe_i32", i32 = |a: i32, b: u32, c: u32| signed_field(a, b & 31, c & 31)),
    narrow!(0x212, "v_bfi_b32", u32 = |a: u32, b: u32, c: u32| (a & b) | (!a & c)),
    narrow!(
        0x215,
        "v_lerp_u8",
        u32 = |a: u32, b: u32, c: u32| bytes(|i| (byte(a, i) + byte(b, i) + (byte(c, i) & 1)) >> 1)
    ),
    narrow!(0x216, "v_alignbit_b32", u32 = |a: u32, b: u32, c: u32| (join(a, b) >> (c & 31)) as u32),
    narrow!(0x217, "v_alignbyte_b32", u32 = |a: u32, b: u32, c: u32| (join(a, b) >> (8 * (c & 3))) as u32),
    narrow!(0x21a, "v_min3_i32", i32 = |a: i32, b: i32, c: i32| a.min(b).min(c)),
    narrow!(0x21b, "v_min3_u32", u32 = |a: u32, b: u32, c: u32| a.min(b).min(c)),
    narrow!(0x21d, "v_max3_i32", i32 = |a: i32, b: i32, c: i32| a.max(b).max(c)),
    narrow!(0x21e, "v_max3_u32", u32 = |a: u32, b: u32, c: u32| a.max(b).max(c)),
    narrow!(0x220, "v_med3_i32", i32 = |a: i32, b: i32, c: i32| middle(a, b, c)),
    narrow!(0x221, "v_med3_u32", u32 = |a: u32, b: u32, c: u32| middle(a, b, c)),
    narrow!(0x222, "v_sad_u8", u32 = |a: u32, b: u32, c: u32| c.wrapping_add(differences(a, b))),
    narrow!(0x223, "v_sad_hi_u8", u32 = |a: u32, b: u32, c: u32| c.wrapping_add(differences(a, b) << 16)),
    narrow!(
        0x224,
        "v_sad_u16",
        u32 = |a: u32, b: u32, c: u32| {
            c.wrapping_add((a & 0xffff).abs_diff(b & 0xffff)).wrapping_add((a >> 16).abs_diff(b >> 16))
        }
    ),
    narrow!(0x225, "v_sad_u32", u32 = |a: u32, b: u32, c: u32| c.wrapping_add(a.abs_diff(b))),
    narrow!(
        0x239,
        "v_msad_u8",
        u32 = |a: u32, b: u32, c: u32| {
            (0..4).fold(c, |sum, i| {
                if byte(b, i) == 0 { sum } else { sum.wrapping_add(byte(a, i).abs_diff(byte(b, i))) }
            })
        }
    ),
    narrow!(0x240, "v_xor3_b32", u32 = |a: u32, b: u32, c: u32| a ^ b ^ c),
    narrow!(0x241, "v_mad_u16", u16 = |a: u16, b: u16, c: u16| a.wrapping_mul(b).wrapping_add(c)),
    narrow!(0x244, "v_perm_b32", u32 = |a: u32, b: u32, c: u32| bytes(|i| permuted(join(a, b), byte(c, i)))),
    narrow!(0x245, "v_xad_u32", u32 = |a: u32, b: u32, c: u32| (a ^ b).wrapping_add(c)),
    narrow!(0x246, "v_lshl_add_u32", u32 = |a: u32, b: u32, c: u32| (a << (b & 31)).wrapping_add(c)),
    narrow!(0x247, "v_add_lshl_u32", u32 = |a: u32, b: u32, c: u32| a.wrapping_add(b) << (c & 31)),
    narrow!(0x24a, "v_min3_i16", i16 = |a: i16, b: i16, c: i16| a.min(b).min(c)),
    narrow!(0x24b, "v_min3_u16", u16 = |a: u16, b: u16, c: u16| a.min(b).min(c)),
    narrow!(0x24d, "v_max3_i16", i16 = |a: i16, b: i16, c: i16| a.max(b).max(c)),
    narrow!(0x24e, "v_max3_u16", u16 = |a: u16, b: u16, c: u16| a.max(b).max(c)),
    narrow!(0x250, "v_med3_i16", i16 = |a: i16, b: i16, c: i16| middle(a, b, c)),
    narrow!(0x251, "v_med3_u16", u16 = |a: u16, b: u16, c: u16| middle(a, b, c)),
    narrow!(0x253, "v_mad_i16", i16 = |a: i16, b: i16, c: i16| a.wrapping_mul(b).wrapping_add(c)),
    narrow!(0x255, "v_add3_u32", u32 = |a: u32, b: u32, c: u32| a.wrapping_add(b).wrapping_add(c)),
    narrow!(0x256, "v_lshl_or_b32", u32 = |a: u32, b: u32, c: u32| a << (b & 31) | c),
    narrow!(0x257, "v_and_or_b32", u32 = |a: u32, b: u32, c: u32| a & b | c),
    narrow!(0x258, "v_or3_b32", u32 = |a: u32, b: u32, c: u32| a | b | c),
    narrow!(
        0x259,
        "v_mad_u32_u16",
        u32 = |a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c)
    ),
    narrow!(
        0x25a,
        "v_mad_i32_i16",
        i32 = |a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c)
    ),
    special!(0x25b, "v_permlane16_b32", Special::Permute(false), B32 = B32, B32, B32),
    special!(0x25c, "v_permlanex16_b32", Special::Permute(true), B32 = B32, B32, B32),
    special!(0x25d, "v_cndmask_b16", Special::Select, B16 = B16, B16),
    narrow!(0x262, "v_maxmin_u32", u32 = |a: u32, b: u32, c: u32| a.max(b).min(c)),
    narrow!(0x263, "v_minmax_u32", u32 = |a: u32, b: u32, c: u32| a.min(b).max(c)),
    narrow!(0x264, "v_maxmin_i32", i32 = |a: i32, b: i32, c: i32| a.max(b).min(c)),
    narrow!(0x265, "v_minmax_i32", i32 = |a: i32, b: i32, c: i32| a.min(b).max(c)),
    special!(0x2fe, "v_mad_u64_u32", Special::MultiplyAddWide(false), B64 = B32, B32, B64),
    special!(0x2ff, "v_mad_i64_i32", Special::MultiplyAddWide(true), B64 = B32, B32, B64),
    special!(0x300, "v_add_co_u32", Special::Carry(Carry::Add, false), B32 = B32, B32),
    special!(0x301, "v_sub_co_u32", Special::Carry(Carry::Subtract, false), B32 = B32, B32),
    special!(0x302, "v_subrev_co_u32", Special::Carry(Carry::SubtractReversed, false), B32 = B32, B32),
    narrow!(0x303, "v_add_nc_u16", u16 = |a: u16, b: u16| a.wrapping_add(b)),
    narrow!(0x304, "v_sub_nc_u16", u16 = |a: u16, b: u16| a.wrapping_sub(b)),
    narrow!(0x305, "v_mul_lo_u16", u16 = |a: u16, b: u16| a.wrapping_mul(b)),
    narrow!(0x309, "v_max_u16", u16 = |a: u16, b: u16| a.max(b)),
    narrow!(0x30a, "v_max_i16", i16 = |a: i16, b: i16| a.max(b)),
    narrow!(0x30b, "v_min_u16", u16 = |a: u16, b: u16| a.min(b)),
    narrow!(0x30c, "v_min_i16", i16 = |a: i16, b: i16| a.min(b)),
    narrow!(0x30d, "v_add_nc_i16", i16 = |a: i16, b: i16| a.wrapping_add(b)),
    narrow!(0x30e, "v_sub_nc_i16", i16 = |a: i16, b: i16| a.wrapping_sub(b)),
    narrow!(0x311, "v_pack_b32_f16", u32 = |a: u16, b: u16| u32::from(a) | u32::from(b) << 16),
    narrow!(0x31d, "v_bfm_b32", u32 = |a: u32, b: u32| ((1 << (a & 31)) - 1) << (b & 31)),
    narrow!(0x31e, "v_bcnt_u32_b32", u32 = |a: u32, b: u32| a.count_ones().wrapping_add(b)),
    special!(0x31f, "v_mbcnt_lo_u32_b32", Special::CountBelow(false), B32 = B32, B32),
    special!(0x320, "v_mbcnt_hi_u32_b32", Special::CountBelow(true), B32 = B32, B32),
    narrow!(0x323, "v_cvt_pk_u16_u32", u32 = |a: u32, b: u32| a.min(0xffff) | b.min(0xffff) << 16),
    narrow!(0x324, "v_cvt_pk_i16_i32", u32 = |a: i32, b: i32| short(a) | short(b) << 16),
    narrow!(0x325, "v_sub_nc_i32", i32 = |a: i32, b: i32| a.wrapping_sub(b)),
    narrow!(0x326, "v_add_nc_i32", i32 = |a: i32, b: i32| a.wrapping_add(b)),
    narrow!(0x32c, "v_mul_lo_u32", u32 = |a: u32, b: u32| a.wrapping_mul(b)),
    narrow!(0x32d, "v_mul_hi_u32", u32 = |a: u32, b: u32| ((u64::from(a) * u64::from(b)) >> 32) as u32),
    narrow!(0x32e, "v_mul_hi_i32", i32 = |a: i32, b: i32| ((i64::from(a) * i64::from(b)) >> 32) as i32),
    narrow!(0x338, "v_lshlrev_b16", u16 = |a: u16, b: u16| b << (a & 15)),
    narrow!(0x339, "v_lshrrev_b16", u16 = |a: u16, b: u16| b >> (a & 15)),
    narrow!(0x33a, "v_ashrrev_i16", i16 = |a: u16, b: i16| b >> (a & 15)),
    wide!(0x33c, "v_lshlrev_b64", u64 = |a: u32, b: u64| b << (a & 63)),
    wide!(0x33d, "v_lshrrev_b64", u64 = |a: u32, b: u64| b >> (a & 63)),
    wide!(0x33e, "v_ashrrev_i64", i64 = |a: u32, b: i64| b >> (a & 63)),
    special!(0x360, "v_readlane_b32", Special::ReadLane, B32 = B32, B32),
    special!(0x361, "v_writelane_b32", Special::WriteLane, B32 = B32, B32),
    narrow!(0x362, "v_and_b16", u16 = |a: u16, b: u16| a & b),
    narrow!(0x363, "v_or_b16", u16 = |a: u16, b: u16| a | b),
    narrow!(0x364, "v_xor_b16", u16 = |a: u16, b: u16| a ^ b),
];

/// What the clamp bit makes of integer operations: (mnemonic, as an operation of its own).
pub(crate) static SATURATING: &[Entry] = &[
    narrow!(0, "v_add_nc_u32", u32 = |a: u32, b: u32| a.saturating_add(b)),
    narrow!(0, "v_sub_nc_u32", u32 = |a: u32, b: u32| a.saturating_sub(b)),
    narrow!(0, "v_subrev_nc_u32", u32 = |a: u32, b: u32| b.saturating_sub(a)),
    narrow!(0, "v_add_nc_i32", i32 = |a: i32, b: i32| a.saturating_add(b)),
    narrow!(0, "v_sub_nc_i32", i32 = |a: i32, b: i32| a.saturating_sub(b)),
    narrow!(0, "v_add_nc_u16", u16 = |a: u16, b: u16| a.saturating_add(b)),
    narrow!(0, "v_sub_nc_u16", u16 = |a: u16, b: u16| a.saturating_sub(b)),
    narrow!(0, "v_add_nc_i16", i16 = |a: i16, b: i16| a.saturating_add(b)),
    narrow!(0, "v_sub_nc_i16", i16 = |a: i16, b: i16| a.saturating_sub(b)),
    narrow!(0, "v_pk_add_u16", u16 = |a: u16, b: u16| a.saturating_add(b)),
    narrow!(0, "v_pk_sub_u16", u16 = |a: u16, b: u16| a.saturating_sub(b)),
    narrow!(0, "v_pk_add_i16", i16 = |a: i16, b: i16| a.saturating_add(b)),
    narrow!(0, "v_pk_sub_i16", i16 = |a: i16, b: i16| a.saturating_sub(b)),
    narrow!(
        0,
        "v_mad_u32_u24",
        u32 = |a: u32, b: u32, c: u32| {
            let sum = u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff) + u64::from(c);
            sum.min(u64::from(u32::MAX)) as u32
        }
    ),
];

fn signed_field(value: i32, offset: u32, width: u32) -> i32 {
    if width == 0 {
        return 0;
    }
    // Where the field reaches past the top, the sign is the value's.
    let field = value >> offset;
    if offset + width >= 32 { field } else { field << (32 - width) >> (32 - width) }
}

fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn byte(value: u32, index: u32) -> u32 {
    value >> (8 * index) & 0xff
}

fn bytes(of: impl Fn(u32) -> u32) -> u32 {
    (0..4).fold(0, |all, index| all | (of(index) & 0xff) << (8 * index))
}

fn differences(a: u32, b: u32) -> u32 {
    (0..4).map(|index| byte(a, index).abs_diff(byte(b, index))).sum()
}

fn permuted(data: u64, selector: u32) -> u32 {
    match selector {
        0..=7 => (data >> (8 * selector)) as u32 & 0xff,
        // The sign of one of the four halves.
        8..=11 => (data >> (16 * (selector - 8) + 15)) as u32 % 2 * 0xff,
        12 => 0,
        _ => 0xff,
    }
}

fn short(value: i32) -> u32 {
    value.clamp(-32768, 32767) as u32 & 0xffff
}
