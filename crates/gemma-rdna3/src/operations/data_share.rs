//! Operations on the local data share (DS).

use super::global::{
    Access, Atomic, Fill, add, add_f32, and, decrement, increment, maximum, maximum_f32, maximum_i32,
    maximum_i64, minimum, minimum_f32, minimum_i32, minimum_i64, or, subtract, subtract_reversed, swap, xor,
};

/// What a DS instruction does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Share {
    /// One access a lane; whether an atomic operation gives what was there.
    One(Access, bool),
    /// Two loads of so many bytes, and what the offsets count in.
    LoadTwo(u8, u32),
    /// Two stores of so many bytes, and what the offsets count in.
    StoreTwo(u8, u32),
    /// Each lane reads another lane's register.
    Gather,
    /// Each lane writes another lane's register.
    Scatter,
    /// Lanes by a pattern in the offset.
    Swizzle,
}

const fn plain(bytes: u8, function: fn(u64, u64) -> u64) -> Share {
    Share::One(Access::Atomic(bytes, Atomic::Apply(function)), false)
}

const fn giving(bytes: u8, function: fn(u64, u64) -> u64) -> Share {
    Share::One(Access::Atomic(bytes, Atomic::Apply(function)), true)
}

const fn load(bytes: u8, fill: Fill) -> Share {
    Share::One(Access::Load(bytes, fill), false)
}

const fn store(bytes: u8, high: bool) -> Share {
    Share::One(Access::Store(bytes, high), false)
}

const fn half(high: bool, sign: bool) -> Fill {
    Fill::Half { high, sign }
}

