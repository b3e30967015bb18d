// What the matrix products for many rows have in common. A block has a tile of the weight's rows and of activation rows.
#pragma once

#include "weights.h"

namespace gpu {

struct GemmArguments {
    Planes weight;
    // Activations as the kernel wants them.
    const u8* input;
    // Of rounded activations, for each block of 32 a step and two sums.
    const float* blocks;
    float* output;
    // The first row of the matrix that is used, and how many are.
    u32 first;
    u32 rows;
    u32 columns;
    // Activation rows.
    u32 tokens;
    // Values from one row of the output to the next.
    u32 output_stride;
    // The same for the input, where its rows need not be whole blocks.
    u32 input_stride;
};

constexpr u32 GEMM_THREADS = 256;

// With matrix units: rows of the weight and activation rows of a block's tile, columns that are staged at a time.
constexpr u32 WEIGHT_TILE = 128;
constexpr u32 TOKEN_TILE = 64;
constexpr u32 DEPTH = 32;

// A wave has 2 x 2 products of 16 x 16: which part of the block's tile that is.
DEVICE u32 wave_weight() { return wave() % 4 * 32; }
DEVICE u32 wave_token() { return wave() / 4 * 32; }

// Writes a wave's product number (`m`, `n`).
DEVICE void write_product(const GemmArguments& a, const FloatAccumulator& sums, u32 m, u32 n) {
    const u32 row = block_x() * WEIGHT_TILE + wave_weight() + 16 * n + lane() % 16;
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        const u32 token = block_y() * TOKEN_TILE + wave_token() + 16 * m + 2 * i + lane() / 16;
        if (row < a.rows && token < a.tokens) a.output[static_cast<u64>(token) * a.output_stride + row] = sums.at[i];
    }
}

}  // namespace gpu
