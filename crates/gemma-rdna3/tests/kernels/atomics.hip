// Atomic operations in memory and in local memory.
#include "common.h"

struct Atomics {
    i32 *cells;
    u64 *wide;
    float *floats;
    i32 *out;
};

#define RELAXED __ATOMIC_RELAXED
#define SCOPE "agent"

KERNEL(64) atomics(Atomics arguments) {
    i32 *cells = arguments.cells;
    u32 index = group() * 64 + item();
    __scoped_atomic_fetch_add(&cells[0], (i32)index, RELAXED, __MEMORY_SCOPE_DEVICE);
    __scoped_atomic_fetch_max(&cells[1], (i32)(index * 7 % 101), RELAXED, __MEMORY_SCOPE_DEVICE);
    __scoped_atomic_fetch_min(&cells[2], (i32)(index * 7 % 101), RELAXED, __MEMORY_SCOPE_DEVICE);
    __scoped_atomic_fetch_or(&cells[3], 1 << (index & 31), RELAXED, __MEMORY_SCOPE_DEVICE);
    __scoped_atomic_fetch_xor(&cells[4], (i32)index, RELAXED, __MEMORY_SCOPE_DEVICE);
    __scoped_atomic_fetch_add(&arguments.wide[0], (u64)index << 30, RELAXED, __MEMORY_SCOPE_DEVICE);
    // Each gets a place of its own.
    i32 place = __scoped_atomic_fetch_add(&cells[5 + (item() & 1)], 1, RELAXED, __MEMORY_SCOPE_DEVICE);
    arguments.out[index] = place;
    // A largest float by comparing and swapping.
    i32 *largest = &cells[7];
    float value = (float)(index * 13 % 127);
    i32 seen = __scoped_atomic_load_n(largest, RELAXED, __MEMORY_SCOPE_DEVICE);
    while (__builtin_bit_cast(float, seen) < value &&
           !__scoped_atomic_compare_exchange_n(largest, &seen, __builtin_bit_cast(i32, value), false, __ATOMIC_ACQ_REL,
                                               __ATOMIC_ACQUIRE, __MEMORY_SCOPE_DEVICE)) {
    }
    __scoped_atomic_exchange_n(&arguments.wide[1], (u64)index, RELAXED, __MEMORY_SCOPE_DEVICE);
}

KERNEL(64) local_atomics(Atomics arguments) {
    __shared__ i32 cells[8];
    __shared__ u64 wide;
    if (item() < 8) {
        cells[item()] = item() == 2 ? 1000 : 0;
        wide = 0;
    }
    barrier();
    i32 value = item() * 7 % 61;
    __atomic_fetch_add(&cells[0], value, RELAXED);
    __atomic_fetch_max(&cells[1], value, RELAXED);
    __atomic_fetch_min(&cells[2], value, RELAXED);
    __atomic_fetch_or(&cells[3], 1 << (value & 31), RELAXED);
    __atomic_fetch_xor(&cells[4], value, RELAXED);
    __atomic_fetch_add(&wide, (u64)value << 29, RELAXED);
    i32 place = __atomic_fetch_add(&cells[5], 1, RELAXED);
    arguments.out[place] = 1;
    i32 before = __atomic_exchange_n(&cells[6], value, RELAXED);
    __atomic_fetch_add(&cells[7], before, RELAXED);
    barrier();
    if (item() < 8) {
        arguments.cells[item()] = cells[item()];
        arguments.wide[0] = wide;
    }
    if (item() == 0) {
        arguments.cells[7] = cells[6] + cells[7];
    }
}
