// portable.h for the host: what kernels ask for, answered by the emulation (emulation/block.h).
//
// A collective tells where it was called: all lanes of a wave must come to the same one.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>

#include "../emulation/block.h"

#define GEMMA_EMULATED 1
#define DEVICE [[maybe_unused]] static inline
#define DEVICE_METHOD inline
#define SHARED(type, name, count)                                                                                    \
    static const char name##_identity = 0;                                                                          \
    type* const name = static_cast<type*>(emulation::shared_memory(&name##_identity, sizeof(type) * (count)))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL
#endif
#define KEEP_ROUNDING
#define SITE_PARAMETER , emulation::Site site = emulation::Site::here()
#define SITE_PARAMETER_ALONE emulation::Site site = emulation::Site::here()
#define SITE_ARGUMENT , site
#define SITE_ARGUMENT_ALONE site

#define KERNEL(name, Arguments, threads)                                                                             \
    static void name(const Arguments& arguments);                                                                    \
    static const emulation::Kernel name##_kernel{                                                                    \
        #name, threads, sizeof(Arguments),                                                                           \
        [](const void* arguments) { name(*static_cast<const Arguments*>(arguments)); }};                             \
    static void name(const Arguments& arguments)

namespace gpu {

DEVICE u32 thread_index() { return emulation::thread_index(); }
DEVICE u32 lane() { return thread_index() % WAVE; }
DEVICE u32 wave() { return thread_index() / WAVE; }
DEVICE u32 block_x() { return emulation::block_index(0); }
DEVICE u32 block_y() { return emulation::block_index(1); }
DEVICE u32 block_z() { return emulation::block_index(2); }

DEVICE void barrier(SITE_PARAMETER_ALONE) { emulation::wait_at_barrier(site); }
DEVICE void shared_barrier(SITE_PARAMETER_ALONE) { emulation::wait_at_barrier(site); }
DEVICE void device_barrier(SITE_PARAMETER_ALONE) { emulation::wait_at_barrier(site); }
DEVICE void in_this_order() {}
DEVICE u32 atomic_add(u32* place, u32 value) { return __atomic_fetch_add(place, value, __ATOMIC_ACQ_REL); }

DEVICE u32 bits_of(float value) { return std::bit_cast<u32>(value); }
DEVICE float float_of(u32 bits) { return std::bit_cast<float>(bits); }

template <u32 MASK>
DEVICE u32 exchange(u32 value SITE_PARAMETER) {
    u32 other = value;
    emulation::collective(
        "a shuffle", &other,
        [](void** lanes) {
            u32 values[WAVE];
            for (u32 i = 0; i < WAVE; ++i) values[i] = *static_cast<u32*>(lanes[i]);
            for (u32 i = 0; i < WAVE; ++i) *static_cast<u32*>(lanes[i]) = values[i ^ MASK];
        },
        site);
    return other;
}
template <u32 MASK>
DEVICE float exchange(float value SITE_PARAMETER) {
    return float_of(exchange<MASK>(bits_of(value), site));
}

DEVICE u32 broadcast(u32 value, u32 from SITE_PARAMETER) {
    u32 pair[2] = {value, from};
    emulation::collective(
        "a broadcast", pair,
        [](void** lanes) {
            const u32 from = static_cast<u32*>(lanes[0])[1];
            for (u32 i = 0; i < WAVE; ++i) {
                if (from >= WAVE || static_cast<u32*>(lanes[i])[1] != from) {
                    emulation::fail("a broadcast from lane %u in lane 0 and from lane %u in lane %u", from,
                                    static_cast<u32*>(lanes[i])[1], i);
                }
            }
            const u32 value = *static_cast<u32*>(lanes[from]);
            for (u32 i = 0; i < WAVE; ++i) *static_cast<u32*>(lanes[i]) = value;
        },
        site);
    return pair[0];
}
DEVICE float broadcast(float value, u32 from SITE_PARAMETER) { return float_of(broadcast(bits_of(value), from, site)); }

DEVICE float uniform(float value) { return value; }

DEVICE u32 ballot(bool is_set SITE_PARAMETER) {
    u32 mask = is_set;
    emulation::collective(
        "a ballot", &mask,
        [](void** lanes) {
            u32 mask = 0;
            for (u32 i = 0; i < WAVE; ++i) mask |= *static_cast<u32*>(lanes[i]) << i;
            for (u32 i = 0; i < WAVE; ++i) *static_cast<u32*>(lanes[i]) = mask;
        },
        site);
    return mask;
}
DEVICE u32 bit_count(u32 mask) { return static_cast<u32>(std::popcount(mask)); }
DEVICE u32 bits_before(u32 mask) { return bit_count(mask & ((1u << lane()) - 1)); }

// A value of each lane by halves, quarters and so on, as exchanges would: lanes end with the same bits.
template <class T, class Combine>
DEVICE void reduce(T (&values)[WAVE], Combine combine) {
    for (u32 mask = WAVE / 2; mask > 0; mask /= 2) {
        for (u32 i = 0; i < WAVE; ++i) {
            if ((i & mask) == 0) values[i] = values[i | mask] = combine(values[i], values[i | mask]);
        }
    }
}

template <class T, class Combine>
DEVICE void reduce_lanes(void** lanes, Combine combine) {
    T values[WAVE];
    for (u32 i = 0; i < WAVE; ++i) values[i] = *static_cast<T*>(lanes[i]);
    reduce(values, combine);
    for (u32 i = 0; i < WAVE; ++i) *static_cast<T*>(lanes[i]) = values[i];
}

DEVICE float wave_sum(float value SITE_PARAMETER) {
    emulation::collective(
        "a sum over a wave", &value,
        [](void** lanes) { reduce_lanes<float>(lanes, [](float a, float b) { return a + b; }); }, site);
    return value;
}
DEVICE u32 wave_sum(u32 value SITE_PARAMETER) {
    emulation::collective(
        "a sum over a wave", &value,
        [](void** lanes) { reduce_lanes<u32>(lanes, [](u32 a, u32 b) { return a + b; }); }, site);
    return value;
}
DEVICE float wave_max(float value SITE_PARAMETER) {
    emulation::collective(
        "a maximum over a wave", &value,
        [](void** lanes) { reduce_lanes<float>(lanes, [](float a, float b) { return std::fmax(a, b); }); }, site);
    return value;
}

DEVICE i32 dot4(u32 a, u32 b, i32 sum) {
    for (u32 i = 0; i < 4; ++i) {
        sum += static_cast<i8>(a >> 8 * i) * static_cast<i8>(b >> 8 * i);
    }
    return sum;
}

// IEEE 754 binary16, in whole numbers: not every host's compiler has the type.
DEVICE float half_to_float(u32 bits) {
    const u32 sign = (bits & 0x8000) << 16;
    const u32 exponent = bits >> 10 & 31;
    const u32 fraction = bits & 0x3ff;
    if (exponent == 0) {
        const float size = static_cast<float>(fraction) * 0x1p-24f;
        return sign ? -size : size;
    }
    return float_of(sign | (exponent == 31 ? 0x7f800000 : (exponent + 112) << 23) | fraction << 13);
}

DEVICE u32 float_to_half(float value) {
    const u32 bits = bits_of(value);
    const u32 sign = bits >> 16 & 0x8000;
    const u32 size = bits & 0x7fffffff;
    if (size > 0x7f800000) return sign | 0x7e00;
    if (size >= 0x477ff000) return sign | 0x7c00;
    if (size < 0x38800000) {
        // Below the normal numbers: whole multiples of 2^-24, rounded by the addition.
        return sign | (bits_of(float_of(size) + 0.5f) - bits_of(0.5f));
    }
    const u32 rounded = size + 0xfff + (size >> 13 & 1);
    return sign | ((rounded >> 13) - (112 << 10));
}

DEVICE u32 pair_of(float low, float high) { return float_to_half(low) | float_to_half(high) << 16; }
DEVICE float low_of(u32 pair) { return half_to_float(pair & 0xffff); }
DEVICE float high_of(u32 pair) { return half_to_float(pair >> 16); }
// Sums and products of halves are right when they are rounded to f32 first.
DEVICE u32 add_halves(u32 a, u32 b) { return pair_of(low_of(a) + low_of(b), high_of(a) + high_of(b)); }
DEVICE u32 multiply_halves(u32 a, u32 b) { return pair_of(low_of(a) * low_of(b), high_of(a) * high_of(b)); }
// The product is exact in f32, and a sum that f32 cannot hold is rounded twice: half a unit in the last place of f16 and a trifle.
DEVICE u32 fuse_halves(u32 a, u32 b, u32 c) {
    return pair_of(std::fma(low_of(a), low_of(b), low_of(c)), std::fma(high_of(a), high_of(b), high_of(c)));
}
template <u32 PART>
DEVICE u32 halves_over_1024(u32 word) {
    const u32 bytes = word >> 16 * PART;
    return 0x64006400u | (bytes & 0xff) | (bytes & 0xff00) << 8;
}

DEVICE float exp2(float x) { return std::exp2(x); }
DEVICE float inverse_root(float x) { return 1.0f / std::sqrt(x); }
DEVICE float root(float x) { return std::sqrt(x); }
DEVICE float floor(float x) { return std::floor(x); }
DEVICE float truncate(float x) { return std::trunc(x); }
DEVICE float absolute(float x) { return std::fabs(x); }
DEVICE float larger(float a, float b) { return std::fmax(a, b); }

DEVICE Words4 load_words(const void* place) { return *static_cast<const Words4*>(place); }
DEVICE void store_words(void* place, Words4 words) { *static_cast<Words4*>(place) = words; }

}  // namespace gpu

#include "fragments.h"

namespace gpu {

// Element (i, j) is the sum of products of row i, which lanes i and i + 16 both have, and column j.
template <class Fragment, class Accumulator, class Product>
DEVICE Accumulator multiply(const char* what, const Fragment& rows, const Fragment& columns, const Accumulator& sum,
                            Product product, emulation::Site site) {
    struct Share {
        Fragment rows, columns;
        Accumulator sum;
        Product product;
    } share{rows, columns, sum, product};
    emulation::collective(
        what, &share,
        [](void** lanes) {
            auto of = [lanes](u32 lane) -> Share& { return *static_cast<Share*>(lanes[lane]); };
            for (u32 i = 0; i < 16; ++i) {
                if (std::memcmp(&of(i).rows, &of(i + 16).rows, sizeof(Fragment)) != 0 ||
                    std::memcmp(&of(i).columns, &of(i + 16).columns, sizeof(Fragment)) != 0) {
                    emulation::fail("a matrix product whose lanes %u and %u hold different operands", i, i + 16);
                }
            }
            for (u32 lane = 0; lane < WAVE; ++lane) {
                for (u32 i = 0; i < 8; ++i) {
                    auto& place = of(lane).sum.at[i];
                    place = of(lane).product(of(2 * i + lane / 16).rows, of(lane).columns, place);
                }
            }
        },
        site);
    return share.sum;
}

DEVICE FloatAccumulator multiply(const HalfFragment& rows, const HalfFragment& columns,
                                 const FloatAccumulator& sum SITE_PARAMETER) {
    return multiply(
        "a matrix product", rows, columns, sum,
        [](const HalfFragment& row, const HalfFragment& column, float total) {
            for (u32 k = 0; k < 16; ++k) {
                const u32 shift = k % 2 * 16;
                total += half_to_float(row.at[k / 2] >> shift & 0xffff) * half_to_float(column.at[k / 2] >> shift & 0xffff);
            }
            return total;
        },
        site);
}

DEVICE IntAccumulator multiply(const ByteFragment& rows, const ByteFragment& columns,
                               const IntAccumulator& sum SITE_PARAMETER) {
    return multiply(
        "a matrix product", rows, columns, sum,
        [](const ByteFragment& row, const ByteFragment& column, i32 total) {
            for (u32 k = 0; k < 4; ++k) total = dot4(row.at[k], column.at[k], total);
            return total;
        },
        site);
}

}  // namespace gpu
