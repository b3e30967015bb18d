// Activations on their way to matrix units: halved to f16, or rounded to 8 bits in blocks of 32 values.
//
// Rows are filled up with zeros to whole blocks of 32 values.
#include "activations.h"

using namespace gpu;

namespace {

struct ActivationHalfArguments {
    const float* input;
    // `[rows, columns rounded up to 32]` in f16.
    u16* output;
    u32 columns;
    // Values from one row of the input to the next.
    u32 input_stride;
};

struct ActivationInt8Arguments {
    const float* input;
    // `[rows, columns]` signed bytes, and for each block of them a step and the sums of its two sixteens, as four f32.
    u8* quants;
    float* blocks;
    u32 columns;
    u32 input_stride;
};

constexpr u32 THREADS = 128;

}  // namespace

// Grid: (columns / 1,024, rows), columns being rounded up to 32 first; they are a multiple of 8. A thread has eight values.
KERNEL(activation_f16, ActivationHalfArguments, THREADS) {
    const auto& a = arguments;
    const u32 width = round_up(a.columns, 32) * 32;
    const u32 at = 8 * (block_x() * THREADS + thread_index());
    if (at >= width) return;
    const float* row = a.input + static_cast<u64>(block_y()) * a.input_stride;
    Words4 halves = {};
    if (at < a.columns) {
        const Four low = load_four(row + at), high = load_four(row + at + 4);
        UNROLL
        for (u32 i = 0; i < 2; ++i) {
            halves.at[i] = float_to_half(low.at[2 * i]) | float_to_half(low.at[2 * i + 1]) << 16;
            halves.at[2 + i] = float_to_half(high.at[2 * i]) | float_to_half(high.at[2 * i + 1]) << 16;
        }
    }
    store_words(a.output + static_cast<u64>(block_y()) * width + at, halves);
}

// Grid: (columns / 2,048, rows); columns are a multiple of 32. A thread has sixteen values, and its neighbour the block's others.
KERNEL(activation_rounded, ActivationInt8Arguments, THREADS) {
    const auto& a = arguments;
    const u32 at = 16 * (block_x() * THREADS + thread_index());
    const bool is_there = at < a.columns;
    Four values[4] = {};
    if (is_there) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            values[i] = load_four(a.input + static_cast<u64>(block_y()) * a.input_stride + at + 4 * i);
        }
    }
    const float own = largest_of(values);
    const Rounded result = rounded(values, larger(own, exchange<1>(own)));
    const float other = exchange<1>(result.sum);
    if (is_there) {
        store_words(a.quants + static_cast<u64>(block_y()) * a.columns + at, result.quants);
        if (at % 32 == 0) {
            store_four(a.blocks + (static_cast<u64>(block_y()) * a.columns + at) / 8, {{result.step, result.sum, other, 0.0f}});
        }
    }
}
