// Activations in shared memory, for products with few rows: as they are, or rounded to 8 bits in blocks of 32 values.
//
// A segment of a row is staged at a time. One in nine places stays free, so that what neighbouring lanes read lies in different
// banks. Behind rounded values stands a place a block: its step, and the sums of its two sixteens.
#pragma once

#include "weights.h"

namespace gpu {

// Values that are staged at a time: whole blocks of every type.
constexpr u32 SEGMENT = 2048;

DEVICE constexpr u32 padded(u32 places) { return places + (places + 7) / 8; }
// Where a place is.
DEVICE u32 staged_at(u32 place) { return place + place / 8; }

constexpr u32 FIRST_BLOCK = 144;  // padded(SEGMENT / 16)

template <bool ROUNDED>
constexpr u32 STAGED_PLACES = ROUNDED ? FIRST_BLOCK + SEGMENT / 32 : 576;  // padded(SEGMENT / 4)

// Sixteen values in 8 bits, and what they stand for.
struct Rounded {
    Words4 quants;
    float step;
    float sum;
};

// Rounds 16 values by the largest of 32, to the nearest step, ties up.
DEVICE Rounded rounded(const Four (&values)[4], float largest) {
    KEEP_ROUNDING
    const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    Rounded result;
    float sum = 0.0f;
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        u32 word = 0;
        UNROLL
        for (u32 k = 0; k < 4; ++k) {
            const float quant = floor(values[i].at[k] * inverse + 0.5f);
            sum += quant;
            word |= (static_cast<u32>(static_cast<i32>(quant)) & 255) << 8 * k;
        }
        result.quants.at[i] = word;
    }
    result.step = largest / 127.0f;
    result.sum = sum * result.step;
    return result;
}

DEVICE float largest_of(const Four (&values)[4]) {
    float largest = 0.0f;
    UNROLL
    for (u32 i = 0; i < 4; ++i) {
        UNROLL
        for (u32 k = 0; k < 4; ++k) largest = larger(largest, absolute(values[i].at[k]));
    }
    return largest;
}

// Stages `count` values from `input` on, a multiple of 4, or of 32 where they are rounded. With SCALED each is multiplied with its
// value of `by`, if that is given. All threads take part; a barrier must follow.
template <bool ROUNDED, bool SCALED, u32 THREADS>
DEVICE void stage(Words4* staged, const float* input, const float* by, u32 count SITE_PARAMETER) {
    auto read = [&](u32 four) {
        Four values = load_four(input + 4 * four);
        if (SCALED && by) {
            const Four factors = load_four(by + 4 * four);
            UNROLL
            for (u32 k = 0; k < 4; ++k) values.at[k] *= factors.at[k];
        }
        return values;
    };
    if constexpr (ROUNDED) {
        for (u32 first = 0; first < count / 16; first += THREADS) {
            const u32 sixteen = first + thread_index();
            const bool is_there = sixteen < count / 16;
            Four values[4] = {};
            if (is_there) {
                UNROLL
                for (u32 i = 0; i < 4; ++i) values[i] = read(4 * sixteen + i);
            }
            // A lane and its neighbour have a block.
            const float own = largest_of(values);
            const Rounded result = rounded(values, larger(own, exchange<1>(own SITE_ARGUMENT)));
            const float other = exchange<1>(result.sum SITE_ARGUMENT);
            if (is_there) {
                staged[staged_at(sixteen)] = result.quants;
                if (sixteen % 2 == 0) {
                    staged[FIRST_BLOCK + sixteen / 2] = {{bits_of(result.step), bits_of(result.sum), bits_of(other), 0}};
                }
            }
        }
    } else {
        for (u32 four = thread_index(); four < count / 4; four += THREADS) {
            const Four values = read(four);
            staged[staged_at(four)] = {
                {bits_of(values.at[0]), bits_of(values.at[1]), bits_of(values.at[2]), bits_of(values.at[3])}};
        }
    }
}

// What a packet is multiplied with.
template <Format F, bool ROUNDED>
struct Met;

template <Format F>
struct Met<F, false> {
    Four values[packet_values(F) / 4];
    // Sums of the near and the far sixteen, where a zero in the middle or a minimum asks for them.
    float sums[2];
};

