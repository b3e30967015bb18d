// `output = gelu(gate * input) * (up * input)`: the first half of a feed-forward network without a cutoff.
//
// Grid: (rows / (8 waves * outputs of a wave), activation rows). Both matrices are of one type and shape; rows have no gaps between.
// A wave has 2 outputs, or 1 in K-quants. Layouts of weights: weights.h.
#include "rows.h"

using namespace gpu;

namespace {

struct GatedArguments {
    Planes gate;
    Planes up;
    const float* input;
    float* output;
    u32 rows;
    u32 columns;
};

template <Format F>
constexpr u32 OUTPUTS = is_super_block(F) ? 1 : 2;

template <Format F, bool ROUNDED>
DEVICE void compute(const GatedArguments& a) {
    constexpr u32 COUNT = OUTPUTS<F>;
    const u32 row = (block_x() * ROW_WAVES + wave()) * COUNT;
    // The second half of the lines are those of `up`.
    Lines<F, 2 * COUNT> lines;
    UNROLL
    for (u32 i = 0; i < COUNT; ++i) {
        const u32 line = smaller(row + i, a.rows - 1);
        lines.rows[i] = row_of<F>(a.gate, line, a.columns);
        lines.rows[COUNT + i] = row_of<F>(a.up, line, a.columns);
        lines.sums[i] = lines.sums[COUNT + i] = 0.0f;
    }
    const float* input = a.input + static_cast<u64>(block_y()) * a.columns;
    multiply_row<F, ROUNDED, false>(lines, input, nullptr, a.columns);
    float* output = a.output + static_cast<u64>(block_y()) * a.rows;
    UNROLL
    for (u32 i = 0; i < COUNT; ++i) {
        if (lane() == i && row + i < a.rows) output[row + i] = gelu(lines.sums[i]) * lines.sums[COUNT + i];
    }
}

}  // namespace

#define GATED(suffix, format, rounded) \
    KERNEL_WITHIN(gated_##suffix, GatedArguments, ROW_THREADS, 96) { compute<format, rounded>(arguments); }
GEMMA_EVERY_READING(GATED)
