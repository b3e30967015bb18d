// What machine code must not do, each in a kernel of its own. Written in assembly where a compiler would not make it.
#include "common.h"

struct Faults {
    i32 *cells;
    i32 count;
};

KERNEL(32) past_the_end(Faults arguments) { arguments.cells[item() + 1] = 1; }

KERNEL(32) odd_address(Faults arguments) { *(i32 *)((u8 *)arguments.cells + arguments.count) = 1; }

KERNEL(32) unwritten_local(Faults arguments) {
    __shared__ i32 values[32];
    if (item() != 7) {
        values[item()] = item();
    }
    barrier();
    arguments.cells[item()] = values[31 - item()];
}

KERNEL(32) past_local(Faults arguments) {
    __shared__ i32 values[32];
    values[item() + arguments.count] = item();
    barrier();
    arguments.cells[item()] = values[31 - item()];
}

KERNEL(32) endless(Faults arguments) {
    while (__atomic_load_n(arguments.cells, __ATOMIC_RELAXED) == 0) {
    }
}

KERNEL(32) not_waited_for(Faults arguments) {
    i32 value;
    asm volatile("global_load_b32 %0, %1, off\n v_add_nc_u32 %0, 1, %0" : "=&v"(value) : "v"(arguments.cells + item()));
    arguments.cells[item()] = value;
}

KERNEL(32) scalar_not_waited_for(Faults arguments) {
    i32 value;
    asm volatile("s_load_b32 %0, %1, null\n s_add_u32 %0, %0, 1" : "=&s"(value) : "s"(arguments.cells));
    arguments.cells[item()] = value;
}

KERNEL(64) barrier_too_early(Faults arguments) {
    __shared__ i32 values[64];
    u32 address = (u32)(u64)(__attribute__((address_space(3))) i32 *)&values[item()];
    asm volatile("ds_store_b32 %0, %1\n s_barrier\n s_waitcnt lgkmcnt(0)" : : "v"(address), "v"(arguments.count) : "memory");
    arguments.cells[item() & 31] = values[item() ^ 63];
}

KERNEL(32) unwritten_register(Faults arguments) {
    i32 value;
    asm volatile("" : "=v"(value));
    arguments.cells[item()] = value;
}

KERNEL(32) copies_differ(Faults arguments) {
    f16x16 factor = (f16)(float)item();
    f32x8 sums = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(factor, factor, (f32x8)0.0f);
    arguments.cells[item()] = (i32)sums[0];
}

KERNEL(32) products_too_near(Faults arguments) {
    asm volatile(
        "v_mov_b32 v40, 0\n v_mov_b32 v41, 0\n v_mov_b32 v42, 0\n v_mov_b32 v43, 0\n"
        "v_wmma_i32_16x16x16_iu4 v[48:55], v[40:41], v[42:43], 0\n v_nop\n"
        "v_wmma_i32_16x16x16_iu4 v[56:63], v[48:49], v[42:43], 0\n"
        "v_wmma_i32_16x16x16_iu4 v[48:55], v[62:63], v[42:43], 0" : : : "v40", "v41", "v42", "v43", "v48", "v49",
        "v50", "v51", "v52", "v53", "v54", "v55", "v56", "v57", "v58", "v59", "v60", "v61", "v62", "v63");
    arguments.cells[item()] = 0;
}

KERNEL(32) with_private_memory(Faults arguments) {
    volatile i32 values[64];
    for (i32 index = 0; index < 64; index++) values[index] = arguments.cells[index & 31];
    arguments.cells[item()] = values[arguments.count & 63];
}

KERNEL(32) unknown_instruction(Faults arguments) {
    asm volatile(".long 0xffffffff");
    arguments.cells[item()] = 1;
}

KERNEL(32) far_jump(Faults arguments) {
    asm volatile("s_setpc_b64 %0" : : "s"(arguments.cells));
    arguments.cells[item()] = 1;
}
