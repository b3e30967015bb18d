// Per-layer embeddings (PLE), and a layer's input from them step by step, for many rows.
#include "portable.h"

using namespace gpu;

namespace {

struct PerLayerEmbedArguments {
    // The token's own values, scaled: `[rows, blocks * width]`.
    const float* table;
    const float* norm;
    // In: the products of the projection. Out: the embeddings.
    float* output;
    u32 blocks;
    u32 width;
    float projection_scale;
    float eps;
};

struct PerLayerScaleArguments {
    const float* streams;
    // Null for none.
    const float* scale;
    float* scaled;
    u32 count;
    u32 width;
    u32 stride;
    u32 start;
};

struct PerLayerMultiplyArguments {
    float* gated;
    const float* per_layer;
    u32 count;
    u32 width;
    u32 all;
    u32 block;
};

constexpr u32 EMBED_THREADS = 64;
constexpr u32 THREADS = 256;

}  // namespace

// `output = (rms(output * projection_scale, norm) + table) / sqrt(2)` for one block of `width` values. Grid: (blocks, rows).
KERNEL(per_layer_embed, PerLayerEmbedArguments, EMBED_THREADS) {
    const auto& a = arguments;
    const u64 start = (static_cast<u64>(block_y()) * a.blocks + block_x()) * a.width;
    float squares = 0.0f;
    for (u32 i = thread_index(); i < a.width; i += EMBED_THREADS) {
        const float value = a.output[start + i] * a.projection_scale;
        squares += value * value;
    }
    const float sum = block_sum<EMBED_THREADS>(squares);
    const float factor = a.projection_scale * inverse_root(sum / static_cast<float>(a.width) + a.eps);
    for (u32 i = thread_index(); i < a.width; i += EMBED_THREADS) {
        a.output[start + i] = (a.output[start + i] * factor * a.norm[i] + a.table[start + i]) * HALF_ROOT;
    }
}

// `scaled = x * scale`, value by value, with `x` the stream that begins at value `start` of a row of `stride`. Grid: (count / 256).
KERNEL(per_layer_scale, PerLayerScaleArguments, THREADS) {
    const auto& a = arguments;
    const u32 at = block_x() * THREADS + thread_index();
    if (at < a.count) {
        const float value = a.streams[static_cast<u64>(at / a.width) * a.stride + a.start + at % a.width];
        a.scaled[at] = a.scale ? value * a.scale[at % a.width] : value;
    }
}

// `gated = gelu(gated) * per_layer[block ...]`, value by value. Grid: (count / 256).
KERNEL(per_layer_multiply, PerLayerMultiplyArguments, THREADS) {
    const auto& a = arguments;
    const u32 at = block_x() * THREADS + thread_index();
    if (at < a.count) {
        a.gated[at] = gelu(a.gated[at]) * a.per_layer[static_cast<u64>(at / a.width) * a.all + a.block + at % a.width];
    }
}
