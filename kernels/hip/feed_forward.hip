// The gate of the feed-forward network for many rows, where gate and up have been computed whole.
#include "portable.h"

using namespace gpu;

namespace {

struct FeedForwardGateArguments {
    float* gated;
    const float* up;
    u32 count;
};

struct FeedForwardCutArguments {
    float* gated;
    const float* up;
    u32 width;
    float cutoff;
};

constexpr u32 THREADS = 256;

}  // namespace

// `gated = gelu(gated) * up`, value by value. Grid: (count / 256).
KERNEL(feed_forward_gate, FeedForwardGateArguments, THREADS) {
    const auto& a = arguments;
    const u32 at = block_x() * THREADS + thread_index();
    if (at < a.count) a.gated[at] = gelu(a.gated[at]) * a.up[at];
}

// `gated = gelu(relu(g - (mean(g) + cutoff * std(g)))) * up` with `g` the row `gated`. Grid: (1, rows); widths are a multiple of 4.
KERNEL(feed_forward_cut, FeedForwardCutArguments, THREADS) {
    const auto& a = arguments;
    float* row = a.gated + static_cast<u64>(block_y()) * a.width;
    const float* up = a.up + static_cast<u64>(block_y()) * a.width;
    float sum = 0.0f;
    for (u32 at = 4 * thread_index(); at < a.width; at += 4 * THREADS) sum += sum_of(load_four(row + at));
    const float mean = block_sum<THREADS>(sum) / static_cast<float>(a.width);
    float squares = 0.0f;
    for (u32 at = 4 * thread_index(); at < a.width; at += 4 * THREADS) {
        const Four four = load_four(row + at);
        UNROLL
        for (u32 i = 0; i < 4; ++i) squares += (four.at[i] - mean) * (four.at[i] - mean);
    }
    const float cut = mean + a.cutoff * root(block_sum<THREADS>(squares) / static_cast<float>(a.width));
    for (u32 at = 4 * thread_index(); at < a.width; at += 4 * THREADS) {
        Four four = load_four(row + at);
        const Four by = load_four(up + at);
        UNROLL
        for (u32 i = 0; i < 4; ++i) four.at[i] = gelu(larger(four.at[i] - cut, 0.0f)) * by.at[i];
        store_four(row + at, four);
    }
}
