// The attention of one row in one launch: norms and rotary embedding of its heads, the cache's write, attention over parts of the keys,
// and the merge of the parts by the block that comes last.
//
// Grid: (groups, 1, parts). A block serves a group, at most four query heads of one key head, over one part of the keys that the row at
// position `header[0] + first` sees. A wave takes four keys at a time, eight lanes a key for scores, a lane eight values of each value
// row; it keeps its own largest score and sums. `partial` has room for heads * parts * (dim + 2) values, `counters` a zero for each group
// before and after. Heads have at most 256 values, a multiple of 8. Layout of the cache: cache.h.
#include "heads.h"

using namespace gpu;

namespace {

struct AttentionStepArguments {
    const float* query;
    const float* query_norm;
    // The row's own, where it has some.
    const float* keys;
    const float* values;
    const float* key_norm;
    // The row's: `dim / 2` cosines, then as many sines.
    const float* angles;
    const u32* header;
    Slots cached_keys;
    Slots cached_values;
    float* partial;
    u32* counters;
    float* output;
    u32 first;
    // Positions that the row sees, its own among them; all ones for no window.
    u32 window;
    u32 capacity;
    u32 heads;
    u32 key_heads;
    u32 dim;
    u32 parts;
    // Whether the row has keys and values of its own, and whether values are normed.
    u32 writes;
    u32 value_norm;
    float query_scale;
    float eps;
};

constexpr u32 THREADS = 256;
constexpr u32 WAVES = THREADS / WAVE;
// Keys that a wave takes at a time, and lanes of each.
constexpr u32 KEYS = 4;
constexpr u32 LANES = WAVE / KEYS;
// Parts of the keys that a merge has factors for.
constexpr u32 MOST_PARTS = 32;

// The keys of a part: from the first to behind the last.
struct Range {
    u32 from;
    u32 to;
};

DEVICE Range keys_of(u32 position, u32 window, u32 part, u32 parts) {
    const u32 begin = first_seen(position, window);
    const u32 each = round_up(position + 1 - begin, parts);
    const u32 from = begin + part * each;
    return {from, smaller(from + each, position + 1)};
}

// A wave's sums over the keys it has seen, for each head of the group.
struct Sums {
    float values[SHARED_BY][8];
    float largest[SHARED_BY];
    float weights[SHARED_BY];
};

// Norms and rotates the block's heads into `queries`, and writes the row's own key and value to the cache if `stores`. Groups of the same
// key head write the same, so that none waits for another.
template <Format F>
DEVICE void prepare(const AttentionStepArguments& a, const Group& group, float* queries, u32 position, bool stores) {
    SHARED(float, staged, (SHARED_BY + 2) * MOST_DIM);
    const u32 items = a.writes != 0 ? group.count + 2 : group.count;
    for (u32 item = wave(); item < items; item += WAVES) {
        const bool is_query = item < group.count, is_key = item == group.count;
        const float* from =
            is_query ? a.query + (group.first + item) * a.dim : (is_key ? a.keys : a.values) + group.key * a.dim;
        Head head = read_head(from, a.dim);
        const float* norm = is_query ? a.query_norm : a.key_norm;
        const bool is_weighted = is_query || is_key;
        if (is_weighted || a.value_norm != 0) head = normed_head(head, norm, is_weighted, a.dim, a.eps);
        write_head(staged + item * MOST_DIM, a.dim, head);
    }
    barrier();
    const u32 slot = position % a.capacity;
    const u64 at = (static_cast<u64>(slot) * a.key_heads + group.key) * a.dim + 8 * lane();
    const bool is_there = 8 * lane() < a.dim;
    for (u32 item = wave(); item < items; item += WAVES) {
        const float* place = staged + item * MOST_DIM;
        if (item < group.count) {
            write_head(queries + item * MOST_DIM, a.dim, rotated_head(place, a.angles, a.dim, a.query_scale));
        } else if (stores && item == group.count) {
            write_eight<F>(a.cached_keys, at, rotated_head(place, a.angles, a.dim, 1.0f).at, is_there);
        } else if (stores) {
            write_eight<F>(a.cached_values, at, read_head(place, a.dim).at, is_there);
        }
    }
    barrier();
}

// What a wave asks for of four keys at once: of each key eight lanes, of each value row all.
template <Format F>
struct Keys {
    static constexpr u32 ROUNDS = MOST_DIM / 8 / LANES;
    Eight<F> keys[ROUNDS];
    Eight<F> values[KEYS];

    // Behind the last key, and behind the end of a head, what lies before is read again: it counts for nothing.
    DEVICE_METHOD static u64 place(const AttentionStepArguments& a, u32 key_head, u32 key, u32 to, u32 at) {
        const u32 slot = smaller(key, to - 1) % a.capacity;
        return (static_cast<u64>(slot) * a.key_heads + key_head) * a.dim + smaller(at, a.dim - 8);
    }

