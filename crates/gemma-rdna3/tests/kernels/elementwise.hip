// Element by element: single and half precision, mixed, integers, and packed halves.
#include "common.h"

struct Elementwise {
    const float *a;
    const float *b;
    float *c;
    i32 count;
    float factor;
};

KERNEL(64) scale_and_add(Elementwise arguments) {
    u32 index = group() * 64 + item();
    if (index < (u32)arguments.count) {
        arguments.c[index] = __builtin_fmaf(arguments.a[index], arguments.factor, arguments.b[index]);
    }
}

struct Halves {
    const f16 *a;
    const f16 *b;
    f16 *c;
    i32 count;
    float factor;
};

// Operations of which each is rounded to half precision.
KERNEL(64) halves(Halves arguments) {
    u32 index = group() * 64 + item();
    if (index < (u32)arguments.count) {
        f16 a = arguments.a[index], b = arguments.b[index];
        f16 sum = a + b;
        f16 product = sum * b;
        arguments.c[index] = product > (f16)1.0f ? product - a : __builtin_fmaf16(a, b, sum);
    }
}

// Eight halves a work-item, in registers of two.
KERNEL(64) packed_halves(Halves arguments) {
    u32 index = group() * 64 + item();
    if (index * 8 < (u32)arguments.count) {
        f16x8 a = ((const f16x8 *)arguments.a)[index];
        f16x8 b = ((const f16x8 *)arguments.b)[index];
        f16x8 factor = (f16)arguments.factor;
        ((f16x8 *)arguments.c)[index] = __builtin_elementwise_fma(b, a, a * factor) - b;
    }
}

// Halves in, single precision between, halves out.
KERNEL(64) mixed(Halves arguments) {
    u32 index = group() * 64 + item();
    if (index < (u32)arguments.count) {
        float a = arguments.a[index], b = arguments.b[index];
        arguments.c[index] = (f16)__builtin_fmaf(a, arguments.factor, b);
    }
}

struct Integers {
    const i32 *a;
    const i32 *b;
    i32 *c;
    i32 count;
};

KERNEL(64) integers(Integers arguments) {
    u32 index = group() * 64 + item();
    if (index < (u32)arguments.count) {
        i32 a = arguments.a[index], b = arguments.b[index];
        u32 ua = a, ub = b;
        u32 value = (ua << (ub & 7)) ^ (ub >> 3);
        value += __builtin_popcount(ua) + (ua ? __builtin_clz(ua) : 32) + (ub ? __builtin_ctz(ub) : 32);
        value ^= (a > b ? ua - ub : ub - ua) * 2654435761u;
        value += (u32)(((u64)ua * ub) >> 32) + (u32)(((i64)a * b) >> 32);
        value += (i8)(ua >> 8) * (u8)ub + ((ua >> 5) & 0x3ff);
        value = (value & 0xffff) | (ub << 16);
        u32 low = ua < ub ? ua : ub, high = a > b ? a : b;
        arguments.c[index] = value ^ __builtin_bitreverse32(low) ^ (high | 1);
    }
}
