// Rows of `up` for the units that a cut has left: `values[i] *= weight[units[i]] * input`, and the same at its unit in `gated`.
//
// Grid: any number of blocks, which is `blocks`; they go through the list together, a wave an entry at a time, so that the grid does
// not depend on how long the list is. One activation row. Layouts of weights: weights.h.
#include "rows.h"

using namespace gpu;

namespace {

struct SparseUpArguments {
    Planes weight;
    const float* input;
    const u32* units;
    // How many there are.
    const u32* count;
    float* values;
    float* gated;
    u32 columns;
    u32 blocks;
};

template <Format F, bool ROUNDED>
DEVICE void compute(const SparseUpArguments& a) {
    const u32 count = *a.count;
    // The same for all threads of a block, as its barriers ask for.
    for (u32 first = block_x() * ROW_WAVES; first < count; first += a.blocks * ROW_WAVES) {
        const u32 index = first + wave();
        const u32 unit = a.units[smaller(index, count - 1)];
        Lines<F, 1> lines;
        lines.begin(a.weight, unit, 0, 1, a.columns);
        // Who is behind may still read what was staged for the entry before.
        shared_barrier();
        multiply_row<F, ROUNDED, false>(lines, a.input, nullptr, a.columns);
        if (lane() == 0 && index < count) {
            const float value = a.values[index] * lines.sums[0];
            a.values[index] = value;
            a.gated[unit] = value;
        }
    }
}

}  // namespace

#define SPARSE_UP(suffix, format, rounded) \
    KERNEL(sparse_up_##suffix, SparseUpArguments, ROW_THREADS) { compute<format, rounded>(arguments); }
GEMMA_EVERY_READING(SPARSE_UP)
