// A row of activations in registers: a block of ROW_BLOCK threads has a row, a thread every ROW_BLOCK-th four of it.
//
// Rows are at most MOST_ROW values, a multiple of 4. What lies behind the end is zero.
#pragma once

#include "portable.h"

namespace gpu {

constexpr u32 ROW_BLOCK = 512;
constexpr u32 SLICES = 2;
constexpr u32 MOST_ROW = ROW_BLOCK * SLICES * 4;

struct Row {
    Four slices[SLICES];
};

DEVICE Row zero_row() {
    Row row;
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) row.slices[s] = {{0.0f, 0.0f, 0.0f, 0.0f}};
    return row;
}

// A thread's part of the `width` values from `from` on.
DEVICE Row read_row(const float* from, u32 width) {
    Row row = zero_row();
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) {
        const u32 at = 4 * (s * ROW_BLOCK + thread_index());
        // Without a branch, so that a thread asks for all its rows at once.
        const Four four = load_four(from + smaller(at, width - 4));
        UNROLL
        for (u32 i = 0; i < 4; ++i) row.slices[s].at[i] = at < width ? four.at[i] : 0.0f;
    }
    return row;
}

DEVICE void write_row(float* to, u32 width, const Row& row) {
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) {
        const u32 at = 4 * (s * ROW_BLOCK + thread_index());
        if (at < width) store_four(to + at, row.slices[s]);
    }
}

// A new row of `value(slice, index)`.
template <class Value>
DEVICE Row make_row(Value value) {
    Row row;
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) row.slices[s].at[i] = value(s, i);
    }
    return row;
}

// A thread's part of the sum of products of two rows.
DEVICE float dot(const Row& a, const Row& b) {
    float sum = 0.0f;
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) sum += a.slices[s].at[i] * b.slices[s].at[i];
    }
    return sum;
}

// `row * by * weight`.
DEVICE Row scaled(const Row& row, float by, const Row& weight) {
    return make_row([&](u32 s, u32 i) { return row.slices[s].at[i] * by * weight.slices[s].at[i]; });
}

DEVICE Row added(const Row& a, const Row& b) {
    return make_row([&](u32 s, u32 i) { return a.slices[s].at[i] + b.slices[s].at[i]; });
}

// What an RMS norm multiplies with, from the sum of squares.
DEVICE float norm_factor(float squares, u32 width, float eps) {
    return inverse_root(squares / static_cast<float>(width) + eps);
}

// What a row of mean square `own` is multiplied with to have a mean square of `wanted`; the floor is AltUp's.
DEVICE float match_factor(float wanted, float own) { return root(wanted / larger(own, 1e-5f)); }

}  // namespace gpu
