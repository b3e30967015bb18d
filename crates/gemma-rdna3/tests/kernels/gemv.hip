// A matrix of bytes times a vector of bytes: a wave for each row, 16 bytes at a time, four products an instruction.
#include "common.h"

struct Gemv {
    const i8 *weights;
    const i8 *activations;
    const float *scales;
    float *out;
    i32 *sums;
    i32 rows;
    i32 columns;
};

KERNEL(128) gemv_bytes(Gemv arguments) {
    u32 row = group() * 4 + item() / 32, lane = item() % 32;
    if (row >= (u32)arguments.rows) {
        return;
    }
    const i32x4 *weights = (const i32x4 *)(arguments.weights + (u64)row * arguments.columns);
    const i32x4 *activations = (const i32x4 *)arguments.activations;
    i32 sum = 0;
    for (u32 block = lane; block < (u32)arguments.columns / 16; block += 32) {
        i32x4 w = weights[block], a = activations[block];
        for (int part = 0; part < 4; part++) {
            sum = __builtin_amdgcn_sudot4(true, w[part], true, a[part], sum, false);
        }
    }
    for (u32 distance = 16; distance > 0; distance /= 2) {
        sum += __builtin_amdgcn_ds_bpermute((lane ^ distance) * 4, sum);
    }
    if (lane == 0) {
        arguments.sums[row] = sum;
        arguments.out[row] = (float)sum * arguments.scales[row];
    }
}

// Half bytes in blocks of 18 bytes, a scale in half precision and 32 values, as model files have them.
struct Blocks {
    const u8 *weights;
    const float *activations;
    float *out;
    i32 rows;
    i32 blocks;
};

KERNEL(32) gemv_blocks(Blocks arguments) {
    u32 row = group(), lane = item();
    float sum = 0;
    for (u32 block = 0; block < (u32)arguments.blocks; block++) {
        const u8 *weights = arguments.weights + ((u64)row * arguments.blocks + block) * 18;
        float scale = *(const f16 *)weights;
        u32 byte = weights[2 + lane % 16];
        i32 value = (i32)(lane < 16 ? byte & 15 : byte >> 4) - 8;
        sum = __builtin_fmaf(scale * value, arguments.activations[block * 32 + lane], sum);
    }
    for (u32 distance = 16; distance > 0; distance /= 2) {
        sum += __builtin_bit_cast(float, __builtin_amdgcn_ds_bpermute((lane ^ distance) * 4, __builtin_bit_cast(i32, sum)));
    }
    if (lane == 0) {
        arguments.out[row] = sum;
    }
}

struct Dots {
    const i32 *a;
    const i32 *b;
    i32 *out;
};

// Every dot product: signs chosen apart, with and without a limit, of bytes, half bytes and halves.
KERNEL(32) dots(Dots arguments) {
    i32 a = arguments.a[item()], b = arguments.b[item()];
    i32 *out = arguments.out + item() * 8;
    out[0] = __builtin_amdgcn_sudot4(true, a, true, b, a, false);
    out[1] = __builtin_amdgcn_sudot4(false, a, true, b, b, false);
    out[2] = __builtin_amdgcn_sudot4(true, a, false, b, 0x7fffff00, true);
    out[3] = __builtin_amdgcn_sudot8(true, a, false, b, 1, false);
    out[4] = __builtin_amdgcn_udot4(a, b, 0xffffff00, true);
    out[5] = __builtin_amdgcn_udot8(a, b, 3, false);
    f16x2 ha = __builtin_bit_cast(f16x2, (a & 0x3fff3fff) | 0x20002000);
    f16x2 hb = __builtin_bit_cast(f16x2, (b & 0x3fff3fff) | 0x20002000);
    out[6] = __builtin_bit_cast(i32, __builtin_amdgcn_fdot2(ha, hb, 0.5f, false));
    out[7] = __builtin_bit_cast(i32, __builtin_amdgcn_fdot2(-ha, hb, 0.5f, true));
}
