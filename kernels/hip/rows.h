// Products of rows of a matrix with one row of activations: what every GEMV kernel is made of.
//
// A wave computes OUTPUTS rows at a time, whose packets meet the same activations. The next packets are asked for as soon as one
// has been used.
#pragma once

#include "activations.h"

namespace gpu {

// Threads of a block that computes such products.
constexpr u32 ROW_THREADS = 256;
constexpr u32 ROW_WAVES = ROW_THREADS / WAVE;

// Rows of a matrix that a wave works on, and the packets that it has asked for.
template <Format F, u32 OUTPUTS>
struct Lines {
    Planes rows[OUTPUTS];
    Packet<F> stored[OUTPUTS];
    float sums[OUTPUTS];

    // Rows `row` and the following ones of `count`; past the last one the last is read again.
    DEVICE_METHOD void begin(const Planes& matrix, u32 first, u32 row, u32 count, u32 columns) {
        UNROLL
        for (u32 i = 0; i < OUTPUTS; ++i) {
            rows[i] = row_of<F>(matrix, first + smaller(row + i, count - 1), columns);
            sums[i] = 0.0f;
        }
    }

    // Asks for the first packets of a segment.
    DEVICE_METHOD void ask(u32 from, u32 values) {
        const u32 begin = from / packet_values(F);
        const u32 packet = begin + smaller(lane(), values / packet_values(F) - 1);
        UNROLL
        for (u32 i = 0; i < OUTPUTS; ++i) stored[i] = fetch<F>(rows[i], packet);
    }

    // Adds the products of a segment, which is staged and whose first packets have been asked for.
    template <bool ROUNDED>
    DEVICE_METHOD void add(const Words4* staged, u32 from, u32 values) {
        const u32 begin = from / packet_values(F), packets = values / packet_values(F);
        for (u32 at = lane(); at < packets; at += WAVE) {
            const Met<F, ROUNDED> with = met<F, ROUNDED>(staged, at);
            const u32 next = begin + smaller(at + WAVE, packets - 1);
            UNROLL
            for (u32 i = 0; i < OUTPUTS; ++i) {
                sums[i] += product<F, ROUNDED>(stored[i], begin + at, with);
                stored[i] = fetch<F>(rows[i], next);
            }
        }
    }

    // The sums over the wave, known to all lanes.
    DEVICE_METHOD void finish(SITE_PARAMETER_ALONE) {
        UNROLL
        for (u32 i = 0; i < OUTPUTS; ++i) sums[i] = wave_sum(sums[i] SITE_ARGUMENT);
    }
};

// The products of `lines` with a row of `columns` activations, in the lines' sums. All threads of the block take part.
template <Format F, bool ROUNDED, bool SCALED, u32 OUTPUTS>
DEVICE void multiply_row(Lines<F, OUTPUTS>& lines, const float* input, const float* by, u32 columns SITE_PARAMETER) {
    SHARED(Words4, staged, STAGED_PLACES<ROUNDED>);
    for (u32 from = 0; from < columns; from += SEGMENT) {
        const u32 values = smaller(SEGMENT, columns - from);
        lines.ask(from, values);
        // Who is behind may still read the segment before.
        if (from > 0) shared_barrier(SITE_ARGUMENT_ALONE);
        const float* factors = SCALED && by ? by + from : nullptr;
        stage<ROUNDED, SCALED, ROW_THREADS>(staged, input + from, factors, values SITE_ARGUMENT);
        shared_barrier(SITE_ARGUMENT_ALONE);
        lines.template add<ROUNDED>(staged, from, values);
    }
    lines.finish(SITE_ARGUMENT_ALONE);
}

}  // namespace gpu

// Calls `define(suffix, format, rounded)` for every way to read a matrix: each type with activations as they are, types in blocks with
// activations in 8 bits too.
#define GEMMA_EVERY_READING(define)           \
    define(f32_f32, Format::F32, false)       \
    define(f16_f32, Format::F16, false)       \
    define(bf16_f32, Format::BF16, false)     \
    define(q8_0_f32, Format::Q8_0, false)     \
    define(q6_k_f32, Format::Q6_K, false)     \
    define(q5_k_f32, Format::Q5_K, false)     \
    define(q5_0_f32, Format::Q5_0, false)     \
    define(q4_1_f32, Format::Q4_1, false)     \
    define(q4_k_f32, Format::Q4_K, false)     \
    define(q4_0_f32, Format::Q4_0, false)     \
    define(q8_0_int8, Format::Q8_0, true)     \
    define(q6_k_int8, Format::Q6_K, true)     \
    define(q5_k_int8, Format::Q5_K, true)     \
    define(q5_0_int8, Format::Q5_0, true)     \
    define(q4_1_int8, Format::Q4_1, true)     \
    define(q4_k_int8, Format::Q4_K, true)     \
    define(q4_0_int8, Format::Q4_0, true)
