//! Forms of instructions that compilers rarely write: each row is a line of assembly and what it does to 32 lanes.
//!
//! `%0` is the result, which starts as `d`; `%1` to `%3` are vector registers, `%4` and `%5` scalar ones; `s8` to `s11`,
//! `v60` to `v67` and `vcc_lo` are free.

use std::fmt::Write as _;

use gemma_rdna3::{CodeObject, Memory, Options, launch};
use half::f16;

use crate::common::{Random, compile_with, folder, read, words};

/// Values of the registers.
struct Row {
    a: [u32; 32],
    b: [u32; 32],
    c: [u32; 32],
    d: [u32; 32],
    s: u32,
    t: u32,
}

type Expected = fn(&Row) -> [u32; 32];

macro_rules! each {
    (|$row:ident, $a:ident, $b:ident, $c:ident, $d:ident| $value:expr) => {
        |$row: &Row| {
            std::array::from_fn(|lane| {
                let ($a, $b, $c, $d) = ($row.a[lane], $row.b[lane], $row.c[lane], $row.d[lane]);
                let _ = ($a, $b, $c, $d);
                $value
            })
        }
    };
}

/// A row by lane number.
macro_rules! lanes {
    (|$row:ident, $lane:ident| $value:expr) => {
        |$row: &Row| std::array::from_fn(|$lane| $value)
    };
}

fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

fn h(bits: u32) -> f16 {
    f16::from_bits(bits as u16)
}

fn half(value: f16) -> u32 {
    u32::from(value.to_bits())
}

fn pair(low: f16, high: f16) -> u32 {
    half(low) | half(high) << 16
}

fn fused(a: f16, b: f16, c: f16) -> f16 {
    f16::from_f64(a.to_f64() * b.to_f64() + c.to_f64())
}

