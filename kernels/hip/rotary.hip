// Norm and rotary embedding of heads, and the cache's write, for any number of rows.
//
// Grid: ((query heads + 2 * key heads) / 4 waves, rows). A wave has a head: `query = rope(rms(query, query_norm)) * scale`, in place;
// `cache.key = rope(rms(key, key_norm))`; `cache.value = rms(value)`, or the value as it is. Row `r` goes to the slot of position
// `header[0] + first + r`. Heads that a plan does not have are none. Layout of the cache: cache.h.
#include "heads.h"

using namespace gpu;

namespace {

struct RotaryArguments {
    float* query;
    const float* query_norm;
    const float* keys;
    const float* values;
    const float* key_norm;
    // A row of the run's angles for each row: `dim / 2` cosines, then as many sines.
    const float* angles;
    // Its first word is the position of the run's first token.
    const u32* header;
    Slots cached_keys;
    Slots cached_values;
    u32 first;
    u32 query_heads;
    u32 key_heads;
    u32 dim;
    u32 capacity;
    // Whether values are normed.
    u32 value_norm;
    float query_scale;
    float eps;
};

constexpr u32 THREADS = 128;
constexpr u32 WAVES = THREADS / WAVE;

template <Format F>
DEVICE void compute(const RotaryArguments& a) {
    SHARED(float, staged, WAVES* MOST_DIM);
    const u32 item = block_x() * WAVES + wave();
    const u64 t = block_y();
    const bool is_query = item < a.query_heads;
    const bool is_key = !is_query && item < a.query_heads + a.key_heads;
    const bool is_value = !is_query && !is_key && item < a.query_heads + 2 * a.key_heads;
    const u32 number = is_query ? item : is_key ? item - a.query_heads : item - a.query_heads - a.key_heads;
    const u64 query = (t * a.query_heads + number) * a.dim;
    const u64 own = (t * a.key_heads + number) * a.dim;
    Head head = {};
    if (is_query) head = read_head(a.query + query, a.dim);
    if (is_key) head = read_head(a.keys + own, a.dim);
    if (is_value) head = read_head(a.values + own, a.dim);
    const float* norm = is_query ? a.query_norm : a.key_norm;
    // The same for all lanes of the wave, but shuffles want all of them whatever the head is.
    const Head normed = normed_head(head, norm, is_query || is_key, a.dim, a.eps);
    if (!is_value || a.value_norm != 0) head = normed;
    float* place = staged + wave() * MOST_DIM;
    write_head(place, a.dim, head);
    barrier();
    if (is_query) write_head(a.query + query, a.dim, rotated_head(place, a.angles + t * a.dim, a.dim, a.query_scale));
    if (is_key) head = rotated_head(place, a.angles + t * a.dim, a.dim, 1.0f);
    const u32 slot = (a.header[0] + a.first + block_y()) % a.capacity;
    const u64 at = (static_cast<u64>(slot) * a.key_heads + number) * a.dim + 8 * lane();
    const bool is_there = 8 * lane() < a.dim;
    if (is_key) write_eight<F>(a.cached_keys, at, head.at, is_there);
    if (is_value) write_eight<F>(a.cached_values, at, head.at, is_there);
}

}  // namespace

#define ROTARY(suffix, format) \
    KERNEL(rotary_##suffix, RotaryArguments, THREADS) { compute<format>(arguments); }
ROTARY(f32, Format::F32)
ROTARY(f16, Format::F16)
ROTARY(q8_0, Format::Q8_0)