    DEVICE_METHOD void ask_keys(const AttentionStepArguments& a, u32 key_head, u32 base, u32 to) {
        const u64 start = place(a, key_head, base + lane() / LANES, to, 0);
        UNROLL
        for (u32 i = 0; i < ROUNDS; ++i) {
            keys[i] = fetch_eight<F>(a.cached_keys, start + smaller(8 * (i * LANES + lane() % LANES), a.dim - 8));
        }
    }

    DEVICE_METHOD void ask_values(const AttentionStepArguments& a, u32 key_head, u32 base, u32 to) {
        UNROLL
        for (u32 k = 0; k < KEYS; ++k) values[k] = fetch_eight<F>(a.cached_values, place(a, key_head, base + k, to, 8 * lane()));
    }
};

// Scores of the keys with each query: all lanes of a key know its scores.
template <Format F>
DEVICE void scores_of(const Keys<F>& asked, const float* queries, float (&scores)[SHARED_BY]) {
    UNROLL
    for (u32 h = 0; h < SHARED_BY; ++h) scores[h] = 0.0f;
    UNROLL
    for (u32 round = 0; round < Keys<F>::ROUNDS; ++round) {
        const u32 at = 8 * (round * LANES + lane() % LANES);
        float values[8];
        values_of<F>(asked.keys[round], values);
        UNROLL
        for (u32 h = 0; h < SHARED_BY; ++h) {
            const Four low = load_four(queries + h * MOST_DIM + at), high = load_four(queries + h * MOST_DIM + at + 4);
            UNROLL
            for (u32 i = 0; i < 4; ++i) scores[h] += values[i] * low.at[i] + values[4 + i] * high.at[i];
        }
        // Queries of all rounds at once would take too many registers.
        in_this_order();
    }
    UNROLL
    for (u32 h = 0; h < SHARED_BY; ++h) {
        scores[h] += exchange<4>(scores[h]);
        scores[h] += exchange<2>(scores[h]);
        scores[h] += exchange<1>(scores[h]);
    }
}

// Adds the keys from `base` on to the sums.
template <Format F>
DEVICE void add_keys(const AttentionStepArguments& a, u32 key_head, const float* queries, u32 base, u32 to, Sums& sums) {
    Keys<F> asked;
    asked.ask_keys(a, key_head, base, to);
    // Values in f32 would take too many registers.
    if constexpr (F != Format::F32) asked.ask_values(a, key_head, base, to);
    in_this_order();
    float scores[SHARED_BY];
    scores_of<F>(asked, queries, scores);
    if constexpr (F == Format::F32) asked.ask_values(a, key_head, base, to);
    const bool is_there = base + lane() / LANES < to;
    UNROLL
    for (u32 h = 0; h < SHARED_BY; ++h) {
        float largest = is_there ? scores[h] : LOWEST;
        largest = larger(largest, exchange<8>(largest));
        largest = uniform(larger(sums.largest[h], larger(largest, exchange<16>(largest))));
        const float rest = exponential(sums.largest[h] - largest);
        scores[h] = is_there ? exponential(scores[h] - largest) : 0.0f;
        float weights = scores[h] + exchange<8>(scores[h]);
        weights += exchange<16>(weights);
        sums.largest[h] = largest;
        sums.weights[h] = uniform(sums.weights[h] * rest + weights);
        UNROLL
        for (u32 i = 0; i < 8; ++i) sums.values[h][i] *= rest;
    }
    UNROLL
    for (u32 k = 0; k < KEYS; ++k) {
        float values[8];
        values_of<F>(asked.values[k], values);
        UNROLL
        for (u32 h = 0; h < SHARED_BY; ++h) {
            const float weight = broadcast(scores[h], k * LANES);
            UNROLL
            for (u32 i = 0; i < 8; ++i) sums.values[h][i] += weight * values[i];
        }
        in_this_order();
    }
}

// Merges the waves' sums: the heads themselves where there is one part, otherwise what is left of this part of them.
DEVICE void merge_waves(const AttentionStepArguments& a, const Group& group, const Sums& sums) {
    SHARED(float, gathered, WAVES* MOST_DIM);
    SHARED(float, largest_of, WAVES* SHARED_BY);
    SHARED(float, weights_of, WAVES* SHARED_BY);
    const u32 thread = thread_index();
    if (lane() == 0) {
        UNROLL
        for (u32 h = 0; h < SHARED_BY; ++h) {
            largest_of[h * WAVES + wave()] = sums.largest[h];
            weights_of[h * WAVES + wave()] = sums.weights[h];
        }
    }
    shared_barrier();
    UNROLL
    for (u32 h = 0; h < SHARED_BY; ++h) {
        if (h < group.count) {
            float largest = LOWEST;
            UNROLL
            for (u32 w = 0; w < WAVES; ++w) largest = larger(largest, largest_of[h * WAVES + w]);
            float weights = 0.0f;
            UNROLL
            for (u32 w = 0; w < WAVES; ++w) {
                weights += weights_of[h * WAVES + w] * exponential(largest_of[h * WAVES + w] - largest);
            }
            const float factor = exponential(sums.largest[h] - largest);
            Head head;
            UNROLL
            for (u32 i = 0; i < 8; ++i) head.at[i] = sums.values[h][i] * factor;
            write_head(gathered + wave() * MOST_DIM, a.dim, head);
            shared_barrier();
            const u32 number = group.first + h;
            float sum = 0.0f;
            if (thread < a.dim) {
                UNROLL
                for (u32 w = 0; w < WAVES; ++w) sum += gathered[w * MOST_DIM + thread];
            }
            if (a.parts == 1) {
                if (thread < a.dim) a.output[number * a.dim + thread] = sum / weights;
            } else {
                float* part = a.partial + (static_cast<u64>(number) * a.parts + block_z()) * (a.dim + 2);
                if (thread < a.dim) part[thread] = sum;
                if (thread == 0) {
                    part[a.dim] = largest;
                    part[a.dim + 1] = weights;
                }
            }
            shared_barrier();
        }
    }
}

// What is left of a part without keys, as there are while the cache is short.
DEVICE void write_nothing(const AttentionStepArguments& a, const Group& group) {
    const u32 thread = thread_index();
    for (u32 h = 0; h < group.count; ++h) {
        float* part = a.partial + (static_cast<u64>(group.first + h) * a.parts + block_z()) * (a.dim + 2);
        if (thread < a.dim) part[thread] = 0.0f;
        if (thread == 0) {
            part[a.dim] = LOWEST;
            part[a.dim + 1] = 0.0f;
        }
    }
}

// Merges the parts of the block's heads.
DEVICE void merge_parts(const AttentionStepArguments& a, const Group& group) {
    SHARED(float, factors, SHARED_BY* MOST_PARTS);
    const u32 stride = a.dim + 2;
    const float* parts = a.partial + static_cast<u64>(group.first) * a.parts * stride;
    for (u32 item = thread_index(); item < group.count * a.parts; item += THREADS) {
        const float* of_head = parts + item / a.parts * a.parts * stride;
        float largest = LOWEST;
        for (u32 part = 0; part < a.parts; ++part) largest = larger(largest, of_head[part * stride + a.dim]);
        float total = 0.0f;
        for (u32 part = 0; part < a.parts; ++part) {
            total += exponential(of_head[part * stride + a.dim] - largest) * of_head[part * stride + a.dim + 1];
        }
        factors[item] = exponential(of_head[item % a.parts * stride + a.dim] - largest) / total;
    }
    barrier();
    for (u32 at = thread_index(); at < group.count * a.dim; at += THREADS) {
        const u32 h = at / a.dim, i = at % a.dim;
        float sum = 0.0f;
        for (u32 part = 0; part < a.parts; ++part) {
            sum += factors[h * a.parts + part] * parts[(h * a.parts + part) * stride + i];
        }
        a.output[group.first * a.dim + at] = sum;
    }
}

// Attention over the part's keys, of which there are some.
template <Format F>
DEVICE void attend(const AttentionStepArguments& a, const Group& group, const Range& keys, u32 position) {
    SHARED(float, queries, SHARED_BY* MOST_DIM);
    // The part that ends with the row's own position writes it first. Heads that are not there are zero, and so is what lies behind each.
    for (u32 i = thread_index(); i < SHARED_BY * MOST_DIM; i += THREADS) {
        if (i / MOST_DIM >= group.count || i % MOST_DIM >= a.dim) queries[i] = 0.0f;
    }
    prepare<F>(a, group, queries, position, a.writes != 0 && keys.to == position + 1);
    Sums sums = {};
    UNROLL
    for (u32 h = 0; h < SHARED_BY; ++h) sums.largest[h] = LOWEST;
    for (u32 base = keys.from + wave() * KEYS; base < keys.to; base += WAVES * KEYS) {
        add_keys<F>(a, group.key, queries, base, keys.to, sums);
    }
    merge_waves(a, group, sums);
}

template <Format F>
DEVICE void compute(const AttentionStepArguments& a) {
    const Group group = group_of(a.heads, a.key_heads, block_x());
    const u32 position = a.header[0] + a.first;
    const Range keys = keys_of(position, a.window, block_z(), a.parts);
    if (keys.from < keys.to) {
        attend<F>(a, group, keys, position);
    } else {
        write_nothing(a, group);
    }
    if (a.parts > 1 && comes_last(a.counters + block_x(), a.parts)) merge_parts(a, group);
}

}  // namespace

#define ATTENTION_STEP(suffix, format) \
    KERNEL(attention_step_##suffix, AttentionStepArguments, THREADS) { compute<format>(arguments); }
ATTENTION_STEP(f32, Format::F32)
ATTENTION_STEP(f16, Format::F16)
ATTENTION_STEP(q8_0, Format::Q8_0)
