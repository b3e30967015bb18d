// Activations on their way to matrix units: as f16, or rounded to 8 bits in blocks of 32 values.
//
// Rows are filled up with zeros to whole blocks of 32 values.
#include "activations.h"

using namespace gpu;

namespace {

struct ActivationHalfArguments {
    const float* input;
    // `[rows, columns rounded up to 32]` in f16.
    u16* output;
    // What each row is to be multiplied with.
    float* scales;
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
constexpr u32 HALF_THREADS = 256;

}  // namespace

// Grid: (1, rows); columns are a multiple of 8. f16 ends at 65,504, and has few bits left below 2^-14: a row is divided by the power of
// two that brings its largest magnitude to between 2^13 and 2^14. A thread has eight values at a time.
KERNEL(activation_f16, ActivationHalfArguments, HALF_THREADS) {
    const auto& a = arguments;
    const u32 width = round_up(a.columns, 32) * 32;
    const float* row = a.input + static_cast<u64>(block_y()) * a.input_stride;
    float largest = 0.0f;
    for (u32 at = 8 * thread_index(); at < a.columns; at += 8 * HALF_THREADS) {
        const Four low = load_four(row + at), high = load_four(row + at + 4);
        UNROLL
        for (u32 i = 0; i < 4; ++i) largest = larger(largest, larger(absolute(low.at[i]), absolute(high.at[i])));
    }
    // As floats have it: 127 for one. Of what is no number, or zero, nothing is asked.
    const u32 exponent = bits_of(block_max<HALF_THREADS>(largest)) >> 23;
    const u32 kept = exponent < 14 ? 14 : exponent > 254 ? 254 : exponent;
    const float by = float_of((267 - kept) << 23);
    if (thread_index() == 0) a.scales[block_y()] = float_of((kept - 13) << 23);
    for (u32 at = 8 * thread_index(); at < width; at += 8 * HALF_THREADS) {
        Words4 words = {};
        if (at < a.columns) {
            const Four low = load_four(row + at), high = load_four(row + at + 4);
            words = {{halves(low.at[0] * by, low.at[1] * by), halves(low.at[2] * by, low.at[3] * by),
                      halves(high.at[0] * by, high.at[1] * by), halves(high.at[2] * by, high.at[3] * by)}};
        }
        store_words(a.output + static_cast<u64>(block_y()) * width + at, words);
    }
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
