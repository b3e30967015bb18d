// Functions that the hardware approximates, divisions, conversions, rounding. Each work-item writes a row of results.
#include "common.h"

struct Math {
    const float *a;
    const float *b;
    float *out;
};

KERNEL(64) approximate(Math arguments) {
    u32 index = group() * 64 + item();
    float a = arguments.a[index], b = arguments.b[index];
    float *out = arguments.out + index * 8;
    out[0] = __builtin_amdgcn_exp2f(a);
    out[1] = __builtin_amdgcn_logf(b);
    out[2] = __builtin_amdgcn_rcpf(a);
    out[3] = __builtin_amdgcn_rsqf(b);
    out[4] = __builtin_amdgcn_sqrtf(b);
    out[5] = __builtin_amdgcn_sinf(a);
    out[6] = __builtin_amdgcn_cosf(a);
    out[7] = __builtin_amdgcn_fractf(a);
}

// These are exact: division and roots are refined to the nearest number.
KERNEL(64) exact(Math arguments) {
    u32 index = group() * 64 + item();
    float a = arguments.a[index], b = arguments.b[index];
    float *out = arguments.out + index * 16;
    out[0] = a / b;
    out[1] = b / a;
    out[2] = __builtin_sqrtf(b);
    out[3] = __builtin_floorf(a) + __builtin_ceilf(b);
    out[4] = __builtin_truncf(a);
    out[5] = __builtin_rintf(a);
    out[6] = (float)((double)a / (double)b);
    out[7] = (float)((double)a * b + __builtin_sqrt((double)b));
    out[8] = __builtin_ldexpf(a, (int)b);
    out[9] = (float)(i32)a + (float)(u32)b;
    out[10] = __builtin_fminf(a, b) - __builtin_fmaxf(a, 0.5f);
    out[11] = __builtin_amdgcn_fmed3f(a, b, 1.0f);
    out[12] = __builtin_amdgcn_frexp_mantf(a);
    out[13] = (float)__builtin_amdgcn_frexp_expf(a);
    out[14] = (float)((f16)a / (f16)b);
    out[15] = __builtin_copysignf(__builtin_fabsf(a) * 0.5f, -b);
}

// What a decoder computes: the activation of a gate, and a softmax over a wave's values.
KERNEL(32) gate_and_softmax(Math arguments) {
    u32 index = group() * 32 + item();
    float x = arguments.a[index];
    float inner = 0.7978845608f * (x + 0.044715f * x * x * x);
    float power = __builtin_amdgcn_exp2f(2.885390082f * inner);
    float tanh = 1.0f - 2.0f * __builtin_amdgcn_rcpf(power + 1.0f);
    arguments.out[index * 2] = 0.5f * x * (1.0f + tanh);
    float most = x;
    for (u32 distance = 16; distance > 0; distance /= 2) {
        i32 other = __builtin_amdgcn_ds_bpermute((item() ^ distance) * 4, __builtin_bit_cast(i32, most));
        most = __builtin_fmaxf(most, __builtin_bit_cast(float, other));
    }
    float weight = __builtin_amdgcn_exp2f((x - most) * 1.442695041f), sum = weight;
    for (u32 distance = 16; distance > 0; distance /= 2) {
        i32 other = __builtin_amdgcn_ds_bpermute((item() ^ distance) * 4, __builtin_bit_cast(i32, sum));
        sum += __builtin_bit_cast(float, other);
    }
    arguments.out[index * 2 + 1] = weight / sum;
}

// Conversions between widths, saturated and not.
KERNEL(64) conversions(Math arguments) {
    u32 index = group() * 64 + item();
    float a = arguments.a[index], b = arguments.b[index];
    u32 *out = (u32 *)arguments.out + index * 8;
    out[0] = __builtin_bit_cast(u32, __builtin_amdgcn_cvt_pkrtz(a, b));
    out[1] = __builtin_bit_cast(u32, f16x2_((f16)a, (f16)b));
    out[2] = (u32)(i64)__builtin_truncf(a * 65536.0f);
    out[3] = __builtin_amdgcn_cvt_pk_u8_f32(a, 1, __builtin_amdgcn_cvt_pk_u8_f32(b, 3, 0x11223344));
    out[4] = __builtin_bit_cast(u32, (float)(u8)(i32)a + (float)((u32)(i32)b >> 8 & 255));
    out[5] = __builtin_bit_cast(u32, (float)((__builtin_bit_cast(u32, a) >> 16) & 255));
    out[6] = (u32)(i32)(f16)a;
    out[7] = __builtin_amdgcn_perm(__builtin_bit_cast(u32, a), __builtin_bit_cast(u32, b), 0x0c070200);
}
