// Sixteen weights of a row as f16, for matrix units: quants are turned two at a time, without a detour through f32.
//
// `1024 + byte` is a half whose bits are those of 1,024 and the byte, and stays exact when 1,024 and the quant of zero are taken away.
// Scales are halves as they are stored, and products of a K-quant's whole numbers are exact as far as 2,048.
#pragma once

#include "weights.h"

namespace gpu {

struct Halves {
    Words4 low;
    Words4 high;
};

DEVICE u32 in_both(u32 half) { return half * 0x00010001; }
DEVICE u32 half_of(i32 number) { return in_both(float_to_half(static_cast<float>(number))); }

// What turns a pair of quants around zero into weights.
struct HalfScale {
    // Of a K-quant, its group's whole number.
    u32 inner;
    u32 outer;
    // What is added, where there are minima.
    u32 offset;
};

template <Format F>
DEVICE HalfScale half_scale_of(const Packet<F>& got, u32 packet, bool far) {
    if constexpr (F == Format::Q4_1) return {0, in_both(got.scale & 0xffff), in_both(got.scale >> 16)};
    if constexpr (F == Format::Q4_K || F == Format::Q5_K) {
        const SixBits group = six_bits(got.header, scale_group(packet, far));
        const float minimum = half_to_float(got.header.at[0] >> 16) * static_cast<float>(group.minimum);
        return {half_of(static_cast<i32>(group.scale)), in_both(got.header.at[0] & 0xffff), in_both(float_to_half(-minimum))};
    }
    if constexpr (F == Format::Q6_K) return {half_of(eight_bits(got.header, packet, far)), in_both(got.scale), 0};
    return {0, in_both(got.scale), 0};
}

template <Format F>
DEVICE u32 weights_of(u32 pair, const HalfScale& scale) {
    // Signed bytes come with their highest bit turned.
    constexpr i32 ZERO = 1024 + (F == Format::Q8_0 ? 128 : zero_of(F));
    u32 quants = add_halves(pair, half_of(-ZERO));
    if constexpr (is_super_block(F)) quants = multiply_halves(quants, scale.inner);
    if constexpr (has_minimum(F)) return fuse_halves(quants, scale.outer, scale.offset);
    return multiply_halves(quants, scale.outer);
}

// A sixteen as it is stored.
template <Format F>
struct Stored {
    Packet<F> packet;
};

template <>
struct Stored<Format::F16> {
    Words4 units[2];
};

template <>
struct Stored<Format::BF16> {
    Words4 units[2];
};

// The one from value `16 * sixteen` on. Rows of plain values may end inside: there are `columns` of them.
template <Format F>
DEVICE Stored<F> stored_of(const Planes& row, u32 sixteen, u32 columns) {
    if constexpr (is_block(F)) {
        return {fetch<F>(row, packet_of<F>(sixteen))};
    } else {
        return {{unit_at(row.words, smaller(2 * sixteen, columns / 8 - 1)),
                 unit_at(row.words, smaller(2 * sixteen + 1, columns / 8 - 1))}};
    }
}

template <Format F>
DEVICE Halves halves_of(const Stored<F>& stored, u32 sixteen) {
    Halves result;
    if constexpr (F == Format::F16) {
        result = {stored.units[0], stored.units[1]};
    } else if constexpr (F == Format::BF16) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            const u32 low = stored.units[0].at[i], high = stored.units[1].at[i];
            result.low.at[i] = halves(low_half<F>(low), high_half<F>(low));
            result.high.at[i] = halves(low_half<F>(high), high_half<F>(high));
        }
    } else {
        const u32 packet = packet_of<F>(sixteen);
        const bool far = is_far<F>(sixteen);
        const Words4 quants = quants_of<F>(stored.packet, packet, far);
        const HalfScale scale = half_scale_of<F>(stored.packet, packet, far);
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            const u32 bytes = F == Format::Q8_0 ? quants.at[i] ^ 0x80808080u : quants.at[i];
            Words4& place = i < 2 ? result.low : result.high;
            place.at[i % 2 * 2] = weights_of<F>(halves_over_1024<0>(bytes), scale);
            place.at[i % 2 * 2 + 1] = weights_of<F>(halves_over_1024<1>(bytes), scale);
        }
    }
    return result;
}

}  // namespace gpu
