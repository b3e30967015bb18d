// The largest values of a row of logits, chosen where the row is, so that little of it goes back to the host.
//
// Values are compared by `key`. The `wanted`-th largest maximum of a group bounds the `wanted`-th largest value from below: at least as
// many values are not smaller. What is not below that bound is listed, in no order.
#include "portable.h"

using namespace gpu;

namespace {

struct ShortlistMaximaArguments {
    const float* values;
    u32* maxima;
    u32 count;
};

struct ShortlistBoundArguments {
    const u32* maxima;
    u32* counter;
    u32* bound;
    u32 wanted;
    // Maxima, at most 16,384 here.
    u32 count;
};

struct ShortlistCollectArguments {
    const float* values;
    const u32* bound;
    u32* counter;
    // Index and bits of each value.
    u32* entries;
    u32 count;
    // Entries that there is room for.
    u32 room;
};

struct ArgmaxArguments {
    const float* values;
    // Index and bits of the largest value.
    u32* result;
    u32 count;
};

constexpr u32 THREADS = 256;
// Values of a group: those of a thread.
constexpr u32 GROUP = 32;
constexpr u32 BOUND_THREADS = 1024;
constexpr u32 HELD = 16;
// Bits of a key that the bound is found by; the others are zero in it.
constexpr u32 BITS = 18;

// A number that grows with the value; not-a-number is above all, and both zeros are the same.
DEVICE u32 key(float value) {
    const u32 bits = value == 0.0f ? 0 : bits_of(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return ~0u;
    return bits >> 31 ? ~bits : bits | 0x80000000;
}

// The sum of a number over a block, known to all threads.
DEVICE u32 block_count(u32 value SITE_PARAMETER) {
    SHARED(u32, partial, BOUND_THREADS / WAVE);
    shared_barrier(SITE_ARGUMENT_ALONE);
    const u32 sum = wave_sum(value SITE_ARGUMENT);
    if (lane() == 0) partial[wave()] = sum;
    shared_barrier(SITE_ARGUMENT_ALONE);
    return wave_sum(partial[lane()] SITE_ARGUMENT);
}

}  // namespace

// `maxima[group]` is the largest key of 32 values, 256 apart. Grid: (count / 8,192).
KERNEL(shortlist_maxima, ShortlistMaximaArguments, THREADS) {
    const auto& a = arguments;
    u32 largest = 0;
    UNROLL
    for (u32 i = 0; i < GROUP; ++i) {
        const u32 at = (block_x() * GROUP + i) * THREADS + thread_index();
        if (at < a.count) {
            const u32 found = key(a.values[at]);
            largest = found > largest ? found : largest;
        }
    }
    a.maxima[block_x() * THREADS + thread_index()] = largest;
}

// `counter[0] = 0` and `bound[0]` a key that at least `wanted` of the maxima are not below. Grid: one block.
KERNEL(shortlist_bound, ShortlistBoundArguments, BOUND_THREADS) {
    const auto& a = arguments;
    u32 keys[HELD];
    UNROLL
    for (u32 i = 0; i < HELD; ++i) {
        const u32 at = i * BOUND_THREADS + thread_index();
        // Nothing is below a key of zero, and no bound that counts is zero.
        keys[i] = at < a.count ? a.maxima[at] : 0;
    }
    u32 least = 0;
    for (u32 bit = 0; bit < BITS; ++bit) {
        const u32 tried = least | 0x80000000u >> bit;
        u32 count = 0;
        UNROLL
        for (u32 i = 0; i < HELD; ++i) count += keys[i] >= tried;
        if (block_count(count) >= a.wanted) least = tried;
    }
    if (thread_index() == 0) {
        *a.counter = 0;
        *a.bound = least;
    }
}

// Lists every value whose key is not below the bound; `counter[0]` counts them all, also those for which there is no room. Grid:
// (count / 256).
KERNEL(shortlist_collect, ShortlistCollectArguments, THREADS) {
    const auto& a = arguments;
    const u32 at = block_x() * THREADS + thread_index();
    if (at < a.count && key(a.values[at]) >= *a.bound) {
        const u32 entry = atomic_add(a.counter, 1);
        if (entry < a.room) {
            a.entries[2 * entry] = at;
            a.entries[2 * entry + 1] = bits_of(a.values[at]);
        }
    }
}

// The first of the largest values of a row: `result[0]` its index, `result[1]` its bits. Grid: one block.
KERNEL(argmax, ArgmaxArguments, BOUND_THREADS) {
    const auto& a = arguments;
    SHARED(u32, best, BOUND_THREADS / WAVE * 2);
    u32 largest = 0, index = 0;
    // Several values at once are on their way. Behind the end the last one is read again, which is never larger than itself.
    constexpr u32 TOGETHER = 8;
    for (u32 first = thread_index(); first < a.count; first += TOGETHER * BOUND_THREADS) {
        float values[TOGETHER];
        UNROLL
        for (u32 i = 0; i < TOGETHER; ++i) values[i] = a.values[smaller(first + i * BOUND_THREADS, a.count - 1)];
        UNROLL
        for (u32 i = 0; i < TOGETHER; ++i) {
            const u32 found = key(values[i]);
            if (found > largest) {
                largest = found;
                index = smaller(first + i * BOUND_THREADS, a.count - 1);
            }
        }
    }
    auto take = [&](u32 other, u32 other_index) {
        if (other > largest || (other == largest && other_index < index)) {
            largest = other;
            index = other_index;
        }
    };
    auto over_wave = [&] {
        take(exchange<16>(largest), exchange<16>(index));
        take(exchange<8>(largest), exchange<8>(index));
        take(exchange<4>(largest), exchange<4>(index));
        take(exchange<2>(largest), exchange<2>(index));
        take(exchange<1>(largest), exchange<1>(index));
    };
    over_wave();
    if (lane() == 0) {
        best[2 * wave()] = largest;
        best[2 * wave() + 1] = index;
    }
    shared_barrier();
    largest = best[2 * lane()];
    index = best[2 * lane() + 1];
    over_wave();
    if (thread_index() == 0) {
        a.result[0] = index;
        a.result[1] = bits_of(a.values[index]);
    }
}
