// Products for many rows with matrix units, activations and weights in f16, sums in f32.
//
// Grid: (tokens / 32 or 128, rows / 128). `input` is `[tokens, columns rounded up to 32]` in f16, as `activation_f16` makes it, `blocks` has
// what rows are multiplied with. A block stages 32 columns at a time, of 128 rows of the weight and of 32 or 128 activation rows. Columns
// are a multiple of 8. Layouts of weights: weights.h.
#include "gemm.h"
#include "halves.h"

using namespace gpu;

namespace {

// Words from a row of shared memory to the next: four more than 32 halves, so that rows begin in different banks.
constexpr u32 STRIDE = DEPTH / 2 + 4;

// The activations that a thread stages at a time, eight by eight.
template <u32 TOKENS>
struct Staging {
    static constexpr u32 ALL = TOKENS * DEPTH / 8;
    static constexpr u32 ROUNDS = (ALL + GEMM_THREADS - 1) / GEMM_THREADS;
    const u8* from[ROUNDS];
    Words4 values[ROUNDS];

    DEVICE_METHOD explicit Staging(const GemmArguments& a) {
        const u32 width = round_up(a.columns, DEPTH) * DEPTH;
        UNROLL
        for (u32 i = 0; i < ROUNDS; ++i) {
            const u32 item = thread_index() % ALL + i * GEMM_THREADS;
            const u32 token = smaller(block_x() * TOKENS + item / 4, a.tokens - 1);
            from[i] = a.input + 2 * (static_cast<u64>(token) * width + 8 * (item % 4));
        }
    }

    DEVICE_METHOD void fetch(u32 column) {
        UNROLL
        for (u32 i = 0; i < ROUNDS; ++i) values[i] = load_words(from[i] + 2 * column);
    }

    DEVICE_METHOD void store(u32* staged) const {
        if (ALL < GEMM_THREADS && thread_index() >= ALL) return;
        UNROLL
        for (u32 i = 0; i < ROUNDS; ++i) {
            const u32 item = thread_index() + i * GEMM_THREADS;
            store_words(staged + item / 4 * STRIDE + 4 * (item % 4), values[i]);
        }
    }
};

template <Format F, u32 M, u32 N>
DEVICE void compute(const GemmArguments& a) {
    using Part = Tile<M, N>;
    SHARED(u32, weights, WEIGHT_TILE* STRIDE);
    SHARED(u32, tokens, Part::TOKENS* STRIDE);
    const u32 thread = thread_index();
    // A thread stages a sixteen of a weight row.
    const u32 line = smaller(block_y() * WEIGHT_TILE + thread / 2, a.rows - 1);
    const Planes row = row_of<F>(a.weight, a.first + line, a.columns);
    FloatAccumulator sums[M][N] = {};
    Staging<Part::TOKENS> activations(a);
    activations.fetch(0);
    Stored<F> stored = stored_of<F>(row, thread % 2, a.columns);
    for (u32 from = 0; from < a.columns; from += DEPTH) {
        const Halves halves = halves_of<F>(stored, from / 16 + thread % 2);
        if (from > 0) shared_barrier();
        store_words(weights + thread / 2 * STRIDE + 8 * (thread % 2), halves.low);
        store_words(weights + thread / 2 * STRIDE + 8 * (thread % 2) + 4, halves.high);
        activations.store(tokens);
        shared_barrier();
        // The next columns are asked for before these are used; behind the last there are none.
        const u32 next = from + DEPTH < a.columns ? from + DEPTH : from;
        activations.fetch(next);
        stored = stored_of<F>(row, next / 16 + thread % 2, a.columns);
        in_this_order();
        UNROLL
        for (u32 half = 0; half < 2; ++half) {
            HalfFragment of_weights[N];
            UNROLL
            for (u32 n = 0; n < N; ++n) of_weights[n] = load_halves(weights + (Part::weight() + 16 * n) * STRIDE + 8 * half, STRIDE);
            UNROLL
            for (u32 m = 0; m < M; ++m) {
                const HalfFragment of_tokens = load_halves(tokens + (Part::token() + 16 * m) * STRIDE + 8 * half, STRIDE);
                UNROLL
                for (u32 n = 0; n < N; ++n) sums[m][n] = multiply(of_tokens, of_weights[n], sums[m][n]);
            }
        }
    }
    write_products<true>(a, sums);
}

}  // namespace

// Of a tile of 32 activation rows a wave has 2 x 1 products, of one of 128 it has 4 x 2.
#define GEMM_WMMA(suffix, format, registers) \
    KERNEL(gemm_wmma_##suffix##_f16_32, GemmArguments, GEMM_THREADS) { compute<format, 2, 1>(arguments); } \
    KERNEL_WITHIN(gemm_wmma_##suffix##_f16_128, GemmArguments, GEMM_THREADS, registers) { compute<format, 4, 2>(arguments); }
GEMM_WMMA(f16, Format::F16, 128)
GEMM_WMMA(bf16, Format::BF16, 128)
GEMM_WMMA(q8_0, Format::Q8_0, 128)
// It does not fit into 128.
GEMM_WMMA(q6_k, Format::Q6_K, 144)
GEMM_WMMA(q5_k, Format::Q5_K, 128)
GEMM_WMMA(q5_0, Format::Q5_0, 128)
GEMM_WMMA(q4_1, Format::Q4_1, 128)
GEMM_WMMA(q4_k, Format::Q4_K, 128)
GEMM_WMMA(q4_0, Format::Q4_0, 128)
