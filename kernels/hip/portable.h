// What kernels are written with: one interface, three compilers.
//
// clang for gfx11 processors (no ROCm, no device libraries), a plain C++ compiler for the emulation on the host, nvcc for
// NVIDIA GPUs. Waves have 32 lanes everywhere, blocks have one dimension of whole waves, grids have three. Kernels depend
// on nothing that is not an argument: no block or grid sizes from the runtime, no printing, no memory of their own.
#pragma once

namespace gpu {

using i8 = signed char;
using u8 = unsigned char;
using u16 = unsigned short;
using i32 = int;
using u32 = unsigned int;
using u64 = unsigned long long;

constexpr u32 WAVE = 32;

// Sixteen bytes, read and written at once; addresses are multiples of 16.
struct alignas(16) Words4 {
    u32 at[4];
};

// Four values, likewise.
struct alignas(16) Four {
    float at[4];
};

// One operand of a matrix product of 16x16x16 in f16, 16 rows (left) or columns (right) of 16 values each, as `load_halves` spreads
// them over a wave. Which lane has what is the processor's business.
struct HalfFragment {
    u32 at[8];
};

// The same in signed bytes, by `load_bytes`.
struct ByteFragment {
    u32 at[4];
};

// The result: element `i` is that of row `product_row(i)` and column `product_column(i)`.
struct FloatAccumulator {
    float at[8];
};

struct IntAccumulator {
    i32 at[8];
};

}  // namespace gpu

#if defined(__AMDGCN__)
#include "portable/amdgpu.h"
#elif defined(__CUDACC__) || defined(__CUDA__)
#include "portable/nvidia.h"
#else
#include "portable/host.h"
#endif

// A kernel whose shared memory, `bytes` in all, is in parts that begin where they say.
#if !defined(KERNEL_SHARING)
#define KERNEL_SHARING(name, Arguments, threads, bytes) KERNEL(name, Arguments, threads)
#define SHARED_PART(type, name, count, begin) SHARED(type, name, count)
#endif

#if !defined(KERNEL_WITHIN)
#define KERNEL_WITHIN(name, Arguments, threads, registers) KERNEL(name, Arguments, threads)
#endif

#include "arithmetic.h"
