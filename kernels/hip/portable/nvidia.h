// portable.h for NVIDIA GPUs from sm_70 on, through nvcc or clang: PTX alone, no headers of CUDA.
//
// Matrix fragments are those of gfx11, so their products are computed by definition, with shuffles: right, not fast.
#pragma once

#if !defined(__CUDACC__) || defined(__clang__)
#define __device__ __attribute__((device))
#define __global__ __attribute__((global))
#define __shared__ __attribute__((shared))
#define GEMMA_BOUNDS(threads) __attribute__((launch_bounds(threads)))
#else
#define GEMMA_BOUNDS(threads) __launch_bounds__(threads)
#endif

#define DEVICE static __device__ inline __attribute__((always_inline))
#define DEVICE_METHOD __device__ inline __attribute__((always_inline))
// Arrays are read and written sixteen bytes at a time too.
#define SHARED(type, name, count) alignas(16) __shared__ type name[count]
#define UNROLL _Pragma("unroll")
#define KEEP_ROUNDING
#define SITE_PARAMETER
#define SITE_PARAMETER_ALONE
#define SITE_ARGUMENT
#define SITE_ARGUMENT_ALONE

#define KERNEL(name, Arguments, threads) extern "C" __global__ void GEMMA_BOUNDS(threads) name(Arguments arguments)

namespace gpu {

DEVICE u32 thread_index() {
    u32 index;
    asm("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
}
DEVICE u32 lane() { return thread_index() % WAVE; }
DEVICE u32 wave() { return thread_index() / WAVE; }
DEVICE u32 block_x() {
    u32 index;
    asm("mov.u32 %0, %%ctaid.x;" : "=r"(index));
    return index;
}
DEVICE u32 block_y() {
    u32 index;
    asm("mov.u32 %0, %%ctaid.y;" : "=r"(index));
    return index;
}
DEVICE u32 block_z() {
    u32 index;
    asm("mov.u32 %0, %%ctaid.z;" : "=r"(index));
    return index;
}

DEVICE void barrier() { asm volatile("bar.sync 0;" ::: "memory"); }
DEVICE void device_barrier() { asm volatile("membar.gl;\n\tbar.sync 0;\n\tmembar.gl;" ::: "memory"); }

DEVICE u32 atomic_add(u32* place, u32 value) {
    u32 before;
    asm volatile("atom.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(place), "r"(value) : "memory");
    return before;
}

DEVICE u32 bits_of(float value) {
    u32 bits;
    asm("mov.b32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
}
DEVICE float float_of(u32 bits) {
    float value;
    asm("mov.b32 %0, %1;" : "=f"(value) : "r"(bits));
    return value;
}

template <u32 MASK>
DEVICE u32 exchange(u32 value) {
    u32 other;
    asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(other) : "r"(value), "n"(MASK));
    return other;
}
template <u32 MASK>
DEVICE float exchange(float value) {
    return float_of(exchange<MASK>(bits_of(value)));
}

// From any lane to any other.
DEVICE u32 fetch_from(u32 value, u32 from) {
    u32 other;
    asm volatile("shfl.sync.idx.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(other) : "r"(value), "r"(from));
    return other;
}
DEVICE u32 broadcast(u32 value, u32 from) { return fetch_from(value, from); }
DEVICE float broadcast(float value, u32 from) { return float_of(fetch_from(bits_of(value), from)); }

DEVICE u32 ballot(bool is_set) {
    u32 mask;
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %1, 0;\n\tvote.sync.ballot.b32 %0, p, 0xffffffff;\n\t}"
                 : "=r"(mask)
                 : "r"(static_cast<u32>(is_set)));
    return mask;
}
DEVICE u32 bit_count(u32 mask) {
    u32 count;
    asm("popc.b32 %0, %1;" : "=r"(count) : "r"(mask));
    return count;
}
DEVICE u32 bits_before(u32 mask) { return bit_count(mask & ((1u << lane()) - 1)); }

DEVICE i32 dot4(u32 a, u32 b, i32 sum) {
    i32 result;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

DEVICE float half_to_float(u32 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(static_cast<u16>(bits)));
    return value;
}
DEVICE u32 float_to_half(float value) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

DEVICE float exp2(float x) {
    float value;
    asm("ex2.approx.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
}
DEVICE float inverse_root(float x) {
    float value;
    asm("rsqrt.approx.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
}
DEVICE float root(float x) {
    float value;
    asm("sqrt.rn.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
}
DEVICE float floor(float x) {
    float value;
    asm("cvt.rmi.f32.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
}
DEVICE float truncate(float x) {
    float value;
    asm("cvt.rzi.f32.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
}
DEVICE float absolute(float x) { return float_of(bits_of(x) & 0x7fffffffu); }
DEVICE float larger(float a, float b) {
    float value;
    asm("max.f32 %0, %1, %2;" : "=f"(value) : "f"(a), "f"(b));
    return value;
}

DEVICE Words4 load_words(const void* place) { return *static_cast<const Words4*>(place); }
DEVICE void store_words(void* place, Words4 words) { *static_cast<Words4*>(place) = words; }

// Element (row, column) is the product of what lane `row` and lane `column` hold.
DEVICE FloatAccumulator multiply(const HalfFragment& rows, const HalfFragment& columns, const FloatAccumulator& sum) {
    FloatAccumulator result = sum;
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        UNROLL
        for (u32 k = 0; k < 8; ++k) {
            const u32 row = fetch_from(rows.at[k], 2 * i + lane() / 16);
            const u32 column = columns.at[k];
            result.at[i] += half_to_float(row & 0xffff) * half_to_float(column & 0xffff);
            result.at[i] += half_to_float(row >> 16) * half_to_float(column >> 16);
        }
    }
    return result;
}

DEVICE IntAccumulator multiply(const ByteFragment& rows, const ByteFragment& columns, const IntAccumulator& sum) {
    IntAccumulator result = sum;
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        UNROLL
        for (u32 k = 0; k < 4; ++k) {
            const u32 row = fetch_from(rows.at[k], 2 * i + lane() / 16);
            result.at[i] = dot4(row, columns.at[k], result.at[i]);
        }
    }
    return result;
}

}  // namespace gpu
