// The units that a cutoff leaves: those with `g > mean(g) + cutoff * std(g)`, `g` being the row `gated`, in ascending order.
//
// Grid: one block. Rows of at most 32,768 values, a multiple of 4. `units` gets the units' numbers, `values` their
// `gelu(g - mean(g) - cutoff * std(g))`, `count` how many there are; `gated` is zero then.
#include "portable.h"

using namespace gpu;

namespace {

struct SparseCutArguments {
    float* gated;
    float* values;
    u32* units;
    u32* count;
    u32 width;
    float cutoff;
};

constexpr u32 THREADS = 1024;
constexpr u32 WAVES = THREADS / WAVE;

// Which four of the row a thread's four number `slice` is: a wave has neighbouring ones, so that it lists them in order.
DEVICE u32 place(u32 slice, u32 slices) { return (wave() * slices + slice) * WAVE + lane(); }

// For rows of at most SLICES fours a thread.
template <u32 SLICES>
DEVICE void compute(const SparseCutArguments& a) {
    const u32 fours = a.width / 4;
    const u32 slices = round_up(fours, THREADS);
    const auto has = [&](u32 s) { return s < slices && place(s, slices) < fours; };
    Four row[SLICES];
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) row[s] = load_four(a.gated + 4 * smaller(place(s, slices), fours - 1));
    float sum = 0.0f;
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) row[s].at[i] = has(s) ? row[s].at[i] : 0.0f;
        sum += sum_of(row[s]);
    }
    const float mean = block_sum<THREADS>(sum) / static_cast<float>(a.width);
    // All have read by now.
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) {
        if (has(s)) store_four(a.gated + 4 * place(s, slices), {{0.0f, 0.0f, 0.0f, 0.0f}});
    }
    float squares = 0.0f;
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) {
        if (has(s)) {
            UNROLL
            for (u32 i = 0; i < 4; ++i) squares += (row[s].at[i] - mean) * (row[s].at[i] - mean);
        }
    }
    const float cut = mean + a.cutoff * root(block_sum<THREADS>(squares) / static_cast<float>(a.width));
    // Bits of a thread's active values, four a slice, and how many of the wave's stand before each slice.
    u32 active = 0;
    u32 found = 0;
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) {
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            const bool is_active = has(s) && row[s].at[i] > cut;
            active |= static_cast<u32>(is_active) << (4 * s + i);
            found += bit_count(ballot(is_active));
        }
    }
    SHARED(u32, each, WAVES);
    if (lane() == 0) each[wave()] = found;
    shared_barrier();
    const u32 of_wave = each[lane()];
    const u32 all = wave_sum(of_wave);
    u32 at = wave_sum(lane() < wave() ? of_wave : 0u);
    UNROLL
    for (u32 s = 0; s < SLICES; ++s) {
        // Lanes in order, and a lane's four in order.
        const u32 own = active >> 4 * s & 15;
        u32 before = 0, here = 0;
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            const u32 lanes = ballot((own >> i & 1) != 0);
            before += bits_before(lanes);
            here += bit_count(lanes);
        }
        u32 entry = at + before;
        UNROLL
        for (u32 i = 0; i < 4; ++i) {
            if (own >> i & 1) {
                a.units[entry] = 4 * place(s, slices) + i;
                a.values[entry] = gelu(row[s].at[i] - cut);
                ++entry;
            }
        }
        at += here;
    }
    if (thread_index() == 0) *a.count = all;
}

}  // namespace

// Widths up to 8,192 (Gemma 3n E2B), 16,384 (E4B), 32,768.
KERNEL(sparse_cut_2, SparseCutArguments, THREADS) { compute<2>(arguments); }
KERNEL(sparse_cut_4, SparseCutArguments, THREADS) { compute<4>(arguments); }
KERNEL(sparse_cut_8, SparseCutArguments, THREADS) { compute<8>(arguments); }
