// portable.h for NVIDIA GPUs from sm_80 on, through nvcc or clang: PTX alone, no headers of CUDA.
//
// A matrix product of 16x16x16 is two of 16x8x16, whose fragments have rows `l / 4` and `l / 4 + 8` in lane `l`.
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

// Of more shared memory than a kernel may have by itself the launch is told, which reads how much there is from beside the kernel.
#define SHARED_PART(type, name, count, begin) type* const name = reinterpret_cast<type*>(gemma_shared + (begin))
#define KERNEL_SHARING(name, Arguments, threads, bytes)                                          \
    extern "C" __device__ const unsigned int name##_shared_bytes __attribute__((used)) = bytes;  \
    KERNEL(name, Arguments, threads)
extern __shared__ __attribute__((aligned(16))) unsigned char gemma_shared[];

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
DEVICE void shared_barrier() { barrier(); }
DEVICE void device_barrier() { asm volatile("membar.gl;\n\tbar.sync 0;\n\tmembar.gl;" ::: "memory"); }

// ptxas orders as it sees fit.
DEVICE void in_this_order() {}

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

DEVICE float uniform(float value) { return value; }

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

// Two halves in a word, each as it would be alone; the fused one is rounded once.
DEVICE u32 add_halves(u32 a, u32 b) {
    u32 sum;
    asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
    return sum;
}
DEVICE u32 multiply_halves(u32 a, u32 b) {
    u32 product;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
    return product;
}
DEVICE u32 fuse_halves(u32 a, u32 b, u32 c) {
    u32 sum;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
    return sum;
}
// Bytes `2 PART` and `2 PART + 1` of a word as two halves, each 1,024 more than the byte.
template <u32 PART>
DEVICE u32 halves_over_1024(u32 word) {
    u32 pair;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(pair) : "r"(word), "r"(0x64646464u), "n"(PART == 0 ? 0x4140 : 0x4342));
    return pair;
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

// Words `l % 4` and, of halves, `l % 4 + 4` of rows `l / 4` and `l / 4 + 8`. Rows begin `stride` words apart from `first` on.
DEVICE HalfFragment load_halves(const u32* first, u32 stride) {
    const u32* place = first + lane() / 4 * stride + lane() % 4;
    return {{place[0], place[8 * stride], place[4], place[8 * stride + 4], 0, 0, 0, 0}};
}

DEVICE ByteFragment load_bytes(const u32* first, u32 stride) {
    const u32* place = first + lane() / 4 * stride + lane() % 4;
    return {{place[0], place[8 * stride], 0, 0}};
}

// Where element `i` of a product is.
DEVICE u32 product_row(u32 i) { return lane() / 4 + i % 4 / 2 * 8; }
DEVICE u32 product_column(u32 i) { return i / 4 * 8 + lane() % 4 * 2 + i % 2; }

// The largest element of its row, and the sum of them, in place of each. All lanes take part.
DEVICE FloatAccumulator row_largest(const FloatAccumulator& product) {
    FloatAccumulator result;
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        const u32 row = i % 4 / 2 * 2;
        float value = larger(larger(product.at[row], product.at[row + 1]), larger(product.at[row + 4], product.at[row + 5]));
        value = larger(value, exchange<2>(value));
        result.at[i] = larger(value, exchange<1>(value));
    }
    return result;
}

DEVICE FloatAccumulator row_sums(const FloatAccumulator& product) {
    FloatAccumulator result;
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        const u32 row = i % 4 / 2 * 2;
        float value = product.at[row] + product.at[row + 1] + product.at[row + 4] + product.at[row + 5];
        value += exchange<2>(value);
        result.at[i] = value + exchange<1>(value);
    }
    return result;
}

// `sum` plus the product of a row fragment and a column fragment. All lanes take part.
DEVICE FloatAccumulator multiply(const HalfFragment& rows, const HalfFragment& columns, const FloatAccumulator& sum) {
    FloatAccumulator result = sum;
    UNROLL
    for (u32 part = 0; part < 2; ++part) {
        float* at = result.at + 4 * part;
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(at[0]), "+f"(at[1]), "+f"(at[2]), "+f"(at[3])
            : "r"(rows.at[0]), "r"(rows.at[1]), "r"(rows.at[2]), "r"(rows.at[3]), "r"(columns.at[part]), "r"(columns.at[2 + part]));
    }
    return result;
}

DEVICE IntAccumulator multiply(const ByteFragment& rows, const ByteFragment& columns, const IntAccumulator& sum) {
    IntAccumulator result = sum;
    UNROLL
    for (u32 part = 0; part < 2; ++part) {
        i32* at = result.at + 4 * part;
        asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+r"(at[0]), "+r"(at[1]), "+r"(at[2]), "+r"(at[3])
            : "r"(rows.at[0]), "r"(rows.at[1]), "r"(columns.at[part]));
    }
    return result;
}

}  // namespace gpu
