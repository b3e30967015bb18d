// portable.h for gfx11 processors: clang's builtins alone.
#pragma once

#if !defined(__gfx1100__) && !defined(__gfx1101__) && !defined(__gfx1102__) && !defined(__gfx1103__) && \
    !defined(__gfx1150__) && !defined(__gfx1151__)
#error "kernels are written for gfx1100 to gfx1103, gfx1150 and gfx1151"
#endif

#define DEVICE static __attribute__((device, always_inline)) inline
#define DEVICE_METHOD __attribute__((device, always_inline)) inline
// Arrays are read and written sixteen bytes at a time too.
#define SHARED(type, name, count) alignas(16) static __attribute__((shared)) type name[count]
#define UNROLL _Pragma("unroll")
#define KEEP_ROUNDING _Pragma("clang fp contract(off)")
// Where a collective is called, which only the emulation asks for.
#define SITE_PARAMETER
#define SITE_PARAMETER_ALONE
#define SITE_ARGUMENT
#define SITE_ARGUMENT_ALONE

#define KERNEL(name, Arguments, threads)                                                                             \
    extern "C" __attribute__((global, amdgpu_flat_work_group_size(threads, threads))) void name(Arguments arguments)
// The same in so many vector registers, which the compiler may miss by a few where nobody asks.
#define KERNEL_WITHIN(name, Arguments, threads, registers)                                                           \
    extern "C" __attribute__((global, amdgpu_flat_work_group_size(threads, threads), amdgpu_num_vgpr(registers)))    \
    void name(Arguments arguments)

namespace gpu {

DEVICE u32 thread_index() { return __builtin_amdgcn_workitem_id_x(); }
DEVICE u32 lane() { return thread_index() % WAVE; }
// The same in all lanes, and known to be.
DEVICE u32 wave() { return __builtin_amdgcn_readfirstlane(thread_index() / WAVE); }
DEVICE u32 block_x() { return __builtin_amdgcn_workgroup_id_x(); }
DEVICE u32 block_y() { return __builtin_amdgcn_workgroup_id_y(); }
DEVICE u32 block_z() { return __builtin_amdgcn_workgroup_id_z(); }

DEVICE void barrier() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}

// A barrier behind which a block sees what its threads have written to shared memory. What they read and write elsewhere may still be on
// its way, and caches keep what they have, unlike at `barrier`.
DEVICE void shared_barrier() { asm volatile("s_waitcnt lgkmcnt(0)\n\ts_barrier" ::: "memory"); }

// A barrier behind which each block sees what others have written before they passed theirs and counted.
DEVICE void device_barrier() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "agent");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "agent");
}

// What stands before is asked for before what stands behind is done, and not later because that takes fewer registers.
DEVICE void in_this_order() { __builtin_amdgcn_sched_barrier(0); }

// What stood at `place` before `value` was added to it.
DEVICE u32 atomic_add(u32* place, u32 value) {
    return __hip_atomic_fetch_add(place, value, __ATOMIC_ACQ_REL, __HIP_MEMORY_SCOPE_AGENT);
}

DEVICE u32 bits_of(float value) { return __builtin_bit_cast(u32, value); }
DEVICE float float_of(u32 bits) { return __builtin_bit_cast(float, bits); }

// The value of the lane whose number differs in the bits of MASK.
template <u32 MASK>
DEVICE u32 exchange(u32 value) {
    static_assert(MASK == 1 || MASK == 2 || MASK == 4 || MASK == 8 || MASK == 16, "one bit of a lane's number");
    if constexpr (MASK == 16) {
        return __builtin_amdgcn_permlanex16(value, value, 0x76543210u, 0xfedcba98u, true, false);
    } else {
        // DPP's row_xmask, inside of rows of 16 lanes.
        return __builtin_amdgcn_update_dpp(0, value, 0x160 + MASK, 0xf, 0xf, true);
    }
}

template <u32 MASK>
DEVICE float exchange(float value) {
    return float_of(exchange<MASK>(bits_of(value)));
}

// The value of lane `from`, which is the same in all lanes.
DEVICE u32 broadcast(u32 value, u32 from) { return __builtin_amdgcn_readlane(value, from); }
DEVICE float broadcast(float value, u32 from) { return float_of(broadcast(bits_of(value), from)); }

// A value that is the same in all lanes, as a scalar.
DEVICE float uniform(float value) {
    return __builtin_bit_cast(float, __builtin_amdgcn_readfirstlane(__builtin_bit_cast(i32, value)));
}

