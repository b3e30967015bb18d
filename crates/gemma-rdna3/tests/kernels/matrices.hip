// Products of 16 x 16 matrices by the matrix instructions, one wave. A is by rows, B by columns, C and D by rows.
#include "common.h"

struct Matrices {
    const void *a;
    const void *b;
    const void *c;
    void *d;
};

// Row or column of the lane, as the instruction wants it: the same in both halves of the wave.
__device__ inline f16x16 halves(const void *matrix) { return ((const f16x16 *)matrix)[item() % 16]; }
__device__ inline i16x16 brains(const void *matrix) { return ((const i16x16 *)matrix)[item() % 16]; }
__device__ inline u32 place(u32 part) { return (2 * part + item() / 16) * 16 + item() % 16; }

KERNEL(32) product_halves(Matrices m) {
    f32x8 sums;
    for (int part = 0; part < 8; part++) sums[part] = ((const float *)m.c)[place(part)];
    sums = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(halves(m.a), halves(m.b), sums);
    for (int part = 0; part < 8; part++) ((float *)m.d)[place(part)] = sums[part];
}

KERNEL(32) product_brains(Matrices m) {
    f32x8 sums;
    for (int part = 0; part < 8; part++) sums[part] = ((const float *)m.c)[place(part)];
    sums = __builtin_amdgcn_wmma_f32_16x16x16_bf16_w32(brains(m.a), brains(m.b), sums);
    for (int part = 0; part < 8; part++) ((float *)m.d)[place(part)] = sums[part];
}

// Sums in half precision, in the lower halves of registers, then in the upper ones.
KERNEL(32) product_to_halves(Matrices m) {
    f16x16 sums;
    for (int part = 0; part < 8; part++) {
        sums[2 * part] = ((const f16 *)m.c)[place(part)];
        sums[2 * part + 1] = ((const f16 *)m.c)[256 + place(part)];
    }
    sums = __builtin_amdgcn_wmma_f16_16x16x16_f16_w32(halves(m.a), halves(m.b), sums, false);
    sums = __builtin_amdgcn_wmma_f16_16x16x16_f16_w32(halves(m.a), halves(m.b), sums, true);
    for (int part = 0; part < 8; part++) {
        ((f16 *)m.d)[place(part)] = sums[2 * part];
        ((f16 *)m.d)[256 + place(part)] = sums[2 * part + 1];
    }
}

__device__ inline i32x4 bytes(const void *matrix) { return ((const i32x4 *)matrix)[item() % 16]; }

#define PRODUCT_BYTES(name, a_signed, b_signed, clamp)                                                              \
    KERNEL(32) name(Matrices m) {                                                                                   \
        i32x8 sums;                                                                                                 \
        for (int part = 0; part < 8; part++) sums[part] = ((const i32 *)m.c)[place(part)];                          \
        sums = __builtin_amdgcn_wmma_i32_16x16x16_iu8_w32(a_signed, bytes(m.a), b_signed, bytes(m.b), sums, clamp); \
        for (int part = 0; part < 8; part++) ((i32 *)m.d)[place(part)] = sums[part];                                \
    }

PRODUCT_BYTES(product_signed_bytes, true, true, false)
PRODUCT_BYTES(product_mixed_bytes, false, true, false)
PRODUCT_BYTES(product_limited_bytes, true, false, true)

typedef i32 i32x2 __attribute__((ext_vector_type(2)));

KERNEL(32) product_half_bytes(Matrices m) {
    i32x2 a = ((const i32x2 *)m.a)[item() % 16], b = ((const i32x2 *)m.b)[item() % 16];
    i32x8 sums = 0;
    sums = __builtin_amdgcn_wmma_i32_16x16x16_iu4_w32(true, a, false, b, sums, false);
    for (int part = 0; part < 8; part++) ((i32 *)m.d)[place(part)] = sums[part];
}

struct Gemm {
    const f16 *a;
    const f16 *b;
    float *c;
    i32 k;
};

// 32 x 32 results of four waves through local memory: A by rows and B by columns of length k, a multiple of 16.
KERNEL(128) gemm_halves(Gemm arguments) {
    __shared__ f16 a[32 * 16], b[32 * 16];
    u32 lane = item() % 32, wave = item() / 32, k = arguments.k;
    u32 top = wave / 2 * 16, left = wave % 2 * 16;
    f32x8 sums = 0;
    for (u32 start = 0; start < k; start += 16) {
        for (u32 index = item(); index < 32 * 16; index += 128) {
            a[index] = arguments.a[index / 16 * k + start + index % 16];
            b[index] = arguments.b[index / 16 * k + start + index % 16];
        }
        barrier();
        f16x16 rows = *(const f16x16 *)&a[(top + lane % 16) * 16];
        f16x16 columns = *(const f16x16 *)&b[(left + lane % 16) * 16];
        sums = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(rows, columns, sums);
        barrier();
    }
    for (u32 part = 0; part < 8; part++) {
        arguments.c[(top + 2 * part + lane / 16) * 32 + left + lane % 16] = sums[part];
    }
}
