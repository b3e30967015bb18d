// What the matrix products for many rows have in common. A block has a tile of the weight's rows and of activation rows.
#pragma once

#include "weights.h"

namespace gpu {

struct GemmArguments {
    Planes weight;
    // Activations as the kernel wants them.
    const u8* input;
    // Of rounded activations, for each block of 32 a step and two sums; of those in f16, for each row what it is multiplied with.
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

// With matrix units: rows of the weight of a block's tile, columns that are staged at a time.
constexpr u32 WEIGHT_TILE = 128;
constexpr u32 DEPTH = 32;

// How a block's tile is shared: a wave has M x N products of 16 x 16, M along activation rows and N along the weight's.
template <u32 M, u32 N>
struct Tile {
    static constexpr u32 ACROSS = WEIGHT_TILE / (16 * N);
    static constexpr u32 TOKENS = GEMM_THREADS / WAVE / ACROSS * 16 * M;
    // The wave's first rows in the block's tile.
    DEVICE_METHOD static u32 weight() { return wave() % ACROSS * (16 * N); }
    DEVICE_METHOD static u32 token() { return wave() / ACROSS * (16 * M); }
};

// Writes a wave's products, with SCALED those of each row times its scale. Blocks that have the same rows of the weight follow each other, so that these are fetched once.
template <bool SCALED, u32 M, u32 N>
DEVICE void write_products(const GemmArguments& a, const FloatAccumulator (&sums)[M][N]) {
    const u32 row = block_y() * WEIGHT_TILE + Tile<M, N>::weight() + product_column(0);
    const u32 token = block_x() * Tile<M, N>::TOKENS + Tile<M, N>::token() + product_row(0);
    float* first = a.output + static_cast<u64>(token) * a.output_stride + row;
    UNROLL
    for (u32 m = 0; m < M; ++m) {
        // Eight are asked for before one is waited for.
        float by[8];
        UNROLL
        for (u32 i = 0; i < 8; ++i) {
            const u32 down = 16 * m + product_row(i) - product_row(0);
            by[i] = SCALED ? a.blocks[smaller(token + down, a.tokens - 1)] : 1.0f;
        }
        UNROLL
        for (u32 i = 0; i < 8; ++i) {
            // The same in all lanes, as is the place of a column.
            const u32 down = 16 * m + product_row(i) - product_row(0);
            if (token + down < a.tokens) {
                float* line = first + static_cast<u64>(down) * a.output_stride;
                UNROLL
                for (u32 n = 0; n < N; ++n) {
                    const u32 along = 16 * n + product_column(i) - product_column(0);
                    if (row + along < a.rows) line[along] = sums[m][n].at[i] * by[i];
                }
            }
        }
    }
}

}  // namespace gpu
