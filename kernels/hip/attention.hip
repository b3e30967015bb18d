// Causal softmax attention of many rows over a layer of the cache, to which their keys have been written.
//
// Grid: (query heads, rows / 16). A block has 16 rows of one query head and goes through the keys that any of them sees, 16 at a time:
// keys to shared memory, a score a thread, values to shared memory, and 4 x 4 sums a thread. Row `r` stands at position
// `header[0] + first + r` and sees `window` positions, its own among them. Heads have at most 256 values, a multiple of 8. All in f32.
// Layout of the cache: cache.h.
#include "heads.h"

using namespace gpu;

namespace {

constexpr u32 THREADS = 256;
// Rows of a block, and keys of a tile.
constexpr u32 TILE = 16;
// Values from a row of shared memory to the next: four more than a head, so that rows begin in different banks.
constexpr u32 STRIDE = MOST_DIM + 4;

// Puts `TILE` rows of the cache from position `from` on into `staged`; behind `to` the last is read again.
template <Format F>
DEVICE void stage_tile(const AttentionArguments& a, const Slots& slots, float* staged, u32 from, u32 to) {
    const u32 eights = a.dim / 8;
    const u32 head = block_x() / (a.heads / a.key_heads);
    for (u32 item = thread_index(); item < TILE * eights; item += THREADS) {
        const u32 row = item / eights, at = item % eights * 8;
        const u32 position = smaller(from + row, to - 1);
        float values[8];
        values_of<F>(fetch_eight<F>(slots, (static_cast<u64>(position % a.capacity) * a.key_heads + head) * a.dim + at), values);
        store_four(staged + row * STRIDE + at, {{values[0], values[1], values[2], values[3]}});
        store_four(staged + row * STRIDE + at + 4, {{values[4], values[5], values[6], values[7]}});
    }
}

template <Format F>
DEVICE void compute(const AttentionArguments& a) {
    SHARED(float, queries, TILE* STRIDE);
    SHARED(float, staged, TILE* STRIDE);
    // Weights of a tile by key, and what sums are multiplied with, by row.
    SHARED(float, weights, TILE* TILE);
    SHARED(float, rests, TILE);
    const u32 thread = thread_index(), first_row = block_y() * TILE;
    for (u32 item = thread; item < TILE * a.dim / 4; item += THREADS) {
        const u32 row = item / (a.dim / 4), at = item % (a.dim / 4) * 4;
        const u64 from = (static_cast<u64>(smaller(first_row + row, a.rows - 1)) * a.heads + block_x()) * a.dim + at;
        store_four(queries + row * STRIDE + at, load_four(a.query + from));
    }
    const u32 start = a.header[0] + a.first;
    const u32 last = start + smaller(first_row + TILE, a.rows) - 1;
    const u32 begin = first_seen(start + first_row, a.window);
    // For scores a thread has one row and one key, for sums four rows and four values.
    const u32 row = thread / TILE, key = thread % TILE;
    const u32 position = start + smaller(first_row + row, a.rows - 1);
    const u32 sum_row = thread / 64 * 4, sum_at = thread % 64 * 4;
    float largest = LOWEST, total = 0.0f;
    float sums[4][4] = {};
    for (u32 from = begin; from <= last; from += TILE) {
        // The tile before is done with.
        shared_barrier();
        stage_tile<F>(a, a.cached_keys, staged, from, last + 1);
        shared_barrier();
        float score = 0.0f;
        for (u32 at = 0; at < a.dim; at += 4) {
            const Four q = load_four(queries + row * STRIDE + at), k = load_four(staged + key * STRIDE + at);
            UNROLL
            for (u32 i = 0; i < 4; ++i) score += q.at[i] * k.at[i];
        }
        const u32 seen = from + key;
        const bool is_seen = seen <= position && position - seen < a.window;
        float peak = is_seen ? score : LOWEST;
        peak = larger(peak, exchange<8>(peak));
        peak = larger(peak, exchange<4>(peak));
        peak = larger(peak, exchange<2>(peak));
        peak = larger(largest, larger(peak, exchange<1>(peak)));
        const float weight = is_seen ? exponential(score - peak) : 0.0f;
        float all = weight + exchange<8>(weight);
        all += exchange<4>(all);
        all += exchange<2>(all);
        all += exchange<1>(all);
        const float rest = exponential(largest - peak);
        total = total * rest + all;
        largest = peak;
        weights[key * TILE + row] = weight;
        if (key == 0) rests[row] = rest;
        shared_barrier();
        stage_tile<F>(a, a.cached_values, staged, from, last + 1);
        shared_barrier();
        const Four by = load_four(rests + sum_row);
        UNROLL
        for (u32 r = 0; r < 4; ++r) {
            UNROLL
            for (u32 i = 0; i < 4; ++i) sums[r][i] *= by.at[r];
        }
        if (sum_at < a.dim) {
            for (u32 k = 0; k < TILE; ++k) {
                const Four w = load_four(weights + k * TILE + sum_row), v = load_four(staged + k * STRIDE + sum_at);
                UNROLL
                for (u32 r = 0; r < 4; ++r) {
                    UNROLL
                    for (u32 i = 0; i < 4; ++i) sums[r][i] += w.at[r] * v.at[i];
                }
            }
        }
    }
    shared_barrier();
    if (key == 0) rests[row] = 1.0f / total;
    shared_barrier();
    UNROLL
    for (u32 r = 0; r < 4; ++r) {
        const u32 number = first_row + sum_row + r;
        if (number < a.rows && sum_at < a.dim) {
            const float by = rests[sum_row + r];
            store_four(a.output + (static_cast<u64>(number) * a.heads + block_x()) * a.dim + sum_at,
                       {{sums[r][0] * by, sums[r][1] * by, sums[r][2] * by, sums[r][3] * by}});
        }
    }
}

}  // namespace

#define ATTENTION(suffix, format) \
    KERNEL(attention_##suffix, AttentionArguments, THREADS) { compute<format>(arguments); }
ATTENTION(f32, Format::F32)
ATTENTION(f16, Format::F16)
ATTENTION(q8_0, Format::Q8_0)
