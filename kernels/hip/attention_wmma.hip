// Causal softmax attention of many rows with matrix units: queries, keys, values and weights in f16, sums in f32.
//
// Grid: (rows / 16, groups). A block has 16 rows of the query heads of a group, at most four with the same key head, and goes through the
// keys that any of the rows sees, 32 at a time. Two waves have a head: each multiplies queries with half of the keys, and all weights with
// half of what a value row has. Row `r` stands at position `header[0] + first + r` and sees `window` positions, its own among them. Heads
// have at most 256 values, a multiple of 8. Layout of the cache: cache.h.
#include "heads.h"

using namespace gpu;

namespace {

constexpr u32 THREADS = 256;
constexpr u32 WAVES = THREADS / WAVE;
// Rows of a block, and keys of a tile.
constexpr u32 ROWS = 16;
constexpr u32 KEYS = 32;
// Words from a row of shared memory to the next, of halves along a head and along the keys: four more, so that rows begin in different
// banks.
constexpr u32 ALONG_HEAD = MOST_DIM / 2 + 4;
constexpr u32 ALONG_KEYS = KEYS / 2 + 4;
// The largest weight is two to the power of this: f16 keeps eleven bits of a weight from 2^-14 on.
constexpr float WEIGHT_BITS = 14.0f;
// Eights of a tile that a thread fetches.
constexpr u32 FETCHED = KEYS * MOST_DIM / 8 / THREADS;
// Products of 16 x 16 that a wave has of a value row.
constexpr u32 PARTS = MOST_DIM / 2 / 16;

// Where parts of shared memory begin, in bytes, and how much there is.
constexpr u32 STAGED = 4 * SHARED_BY * ROWS * ALONG_HEAD;
constexpr u32 WEIGHTS = STAGED + 4 * MOST_DIM * ALONG_KEYS;
constexpr u32 PEAKS = WEIGHTS + 4 * SHARED_BY * ROWS * ALONG_KEYS;
[[maybe_unused]] constexpr u32 ALL = PEAKS + 4 * WAVES * ROWS;

// A thread's part of a tile of keys or values, as it is stored.
template <Format F>
struct Tile {
    Eight<F> eights[FETCHED];
};

// Four words of two halves each; zeros behind the end of a head.
template <Format F>
DEVICE Words4 halves_of(const Eight<F>& eight, bool is_there) {
    Words4 result;
    if constexpr (F == Format::F16) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) result.at[i] = is_there ? eight.words[i] : 0;
    } else {
        float values[8];
        values_of<F>(eight, values);
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            const u32 pair = halves(values[2 * i], values[2 * i + 1]);
            result.at[i] = is_there ? pair : 0;
        }
    }
    return result;
}

// Eight values of position `position`, or of the last one before `to`; behind the end of a head the last ones are read again.
template <Format F>
DEVICE Eight<F> fetch(const AttentionArguments& a, const Slots& slots, u32 key_head, u32 position, u32 to, u32 at) {
    const u32 slot = smaller(position, to - 1) % a.capacity;
    return fetch_eight<F>(slots, (static_cast<u64>(slot) * a.key_heads + key_head) * a.dim + smaller(at, a.dim - 8));
}

// Asks for the keys from position `from` on: a wave has a row at a time.
template <Format F>
DEVICE void fetch_keys(const AttentionArguments& a, u32 key_head, u32 from, u32 to, Tile<F>& tile) {
    UNROLL
    for (u32 i = 0; i < FETCHED; ++i) {
        tile.eights[i] = fetch<F>(a, a.cached_keys, key_head, from + i * WAVES + thread_index() / WAVE, to, 8 * lane());
    }
}

// A row of shared memory a key.
template <Format F>
DEVICE void store_keys(u32* staged, u32 dim, const Tile<F>& tile) {
    UNROLL
    for (u32 i = 0; i < FETCHED; ++i) {
        const u32 row = i * WAVES + thread_index() / WAVE;
        store_words(staged + row * ALONG_HEAD + 4 * lane(), halves_of<F>(tile.eights[i], 8 * lane() < dim));
    }
}

// Which pair of value rows, and which eight of a head: threads next to each other have pairs next to each other.
DEVICE u32 pair_of_thread() { return thread_index() % 16; }
DEVICE u32 eight_of_thread(u32 i) { return thread_index() / 16 + i * (THREADS / 16); }