/// Floats: magnitudes near one in singles and in both halves, so that sums differ in every bit.
///
/// LLVM 19 does not write halves of registers everywhere. Such rows are words, of the registers v60 to v62: v_add_f16 in
/// both encodings, v_cvt_f32_f16, v_cvt_f16_f32 and v_mov_b16.
const FLOATS: [(&str, Expected); 35] = [
    ("FIXED .long 0x64797dbd", each!(|r, a, b, c, d| d & 0xffff_0000 | half(h(a >> 16) + h(b >> 16)))),
    ("FIXED .long 0x7f78393d", each!(|r, a, b, c, d| d & 0xffff | a << 16)),
    ("v_add_f32_e64 %0, -|%1|, %2", each!(|r, a, b, c, d| (f(b) - f(a).abs()).to_bits())),
    ("v_mul_f32_e64 %0, %1, %2 mul:2", each!(|r, a, b, c, d| (f(a) * f(b) * 2.0).to_bits())),
    ("v_sub_f32_e64 %0, %1, %2 div:2", each!(|r, a, b, c, d| ((f(a) - f(b)) * 0.5).to_bits())),
    ("v_add_f32_e64 %0, %1, %2 clamp", each!(|r, a, b, c, d| (f(a) + f(b)).clamp(0.0, 1.0).to_bits())),
    ("v_fma_f32 %0, -%1, %2, |%3|", each!(|r, a, b, c, d| (-f(a)).mul_add(f(b), f(c).abs()).to_bits())),
    ("v_fmac_f32 %0, %1, %2", each!(|r, a, b, c, d| f(a).mul_add(f(b), f(d)).to_bits())),
    ("v_fmac_f32_e64 %0, |%1|, -%2", each!(|r, a, b, c, d| f(a).abs().mul_add(-f(b), f(d)).to_bits())),
    (
        "v_fmaak_f32 %0, %1, %2, 0x40490fdb",
        each!(|r, a, b, c, d| f(a).mul_add(f(b), f(0x4049_0fdb)).to_bits()),
    ),
    (
        "v_fmamk_f32 %0, %1, 0x40490fdb, %2",
        each!(|r, a, b, c, d| f(a).mul_add(f(0x4049_0fdb), f(b)).to_bits()),
    ),
    ("v_add_f32 %0, 0x3dcccccd, %1", each!(|r, a, b, c, d| (f(a) + 0.1).to_bits())),
    ("v_mul_f32 %0, 0.15915494, %1", each!(|r, a, b, c, d| (f(a) * f(0x3e22_f983)).to_bits())),
    ("v_subrev_f32 %0, %1, %2", each!(|r, a, b, c, d| (f(b) - f(a)).to_bits())),
    ("FIXED .long 0xd532083c, 0x00027d3d", each!(|r, a, b, c, d| d & 0xffff_0000 | half(h(a >> 16) + h(b)))),
    ("FIXED .long 0xd532503c, 0x20027d3d", each!(|r, a, b, c, d| d & 0xffff | half(h(b >> 16) - h(a)) << 16)),
    (
        "v_fma_f16 %0, %1, %2, -%3 op_sel:[1,1,1,1]",
        each!(|r, a, b, c, d| d & 0xffff | half(fused(h(a >> 16), h(b >> 16), -h(c >> 16))) << 16),
    ),
    ("v_fmac_f16_e64 %0, %1, %2", each!(|r, a, b, c, d| d & 0xffff_0000 | half(fused(h(a), h(b), h(d))))),
    ("v_mul_f16 %0, 0.5, %1", each!(|r, a, b, c, d| d & 0xffff_0000 | half(h(a) * f16::from_f32(0.5)))),
    ("FIXED .long 0xd58b083c, 0x0000013d", each!(|r, a, b, c, d| h(a >> 16).to_f32().to_bits())),
    (
        "FIXED .long 0xd58a403c, 0x2000013d",
        each!(|r, a, b, c, d| d & 0xffff | half(f16::from_f32(-f(a))) << 16),
    ),
    ("v_pack_b32_f16 %0, %1, %2 op_sel:[1,0,0]", each!(|r, a, b, c, d| a >> 16 | b << 16)),
    (
        "v_fma_mix_f32 %0, %1, -%2, |%3| op_sel:[1,0,0] op_sel_hi:[1,1,0]",
        each!(|r, a, b, c, d| h(a >> 16).to_f32().mul_add(-h(b).to_f32(), f(c).abs()).to_bits()),
    ),
    (
        "v_fma_mixlo_f16 %0, %1, %2, %3 op_sel:[0,1,0] op_sel_hi:[0,1,1]",
        each!(|r, a, b, c, d| {
            d & 0xffff_0000 | half(f16::from_f32(f(a).mul_add(h(b >> 16).to_f32(), h(c).to_f32())))
        }),
    ),
    (
        "v_fma_mixhi_f16 %0, %1, %2, 1.0 op_sel_hi:[1,0,0] clamp",
        each!(|r, a, b, c, d| {
            d & 0xffff | half(f16::from_f32(h(a).to_f32().mul_add(f(b), 1.0).clamp(0.0, 1.0))) << 16
        }),
    ),
    (
        "v_pk_add_f16 %0, %1, %2 op_sel:[1,0] op_sel_hi:[0,1]",
        each!(|r, a, b, c, d| pair(h(a >> 16) + h(b), h(a) + h(b >> 16))),
    ),
    (
        "v_pk_mul_f16 %0, %1, %2 neg_lo:[1,0] neg_hi:[0,1]",
        each!(|r, a, b, c, d| pair(-h(a) * h(b), h(a >> 16) * -h(b >> 16))),
    ),
    (
        "v_pk_fma_f16 %0, %1, %2, %3 op_sel_hi:[1,0,1]",
        each!(|r, a, b, c, d| pair(fused(h(a), h(b), h(c)), fused(h(a >> 16), h(b), h(c >> 16)))),
    ),
    (
        "v_pk_add_f16 %0, %1, 1.0 op_sel_hi:[1,0]",
        each!(|r, a, b, c, d| pair(h(a) + f16::ONE, h(a >> 16) + f16::ONE)),
    ),
    (
        "v_pk_fmac_f16 %0, %1, %2",
        each!(|r, a, b, c, d| pair(fused(h(a), h(b), h(d)), fused(h(a >> 16), h(b >> 16), h(d >> 16)))),
    ),
    ("v_pk_max_f16 %0, %1, %2", each!(|r, a, b, c, d| pair(h(a).max(h(b)), h(a >> 16).max(h(b >> 16))))),
    ("v_min3_f32 %0, %1, %2, -%3", each!(|r, a, b, c, d| f(a).min(f(b)).min(-f(c)).to_bits())),
    ("v_maxmin_f32 %0, %1, %2, %3", each!(|r, a, b, c, d| f(a).max(f(b)).min(f(c)).to_bits())),
    (
        "v_cmp_class_f32_e64 s8, %1, 0x108\nv_cndmask_b32_e64 %0, 0, -%2, s8",
        each!(|r, a, b, c, d| {
            // Every number is a normal one of either sign.
            b ^ 1 << 31
        }),
    ),
    (
        "v_mov_b32 v60, %1\nv_mov_b32 v61, %2\nv_mov_b32 v63, %3\nv_dual_mul_f32 v60, v60, v61 :: v_dual_fmac_f32 v63, v61, v60\nv_xor_b32 %0, v60, v63",
        each!(|r, a, b, c, d| (f(a) * f(b)).to_bits() ^ f(b).mul_add(f(a), f(c)).to_bits()),
    ),
];

