// Bytes and halves in memory and registers: loads and stores of them, packed arithmetic on 16 bits, bits moved about.
#include "common.h"

typedef short i16x2 __attribute__((ext_vector_type(2)));
typedef unsigned short u16x2 __attribute__((ext_vector_type(2)));

struct Narrow {
    const u8 *bytes;
    const u16 *shorts;
    u8 *out_bytes;
    u16 *out_shorts;
    u32 *out;
};

KERNEL(64) narrow(Narrow arguments) {
    u32 index = group() * 64 + item();
    u8 byte = arguments.bytes[index];
    i8 signed_byte = (i8)arguments.bytes[index + 1];
    u16 a = arguments.shorts[2 * index], b = arguments.shorts[2 * index + 1];
    short sa = a, sb = b;
    arguments.out_bytes[index] = byte + signed_byte;
    arguments.out_shorts[index] = (u16)(a * b + byte);
    u16 most = a > b ? a : b;
    short least = sa < sb ? sa : sb;
    u32 *out = arguments.out + index * 8;
    out[0] = (u32)(u16)(a << (b & 15)) | (u32)(u16)(sa >> (b & 15)) << 16;
    out[1] = (u32)most << 16 | (u16)least;
    out[2] = (i32)sa * sb + (i32)signed_byte;
    out[3] = (u32)a * b + byte;
    u16x2 pair = {a, b}, other = {b, byte};
    i16x2 signed_pair = {sa, sb}, signed_other = {sb, signed_byte};
    out[4] = __builtin_bit_cast(u32, (u16x2)(pair * other + pair));
    out[5] = __builtin_bit_cast(u32, __builtin_elementwise_max(signed_pair, signed_other));
    out[6] = __builtin_bit_cast(u32, __builtin_elementwise_add_sat(pair, other));
    out[7] = __builtin_bit_cast(u32, (i16x2)(signed_pair >> (i16x2)3) - signed_other);
}

struct Bits {
    const u32 *in;
    u32 *out;
};

KERNEL(64) bits(Bits arguments) {
    u32 index = group() * 64 + item();
    u32 a = arguments.in[3 * index], b = arguments.in[3 * index + 1], c = arguments.in[3 * index + 2];
    u32 *out = arguments.out + index * 8;
    out[0] = __builtin_amdgcn_alignbit(a, b, c);
    out[1] = __builtin_amdgcn_alignbyte(a, b, c);
    out[2] = __builtin_amdgcn_perm(a, b, c & 0x0f0f0f0f);
    out[3] = __builtin_amdgcn_sad_u8(a, b, c);
    out[4] = __builtin_amdgcn_ubfe(a, b & 31, c & 31) ^ (u32)__builtin_amdgcn_sbfe((i32)a, b & 31, c & 31);
    out[5] = (a & b) | (~a & c);
    out[6] = __builtin_elementwise_add_sat(a, b) ^ (u32)__builtin_elementwise_sub_sat((i32)b, (i32)c);
    out[7] = __builtin_amdgcn_lerp(a, b, c) + (a ^ b ^ c) + ((a << 5) + b) + ((a + c) << 3) + (a | b | c);
}
