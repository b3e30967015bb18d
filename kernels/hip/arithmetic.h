// Functions of one value, sums over a wave or a block, and which block comes last.
#pragma once

#include "portable.h"

namespace gpu {

constexpr float LOG2_E = 1.44269504088896340736f;
constexpr float HALF_ROOT = 0.70710678118654752440f;
constexpr float PI_FACTOR = 0.79788456080286535588f;  // sqrt(2 / pi)

// Less than every score.
constexpr float LOWEST = -3.0e38f;

DEVICE u32 smaller(u32 a, u32 b) { return a < b ? a : b; }
DEVICE u32 round_up(u32 count, u32 by) { return (count + by - 1) / by; }

// Two halves in a word.
DEVICE u32 halves(float low, float high) { return float_to_half(low) | float_to_half(high) << 16; }

DEVICE float exponential(float x) { return exp2(x * LOG2_E); }

DEVICE float tangent(float x) {
    const float size = absolute(x);
    const float square = x * x;
    // Near zero 1 - exp(-2 x) would cancel.
    const float near =
        x + x * square * (-1.0f / 3 + square * (2.0f / 15 + square * (-17.0f / 315 + square * (62.0f / 2835))));
    const float rest = exponential(-2.0f * size);
    const float far = (1.0f - rest) / (1.0f + rest);
    return size < 0.25f ? near : (x < 0.0f ? -far : far);
}

// GELU in its tanh form.
DEVICE float gelu(float x) { return 0.5f * x * (1.0f + tangent(PI_FACTOR * (x + 0.044715f * x * x * x))); }

DEVICE float sum_of(Four four) { return four.at[0] + four.at[1] + four.at[2] + four.at[3]; }

DEVICE Four load_four(const float* place) {
    const Words4 words = load_words(place);
    return {{float_of(words.at[0]), float_of(words.at[1]), float_of(words.at[2]), float_of(words.at[3])}};
}

DEVICE void store_four(float* place, Four four) {
    store_words(place, {{bits_of(four.at[0]), bits_of(four.at[1]), bits_of(four.at[2]), bits_of(four.at[3])}});
}

#if !defined(GEMMA_EMULATED)  // where a sum of a wave is one collective

// The sum over a wave, known to all lanes.
DEVICE float wave_sum(float value SITE_PARAMETER) {
    value += exchange<16>(value SITE_ARGUMENT);
    value += exchange<8>(value SITE_ARGUMENT);
    value += exchange<4>(value SITE_ARGUMENT);
    value += exchange<2>(value SITE_ARGUMENT);
    return value + exchange<1>(value SITE_ARGUMENT);
}

DEVICE u32 wave_sum(u32 value SITE_PARAMETER) {
    value += exchange<16>(value SITE_ARGUMENT);
    value += exchange<8>(value SITE_ARGUMENT);
    value += exchange<4>(value SITE_ARGUMENT);
    value += exchange<2>(value SITE_ARGUMENT);
    return value + exchange<1>(value SITE_ARGUMENT);
}

DEVICE float wave_max(float value SITE_PARAMETER) {
    value = larger(value, exchange<16>(value SITE_ARGUMENT));
    value = larger(value, exchange<8>(value SITE_ARGUMENT));
    value = larger(value, exchange<4>(value SITE_ARGUMENT));
    value = larger(value, exchange<2>(value SITE_ARGUMENT));
    return larger(value, exchange<1>(value SITE_ARGUMENT));
}

#endif

// Sums over a block of COUNT values a thread, in place, known to all threads. The block has THREADS threads.
template <u32 THREADS, u32 COUNT>
DEVICE void block_sums(float (&values)[COUNT] SITE_PARAMETER) {
    constexpr u32 WAVES = THREADS / WAVE;
    static_assert(THREADS % WAVE == 0 && WAVES <= WAVE, "a block is whole waves, at most 32");
    SHARED(float, partial, WAVES* COUNT);
    // Who calls twice may still be reading.
    shared_barrier(SITE_ARGUMENT_ALONE);
    UNROLL
    for (u32 i = 0; i < COUNT; ++i) {
        const float sum = wave_sum(values[i] SITE_ARGUMENT);
        if (lane() == 0) {
            partial[i * WAVES + wave()] = sum;
        }
    }
    shared_barrier(SITE_ARGUMENT_ALONE);
    UNROLL
    for (u32 i = 0; i < COUNT; ++i) {
        values[i] = wave_sum(lane() < WAVES ? partial[i * WAVES + lane()] : 0.0f SITE_ARGUMENT);
    }
}

template <u32 THREADS>
DEVICE float block_sum(float value SITE_PARAMETER) {
    float values[1] = {value};
    block_sums<THREADS>(values SITE_ARGUMENT);
    return values[0];
}

// The largest of what the threads of a block have, none of it negative; known to all of them.
template <u32 THREADS>
DEVICE float block_max(float value SITE_PARAMETER) {
    constexpr u32 WAVES = THREADS / WAVE;
    SHARED(float, partial, WAVES);
    const float largest = wave_max(value SITE_ARGUMENT);
    // Who calls twice may still be reading.
    shared_barrier(SITE_ARGUMENT_ALONE);
    if (lane() == 0) partial[wave()] = largest;
    shared_barrier(SITE_ARGUMENT_ALONE);
    return wave_max(lane() < WAVES ? partial[lane()] : 0.0f SITE_ARGUMENT);
}

// Whether the block is the last of `parts` that come here; it then sees what the others have written before. `counter` is zero before and
// after.
DEVICE bool comes_last(u32* counter, u32 parts SITE_PARAMETER) {
    SHARED(u32, arrived, 1);
    device_barrier(SITE_ARGUMENT_ALONE);
    if (thread_index() == 0) {
        const u32 before = atomic_add(counter, 1);
        if (before == parts - 1) *counter = 0;
        arrived[0] = before;
    }
    device_barrier(SITE_ARGUMENT_ALONE);
    return arrived[0] == parts - 1;
}

}  // namespace gpu