const INTEGERS: [(&str, Expected); 36] = [
    ("v_add_nc_u32_e64 %0, %1, %2 clamp", each!(|r, a, b, c, d| a.saturating_add(b))),
    ("v_sub_nc_i32 %0, %1, %2 clamp", each!(|r, a, b, c, d| (a as i32).saturating_sub(b as i32) as u32)),
    (
        "v_sub_nc_u16 %0, %1, %2 op_sel:[1,0,1] clamp",
        each!(|r, a, b, c, d| d & 0xffff | u32::from(((a >> 16) as u16).saturating_sub(b as u16)) << 16),
    ),
    (
        "v_pk_sub_u16 %0, %1, %2 clamp",
        each!(|r, a, b, c, d| {
            let half = |shift: u32| u32::from(((a >> shift) as u16).saturating_sub((b >> shift) as u16));
            half(0) | half(16) << 16
        }),
    ),
    (
        "v_pk_lshlrev_b16 %0, 3, %1 op_sel_hi:[0,1]",
        each!(|r, a, b, c, d| (a << 3) & 0xfff8 | (a >> 16) << 19),
    ),
    (
        "v_mad_u16 %0, %1, %2, %3 op_sel:[0,1,0,1]",
        each!(|r, a, b, c, d| d & 0xffff | (a.wrapping_mul(b >> 16).wrapping_add(c)) << 16),
    ),
    (
        "v_mad_u32_u24 %0, %1, %2, -16",
        each!(|r, a, b, c, d| (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff).wrapping_sub(16)),
    ),
    (
        "v_mul_hi_i32_i24 %0, %1, %2",
        each!(|r, a, b, c, d| {
            ((i64::from((a << 8) as i32 >> 8) * i64::from((b << 8) as i32 >> 8)) >> 32) as u32
        }),
    ),
    (
        "v_med3_i32 %0, %1, %2, %3",
        each!(|r, a, b, c, d| {
            let mut three = [a as i32, b as i32, c as i32];
            three.sort_unstable();
            three[1] as u32
        }),
    ),
    (
        "v_sad_u16 %0, %1, %2, %3",
        each!(|r, a, b, c, d| {
            c.wrapping_add((a & 0xffff).abs_diff(b & 0xffff)).wrapping_add((a >> 16).abs_diff(b >> 16))
        }),
    ),
    ("v_bfm_b32 %0, %1, %2", each!(|r, a, b, c, d| ((1 << (a & 31)) - 1) << (b & 31))),
    (
        "v_cls_i32 %0, %1",
        each!(|r, a, b, c, d| {
            let sign = a >> 31;
            (0..32).take_while(|bit| a >> (31 - bit) & 1 == sign).count() as u32
        }),
    ),
    ("v_cvt_off_f32_i4 %0, %1", each!(|r, a, b, c, d| (((a << 28) as i32 >> 28) as f32 / 16.0).to_bits())),
    ("v_cvt_pk_u16_u32 %0, %1, %2", each!(|r, a, b, c, d| a.min(65535) | b.min(65535) << 16)),
    (
        "v_add_co_u32 v60, vcc_lo, %1, %2\nv_add_co_ci_u32 %0, vcc_lo, %3, v60, vcc_lo",
        each!(|r, a, b, c, d| {
            let (sum, carry) = a.overflowing_add(b);
            c.wrapping_add(sum).wrapping_add(u32::from(carry))
        }),
    ),
    (
        "v_sub_co_u32 v60, s8, %1, %2\nv_subrev_co_ci_u32_e64 %0, s9, %3, v60, s8",
        each!(|r, a, b, c, d| {
            let (difference, borrow) = a.overflowing_sub(b);
            difference.wrapping_sub(c).wrapping_sub(u32::from(borrow))
        }),
    ),
    (
        "v_cmp_lt_i32_e64 s8, %1, %2\nv_cndmask_b32_e64 %0, %2, %1, s8",
        each!(|r, a, b, c, d| (a as i32).min(b as i32) as u32),
    ),
    (
        "v_mov_b32 v60, %1\nv_mov_b32 v61, %2\nv_swap_b32 v60, v61\nv_sub_nc_u32 %0, v60, v61",
        each!(|r, a, b, c, d| b.wrapping_sub(a)),
    ),
    (
        "s_mov_b32 s8, exec_lo\ns_mov_b32 exec_lo, %4\nv_mov_b32 %0, %1\ns_mov_b32 exec_lo, s8",
        lanes!(|r, lane| { if r.s >> lane & 1 != 0 { r.a[lane] } else { r.d[lane] } }),
    ),
    (
        "s_mov_b32 s8, exec_lo\nv_cmpx_gt_u32 %1, %2\nv_mov_b32 %0, %3\ns_mov_b32 exec_lo, s8",
        each!(|r, a, b, c, d| if a > b { c } else { d }),
    ),
    (
        "s_or_saveexec_b32 s8, %4\ns_and_not1_saveexec_b32 s9, %4\nv_mov_b32 %0, %1\ns_mov_b32 exec_lo, s8",
        lanes!(|r, lane| {
            // All lanes in the second source, none of the first in it.
            if r.s & !u32::MAX >> lane & 1 != 0 { r.a[lane] } else { r.d[lane] }
        }),
    ),
    ("v_writelane_b32 %0, %4, 7", lanes!(|r, lane| if lane == 7 { r.s } else { r.d[lane] })),
    ("v_readlane_b32 s8, %1, %4\nv_mov_b32 %0, s8", lanes!(|r, _lane| r.a[r.s as usize % 32])),
    ("s_bfe_i32 s8, %4, 0x70009\nv_mov_b32 %0, s8", lanes!(|r, _lane| ((r.s << 16) as i32 >> 25) as u32)),
    (
        "s_add_u32 s8, %4, %5\ns_addc_u32 s8, %4, 0\nv_mov_b32 %0, s8",
        lanes!(|r, _lane| { r.s.wrapping_add(u32::from(r.s.overflowing_add(r.t).1)) }),
    ),
    (
        "s_absdiff_i32 s8, %4, %5\nv_mov_b32 %0, s8",
        lanes!(|r, _lane| { (r.s as i32).wrapping_sub(r.t as i32).unsigned_abs() }),
    ),
    (
        "s_cmp_lt_i32 %4, %5\ns_cselect_b32 s8, %4, %5\ns_cmovk_i32 s8, 0x1234\nv_mov_b32 %0, s8",
        lanes!(|r, _lane| { if (r.s as i32) < r.t as i32 { 0x1234 } else { r.t } }),
    ),
    (
        "s_lshl3_add_u32 s8, %4, %5\ns_addk_i32 s8, -5\ns_mulk_i32 s8, 3\nv_mov_b32 %0, s8",
        lanes!(|r, _lane| { (r.s << 3).wrapping_add(r.t).wrapping_sub(5).wrapping_mul(3) }),
    ),
    (
        "s_pack_lh_b32_b16 s8, %4, %5\ns_pack_hl_b32_b16 s8, s8, %4\nv_mov_b32 %0, s8",
        lanes!(|r, _lane| { r.t >> 16 | r.s << 16 }),
    ),
    (
        "s_mul_hi_i32 s8, %4, %5\ns_bitset1_b32 s8, 3\nv_mov_b32 %0, s8",
        lanes!(|r, _lane| { ((i64::from(r.s as i32) * i64::from(r.t as i32)) >> 32) as u32 | 8 }),
    ),
    (
        "s_bitreplicate_b64_b32 s[8:9], %4\nv_mov_b32 %0, s9",
        lanes!(|r, _lane| { (0..16).fold(0, |all, bit| all | ((r.s >> (16 + bit) & 1) * 3) << (2 * bit)) }),
    ),
    (
        "s_wqm_b32 s8, %4\ns_quadmask_b32 s9, s8\ns_lshl_b32 s9, s9, 24\ns_xor_b32 s8, s8, s9\nv_mov_b32 %0, s8",
        lanes!(|r, _lane| {
            let quads = (0..8).fold(0_u32, |all, quad| all | u32::from(r.s >> (4 * quad) & 15 != 0) << quad);
            let whole = (0..8).fold(0, |all, quad| all | ((quads >> quad & 1) * 15) << (4 * quad));
            whole ^ quads << 24
        }),
    ),
    (
        "s_bfe_u64 s[8:9], s[8:9], 0\ns_mov_b32 s8, %4\ns_mov_b32 s9, %5\ns_bfe_u64 s[10:11], s[8:9], 0x15001c\nv_mov_b32 %0, s10",
        lanes!(|r, _lane| { ((u64::from(r.t) << 32 | u64::from(r.s)) >> 28) as u32 & 0x1f_ffff }),
    ),
    (
        "s_mov_b32 s8, %4\ns_mov_b32 s9, %5\ns_ashr_i64 s[10:11], s[8:9], 20\nv_mov_b32 %0, s11",
        lanes!(|r, _lane| { (r.t as i32 >> 20) as u32 }),
    ),
    (
        "s_ctz_i32_b32 s8, %4\ns_clz_i32_u32 s9, %5\ns_bcnt0_i32_b32 s10, %4\ns_add_i32 s8, s8, s9\ns_add_i32 s8, s8, s10\nv_mov_b32 %0, s8",
        lanes!(|r, _lane| { r.s.trailing_zeros() + r.t.leading_zeros() + r.s.count_zeros() }),
    ),
    ("v_cvt_pk_norm_i16_f32 %0, 0.5, -1.0", each!(|r, a, b, c, d| 16384 | 0x8001 << 16)),
];

