// Up to four products in one launch, of inputs of their own or of the same one: `output = weight * input` for each part.
//
// Grid: (blocks of all parts, activation rows), a part having rows / 8 blocks, rounded up. A wave has one output. All weights are of
// the same type; inputs and outputs are rows without gaps. A part that is not there has no rows. Layouts of weights: weights.h.
#include "rows.h"

using namespace gpu;

namespace {

struct ProductPart {
    Planes weight;
    const float* input;
    float* output;
    u32 rows;
    u32 columns;
};

constexpr u32 PARTS = 4;

struct ProductsArguments {
    ProductPart parts[PARTS];
};

template <Format F, bool ROUNDED>
DEVICE void compute(const ProductsArguments& a) {
    ProductPart part = a.parts[0];
    u32 block = block_x();
    u32 before = 0;
    UNROLL
    for (u32 i = 0; i < PARTS; ++i) {
        if (block_x() >= before && a.parts[i].rows > 0) {
            part = a.parts[i];
            block = block_x() - before;
        }
        before += round_up(a.parts[i].rows, ROW_WAVES);
    }
    const u32 row = block * ROW_WAVES + wave();
    Lines<F, 1> lines;
    lines.begin(part.weight, 0, row, part.rows, part.columns);
    const float* input = part.input + static_cast<u64>(block_y()) * part.columns;
    multiply_row<F, ROUNDED, false>(lines, input, nullptr, part.columns);
    if (lane() == 0 && row < part.rows) {
        part.output[static_cast<u64>(block_y()) * part.rows + row] = lines.sums[0];
    }
}

}  // namespace

#define PRODUCTS(suffix, format, rounded) \
    KERNEL(products_##suffix, ProductsArguments, ROW_THREADS) { compute<format, rounded>(arguments); }
GEMMA_EVERY_READING(PRODUCTS)