template <Format F>
DEVICE void fetch_values(const AttentionArguments& a, u32 key_head, u32 from, u32 to, Tile<F>& tile) {
    UNROLL
    for (u32 i = 0; i < FETCHED; ++i) {
        const u32 position = from + 2 * pair_of_thread() + i % 2;
        tile.eights[i] = fetch<F>(a, a.cached_values, key_head, position, to, 8 * eight_of_thread(i / 2));
    }
}

// A row of shared memory for each value of a head, the keys along it.
template <Format F>
DEVICE void store_values(u32* staged, u32 dim, const Tile<F>& tile) {
    UNROLL
    for (u32 i = 0; i < FETCHED / 2; ++i) {
        const u32 first = 8 * eight_of_thread(i);
        const Words4 even = halves_of<F>(tile.eights[2 * i], first < dim), odd = halves_of<F>(tile.eights[2 * i + 1], first < dim);
        UNROLL
        for (u32 k = 0; k < 4; ++k) {
            u32* place = staged + (first + 2 * k) * ALONG_KEYS + pair_of_thread();
            place[0] = (even.at[k] & 0xffff) | odd.at[k] << 16;
            place[ALONG_KEYS] = even.at[k] >> 16 | (odd.at[k] & 0xffff0000);
        }
    }
}

// The rows of all heads of the group, as halves; heads and rows that are not there are the last ones again.
DEVICE void stage_queries(const AttentionArguments& a, const Group& group, u32 first_row, u32* staged) {
    UNROLL
    for (u32 i = 0; i < SHARED_BY * ROWS / WAVES; ++i) {
        const u32 item = i * WAVES + thread_index() / WAVE;
        const u32 head = group.first + smaller(item / ROWS, group.count - 1);
        const u32 row = smaller(first_row + item % ROWS, a.rows - 1);
        const float* from = a.query + (static_cast<u64>(row) * a.heads + head) * a.dim + smaller(8 * lane(), a.dim - 8);
        const Four low = load_four(from), high = load_four(from + 4);
        const bool is_there = 8 * lane() < a.dim;
        Words4 all = {{halves(low.at[0], low.at[1]), halves(low.at[2], low.at[3]), halves(high.at[0], high.at[1]),
                       halves(high.at[2], high.at[3])}};
        UNROLL
        for (u32 k = 0; k < 4; ++k) all.at[k] = is_there ? all.at[k] : 0;
        store_words(staged + item * ALONG_HEAD + 4 * lane(), all);
    }
}

// What a wave knows of its rows so far.
struct Sums {
    FloatAccumulator values[PARTS];
    FloatAccumulator largest;
    // Of a lane's own columns.
    FloatAccumulator weights;
};

// Scores of a wave's rows with its half of a tile; the lowest where a row does not see the key.
DEVICE FloatAccumulator scores_of(const AttentionArguments& a, const u32* queries, const u32* keys, u32 position, u32 key) {
    FloatAccumulator scores = {};
    UNROLL
    for (u32 step = 0; step < MOST_DIM / 16; ++step) {
        scores = multiply(load_halves(queries + 8 * step, ALONG_HEAD), load_halves(keys + 8 * step, ALONG_HEAD), scores);
    }
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        const u32 own = position + product_row(i), seen = key + product_column(i);
        if (seen > own || own - seen >= a.window) scores.at[i] = LOWEST;
    }
    return scores;
}

// Weights from scores and both halves' largest ones, into shared memory; what was summed before is scaled to them.
DEVICE void weigh(const FloatAccumulator& scores, const float* peaks, u16* weights, Sums& sums) {
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        const u32 row = product_row(i);
        const float peak = larger(sums.largest.at[i], larger(peaks[row], peaks[ROWS + row]));
        const float rest = exponential(sums.largest.at[i] - peak);
        const float exact = exp2((scores.at[i] - peak) * LOG2_E + WEIGHT_BITS);
        const u32 weight = scores.at[i] == LOWEST ? 0 : float_to_half(exact);
        sums.largest.at[i] = peak;
        // What is added up is what is multiplied with.
        sums.weights.at[i] = sums.weights.at[i] * rest + half_to_float(weight);
        weights[row * 2 * ALONG_KEYS + product_column(i)] = static_cast<u16>(weight);
        UNROLL
        for (u32 part = 0; part < PARTS; ++part) sums.values[part].at[i] *= rest;
    }
}

