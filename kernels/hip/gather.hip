// Rows of a table of embeddings: `output[t][b * width + i] = scale * table[id[t]][blocks[b] * width + i]`.
//
// Grid: (count * width / 256, tokens). Without `blocks` (null) block `b` is itself. An id that the table does not have takes row 0.
// Layouts of tables: weights.h.
#include "weights.h"

using namespace gpu;

namespace {

struct GatherArguments {
    Planes table;
    const u32* ids;
    const u32* blocks;
    float* output;
    u32 rows;
    u32 columns;
    u32 width;
    // Blocks.
    u32 count;
    float scale;
};

constexpr u32 THREADS = 256;

// One value of a row.
template <Format F>
DEVICE float value_at(const Planes& row, u32 index) {
    if constexpr (F == Format::F32) {
        return float_of(word_at(row.words, index));
    } else if constexpr (!is_block(F)) {
        const u32 bits = half_word_at(row.words, index);
        return low_half<F>(bits);
    } else {
        const Sixteen got = sixteen_of<F>(row, index / 16);
        const u32 low = index & 4 ? got.quants.at[1] : got.quants.at[0];
        const u32 high = index & 4 ? got.quants.at[3] : got.quants.at[2];
        const float quants = quant<F>((index & 8 ? high : low) >> index % 4 * 8, 0);
        return (quants - static_cast<float>(zero_of(F))) * got.scale.scale - got.scale.minimum;
    }
}

template <Format F>
DEVICE void compute(const GatherArguments& a) {
    const u32 at = block_x() * THREADS + thread_index();
    if (at >= a.count * a.width) return;
    const u32 id = a.ids[block_y()];
    const Planes row = row_of<F>(a.table, id < a.rows ? id : 0, a.columns);
    const u32 block = at / a.width;
    const u32 first = a.blocks ? a.blocks[block] * a.width : block * a.width;
    a.output[static_cast<u64>(block_y()) * a.count * a.width + at] = a.scale * value_at<F>(row, first + at % a.width);
}

}  // namespace

#define GATHER(suffix, format) \
    KERNEL(gather_##suffix, GatherArguments, THREADS) { compute<format>(arguments); }
GATHER(f32, Format::F32)
GATHER(f16, Format::F16)
GATHER(bf16, Format::BF16)
GATHER(q8_0, Format::Q8_0)
GATHER(q6_k, Format::Q6_K)
GATHER(q5_k, Format::Q5_K)
GATHER(q5_0, Format::Q5_0)
GATHER(q4_1, Format::Q4_1)
GATHER(q4_k, Format::Q4_K)
GATHER(q4_0, Format::Q4_0)
