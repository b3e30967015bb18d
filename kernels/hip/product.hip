// `output[t][r] = sum over c of weight[r][c] * input[t][c]`, with a soft cap where one is wanted.
//
// Grid: (rows / (8 waves * outputs of a wave), activation rows). A wave has 4 outputs, or 2 in K-quants. Inputs and outputs are f32, rows of them `stride`
// values apart; columns are a multiple of 8, and of a block. Layouts of weights: weights.h.
#include "rows.h"

using namespace gpu;

namespace {

struct ProductArguments {
    Planes weight;
    const float* input;
    float* output;
    // The first row of the matrix that is used, and how many are.
    u32 first;
    u32 rows;
    u32 columns;
    u32 input_stride;
    u32 output_stride;
    // `cap * tanh(x / cap)`; 0 for none.
    float softcap;
};

// K-quants have more to keep of each packet.
template <Format F>
constexpr u32 OUTPUTS = is_super_block(F) ? 2 : 4;

template <Format F, bool ROUNDED>
DEVICE void compute(const ProductArguments& a) {
    const u32 row = (block_x() * ROW_WAVES + wave()) * OUTPUTS<F>;
    Lines<F, OUTPUTS<F>> lines;
    lines.begin(a.weight, a.first, row, a.rows, a.columns);
    const float* input = a.input + static_cast<u64>(block_y()) * a.input_stride;
    multiply_row<F, ROUNDED, false>(lines, input, nullptr, a.columns);
    float* output = a.output + static_cast<u64>(block_y()) * a.output_stride;
    UNROLL
    for (u32 i = 0; i < OUTPUTS<F>; ++i) {
        if (lane() == i && row + i < a.rows) {
            const float sum = lines.sums[i];
            output[row + i] = a.softcap > 0.0f ? a.softcap * tangent(sum / a.softcap) : sum;
        }
    }
}

}  // namespace

#define PRODUCT(suffix, format, rounded) \
    KERNEL_WITHIN(product_##suffix, ProductArguments, ROW_THREADS, 96) { compute<format, rounded>(arguments); }
GEMMA_EVERY_READING(PRODUCT)
