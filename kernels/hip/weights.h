// Weights as kernels read them: planes of whole words, packed by `gemma_hal::planes`.
//
// | type | words of a block | scales of a block |
// | --- | --- | --- |
// | F32, F16, BF16 | the values | - |
// | Q8_0 | 32 bytes of quants | f16 |
// | Q4_0 | 16 bytes of nibbles | f16 |
// | Q4_1 | 16 bytes of nibbles | f16, and its minimum |
// | Q5_0 | 16 bytes of nibbles | f16; a plane of its own has a word of fifth bits |
// | Q4_K, Q5_K | the block as it is, 144 and 176 bytes | - |
// | Q6_K | the block without its last two bytes, 208 bytes | f16 |
//
// A lane reads a packet of 16 bytes, packet `p` of a row by lane `p % 32`, so that a wave reads 512 bytes in a row. In types with
// nibbles a packet is two sixteens of values: the near one in low nibbles, the far one in high ones.
#pragma once

#include "portable.h"

namespace gpu {

enum class Format { F32, F16, BF16, Q8_0, Q6_K, Q5_K, Q5_0, Q4_1, Q4_K, Q4_0 };

// A matrix, or the row of one. A plane that the type does not have is not read.
struct Planes {
    const u8* words;
    const u8* scales;
    const u8* high;
};

constexpr bool is_block(Format f) { return f != Format::F32 && f != Format::F16 && f != Format::BF16; }
constexpr bool is_super_block(Format f) { return f == Format::Q6_K || f == Format::Q5_K || f == Format::Q4_K; }
// A scale and a minimum for each group; otherwise a scale and a zero in the middle.
constexpr bool has_minimum(Format f) { return f == Format::Q4_1 || f == Format::Q4_K || f == Format::Q5_K; }
constexpr bool has_nibbles(Format f) { return is_block(f) && f != Format::Q8_0; }

// The quant that stands for zero.
constexpr i32 zero_of(Format f) {
    return f == Format::Q4_0 ? 8 : f == Format::Q5_0 ? 16 : f == Format::Q6_K ? 32 : 0;
}

// Values of a packet.
constexpr u32 packet_values(Format f) {
    return f == Format::F32 ? 4 : !is_block(f) ? 8 : f == Format::Q8_0 ? 16 : 32;
}

// Values that one entry of a row's planes stands for, and its bytes there.
constexpr u32 block_values(Format f) { return is_super_block(f) ? 256 : is_block(f) ? 32 : 1; }
constexpr u32 word_bytes(Format f) {
    return f == Format::F32 ? 4
           : !is_block(f)   ? 2
           : f == Format::Q8_0 ? 32
           : f == Format::Q4_K ? 144
           : f == Format::Q5_K ? 176
           : f == Format::Q6_K ? 208
                               : 16;
}
constexpr u32 scale_bytes(Format f) {
    return f == Format::Q4_1 ? 4 : f == Format::Q8_0 || f == Format::Q4_0 || f == Format::Q5_0 || f == Format::Q6_K ? 2 : 0;
}

// The planes of row `row` of a matrix with so many columns.
template <Format F>
DEVICE Planes row_of(const Planes& matrix, u32 row, u32 columns) {
    const u64 blocks = static_cast<u64>(row) * (columns / block_values(F));
    Planes line = {matrix.words + blocks * word_bytes(F), nullptr, nullptr};
    if constexpr (scale_bytes(F) > 0) line.scales = matrix.scales + blocks * scale_bytes(F);
    if constexpr (F == Format::Q5_0) line.high = matrix.high + blocks * 4;
    return line;
}

// Where a row's packet lies, in units of 16 bytes.
template <Format F>
DEVICE u32 packet_place(u32 packet) {
    if constexpr (F == Format::Q4_K) return packet / 8 * 9 + 1 + packet % 8;
    if constexpr (F == Format::Q5_K) return packet / 8 * 11 + 3 + packet % 8;
    if constexpr (F == Format::Q6_K) return packet / 8 * 13 + packet % 8;
    return packet;
}

// The first sixteen of a packet, in types whose packets are not smaller.
template <Format F>
DEVICE u32 near_sixteen(u32 packet) {
    if constexpr (F == Format::Q8_0) return packet;
    if constexpr (F == Format::Q4_K || F == Format::Q5_K) return packet / 2 * 4 + packet % 2;
    if constexpr (F == Format::Q6_K) return packet / 4 * 8 + packet % 4;
    return 2 * packet;
}

// Sixteens from the near one to the far one.
constexpr u32 far_distance(Format f) { return f == Format::Q6_K ? 4 : is_super_block(f) ? 2 : 1; }

// What a lane reads of a row for one packet.
template <Format F>
struct Packet {
    Words4 words;
    // The block's f16, and behind it a minimum where it has one.
    u32 scale;
    // Fifth bits.
    u32 high;
    // Scales and minima of a K-quant's groups.
    Words4 header;
    // Bits above the nibbles.
    Words4 bits;
};

DEVICE Words4 unit_at(const u8* words, u32 unit) { return load_words(words + unit * 16); }

DEVICE u32 half_word_at(const u8* place, u32 index) { return reinterpret_cast<const u16*>(place)[index]; }

DEVICE u32 word_at(const u8* place, u32 index) { return reinterpret_cast<const u32*>(place)[index]; }

template <Format F>
DEVICE Packet<F> fetch(const Planes& row, u32 packet) {
    Packet<F> got;
    got.words = unit_at(row.words, packet_place<F>(packet));
    if constexpr (F == Format::Q8_0) got.scale = half_word_at(row.scales, packet / 2);
    if constexpr (F == Format::Q4_0 || F == Format::Q5_0) got.scale = half_word_at(row.scales, packet);
    if constexpr (F == Format::Q4_1) got.scale = word_at(row.scales, packet);
    if constexpr (F == Format::Q5_0) got.high = word_at(row.high, packet);
    if constexpr (F == Format::Q4_K) got.header = unit_at(row.words, packet / 8 * 9);
    if constexpr (F == Format::Q5_K) {
        got.header = unit_at(row.words, packet / 8 * 11);
        got.bits = unit_at(row.words, packet / 8 * 11 + 1 + packet % 2);
    }
    if constexpr (F == Format::Q6_K) {
        got.scale = half_word_at(row.scales, packet / 8);
        got.header = unit_at(row.words, packet / 8 * 13 + 12);
        got.bits = unit_at(row.words, packet / 8 * 13 + 8 + packet % 8 / 4 * 2 + packet % 2);
    }
    return got;
}

// The nibbles of all bytes: the low ones, or with a shift of 4 the high ones.
DEVICE u32 nibbles(u32 word, u32 shift) { return word >> shift & 0x0f0f0f0f; }

// Four bits, each in the fifth place of a byte.
DEVICE u32 spread(u32 bits) { return ((bits & 15) * 0x00204081 & 0x01010101) << 4; }

// A scale and a minimum.
struct Scale {
    float scale;
    float minimum;
};

// Those of a group of a K-quant in whole numbers, six bits each.
struct SixBits {
    u32 scale;
    u32 minimum;
};

// Those of group `group`.
DEVICE SixBits six_bits(const Words4& header, u32 group) {
    const u32 shift = group % 4 * 8;
    const u32 scales = header.at[1] >> shift, minima = header.at[2] >> shift, rest = header.at[3] >> shift;
    const bool is_near = group < 4;
    return {is_near ? scales & 63 : (rest & 15) | (scales >> 2 & 0x30),
            is_near ? minima & 63 : (rest >> 4 & 15) | (minima >> 2 & 0x30)};
}

// The group of a packet's near or far sixteen.
DEVICE u32 scale_group(u32 packet, bool far) { return packet % 8 / 2 * 2 + far; }

// Signed byte `index` of four words; of which word is not known at compile time.
DEVICE i32 signed_byte(const Words4& words, u32 index) {
    const u32 low = index & 4 ? words.at[1] : words.at[0];
    const u32 high = index & 4 ? words.at[3] : words.at[2];
    const u32 word = index & 8 ? high : low;
    return static_cast<i32>(word << (24 - index % 4 * 8)) >> 24;
}

// The scale of a Q6_K block's near or far sixteen, in whole numbers.
DEVICE i32 eight_bits(const Words4& header, u32 packet, bool far) {
    const u32 v = packet % 8;
    return signed_byte(header, v / 4 * 8 + v % 4 + (far ? 4 : 0));
}

// The quants of the near or the far sixteen as bytes; those with a zero in the middle are not moved yet.
template <Format F>
DEVICE Words4 quants_of(const Packet<F>& got, u32 packet, bool far) {
    Words4 quants = got.words;
    if constexpr (has_nibbles(F)) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            quants.at[i] = nibbles(got.words.at[i], far ? 4 : 0);
            if constexpr (F == Format::Q5_0) quants.at[i] |= spread(got.high >> (4 * i + (far ? 16 : 0)));
            if constexpr (F == Format::Q5_K) {
                const u32 group = scale_group(packet, far);
                quants.at[i] |= (got.bits.at[i] >> group & 0x01010101) << 4;
            }
            if constexpr (F == Format::Q6_K) {
                const u32 part = packet % 4 / 2 + (far ? 2 : 0);
                quants.at[i] |= (got.bits.at[i] >> 2 * part & 0x03030303) << 4;
            }
        }
    }
    return quants;
}