/// A lane of the same row.
fn row(lane: usize, within: usize) -> usize {
    lane & 16 | within & 15
}

const LANES: [(&str, Expected); 17] = [
    (
        "v_mov_b32_dpp %0, %1 quad_perm:[3,1,0,2] row_mask:0xf bank_mask:0xf",
        lanes!(|r, lane| { r.a[lane & !3 | [3, 1, 0, 2][lane & 3]] }),
    ),
    (
        "v_mov_b32_dpp %0, %1 row_shl:3 row_mask:0xf bank_mask:0xf",
        lanes!(|r, lane| { if lane & 15 < 13 { r.a[lane + 3] } else { r.d[lane] } }),
    ),
    (
        "v_mov_b32_dpp %0, %1 row_shr:5 row_mask:0xf bank_mask:0xf bound_ctrl:1",
        lanes!(|r, lane| { if lane & 15 >= 5 { r.a[lane - 5] } else { 0 } }),
    ),
    (
        "v_mov_b32_dpp %0, %1 row_ror:4 row_mask:0x2 bank_mask:0x6",
        lanes!(|r, lane| {
            if lane >= 16 && (4..12).contains(&(lane & 15)) { r.a[row(lane, lane + 12)] } else { r.d[lane] }
        }),
    ),
    (
        "v_add_nc_u32_dpp %0, %1, %2 row_mirror row_mask:0xf bank_mask:0xf",
        lanes!(|r, lane| { r.a[row(lane, 15 - (lane & 15))].wrapping_add(r.b[lane]) }),
    ),
    (
        "v_sub_nc_u32_dpp %0, %1, %2 row_half_mirror row_mask:0xf bank_mask:0xf",
        lanes!(|r, lane| { r.a[lane & !7 | (7 - (lane & 7))].wrapping_sub(r.b[lane]) }),
    ),
    (
        "v_xor_b32_dpp %0, %1, %2 row_share:9 row_mask:0xf bank_mask:0xf",
        lanes!(|r, lane| r.a[row(lane, 9)] ^ r.b[lane]),
    ),
    (
        "v_and_b32_dpp %0, %1, %2 row_xmask:6 row_mask:0xf bank_mask:0xf",
        lanes!(|r, lane| { r.a[row(lane, lane ^ 6)] & r.b[lane] }),
    ),
    (
        "v_or_b32_dpp %0, %1, %2 dpp8:[7,0,6,1,5,2,4,3]",
        lanes!(|r, lane| { r.a[lane & !7 | [7, 0, 6, 1, 5, 2, 4, 3][lane & 7]] | r.b[lane] }),
    ),
    (
        "v_add3_u32_e64_dpp %0, %1, %2, %3 row_ror:1 row_mask:0xf bank_mask:0xf",
        lanes!(|r, lane| { r.a[row(lane, lane + 15)].wrapping_add(r.b[lane]).wrapping_add(r.c[lane]) }),
    ),
    (
        "s_mov_b32 s8, exec_lo\ns_mov_b32 exec_lo, 0x55555555\nv_mov_b32_dpp %0, %1 row_ror:1 row_mask:0xf bank_mask:0xf\ns_mov_b32 exec_lo, s8",
        lanes!(|r, lane| {
            // The lanes that would be read take no part.
            r.d[lane]
        }),
    ),
    (
        "s_mov_b32 s8, exec_lo\ns_mov_b32 exec_lo, 0x55555555\nv_mov_b32_dpp %0, %1 row_ror:1 row_mask:0xf bank_mask:0xf fi:1\ns_mov_b32 exec_lo, s8",
        lanes!(|r, lane| { if lane % 2 == 0 { r.a[row(lane, lane + 15)] } else { r.d[lane] } }),
    ),
    (
        "v_permlane16_b32 %0, %1, %4, %5",
        lanes!(|r, lane| {
            let select = u64::from(r.t) << 32 | u64::from(r.s);
            r.a[row(lane, (select >> (4 * (lane & 15))) as usize)]
        }),
    ),
    (
        "v_permlanex16_b32 %0, %1, %4, %5 op_sel:[1,0]",
        lanes!(|r, lane| {
            let select = u64::from(r.t) << 32 | u64::from(r.s);
            r.a[row(lane, (select >> (4 * (lane & 15))) as usize) ^ 16]
        }),
    ),
    (
        "ds_swizzle_b32 %0, %1 offset:swizzle(BROADCAST,8,5)\ns_waitcnt lgkmcnt(0)",
        lanes!(|r, lane| r.a[lane & !7 | 5]),
    ),
    (
        "ds_swizzle_b32 %0, %1 offset:swizzle(REVERSE,16)\ns_waitcnt lgkmcnt(0)",
        lanes!(|r, lane| r.a[lane ^ 15]),
    ),
    (
        "v_mbcnt_lo_u32_b32 v60, %4, 5\nv_mbcnt_hi_u32_b32 %0, -1, v60",
        lanes!(|r, lane| { 5 + (r.s & ((1 << lane) - 1)).count_ones() }),
    ),
];

