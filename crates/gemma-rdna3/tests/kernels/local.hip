// Local memory with barriers: a product of matrices by tiles, a transposition, a sum over waves, a histogram.
#include "common.h"

struct Product {
    const float *a;
    const float *b;
    float *c;
    i32 size;
};

// 16 x 16 results a workgroup, one each; size is a multiple of 16.
KERNEL(256) product(Product arguments) {
    __shared__ float a[16][17], b[16][17];
    u32 column = item() % 16, row = item() / 16, size = arguments.size;
    u32 top = __builtin_amdgcn_workgroup_id_y() * 16, left = group() * 16;
    float sum = 0;
    for (u32 k = 0; k < size; k += 16) {
        a[row][column] = arguments.a[(top + row) * size + k + column];
        b[row][column] = arguments.b[(k + row) * size + left + column];
        barrier();
        for (u32 inner = 0; inner < 16; inner++) {
            sum = __builtin_fmaf(a[row][inner], b[inner][column], sum);
        }
        barrier();
    }
    arguments.c[(top + row) * size + left + column] = sum;
}

struct Sums {
    const float *in;
    float *out;
    i32 *counts;
    i32 count;
};

// Sum and largest value of a row, across eight waves.
KERNEL(256) sum_and_largest(Sums arguments) {
    __shared__ float sums[8], largest[8];
    u32 lane = item() % 32, wave = item() / 32;
    float sum = 0, most = -__builtin_inff();
    for (u32 index = item(); index < (u32)arguments.count; index += 256) {
        float value = arguments.in[group() * arguments.count + index];
        sum += value;
        most = __builtin_fmaxf(most, value);
    }
    for (u32 distance = 16; distance > 0; distance /= 2) {
        u32 other = (lane ^ distance) * 4;
        sum += __builtin_bit_cast(float, __builtin_amdgcn_ds_bpermute(other, __builtin_bit_cast(i32, sum)));
        most = __builtin_fmaxf(most, __builtin_bit_cast(float, __builtin_amdgcn_ds_bpermute(other, __builtin_bit_cast(i32, most))));
    }
    if (lane == 0) {
        sums[wave] = sum;
        largest[wave] = most;
    }
    barrier();
    if (item() == 0) {
        for (u32 other = 1; other < 8; other++) {
            sum += sums[other];
            most = __builtin_fmaxf(most, largest[other]);
        }
        arguments.out[group() * 2] = sum;
        arguments.out[group() * 2 + 1] = most;
    }
}

// How many values fall into each of 32 bins; bytes and halves in local memory too.
KERNEL(128) histogram(Sums arguments) {
    __shared__ i32 counts[32];
    __shared__ u8 bytes[128];
    __shared__ f16 half[128];
    if (item() < 32) {
        counts[item()] = 0;
    }
    barrier();
    float value = arguments.in[group() * 128 + item()];
    u32 bin = (u32)((value + 1) * 16) & 31;
    __atomic_fetch_add(&counts[bin], 1, __ATOMIC_RELAXED);
    bytes[item()] = bin;
    half[127 - item()] = value;
    barrier();
    if (item() < 32) {
        arguments.counts[group() * 32 + item()] = counts[item()];
    }
    arguments.out[group() * 128 + item()] = (float)half[item()] + (float)(i32)(i8)bytes[item() ^ 1];
}

// 16 bytes at a time into local memory and out of it, with every work-item reading what another one wrote.
KERNEL(64) reverse(Sums arguments) {
    __shared__ f32x4 tile[64];
    __shared__ f32x4 other[64];
    const f32x4 *in = (const f32x4 *)arguments.in;
    tile[item()] = in[group() * 64 + item()];
    other[item() ^ 1] = tile[item()] * 2.0f;
    barrier();
    ((f32x4 *)arguments.out)[group() * 64 + item()] = tile[63 - item()] + other[item()];
}

// The first wave ends while the others go on to meet at barriers.
KERNEL(96) early_end(Sums arguments) {
    __shared__ i32 values[96];
    values[item()] = item() * 3;
    barrier();
    i32 value = values[(item() + 64) % 96];
    if (item() < 32) {
        arguments.counts[item()] = value;
        return;
    }
    barrier();
    values[item()] = value + 1;
    barrier();
    arguments.counts[item()] = values[item() == 95 ? 32 : item() + 1];
}
