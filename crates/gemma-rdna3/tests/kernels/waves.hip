// Sums, scans and votes across a wave, by every way in which lanes can reach each other.
#include "common.h"

struct Waves {
    const i32 *in;
    i32 *out;
};

__device__ inline u32 lane() { return __builtin_amdgcn_mbcnt_lo(~0u, 0); }

// Lanes by address, through the wires of LDS.
KERNEL(64) sum_by_address(Waves arguments) {
    i32 value = arguments.in[group() * 64 + item()];
    for (u32 distance = 16; distance > 0; distance /= 2) {
        value += __builtin_amdgcn_ds_bpermute((lane() ^ distance) * 4, value);
    }
    arguments.out[group() * 64 + item()] = value;
}

// Lanes of a row by a pattern in the instruction, then the other row.
KERNEL(64) sum_by_rows(Waves arguments) {
    i32 value = arguments.in[group() * 64 + item()];
    value += __builtin_amdgcn_update_dpp(0, value, 0x161, 0xf, 0xf, true);
    value += __builtin_amdgcn_update_dpp(0, value, 0x162, 0xf, 0xf, true);
    value += __builtin_amdgcn_update_dpp(0, value, 0x141, 0xf, 0xf, true);
    value += __builtin_amdgcn_update_dpp(0, value, 0x140, 0xf, 0xf, true);
    value += __builtin_amdgcn_permlanex16(value, value, 0x76543210, 0xfedcba98, false, false);
    arguments.out[group() * 64 + item()] = value;
}

// A running sum: rows by shifts, then the last lane of the first row.
KERNEL(64) running_sum(Waves arguments) {
    i32 value = arguments.in[group() * 64 + item()];
    value += __builtin_amdgcn_update_dpp(0, value, 0x111, 0xf, 0xf, false);
    value += __builtin_amdgcn_update_dpp(0, value, 0x112, 0xf, 0xf, false);
    value += __builtin_amdgcn_update_dpp(0, value, 0x114, 0xf, 0xf, false);
    value += __builtin_amdgcn_update_dpp(0, value, 0x118, 0xf, 0xf, false);
    i32 first = __builtin_amdgcn_readlane(value, 15);
    arguments.out[group() * 64 + item()] = lane() < 16 ? value : value + first;
}

// Patterns of a swizzle: lanes exchanged by the bits of their number, and lanes of four.
KERNEL(64) sum_by_swizzle(Waves arguments) {
    i32 value = arguments.in[group() * 64 + item()];
    value += __builtin_amdgcn_ds_swizzle(value, 0x401f);
    value += __builtin_amdgcn_ds_swizzle(value, 0x201f);
    value += __builtin_amdgcn_ds_swizzle(value, 0x101f);
    value += __builtin_amdgcn_ds_swizzle(value, 0x8000 | 2 | 3 << 2 | 0 << 4 | 1 << 6);
    value += __builtin_amdgcn_mov_dpp8(value, 1 | 0 << 3 | 3 << 6 | 2 << 9 | 5 << 12 | 4 << 15 | 7 << 18 | 6 << 21);
    arguments.out[group() * 64 + item()] = value;
}

// A vote, counts below the lane, a lane's value for all, a value into one lane, lanes written to by address.
KERNEL(64) votes(Waves arguments) {
    i32 value = arguments.in[group() * 64 + item()];
    u32 positive = __builtin_amdgcn_ballot_w32(value > 0);
    u32 below = __builtin_amdgcn_mbcnt_lo(positive, 0);
    i32 first = __builtin_amdgcn_readfirstlane(value);
    i32 other = __builtin_amdgcn_readlane(value, positive & 31);
    i32 moved = __builtin_amdgcn_ds_permute(((lane() + 5) & 31) * 4, value);
    i32 rotated = __builtin_amdgcn_update_dpp(0, value, 0x123, 0xf, 0xf, true);
    i32 shared = __builtin_amdgcn_update_dpp(7, value, 0x155, 0x1, 0xc, false);
    i32 inside = __builtin_amdgcn_permlane16(value, value, 0x01234567, 0x89abcdef, true, false);
    if (value & 1) {
        // Only lanes with odd values take part.
        first ^= __builtin_amdgcn_readfirstlane(value) + __builtin_amdgcn_ds_bpermute(lane() * 4 + 8, value);
    }
    arguments.out[group() * 64 + item()] =
        __builtin_popcount(positive) + below * 64 + first * 3 + other * 5 + moved * 7 + rotated * 11 + shared * 13 + inside * 17;
}