/// By number.
pub(crate) static TABLE: &[(u32, &str, Share)] = &[
    (0x00, "ds_add_u32", plain(4, add)),
    (0x01, "ds_sub_u32", plain(4, subtract)),
    (0x02, "ds_rsub_u32", plain(4, subtract_reversed)),
    (0x03, "ds_inc_u32", plain(4, increment)),
    (0x04, "ds_dec_u32", plain(4, decrement)),
    (0x05, "ds_min_i32", plain(4, minimum_i32)),
    (0x06, "ds_max_i32", plain(4, maximum_i32)),
    (0x07, "ds_min_u32", plain(4, minimum)),
    (0x08, "ds_max_u32", plain(4, maximum)),
    (0x09, "ds_and_b32", plain(4, and)),
    (0x0a, "ds_or_b32", plain(4, or)),
    (0x0b, "ds_xor_b32", plain(4, xor)),
    (0x0d, "ds_store_b32", store(4, false)),
    (0x0e, "ds_store_2addr_b32", Share::StoreTwo(4, 4)),
    (0x0f, "ds_store_2addr_stride64_b32", Share::StoreTwo(4, 256)),
    (0x10, "ds_cmpstore_b32", Share::One(Access::Atomic(4, Atomic::CompareSwap), false)),
    (0x12, "ds_min_f32", plain(4, minimum_f32)),
    (0x13, "ds_max_f32", plain(4, maximum_f32)),
    (0x15, "ds_add_f32", plain(4, add_f32)),
    (0x1e, "ds_store_b8", store(1, false)),
    (0x1f, "ds_store_b16", store(2, false)),
    (0x20, "ds_add_rtn_u32", giving(4, add)),
    (0x21, "ds_sub_rtn_u32", giving(4, subtract)),
    (0x22, "ds_rsub_rtn_u32", giving(4, subtract_reversed)),
    (0x23, "ds_inc_rtn_u32", giving(4, increment)),
    (0x24, "ds_dec_rtn_u32", giving(4, decrement)),
    (0x25, "ds_min_rtn_i32", giving(4, minimum_i32)),
    (0x26, "ds_max_rtn_i32", giving(4, maximum_i32)),
    (0x27, "ds_min_rtn_u32", giving(4, minimum)),
    (0x28, "ds_max_rtn_u32", giving(4, maximum)),
    (0x29, "ds_and_rtn_b32", giving(4, and)),
    (0x2a, "ds_or_rtn_b32", giving(4, or)),
    (0x2b, "ds_xor_rtn_b32", giving(4, xor)),
    (0x2d, "ds_storexchg_rtn_b32", giving(4, swap)),
    (0x30, "ds_cmpstore_rtn_b32", Share::One(Access::Atomic(4, Atomic::CompareSwap), true)),
    (0x32, "ds_min_rtn_f32", giving(4, minimum_f32)),
    (0x33, "ds_max_rtn_f32", giving(4, maximum_f32)),
    (0x35, "ds_swizzle_b32", Share::Swizzle),
    (0x36, "ds_load_b32", load(4, Fill::Zeros)),
    (0x37, "ds_load_2addr_b32", Share::LoadTwo(4, 4)),
    (0x38, "ds_load_2addr_stride64_b32", Share::LoadTwo(4, 256)),
    (0x39, "ds_load_i8", load(1, Fill::Sign)),
    (0x3a, "ds_load_u8", load(1, Fill::Zeros)),
    (0x3b, "ds_load_i16", load(2, Fill::Sign)),
    (0x3c, "ds_load_u16", load(2, Fill::Zeros)),
    (0x40, "ds_add_u64", plain(8, add)),
    (0x41, "ds_sub_u64", plain(8, subtract)),
    (0x45, "ds_min_i64", plain(8, minimum_i64)),
    (0x46, "ds_max_i64", plain(8, maximum_i64)),
    (0x47, "ds_min_u64", plain(8, minimum)),
    (0x48, "ds_max_u64", plain(8, maximum)),
    (0x49, "ds_and_b64", plain(8, and)),
    (0x4a, "ds_or_b64", plain(8, or)),
    (0x4b, "ds_xor_b64", plain(8, xor)),
    (0x4d, "ds_store_b64", store(8, false)),
    (0x4e, "ds_store_2addr_b64", Share::StoreTwo(8, 8)),
    (0x4f, "ds_store_2addr_stride64_b64", Share::StoreTwo(8, 512)),
    (0x50, "ds_cmpstore_b64", Share::One(Access::Atomic(8, Atomic::CompareSwap), false)),
    (0x60, "ds_add_rtn_u64", giving(8, add)),
    (0x61, "ds_sub_rtn_u64", giving(8, subtract)),
    (0x65, "ds_min_rtn_i64", giving(8, minimum_i64)),
    (0x66, "ds_max_rtn_i64", giving(8, maximum_i64)),
    (0x67, "ds_min_rtn_u64", giving(8, minimum)),
    (0x68, "ds_max_rtn_u64", giving(8, maximum)),
    (0x69, "ds_and_rtn_b64", giving(8, and)),
    (0x6a, "ds_or_rtn_b64", giving(8, or)),
    (0x6b, "ds_xor_rtn_b64", giving(8, xor)),
    (0x6d, "ds_storexchg_rtn_b64", giving(8, swap)),
    (0x70, "ds_cmpstore_rtn_b64", Share::One(Access::Atomic(8, Atomic::CompareSwap), true)),
    (0x76, "ds_load_b64", load(8, Fill::Zeros)),
    (0x77, "ds_load_2addr_b64", Share::LoadTwo(8, 8)),
    (0x78, "ds_load_2addr_stride64_b64", Share::LoadTwo(8, 512)),
    (0x79, "ds_add_rtn_f32", giving(4, add_f32)),
    (0xa0, "ds_store_b8_d16_hi", store(1, true)),
    (0xa1, "ds_store_b16_d16_hi", store(2, true)),
    (0xa2, "ds_load_u8_d16", load(1, half(false, false))),
    (0xa3, "ds_load_u8_d16_hi", load(1, half(true, false))),
    (0xa4, "ds_load_i8_d16", load(1, half(false, true))),
    (0xa5, "ds_load_i8_d16_hi", load(1, half(true, true))),
    (0xa6, "ds_load_u16_d16", load(2, half(false, false))),
    (0xa7, "ds_load_u16_d16_hi", load(2, half(true, false))),
    (0xb2, "ds_permute_b32", Share::Scatter),
    (0xb3, "ds_bpermute_b32", Share::Gather),
    (0xde, "ds_store_b96", store(12, false)),
    (0xdf, "ds_store_b128", store(16, false)),
    (0xfe, "ds_load_b96", load(12, Fill::Zeros)),
    (0xff, "ds_load_b128", load(16, Fill::Zeros)),
];