template <Format F>
struct Met<F, true> {
    Words4 quants[2];
    float steps[2];
    float sums[2];
};

DEVICE Four four_of(const Words4& words) {
    return {{float_of(words.at[0]), float_of(words.at[1]), float_of(words.at[2]), float_of(words.at[3])}};
}

// What packet `packet` meets, counted from where staging has begun.
template <Format F, bool ROUNDED>
DEVICE Met<F, ROUNDED> met(const Words4* staged, u32 packet) {
    Met<F, ROUNDED> met;
    if constexpr (!is_block(F)) {
        constexpr u32 FOURS = packet_values(F) / 4;
        UNROLL
        for (u32 i = 0; i < FOURS; ++i) met.values[i] = four_of(staged[staged_at(packet * FOURS + i)]);
    } else {
        constexpr u32 SIXTEENS = has_nibbles(F) ? 2 : 1;
        UNROLL
        for (u32 n = 0; n < SIXTEENS; ++n) {
            const u32 sixteen = near_sixteen<F>(packet) + n * far_distance(F);
            if constexpr (ROUNDED) {
                const Four block = four_of(staged[FIRST_BLOCK + sixteen / 2]);
                met.quants[n] = staged[staged_at(sixteen)];
                met.steps[n] = block.at[0];
                met.sums[n] = sixteen % 2 == 0 ? block.at[1] : block.at[2];
            } else {
                // Four fours that begin at a multiple of four have no free place between them.
                const u32 place = staged_at(4 * sixteen);
                met.sums[n] = 0.0f;
                UNROLL
                for (u32 i = 0; i < 4; ++i) {
                    met.values[4 * n + i] = four_of(staged[place + i]);
                    if constexpr (zero_of(F) != 0 || has_minimum(F)) met.sums[n] += sum_of(met.values[4 * n + i]);
                }
            }
        }
    }
    return met;
}

DEVICE i32 dot16(const Words4& a, const Words4& b) {
    i32 sum = 0;
    UNROLL
    for (u32 i = 0; i < 4; ++i) sum = dot4(a.at[i], b.at[i], sum);
    return sum;
}

// The near or far part of a packet's product.
template <Format F, bool ROUNDED, bool FAR>
DEVICE float half_product(const Packet<F>& got, u32 packet, const Met<F, ROUNDED>& met) {
    const Words4 quants = quants_of<F>(got, packet, FAR);
    const Scale scale = scale_of<F>(got, packet, FAR);
    float sum;
    if constexpr (ROUNDED) {
        sum = static_cast<float>(dot16(quants, met.quants[FAR])) * met.steps[FAR];
    } else {
        sum = 0.0f;
        UNROLL
        for (u32 i = 0; i < 16; ++i) sum += quant<F>(quants.at[i / 4], i % 4) * met.values[4 * FAR + i / 4].at[i % 4];
    }
    if constexpr (zero_of(F) != 0) sum -= static_cast<float>(zero_of(F)) * met.sums[FAR];
    sum *= scale.scale;
    if constexpr (has_minimum(F)) sum -= met.sums[FAR] * scale.minimum;
    return sum;
}

// The product of a packet with what it meets.
template <Format F, bool ROUNDED>
DEVICE float product(const Packet<F>& got, u32 packet, const Met<F, ROUNDED>& met) {
    if constexpr (F == Format::F32) {
        float sum = 0.0f;
        UNROLL
        for (u32 i = 0; i < 4; ++i) sum += float_of(got.words.at[i]) * met.values[0].at[i];
        return sum;
    } else if constexpr (!is_block(F)) {
        float sum = 0.0f;
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            sum += low_half<F>(got.words.at[i]) * met.values[i / 2].at[i % 2 * 2];
            sum += high_half<F>(got.words.at[i]) * met.values[i / 2].at[i % 2 * 2 + 1];
        }
        return sum;
    } else if constexpr (F == Format::Q8_0) {
        return half_product<F, ROUNDED, false>(got, packet, met);
    } else {
        return half_product<F, ROUNDED, false>(got, packet, met) + half_product<F, ROUNDED, true>(got, packet, met);
    }
}

}  // namespace gpu
