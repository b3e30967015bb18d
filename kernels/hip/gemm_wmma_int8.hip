// Products for many rows with matrix units, activations rounded to 8 bits, weights in blocks as they are stored.
//
// Grid: (rows / 128, tokens / 64). `input` is `[tokens, columns]` in signed bytes, `blocks` their steps and sums, as
// `activation_rounded` makes them. A block stages 32 columns at a time; a wave has 2 x 2 products of 16 x 16, each of which takes two
// steps of 16 columns. Sums over a scale's columns are exact. Layouts of weights: weights.h.
#include "gemm.h"

using namespace gpu;

namespace {

// Words from a row of shared memory to the next: four more than 32 bytes.
constexpr u32 STRIDE = DEPTH / 4 + 4;

// The operand of 16 rows from row `first` on, half `half` of the staged columns.
DEVICE ByteFragment fragment(const u32* staged, u32 first, u32 half) {
    const Words4 words = load_words(staged + (first + lane() % 16) * STRIDE + 4 * half);
    return {{words.at[0], words.at[1], words.at[2], words.at[3]}};
}

// The quants of a sixteen as signed bytes around zero.
template <Format F>
DEVICE Words4 around_zero(const Words4& quants) {
    if constexpr (zero_of(F) == 0) return quants;
    Words4 moved;
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        // The highest bit of each byte lends and is given back.
        moved.at[i] = ((quants.at[i] | 0x80808080u) - static_cast<u32>(zero_of(F)) * 0x01010101u) ^ 0x80808080u;
    }
    return moved;
}


template <Format F>
DEVICE void compute(const GemmArguments& a) {
    SHARED(u32, weights, WEIGHT_TILE* STRIDE);
    SHARED(u32, tokens, TOKEN_TILE* STRIDE);
    SHARED(Scale, scales, WEIGHT_TILE * 2);
    SHARED(Four, blocks, TOKEN_TILE);
    const u32 thread = thread_index();
    // A thread stages a sixteen of a weight row, and one of an activation row.
    const u32 line = smaller(block_x() * WEIGHT_TILE + thread / 2, a.rows - 1);
    const Planes row = row_of<F>(a.weight, a.first + line, a.columns);
    const u32 token = smaller(block_y() * TOKEN_TILE + thread / 2 % TOKEN_TILE, a.tokens - 1);
    const u8* input = a.input + static_cast<u64>(token) * a.columns + 16 * (thread % 2);
    const float* block = a.blocks + static_cast<u64>(token) * (a.columns / 8);
    const bool has_token = thread < 2 * TOKEN_TILE;
    FloatAccumulator sums[2][2] = {};
    for (u32 from = 0; from < a.columns; from += DEPTH) {
        const Sixteen got = sixteen_of<F>(row, from / 16 + thread % 2);
        if (from > 0) barrier();
        store_words(weights + thread / 2 * STRIDE + 4 * (thread % 2), around_zero<F>(got.quants));
        scales[thread] = got.scale;
        if (has_token) {
            store_words(tokens + thread / 2 * STRIDE + 4 * (thread % 2), load_words(input + from));
            if (thread % 2 == 0) blocks[thread / 2] = load_four(block + from / 8);
        }
        barrier();
        UNROLL
        for (u32 n = 0; n < 2; ++n) {
            const u32 column = wave_weight() + 16 * n;
            const ByteFragment of_weights[2] = {fragment(weights, column, 0), fragment(weights, column, 1)};
            const Scale low = scales[2 * (column + lane() % 16)], high = scales[2 * (column + lane() % 16) + 1];
            UNROLL
            for (u32 m = 0; m < 2; ++m) {
                const u32 first = wave_token() + 16 * m;
                IntAccumulator near = multiply(fragment(tokens, first, 0), of_weights[0], IntAccumulator{});
                IntAccumulator far = {};
                if constexpr (F == Format::Q6_K) {
                    far = multiply(fragment(tokens, first, 1), of_weights[1], far);
                } else {
                    // Both sixteens have the same scale.
                    near = multiply(fragment(tokens, first, 1), of_weights[1], near);
                }
                UNROLL
                for (u32 i = 0; i < 8; ++i) {
                    const Four met = blocks[first + 2 * i + lane() / 16];
                    float sum = static_cast<float>(near.at[i]) * low.scale;
                    if constexpr (F == Format::Q6_K) sum += static_cast<float>(far.at[i]) * high.scale;
                    sums[m][n].at[i] += sum * met.at[0];
                    if constexpr (has_minimum(F)) sums[m][n].at[i] -= (met.at[1] + met.at[2]) * low.minimum;
                }
            }
        }
    }
    UNROLL
    for (u32 m = 0; m < 2; ++m) {
        UNROLL
        for (u32 n = 0; n < 2; ++n) write_product(a, sums[m][n], m, n);
    }
}

}  // namespace

#define GEMM_WMMA_INT8(suffix, format) \
    KERNEL(gemm_wmma_##suffix##_int8, GemmArguments, GEMM_THREADS) { compute<format>(arguments); }
GEMM_WMMA_INT8(q8_0, Format::Q8_0)
GEMM_WMMA_INT8(q6_k, Format::Q6_K)
GEMM_WMMA_INT8(q5_k, Format::Q5_K)
GEMM_WMMA_INT8(q5_0, Format::Q5_0)
GEMM_WMMA_INT8(q4_1, Format::Q4_1)
GEMM_WMMA_INT8(q4_k, Format::Q4_K)
GEMM_WMMA_INT8(q4_0, Format::Q4_0)
