// Products for many rows with matrix units, activations and weights in f16, sums in f32.
//
// Grid: (rows / 128, tokens / 64). `input` is `[tokens, columns rounded up to 32]` in f16, as `activation_f16` makes it. A block stages
// 32 columns at a time, a wave has 2 x 2 products of 16 x 16 x 16. Columns are a multiple of 8. Layouts of weights: weights.h.
#include "gemm.h"

using namespace gpu;

namespace {

// Words from a row of shared memory to the next: four more than 32 halves, so that rows begin in different banks.
constexpr u32 STRIDE = DEPTH / 2 + 4;

// The operand of 16 rows from row `first` on, half `half` of the staged columns.
DEVICE HalfFragment fragment(const u32* staged, u32 first, u32 half) {
    const u32* place = staged + (first + lane() % 16) * STRIDE + 8 * half;
    const Words4 low = load_words(place), high = load_words(place + 4);
    return {{low.at[0], low.at[1], low.at[2], low.at[3], high.at[0], high.at[1], high.at[2], high.at[3]}};
}

// Sixteen weights of a row, as halves.
struct Halves {
    Words4 low;
    Words4 high;
};

template <Format F>
DEVICE Halves halves_of(const Planes& row, u32 sixteen, u32 columns) {
    if constexpr (F == Format::F16) {
        return {unit_at(row.words, smaller(2 * sixteen, columns / 8 - 1)),
                unit_at(row.words, smaller(2 * sixteen + 1, columns / 8 - 1))};
    } else {
        float values[16];
        sixteen_values<F>(row, sixteen, columns, values);
        Halves halves;
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            halves.low.at[i] = float_to_half(values[2 * i]) | float_to_half(values[2 * i + 1]) << 16;
            halves.high.at[i] = float_to_half(values[8 + 2 * i]) | float_to_half(values[9 + 2 * i]) << 16;
        }
        return halves;
    }
}

template <Format F>
DEVICE void compute(const GemmArguments& a) {
    SHARED(u32, weights, WEIGHT_TILE* STRIDE);
    SHARED(u32, tokens, TOKEN_TILE* STRIDE);
    const u32 thread = thread_index();
    // A thread stages a sixteen of a weight row, and eight values of an activation row.
    const u32 line = smaller(block_x() * WEIGHT_TILE + thread / 2, a.rows - 1);
    const Planes row = row_of<F>(a.weight, a.first + line, a.columns);
    const u32 width = round_up(a.columns, DEPTH) * DEPTH;
    const u32 token = smaller(block_y() * TOKEN_TILE + thread / 4, a.tokens - 1);
    const u8* input = a.input + 2 * (static_cast<u64>(token) * width + 8 * (thread % 4));
    FloatAccumulator sums[2][2] = {};
    Halves halves = halves_of<F>(row, thread % 2, a.columns);
    Words4 values = load_words(input);
    for (u32 from = 0; from < a.columns; from += DEPTH) {
        if (from > 0) barrier();
        store_words(weights + thread / 2 * STRIDE + 8 * (thread % 2), halves.low);
        store_words(weights + thread / 2 * STRIDE + 8 * (thread % 2) + 4, halves.high);
        store_words(tokens + thread / 4 * STRIDE + 4 * (thread % 4), values);
        barrier();
        // The next columns are asked for before these are used; behind the last there are none.
        const u32 next = from + DEPTH < a.columns ? from + DEPTH : from;
        halves = halves_of<F>(row, next / 16 + thread % 2, a.columns);
        values = load_words(input + 2 * next);
        UNROLL
        for (u32 half = 0; half < 2; ++half) {
            HalfFragment of_tokens[2], of_weights[2];
            UNROLL
            for (u32 i = 0; i < 2; ++i) {
                of_tokens[i] = fragment(tokens, wave_token() + 16 * i, half);
                of_weights[i] = fragment(weights, wave_weight() + 16 * i, half);
            }
            UNROLL
            for (u32 m = 0; m < 2; ++m) {
                UNROLL
                for (u32 n = 0; n < 2; ++n) sums[m][n] = multiply(of_tokens[m], of_weights[n], sums[m][n]);
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

#define GEMM_WMMA(suffix, format) \
    KERNEL(gemm_wmma_##suffix##_f16, GemmArguments, GEMM_THREADS) { compute<format>(arguments); }
GEMM_WMMA(f16, Format::F16)
GEMM_WMMA(bf16, Format::BF16)
GEMM_WMMA(q8_0, Format::Q8_0)
GEMM_WMMA(q6_k, Format::Q6_K)
GEMM_WMMA(q5_k, Format::Q5_K)
GEMM_WMMA(q5_0, Format::Q5_0)
GEMM_WMMA(q4_1, Format::Q4_1)
GEMM_WMMA(q4_k, Format::Q4_K)
GEMM_WMMA(q4_0, Format::Q4_0)