// Scale and minimum of the near or the far sixteen: a value is `scale * (quant - zero) - minimum`.
template <Format F>
DEVICE Scale scale_of(const Packet<F>& got, u32 packet, bool far) {
    if constexpr (F == Format::Q4_1) return {half_to_float(got.scale & 0xffff), -half_to_float(got.scale >> 16)};
    if constexpr (F == Format::Q4_K || F == Format::Q5_K) {
        const SixBits group = six_bits(got.header, scale_group(packet, far));
        return {half_to_float(got.header.at[0] & 0xffff) * static_cast<float>(group.scale),
                half_to_float(got.header.at[0] >> 16) * static_cast<float>(group.minimum)};
    }
    if constexpr (F == Format::Q6_K) {
        return {half_to_float(got.scale) * static_cast<float>(eight_bits(got.header, packet, far)), 0.0f};
    }
    return {half_to_float(got.scale), 0.0f};
}

// Byte `i` of a word of quants, with its sign in Q8_0.
template <Format F>
DEVICE float quant(u32 word, u32 i) {
    if constexpr (F == Format::Q8_0) return static_cast<float>(static_cast<i32>(word << (24 - 8 * i)) >> 24);
    return static_cast<float>(word >> 8 * i & 255);
}

// Values `2 i` and `2 i + 1` of words of 16 bits.
template <Format F>
DEVICE float low_half(u32 word) {
    return F == Format::BF16 ? float_of(word << 16) : half_to_float(word & 0xffff);
}
template <Format F>
DEVICE float high_half(u32 word) {
    return F == Format::BF16 ? float_of(word & 0xffff0000) : half_to_float(word >> 16);
}

