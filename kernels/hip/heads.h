// Norm and rotary embedding of one head by one wave: a lane has eight neighbouring values.
//
// Heads have at most 256 values, a multiple of 8. Rotation is rotate-half: the first half of a head is rotated against the second.
#pragma once

#include "cache.h"
#include "row.h"

namespace gpu {

// Values of the largest head.
constexpr u32 MOST_DIM = WAVE * 8;

// The first position that a row at `position` sees.
DEVICE u32 first_seen(u32 position, u32 window) { return position >= window ? position + 1 - window : 0; }

// Query heads of a group at most.
constexpr u32 SHARED_BY = 4;

// Query heads that have a key head in common, as a block serves them together.
struct Group {
    u32 key;
    u32 first;
    u32 count;
};

// Group `number`.
DEVICE Group group_of(u32 heads, u32 key_heads, u32 number) {
    const u32 shared = heads / key_heads, groups = round_up(shared, SHARED_BY);
    const u32 key = number / groups, begin = number % groups * SHARED_BY;
    return {key, key * shared + begin, smaller(shared - begin, SHARED_BY)};
}

// The attention of many rows.
struct AttentionArguments {
    const float* query;
    const u32* header;
    Slots cached_keys;
    Slots cached_values;
    float* output;
    u32 rows;
    u32 first;
    u32 window;
    u32 capacity;
    u32 heads;
    u32 key_heads;
    u32 dim;
};

struct Head {
    float at[8];
};

// A lane's values of the head at `from`; zeros behind its end.
DEVICE Head read_head(const float* from, u32 dim) {
    Head head = {};
    if (8 * lane() < dim) {
        const Four low = load_four(from + 8 * lane()), high = load_four(from + 8 * lane() + 4);
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            head.at[i] = low.at[i];
            head.at[4 + i] = high.at[i];
        }
    }
    return head;
}

DEVICE void write_head(float* to, u32 dim, const Head& head) {
    if (8 * lane() < dim) {
        store_four(to + 8 * lane(), {{head.at[0], head.at[1], head.at[2], head.at[3]}});
        store_four(to + 8 * lane() + 4, {{head.at[4], head.at[5], head.at[6], head.at[7]}});
    }
}

// `head / sqrt(mean(head^2) + eps)`, times `weight` if it `is_weighted`. All lanes take part.
DEVICE Head normed_head(const Head& head, const float* weight, bool is_weighted, u32 dim, float eps SITE_PARAMETER) {
    float squares = 0.0f;
    UNROLL
    for (u32 i = 0; i < 8; ++i) squares += head.at[i] * head.at[i];
    const float factor = norm_factor(wave_sum(squares SITE_ARGUMENT), dim, eps);
    const Head weights = is_weighted ? read_head(weight, dim) : Head{{1, 1, 1, 1, 1, 1, 1, 1}};
    Head result;
    UNROLL
    for (u32 i = 0; i < 8; ++i) result.at[i] = head.at[i] * factor * weights.at[i];
    return result;
}

// The head at `place`, rotated by `angles`, `dim / 2` cosines and as many sines, times `scale`. It comes from memory, where a lane finds
// the other half of every size of head: all lanes have written it, and a barrier lies between.
DEVICE Head rotated_head(const float* place, const float* angles, u32 dim, float scale) {
    Head head = {};
    const u32 half = dim / 2;
    if (8 * lane() < dim) {
        UNROLL
        for (u32 i = 0; i < 8; ++i) {
            const u32 at = 8 * lane() + i;
            const bool is_low = at < half;
            const u32 angle = is_low ? at : at - half;
            const float own = place[at], other = place[is_low ? at + half : at - half];
            const float cosine = angles[angle], sine = angles[half + angle];
            head.at[i] = (own * cosine + (is_low ? -other : other) * sine) * scale;
        }
    }
    return head;
}

}  // namespace gpu
