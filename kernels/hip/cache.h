// The KV cache as kernels read and write it, eight values at a time.
//
// F32 and F16 lie as they are. Q8_0 is a byte a value, and for 32 values an f16 scale in the lower half of a word of its own, as
// `IgpuCache` has it. Position `p` of a layer is in slot `p % capacity`; a slot has `heads * dim` values.
#pragma once

#include "weights.h"

namespace gpu {

// Keys, or values, of a layer.
struct Slots {
    u8* words;
    u32* scales;
};

// Eight values as they are stored.
template <Format F>
struct Eight {
    u32 words[F == Format::F32 ? 8 : F == Format::F16 ? 4 : 2];
    u32 scale;
};

// Asks for eight values from value `at` on, a multiple of 8.
template <Format F>
DEVICE Eight<F> fetch_eight(const Slots& slots, u64 at) {
    Eight<F> eight = {};
    if constexpr (F == Format::F32) {
        const Words4 low = load_words(slots.words + at * 4), high = load_words(slots.words + at * 4 + 16);
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            eight.words[i] = low.at[i];
            eight.words[4 + i] = high.at[i];
        }
    } else if constexpr (F == Format::F16) {
        const Words4 all = load_words(slots.words + at * 2);
        UNROLL
        for (u32 i = 0; i < 4; ++i) eight.words[i] = all.at[i];
    } else {
        eight.words[0] = word_at(slots.words + at, 0);
        eight.words[1] = word_at(slots.words + at, 1);
        eight.scale = slots.scales[at / 32];
    }
    return eight;
}

template <Format F>
DEVICE void values_of(const Eight<F>& eight, float (&values)[8]) {
    if constexpr (F == Format::F32) {
        UNROLL
        for (u32 i = 0; i < 8; ++i) values[i] = float_of(eight.words[i]);
    } else if constexpr (F == Format::F16) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            values[2 * i] = half_to_float(eight.words[i] & 0xffff);
            values[2 * i + 1] = half_to_float(eight.words[i] >> 16);
        }
    } else {
        const float scale = half_to_float(eight.scale & 0xffff);
        UNROLL
        for (u32 i = 0; i < 8; ++i) values[i] = scale * quant<Format::Q8_0>(eight.words[i / 4], i % 4);
    }
}

// Writes eight values of each lane, lanes next to each other in one head; those without `is_there` write nothing. Heads of Q8_0 are
// multiples of 32. All lanes take part.
template <Format F>
DEVICE void write_eight(const Slots& slots, u64 at, const float (&values)[8], bool is_there SITE_PARAMETER) {
    if constexpr (F == Format::F32) {
        if (is_there) {
            float* place = reinterpret_cast<float*>(slots.words) + at;
            store_four(place, {{values[0], values[1], values[2], values[3]}});
            store_four(place + 4, {{values[4], values[5], values[6], values[7]}});
        }
    } else if constexpr (F == Format::F16) {
        if (is_there) {
            Words4 all;
            UNROLL
            for (u32 i = 0; i < 4; ++i) {
                all.at[i] = halves(values[2 * i], values[2 * i + 1]);
            }
            store_words(slots.words + at * 2, all);
        }
    } else {
        KEEP_ROUNDING
        float largest = 0.0f;
        UNROLL
        for (u32 i = 0; i < 8; ++i) largest = larger(largest, absolute(values[i]));
        // Four lanes have a block.
        largest = larger(largest, exchange<1>(largest SITE_ARGUMENT));
        largest = larger(largest, exchange<2>(largest SITE_ARGUMENT));
        const float step = largest / 127.0f;
        const float inverse = step > 0.0f ? 1.0f / step : 0.0f;
        u32 words[2] = {0, 0};
        UNROLL
        for (u32 i = 0; i < 8; ++i) {
            // Ties away from zero, as ggml rounds.
            const float scaled = values[i] * inverse;
            const float rounded = scaled < 0.0f ? -floor(0.5f - scaled) : floor(scaled + 0.5f);
            words[i / 4] |= (static_cast<u32>(static_cast<i32>(rounded)) & 255) << i % 4 * 8;
        }
        if (is_there) {
            u32* place = reinterpret_cast<u32*>(slots.words + at);
            place[0] = words[0];
            place[1] = words[1];
            if (lane() % 4 == 0) slots.scales[at / 32] = float_to_half(step);
        }
    }
}

}  // namespace gpu