/// The source with a kernel for each row.
fn source(rows: &[(&str, Expected)]) -> String {
    let mut source = "#include \"common.h\"\nstruct Rows { const u32 *in; u32 *out; };\n".to_owned();
    for (index, (text, _)) in rows.iter().enumerate() {
        let text = match text.strip_prefix("FIXED ") {
            Some(text) => {
                format!("v_mov_b32 v60, %0\nv_mov_b32 v61, %1\nv_mov_b32 v62, %2\n{text}\nv_mov_b32 %0, v60")
            }
            None => (*text).to_owned(),
        };
        let text = text.replace('\n', "\\n");
        writeln!(
            source,
            "KERNEL(32) row_{index}(Rows rows) {{ const u32 *in = rows.in; u32 a = in[item()], b = in[32 + item()], \
             c = in[64 + item()], d = in[96 + item()]; u32 s = in[128], t = in[129]; \
             asm volatile(\"{text}\" : \"+&v\"(d) : \"v\"(a), \"v\"(b), \"v\"(c), \"s\"(s), \"s\"(t) : \
             \"s8\", \"s9\", \"s10\", \"s11\", \"v60\", \"v61\", \"v62\", \"v63\", \"vcc\"); rows.out[item()] = d; }}"
        )
        .expect("text grows");
    }
    source
}

