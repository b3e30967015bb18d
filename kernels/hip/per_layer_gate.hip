// A layer's gate on its per-layer embedding: `output = gelu(weight * (x * scale)) * per_layer`, where `x` is the active stream.
//
// Grid: (rows / 8 waves, activation rows). A wave has one output. `x` begins at value `start` of a row of `stride` values, the layer's
// block at value `block` of a row of `all`; without a scale its pointer is null. Layouts of weights: weights.h.
#include "rows.h"

using namespace gpu;

namespace {

struct PerLayerGateArguments {
    Planes weight;
    const float* streams;
    const float* scale;
    const float* per_layer;
    float* output;
    u32 rows;
    u32 columns;
    u32 stride;
    u32 start;
    u32 all;
    u32 block;
};

template <Format F, bool ROUNDED>
DEVICE void compute(const PerLayerGateArguments& a) {
    const u32 row = block_x() * ROW_WAVES + wave();
    const u64 t = block_y();
    Lines<F, 1> lines;
    lines.begin(a.weight, 0, row, a.rows, a.columns);
    multiply_row<F, ROUNDED, true>(lines, a.streams + t * a.stride + a.start, a.scale, a.columns);
    if (lane() == 0 && row < a.rows) {
        a.output[t * a.rows + row] = gelu(lines.sums[0]) * a.per_layer[t * a.all + a.block + row];
    }
}

}  // namespace

#define PER_LAYER_GATE(suffix, format, rounded) \
    KERNEL(per_layer_gate_##suffix, PerLayerGateArguments, ROW_THREADS) { compute<format, rounded>(arguments); }
GEMMA_EVERY_READING(PER_LAYER_GATE)