// Writes the rows of a wave's head, or none for a head that is not there.
DEVICE void write(const AttentionArguments& a, const Group& group, u32 first_row, const float* totals, const Sums& sums) {
    const u32 head = wave() / 2;
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        const u32 row = product_row(i);
        const float by = 1.0f / (totals[row] + totals[ROWS + row]);
        UNROLL
        for (u32 part = 0; part < PARTS; ++part) {
            const u32 at = wave() % 2 * (MOST_DIM / 2) + 16 * part + product_column(i);
            if (head < group.count && first_row + row < a.rows && at < a.dim) {
                const u64 line = static_cast<u64>(first_row + row) * a.heads + group.first + head;
                a.output[line * a.dim + at] = sums.values[part].at[i] * by;
            }
        }
    }
}

template <Format F>
DEVICE void compute(const AttentionArguments& a) {
    SHARED_PART(u32, queries, SHARED_BY* ROWS* ALONG_HEAD, 0);
    // A tile of keys, and then one of values.
    SHARED_PART(u32, staged, MOST_DIM* ALONG_KEYS, STAGED);
    SHARED_PART(u32, weights, SHARED_BY* ROWS* ALONG_KEYS, WEIGHTS);
    // By wave and row.
    SHARED_PART(float, peaks, WAVES* ROWS, PEAKS);
    const Group group = group_of(a.heads, a.key_heads, block_y());
    const u32 first_row = block_x() * ROWS, half = wave() % 2, pair = wave() / 2;
    const u32 position = a.header[0] + a.first + first_row;
    const u32 to = position + smaller(ROWS, a.rows - first_row);
    const u32 begin = first_seen(position, a.window);
    Sums sums = {};
    UNROLL
    for (u32 i = 0; i < 8; ++i) sums.largest.at[i] = LOWEST;
    Tile<F> keys, values;
    fetch_keys<F>(a, group.key, begin, to, keys);
    stage_queries(a, group, first_row, queries);
    for (u32 from = begin; from < to; from += KEYS) {
        // The values before are done with.
        shared_barrier();
        store_keys<F>(staged, a.dim, keys);
        shared_barrier();
        fetch_values<F>(a, group.key, from, to, values);
        in_this_order();
        const FloatAccumulator scores = scores_of(a, queries + pair * ROWS * ALONG_HEAD, staged + half * 16 * ALONG_HEAD, position,
                                                  from + 16 * half);
        const FloatAccumulator largest = row_largest(scores);
        UNROLL
        for (u32 i = 0; i < 8; ++i) {
            if (product_column(i) == 0) peaks[wave() * ROWS + product_row(i)] = largest.at[i];
        }
        shared_barrier();
        store_values<F>(staged, a.dim, values);
        fetch_keys<F>(a, group.key, smaller(from + KEYS, to - 1), to, keys);
        in_this_order();
        u16* place = reinterpret_cast<u16*>(weights + pair * ROWS * ALONG_KEYS) + 16 * half;
        weigh(scores, peaks + 2 * pair * ROWS, place, sums);
        shared_barrier();
        UNROLL
        for (u32 step = 0; step < KEYS / 16; ++step) {
            const HalfFragment rows = load_halves(weights + pair * ROWS * ALONG_KEYS + 8 * step, ALONG_KEYS);
            UNROLL
            for (u32 part = 0; part < PARTS; ++part) {
                const u32* columns = staged + (half * (MOST_DIM / 2) + 16 * part) * ALONG_KEYS + 8 * step;
                sums.values[part] = multiply(rows, load_halves(columns, ALONG_KEYS), sums.values[part]);
            }
        }
    }
    const FloatAccumulator total = row_sums(sums.weights);
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        if (product_column(i) == 0) peaks[wave() * ROWS + product_row(i)] = total.at[i];
    }
    shared_barrier();
    write(a, group, first_row, peaks + 2 * pair * ROWS, sums);
}

}  // namespace

#define ATTENTION_WMMA(suffix, format) \
    KERNEL_SHARING(attention_wmma_##suffix, AttentionArguments, THREADS, ALL) { compute<format>(arguments); }
ATTENTION_WMMA(f16, Format::F16)
ATTENTION_WMMA(q8_0, Format::Q8_0)