fn check(rows: &[(&str, Expected)], value: impl Fn(&mut Random) -> u32) {
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("rows.hip");
    std::fs::write(&file, source(rows)).expect("the source is written");
    let include = format!("-I{}", folder().display());
    let bytes = compile_with(&file, "gfx1103", "-O3", &[&include]);
    let object = CodeObject::parse(&bytes).expect("the object is read");
    for (index, (text, expected)) in rows.iter().enumerate() {
        let kernel = object.kernel(&format!("row_{index}")).expect("the kernel");
        for seed in 0..3 {
            let mut random = Random(seed);
            let mut lanes = || std::array::from_fn(|_| value(&mut random));
            let (a, b, c, d): ([u32; 32], [u32; 32], _, _) = (lanes(), lanes(), lanes(), lanes());
            let (s, t) = (random.bits() as u32, random.bits() as u32);
            let row = Row { a, b, c, d, s, t };
            let values: Vec<i32> =
                [a, b, c, d].concat().into_iter().chain([s, t]).map(|word| word as i32).collect();
            let mut memory = Memory::new();
            let (input, output) = (memory.allocate_with(&words(&values)), memory.allocate(128));
            let arguments = [input.to_le_bytes(), output.to_le_bytes()].concat();
            let options = Options { seed, ..Options::default() };
            let report = launch(&object, kernel, [1; 3], [32, 1, 1], &arguments, &mut memory, &options);
            let report = report.unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(report.covered().0, report.covered().1, "{text}");
            let found = read(&memory, output, 32, u32::from_le_bytes);
            assert_eq!(
                found,
                expected(&row),
                "{text}\na {a:x?}\nb {b:x?}\nc {c:x?}\nd {d:x?}\ns {s:x} t {t:x}"
            );
        }
    }
}

#[test]
fn floats_with_modifiers() {
    // Both halves are numbers of a magnitude near one, and so is the whole.
    check(&FLOATS, |random| random.bits() as u32 & 0xbfff_bfff & !0x4000_4000 | 0x3000_3000);
}

#[test]
fn integers_and_scalars() {
    check(&INTEGERS, |random| random.bits() as u32);
}

#[test]
fn other_lanes() {
    check(&LANES, |random| random.bits() as u32);
}
