// `output = sum over i of values[i] * column units[i]` of `down`, from a turned copy of it.
//
// In the copy (`gemma_hal::planes::turn`) the values of a column lie together, output after output: eight outputs of a column are 8
// words in F32, 4 in F16 and BF16, 2 in Q8_0, and 1 in Q4_0 and Q4_1, outputs 0 to 3 in the low nibbles of its bytes and 4 to 7 in
// the high ones. Scales, one for each output and 32 columns, lie output after output, block after block; in Q4_1 each is followed by
// its minimum.
//
// Grid: (outputs / 256, 1, parts of the list). The block that comes last of a tile's adds up the parts; `counters` has a zero for each
// tile before and after, `partial` room for parts * tiles * 256 values. Outputs are a multiple of 8.
#include "weights.h"

using namespace gpu;

namespace {

struct SparseDownArguments {
    const u8* words;
    const u8* scales;
    const u32* units;
    const u32* count;
    const float* values;
    float* partial;
    u32* counters;
    float* output;
    u32 outputs;
    u32 parts;
    u32 tiles;
};

constexpr u32 THREADS = 256;
// Eight outputs a lane.
constexpr u32 TILE = WAVE * 8;
constexpr u32 WAVES = THREADS / WAVE;

// Bytes of eight outputs of a column, and of their scales.
constexpr u32 eight_bytes(Format f) {
    return f == Format::F32 ? 32 : !is_block(f) ? 16 : f == Format::Q8_0 ? 8 : 4;
}

// Eight outputs of a column, number `at` of all eights, without their scales.
template <Format F>
DEVICE void column(const u8* words, u64 at, float (&values)[8]) {
    const u8* place = words + at * eight_bytes(F);
    if constexpr (F == Format::F32) {
        const Words4 low = load_words(place), high = load_words(place + 16);
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            values[i] = float_of(low.at[i]);
            values[4 + i] = float_of(high.at[i]);
        }
    } else if constexpr (!is_block(F)) {
        const Words4 all = load_words(place);
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            values[2 * i] = low_half<F>(all.at[i]);
            values[2 * i + 1] = high_half<F>(all.at[i]);
        }
    } else {
        UNROLL
        for (u32 i = 0; i < 8; ++i) {
            const u32 word = F == Format::Q8_0 ? word_at(place, i / 4) : nibbles(word_at(place, 0), i / 4 * 4);
            values[i] = quant<F>(word, i % 4) - static_cast<float>(zero_of(F));
        }
    }
}

// Scales and minima of eight outputs in a block of columns.
struct Steps {
    float scales[8];
    float minima[8];
};

template <Format F>
DEVICE void hold(const u8* scales, u64 at, Steps& steps) {
    if constexpr (F == Format::Q4_1) {
        const Words4 low = load_words(scales + at * 32), high = load_words(scales + at * 32 + 16);
        UNROLL
        for (u32 i = 0; i < 8; ++i) {
            const u32 both = i < 4 ? low.at[i % 4] : high.at[i % 4];
            steps.scales[i] = half_to_float(both & 0xffff);
            steps.minima[i] = half_to_float(both >> 16);
        }
    } else if constexpr (is_block(F)) {
        const Words4 all = load_words(scales + at * 16);
        UNROLL
        for (u32 i = 0; i < 8; ++i) steps.scales[i] = half_to_float(all.at[i / 2] >> i % 2 * 16 & 0xffff);
    }
}

template <Format F>
DEVICE void compute(const SparseDownArguments& a) {
    const u32 tile = block_x(), thread = thread_index();
    const u32 eights = a.outputs / 8;
    const u32 eight = smaller(tile * WAVE + lane(), eights - 1);
    const u32 active = *a.count;
    const u32 each = round_up(active, a.parts * WAVES);
    const u32 from = (block_z() * WAVES + wave()) * each;
    const u32 to = smaller(from + each, active);
    float sums[8] = {};
    Steps steps = {};
    // Of no block.
    u32 held = ~0u;
    for (u32 index = from; index < to; ++index) {
        const u32 unit = a.units[index];
        const float value = a.values[index];
        float quants[8];
        column<F>(a.words, static_cast<u64>(unit) * eights + eight, quants);
        if constexpr (is_block(F)) {
            // Neighbours in the list often lie in the same block.
            if (unit / 32 != held) {
                held = unit / 32;
                hold<F>(a.scales, static_cast<u64>(held) * eights + eight, steps);
            }
        }
        UNROLL
        for (u32 i = 0; i < 8; ++i) {
            float weight = quants[i];
            if constexpr (is_block(F)) weight *= steps.scales[i];
            if constexpr (F == Format::Q4_1) weight += steps.minima[i];
            sums[i] += weight * value;
        }
    }
    SHARED(float, shared, WAVES* TILE);
    UNROLL
    for (u32 i = 0; i < 8; ++i) shared[wave() * TILE + i * WAVE + lane()] = sums[i];
    barrier();
    float sum = 0.0f;
    UNROLL
    for (u32 w = 0; w < WAVES; ++w) sum += shared[w * TILE + thread];
    // Thread `t` has output `t / 32` of the eight of lane `t % 32`.
    const u32 written = tile * WAVE + lane();
    if (a.parts == 1) {
        if (written < eights) a.output[written * 8 + wave()] = sum;
        return;
    }
    const u32 stride = a.tiles * TILE, place = tile * TILE + thread;
    a.partial[block_z() * stride + place] = sum;
    // What this block has written is there for whoever comes last, and what others have for this one.
    if (comes_last(a.counters + tile, a.parts) && written < eights) {
        float total = 0.0f;
        for (u32 part = 0; part < a.parts; ++part) total += a.partial[part * stride + place];
        a.output[written * 8 + wave()] = total;
    }
}

}  // namespace

#define SPARSE_DOWN(suffix, format) \
    KERNEL(sparse_down_##suffix, SparseDownArguments, THREADS) { compute<format>(arguments); }
SPARSE_DOWN(f32, Format::F32)
SPARSE_DOWN(f16, Format::F16)
SPARSE_DOWN(bf16, Format::BF16)
SPARSE_DOWN(q8_0, Format::Q8_0)
SPARSE_DOWN(q4_1, Format::Q4_1)
SPARSE_DOWN(q4_0, Format::Q4_0)
