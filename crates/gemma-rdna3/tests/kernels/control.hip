// Divergent control flow, loops, tables of constants, 64-bit arithmetic, integer division.
#include "common.h"

struct Control {
    const i32 *in;
    i32 *out;
    i32 count;
};

// Steps until one; every lane leaves the loop at another time.
KERNEL(64) steps_to_one(Control arguments) {
    u32 index = group() * 64 + item();
    u32 value = (u32)arguments.in[index] % 1000 + 1, steps = 0;
    while (value != 1) {
        value = value % 2 ? 3 * value + 1 : value / 2;
        steps++;
    }
    arguments.out[index] = steps;
}

__device__ const i32 TABLE[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};

// Nested branches, an early return, a loop that some lanes leave, and a table in the code object.
KERNEL(64) branches(Control arguments) {
    u32 index = group() * 64 + item();
    if (index >= (u32)arguments.count) {
        return;
    }
    i32 value = arguments.in[index], result = 0;
    switch (value & 7) {
    case 0: result = value / 3; break;
    case 1: result = value * 5; break;
    case 2: result = value ^ 0x55555555; [[fallthrough]];
    case 3: result += TABLE[value >> 3 & 15]; break;
    case 4:
        for (i32 round = 0; round < 100; round++) {
            if ((value >> (round & 15)) % 7 == 0) break;
            result += round;
        }
        break;
    case 5:
        if (value > 0) {
            result = value % 1000;
            if (result & 1) result = -result;
        } else {
            result = value % 77;
        }
        break;
    default: result = -1;
    }
    arguments.out[index] = result;
}

struct Wide {
    const u64 *a;
    const u64 *b;
    u64 *out;
};

KERNEL(32) wide(Wide arguments) {
    u64 a = arguments.a[item()], b = arguments.b[item()];
    u64 *out = arguments.out + (u64)item() * 12;
    out[0] = a + b;
    out[1] = a - b;
    out[2] = a * b;
    out[3] = a / (b | 1);
    out[4] = a % (b >> 40 | 1);
    out[5] = (u64)((i64)a / ((i64)b | 1));
    out[6] = a << (b & 63) ^ b >> (a & 63);
    out[7] = (u64)((i64)a >> (b & 63));
    out[8] = (i64)a < (i64)b ? a : b;
    out[9] = a > b ? __builtin_clzl(a | 1) : __builtin_ctzl(b | 1ul << 63);
    out[10] = (u64)(u32)a * (u32)b + b;
    out[11] = (u64)((i64)(i32)a * (i32)b) + __builtin_popcountl(b);
}

// The same for all lanes: scalar arithmetic, a table by a scalar address, loops over scalars.
KERNEL(32) uniform(Control arguments) {
    i32 a = arguments.in[0], b = arguments.in[1], sum = 0;
    u32 count = (u32)a % 50;
    for (u32 round = 0; round < count; round++) {
        sum += TABLE[(round + b) & 15] * (i32)round;
        sum ^= sum << 3;
        sum += __builtin_popcount(sum) + (sum < 0 ? 5 : __builtin_clz(sum | 1));
    }
    u64 wide = (u64)(u32)a << 20 | (u32)b;
    sum += (i32)(wide >> 7) + (i32)(wide * 3 >> 33) + (a > b ? a / 7 : b / 9) + (a & ~b);
    arguments.out[item() + group() * 32] = sum + item() * group();
}

struct Places {
    i32 *out;
};

// The place of a work-item in three dimensions.
extern "C" __global__ __attribute__((amdgpu_flat_work_group_size(60, 60))) void places(Places arguments) {
    u32 x = __builtin_amdgcn_workitem_id_x(), y = __builtin_amdgcn_workitem_id_y(), z = __builtin_amdgcn_workitem_id_z();
    u32 gx = __builtin_amdgcn_workgroup_id_x(), gy = __builtin_amdgcn_workgroup_id_y(), gz = __builtin_amdgcn_workgroup_id_z();
    u32 index = (x + 5 * (y + 4 * z)) + 60 * (gx + 2 * (gy + 3 * gz));
    arguments.out[index] = x + 10 * y + 100 * z + 1000 * gx + 10000 * gy + 100000 * gz;
}
