// Products for many rows with matrix units, activations rounded to 8 bits, weights in blocks as they are stored.
//
// Grid: (tokens / 64, rows / 128). `input` is `[tokens, columns]` in signed bytes, `blocks` their steps and sums, as
// `activation_rounded` makes them. A block stages 32 columns at a time; a wave has 2 x 2 products of 16 x 16, each of which takes two
// steps of 16 columns. Sums over a scale's columns are exact. Layouts of weights: weights.h.
//
// Processors of gfx11 multiply bytes no faster than f16, and here every sum of 32 products is scaled on its own, so that `gemm_wmma` is
// the usual one: this is for who wants activations rounded alike in prefill and decode.
#include "gemm.h"

using namespace gpu;

namespace {

using Part = Tile<2, 2>;

// Words from a row of shared memory to the next: four more than 32 bytes.
constexpr u32 STRIDE = DEPTH / 4 + 4;

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

// What is staged: quants, scales of the weight's sixteens, steps and sums of the activations' blocks.
struct Staged {
    u32* weights;
    u32* tokens;
    Scale* scales;
    Four* blocks;
};

// Adds 32 columns to a product of 16 x 16 whose rows of the weight begin with `row` and whose activation rows with `token`.
template <Format F>
DEVICE void add_columns(const Staged& staged, u32 row, u32 token, FloatAccumulator& sums) {
    const u32* weights = staged.weights + row * STRIDE;
    const u32* tokens = staged.tokens + token * STRIDE;
    IntAccumulator near = multiply(load_bytes(tokens, STRIDE), load_bytes(weights, STRIDE), IntAccumulator{});
    IntAccumulator far = {};
    if constexpr (F == Format::Q6_K) {
        far = multiply(load_bytes(tokens + 4, STRIDE), load_bytes(weights + 4, STRIDE), far);
    } else {
        // Both sixteens have the same scale.
        near = multiply(load_bytes(tokens + 4, STRIDE), load_bytes(weights + 4, STRIDE), near);
    }
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        const Scale* scale = staged.scales + 2 * (row + product_column(i));
        const Four& met = staged.blocks[token + product_row(i)];
        float sum = static_cast<float>(near.at[i]) * scale[0].scale;
        if constexpr (F == Format::Q6_K) sum += static_cast<float>(far.at[i]) * scale[1].scale;
        sums.at[i] += sum * met.at[0];
        if constexpr (has_minimum(F)) sums.at[i] -= (met.at[1] + met.at[2]) * scale[0].minimum;
    }
}

template <Format F>
DEVICE void compute(const GemmArguments& a) {
    SHARED(u32, weights, WEIGHT_TILE* STRIDE);
    SHARED(u32, tokens, Part::TOKENS* STRIDE);
    SHARED(Scale, scales, WEIGHT_TILE * 2);
    SHARED(Four, blocks, Part::TOKENS);
    const u32 thread = thread_index();
    // A thread stages a sixteen of a weight row, and one of an activation row.
    const u32 line = smaller(block_y() * WEIGHT_TILE + thread / 2, a.rows - 1);
    const Planes row = row_of<F>(a.weight, a.first + line, a.columns);
    const u32 token = smaller(block_x() * Part::TOKENS + thread / 2 % Part::TOKENS, a.tokens - 1);
    const u8* input = a.input + static_cast<u64>(token) * a.columns + 16 * (thread % 2);
    const float* block = a.blocks + static_cast<u64>(token) * (a.columns / 8);
    const bool has_token = thread < 2 * Part::TOKENS;
    FloatAccumulator sums[2][2] = {};
    for (u32 from = 0; from < a.columns; from += DEPTH) {
        const Words4 values = load_words(input + from);
        const Four met = load_four(block + from / 8);
        const Sixteen got = sixteen_of<F>(row, from / 16 + thread % 2);
        if (from > 0) shared_barrier();
        store_words(weights + thread / 2 * STRIDE + 4 * (thread % 2), around_zero<F>(got.quants));
        scales[thread] = got.scale;
        if (has_token) {
            store_words(tokens + thread / 2 * STRIDE + 4 * (thread % 2), values);
            if (thread % 2 == 0) blocks[thread / 2] = met;
        }
        shared_barrier();
        UNROLL
        for (u32 n = 0; n < 2; ++n) {
            UNROLL
            for (u32 m = 0; m < 2; ++m) {
                add_columns<F>({weights, tokens, scales, blocks}, Part::weight() + 16 * n, Part::token() + 16 * m, sums[m][n]);
                // One product after the other takes half the registers.
                in_this_order();
            }
        }
    }
    write_products<false>(a, sums);
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