// A bit for each lane.
DEVICE u32 ballot(bool is_set) { return __builtin_amdgcn_ballot_w32(is_set); }
// How many bits of `mask` belong to lanes before this one.
DEVICE u32 bits_before(u32 mask) { return __builtin_amdgcn_mbcnt_lo(mask, 0); }
DEVICE u32 bit_count(u32 mask) { return __builtin_popcount(mask); }

// `sum` plus four products of signed bytes.
DEVICE i32 dot4(u32 a, u32 b, i32 sum) { return __builtin_amdgcn_sudot4(true, a, true, b, sum, false); }

DEVICE float half_to_float(u32 bits) { return __builtin_bit_cast(_Float16, static_cast<u16>(bits)); }
// To nearest, ties to even.
DEVICE u32 float_to_half(float value) { return __builtin_bit_cast(u16, static_cast<_Float16>(value)); }

// Two halves in a word, each as it would be alone; the fused one is rounded once.
typedef _Float16 Pair __attribute__((ext_vector_type(2)));
DEVICE u32 add_halves(u32 a, u32 b) {
    return __builtin_bit_cast(u32, __builtin_bit_cast(Pair, a) + __builtin_bit_cast(Pair, b));
}
DEVICE u32 multiply_halves(u32 a, u32 b) {
    return __builtin_bit_cast(u32, __builtin_bit_cast(Pair, a) * __builtin_bit_cast(Pair, b));
}
DEVICE u32 fuse_halves(u32 a, u32 b, u32 c) {
    const Pair sum = __builtin_elementwise_fma(__builtin_bit_cast(Pair, a), __builtin_bit_cast(Pair, b), __builtin_bit_cast(Pair, c));
    return __builtin_bit_cast(u32, sum);
}
// Bytes `2 PART` and `2 PART + 1` of a word as two halves, each 1,024 more than the byte.
template <u32 PART>
DEVICE u32 halves_over_1024(u32 word) {
    return __builtin_amdgcn_perm(0x64646464u, word, PART == 0 ? 0x04010400u : 0x04030402u);
}

DEVICE float exp2(float x) { return __builtin_amdgcn_exp2f(x); }
DEVICE float inverse_root(float x) { return __builtin_amdgcn_rsqf(x); }
DEVICE float root(float x) { return __builtin_sqrtf(x); }
DEVICE float floor(float x) { return __builtin_floorf(x); }
DEVICE float truncate(float x) { return __builtin_truncf(x); }
DEVICE float absolute(float x) { return __builtin_fabsf(x); }
DEVICE float larger(float a, float b) { return __builtin_fmaxf(a, b); }

typedef u32 Quad __attribute__((ext_vector_type(4)));

DEVICE Words4 load_words(const void* place) {
    const Quad quad = *static_cast<const Quad*>(place);
    return {{quad.x, quad.y, quad.z, quad.w}};
}

DEVICE void store_words(void* place, Words4 words) {
    *static_cast<Quad*>(place) = Quad{words.at[0], words.at[1], words.at[2], words.at[3]};
}

}  // namespace gpu

#include "fragments.h"

namespace gpu {

// `sum` plus the product of a row fragment and a column fragment. All lanes take part.
DEVICE FloatAccumulator multiply(const HalfFragment& rows, const HalfFragment& columns, const FloatAccumulator& sum) {
    typedef _Float16 Halves __attribute__((ext_vector_type(16)));
    typedef float Sums __attribute__((ext_vector_type(8)));
    const Sums result = __builtin_amdgcn_wmma_f32_16x16x16_f16_w32(
        __builtin_bit_cast(Halves, rows), __builtin_bit_cast(Halves, columns), __builtin_bit_cast(Sums, sum));
    return __builtin_bit_cast(FloatAccumulator, result);
}

DEVICE IntAccumulator multiply(const ByteFragment& rows, const ByteFragment& columns, const IntAccumulator& sum) {
    typedef i32 Words __attribute__((ext_vector_type(4)));
    typedef i32 Sums __attribute__((ext_vector_type(8)));
    const Sums result =
        __builtin_amdgcn_wmma_i32_16x16x16_iu8_w32(true, __builtin_bit_cast(Words, rows), true,
                                                   __builtin_bit_cast(Words, columns), __builtin_bit_cast(Sums, sum), false);
    return __builtin_bit_cast(IntAccumulator, result);
}

}  // namespace gpu
