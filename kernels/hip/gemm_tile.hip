// `output[t][r] = sum over c of weight[r][c] * input[t][c]` for many rows `t`, in f32 and without matrix units.
//
// Grid: (rows / 64, tokens / 64). A block has a tile of 64 x 64, a thread 4 x 4 of it. `input` is f32 with rows `input_stride` values
// apart, columns are a multiple of 8. Layouts of weights: weights.h.
#include "gemm.h"

using namespace gpu;

namespace {

constexpr u32 TILE = 64;
// One more than the columns that are staged at a time, so that rows begin in different banks.
constexpr u32 STRIDE = DEPTH + 1;

template <Format F>
DEVICE void compute(const GemmArguments& a) {
    SHARED(float, weights, TILE* STRIDE);
    SHARED(float, tokens, TILE* STRIDE);
    const u32 thread = thread_index();
    const u32 first_row = block_x() * TILE, first_token = block_y() * TILE;
    const float* input = reinterpret_cast<const float*>(a.input);
    float sums[4][4] = {};
    for (u32 from = 0; from < a.columns; from += DEPTH) {
        if (from > 0) shared_barrier();
        if (thread < 2 * TILE) {
            const u32 row = thread / 2, half = thread % 2;
            const Planes line = row_of<F>(a.weight, a.first + smaller(first_row + row, a.rows - 1), a.columns);
            float values[16];
            sixteen_values<F>(line, from / 16 + half, a.columns, values);
            UNROLL
            for (u32 i = 0; i < 16; ++i) weights[row * STRIDE + 16 * half + i] = values[i];
        }
        for (u32 item = thread; item < TILE * DEPTH / 4; item += GEMM_THREADS) {
            const u32 row = item / (DEPTH / 4), at = item % (DEPTH / 4) * 4;
            Four four = {{0.0f, 0.0f, 0.0f, 0.0f}};
            // What lies behind the last column counts for nothing.
            if (from + at < a.columns) {
                four = load_four(input + static_cast<u64>(smaller(first_token + row, a.tokens - 1)) * a.input_stride + from + at);
            }
            UNROLL
            for (u32 i = 0; i < 4; ++i) tokens[row * STRIDE + at + i] = four.at[i];
        }
        shared_barrier();
        for (u32 c = 0; c < DEPTH; ++c) {
            float w[4], x[4];
            UNROLL
            for (u32 i = 0; i < 4; ++i) {
                w[i] = weights[(thread % 16 + 16 * i) * STRIDE + c];
                x[i] = tokens[(thread / 16 + 16 * i) * STRIDE + c];
            }
            UNROLL
            for (u32 m = 0; m < 4; ++m) {
                UNROLL
                for (u32 n = 0; n < 4; ++n) sums[m][n] += x[m] * w[n];
            }
        }
    }
    UNROLL
    for (u32 m = 0; m < 4; ++m) {
        UNROLL
        for (u32 n = 0; n < 4; ++n) {
            const u32 row = first_row + thread % 16 + 16 * n, token = first_token + thread / 16 + 16 * m;
            if (row < a.rows && token < a.tokens) {
                a.output[static_cast<u64>(token) * a.output_stride + row] = sums[m][n];
            }
        }
    }
}

}  // namespace

#define GEMM_TILE(suffix, format) \
    KERNEL(gemm_tile_##suffix, GemmArguments, GEMM_THREADS) { compute<format>(arguments); }
GEMM_TILE(f32, Format::F32)
GEMM_TILE(f16, Format::F16)
GEMM_TILE(bf16, Format::BF16)
GEMM_TILE(q8_0, Format::Q8_0)
GEMM_TILE(q6_k, Format::Q6_K)
GEMM_TILE(q5_k, Format::Q5_K)
GEMM_TILE(q5_0, Format::Q5_0)
GEMM_TILE(q4_1, Format::Q4_1)
GEMM_TILE(q4_k, Format::Q4_K)
GEMM_TILE(q4_0, Format::Q4_0)
