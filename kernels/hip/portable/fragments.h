// Matrix fragments as gfx11 wants them, and as the emulation checks them: lane `l` has row, or column, `l % 16`, all 16 values of it.
#pragma once

namespace gpu {

// The operand whose rows, or columns, begin `stride` words apart from `first` on, each a multiple of 16 bytes.
DEVICE HalfFragment load_halves(const u32* first, u32 stride) {
    const u32* place = first + lane() % 16 * stride;
    const Words4 low = load_words(place), high = load_words(place + 4);
    return {{low.at[0], low.at[1], low.at[2], low.at[3], high.at[0], high.at[1], high.at[2], high.at[3]}};
}

DEVICE ByteFragment load_bytes(const u32* first, u32 stride) {
    const Words4 words = load_words(first + lane() % 16 * stride);
    return {{words.at[0], words.at[1], words.at[2], words.at[3]}};
}

// Where element `i` of a product is.
DEVICE u32 product_row(u32 i) { return 2 * i + lane() / 16; }
DEVICE u32 product_column(u32) { return lane() % 16; }

// The largest element of its row, and the sum of them, in place of each. All lanes take part.
DEVICE FloatAccumulator row_largest(const FloatAccumulator& product SITE_PARAMETER) {
    FloatAccumulator result;
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        float value = larger(product.at[i], exchange<8>(product.at[i] SITE_ARGUMENT));
        value = larger(value, exchange<4>(value SITE_ARGUMENT));
        value = larger(value, exchange<2>(value SITE_ARGUMENT));
        result.at[i] = larger(value, exchange<1>(value SITE_ARGUMENT));
    }
    return result;
}

DEVICE FloatAccumulator row_sums(const FloatAccumulator& product SITE_PARAMETER) {
    FloatAccumulator result;
    UNROLL
    for (u32 i = 0; i < 8; ++i) {
        float value = product.at[i] + exchange<8>(product.at[i] SITE_ARGUMENT);
        value += exchange<4>(value SITE_ARGUMENT);
        value += exchange<2>(value SITE_ARGUMENT);
        result.at[i] = value + exchange<1>(value SITE_ARGUMENT);
    }
    return result;
}

}  // namespace gpu