// A sixteen of a row: its packet, and whether it is the far one there.
template <Format F>
DEVICE u32 packet_of(u32 sixteen) {
    if constexpr (F == Format::Q8_0) return sixteen;
    if constexpr (F == Format::Q4_K || F == Format::Q5_K) return sixteen / 4 * 2 + sixteen % 2;
    if constexpr (F == Format::Q6_K) return sixteen / 8 * 4 + sixteen % 4;
    return sixteen / 2;
}

template <Format F>
DEVICE bool is_far(u32 sixteen) {
    return has_nibbles(F) && (sixteen / far_distance(F)) % 2 == 1;
}

// A sixteen of a row in a block format.
struct Sixteen {
    Words4 quants;
    Scale scale;
};

template <Format F>
DEVICE Sixteen sixteen_of(const Planes& row, u32 sixteen) {
    const u32 packet = packet_of<F>(sixteen);
    const Packet<F> got = fetch<F>(row, packet);
    const bool far = is_far<F>(sixteen);
    return {quants_of<F>(got, packet, far), scale_of<F>(got, packet, far)};
}

// Sixteen values of a row, from value `16 * sixteen` on. Rows of plain values may end inside: there are `columns` of them.
template <Format F>
DEVICE void sixteen_values(const Planes& row, u32 sixteen, u32 columns, float (&values)[16]) {
    if constexpr (F == Format::F32) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            const u32 packet = smaller(4 * sixteen + i, columns / 4 - 1);
            const Words4 words = unit_at(row.words, packet);
            UNROLL
            for (u32 k = 0; k < 4; ++k) values[4 * i + k] = float_of(words.at[k]);
        }
    } else if constexpr (!is_block(F)) {
        UNROLL
        for (u32 i = 0; i < 2; ++i) {
            const Words4 words = unit_at(row.words, smaller(2 * sixteen + i, columns / 8 - 1));
            UNROLL
            for (u32 k = 0; k < 4; ++k) {
                values[8 * i + 2 * k] = low_half<F>(words.at[k]);
                values[8 * i + 2 * k + 1] = high_half<F>(words.at[k]);
            }
        }
    } else {
        const Sixteen got = sixteen_of<F>(row, sixteen);
        UNROLL
        for (u32 i = 0; i < 16; ++i) {
            values[i] = (quant<F>(got.quants.at[i / 4], i % 4) - zero_of(F)) * got.scale.scale - got.scale.minimum;
        }
    }
}

}  // namespace gpu
