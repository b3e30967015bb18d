// AltUp: streams of activations, of which a layer works on one; and what joins attention and LAuReL with the residual.
//
// Grid: (1, rows). A block has a row of each of 2 to 4 streams, which lie one after the other, `width` values each: at most 4,096, a
// multiple of 4. Norms are `rms(x, w) = x / sqrt(mean(x^2) + eps) * w`.
#include "row.h"

using namespace gpu;

namespace {

constexpr u32 STREAMS = 4;

// The router: `tanh(lines * (rms(x, norm) / width))`, one modality a stream.
struct Router {
    const float* norm;
    const float* lines;
};

struct AltUpInitArguments {
    const float* input;
    float* streams;
    u32 width;
    u32 count;
};

struct AltUpPredictArguments {
    float* streams;
    // The end of the layer before, if it is left to this launch: `streams[j] += rms(projected, projected_norm)` for j other than
    // `active`; otherwise null.
    const float* projected;
    const float* projected_norm;
    Router router;
    // Row `j * count + i` gives what stream i adds to stream j.
    const float* coefficients;
    const float* input_norm;
    float* normed;
    u32 width;
    u32 count;
    u32 active;
    float eps;
};

struct AttentionResidualArguments {
    const float* streams;
    const float* normed;
    const float* attended;
    const float* laurel;
    const float* post_norm;
    const float* laurel_norm;
    const float* ffn_norm;
    float* residual;
    float* ffn_input;
    u32 width;
    u32 count;
    u32 active;
    float eps;
};

struct AltUpCorrectArguments {
    float* streams;
    const float* residual;
    const float* ffn;
    const float* post_norm;
    Router router;
    const float* coefficients;
    u32 width;
    u32 count;
    u32 active;
    float eps;
};

struct AltUpMergeArguments {
    const float* streams;
    const float* projected;
    const float* norm;
    float* output;
    u32 width;
    u32 count;
    float eps;
};

struct PerLayerAddArguments {
    const float* projected;
    const float* norm;
    float* streams;
    u32 width;
    u32 count;
    u32 active;
    float eps;
};

// Router products of a row that is not normed yet, and the row's squares: a thread's part.
DEVICE void ask(const Row& row, const Router& router, u32 width, u32 count, float (&sums)[STREAMS + 2]) {
    const Row norm = read_row(router.norm, width);
    Row lines[STREAMS];
    UNROLL
    for (u32 k = 0; k < STREAMS; ++k) lines[k] = read_row(router.lines + smaller(k, count - 1) * width, width);
    const Row weighted = scaled(row, 1.0f, norm);
    UNROLL
    for (u32 k = 0; k < STREAMS; ++k) sums[k] = k < count ? dot(weighted, lines[k]) : 0.0f;
    sums[STREAMS] = dot(row, row);
}

// Modalities from the block's sums.
DEVICE void modalities(const float (&sums)[STREAMS + 2], u32 width, float eps, float (&modalities)[STREAMS]) {
    const float factor = norm_factor(sums[STREAMS], width, eps) / static_cast<float>(width);
    UNROLL
    for (u32 k = 0; k < STREAMS; ++k) modalities[k] = tangent(sums[k] * factor);
}

// A lane's line of a matrix of `lines` lines and `count` columns, asked for before anything is written.
struct Line {
    float at[STREAMS];
};

DEVICE Line read_line(const float* coefficients, u32 lines, u32 count) {
    const float* place = coefficients + smaller(lane(), lines - 1) * count;
    Line line;
    UNROLL
    for (u32 i = 0; i < STREAMS; ++i) line.at[i] = place[smaller(i, count - 1)];
    return line;
}

// The lane's line by the modalities.
DEVICE float combined(const Line& line, u32 count, const float (&modalities)[STREAMS]) {
    float sum = 0.0f;
    UNROLL
    for (u32 i = 0; i < STREAMS; ++i) sum += i < count ? line.at[i] * modalities[i] : 0.0f;
    return sum;
}

// Stream `j` of a row; one that is not there is the last again, and counts for nothing.
DEVICE Row read_stream(const float* streams, u32 j, u32 width, u32 count) {
    return read_row(streams + smaller(j, count - 1) * width, width);
}

DEVICE void add_scaled(Row& sum, float by, const Row& row) {
    sum = make_row([&](u32 s, u32 i) { return sum.slices[s].at[i] + by * row.slices[s].at[i]; });
}

}  // namespace

// `streams[0] = x; streams[i] = match(streams[i], x)`, where the products already stand.
KERNEL(altup_init, AltUpInitArguments, ROW_BLOCK) {
    const auto& a = arguments;
    float* streams = a.streams + static_cast<u64>(block_y()) * a.count * a.width;
    const Row input = read_row(a.input + static_cast<u64>(block_y()) * a.width, a.width);
    Row rows[STREAMS];
    float sums[STREAMS] = {dot(input, input)};
    UNROLL
    for (u32 j = 1; j < STREAMS; ++j) {
        rows[j] = j < a.count ? read_row(streams + j * a.width, a.width) : zero_row();
        sums[j] = dot(rows[j], rows[j]);
    }
    block_sums<ROW_BLOCK>(sums);
    const float width = static_cast<float>(a.width);
    write_row(streams, a.width, input);
    UNROLL
    for (u32 j = 1; j < STREAMS; ++j) {
        const float factor = match_factor(sums[0] / width, sums[j] / width);
        if (j < a.count) {
            write_row(streams + j * a.width, a.width,
                      make_row([&](u32 s, u32 i) { return rows[j].slices[s].at[i] * factor; }));
        }
    }
}

// `streams[j] += sum over i of C[j, i] * streams[i]` with `C` from the modalities of the active stream; then
// `normed = rms(streams[active], input_norm)`.
KERNEL(altup_predict, AltUpPredictArguments, ROW_BLOCK) {
    const auto& a = arguments;
    float* streams = a.streams + static_cast<u64>(block_y()) * a.count * a.width;
    const u64 start = static_cast<u64>(block_y()) * a.width;
    Row old[STREAMS];
    UNROLL
    for (u32 j = 0; j < STREAMS; ++j) old[j] = read_stream(streams, j, a.width, a.count);
    const Row active = read_row(streams + a.active * a.width, a.width);
    const Line line = read_line(a.coefficients, a.count * a.count, a.count);
    const Row input_norm = read_row(a.input_norm, a.width);
    Row projected = zero_row(), projected_norm = zero_row();
    if (a.projected) {
        projected = read_row(a.projected + start, a.width);
        projected_norm = read_row(a.projected_norm, a.width);
    }
    float sums[STREAMS + 2];
    ask(active, a.router, a.width, a.count, sums);
    sums[STREAMS + 1] = dot(projected, projected);
    block_sums<ROW_BLOCK>(sums);
    if (a.projected) {
        const Row added_row = scaled(projected, norm_factor(sums[STREAMS + 1], a.width, a.eps), projected_norm);
        UNROLL
        for (u32 j = 0; j < STREAMS; ++j) {
            if (j != a.active && j < a.count) old[j] = added(old[j], added_row);
        }
    }
    float routed[STREAMS];
    modalities(sums, a.width, a.eps, routed);
    const float factor = combined(line, a.count, routed);
    Row normed = zero_row();
    UNROLL
    for (u32 j = 0; j < STREAMS; ++j) {
        if (j < a.count) {
            Row sum = old[j];
            UNROLL
            for (u32 k = 0; k < STREAMS; ++k) {
                if (k < a.count) add_scaled(sum, broadcast(factor, j * a.count + k), old[k]);
            }
            write_row(streams + j * a.width, a.width, sum);
            if (j == a.active) normed = sum;
        }
    }
    const float squares = block_sum<ROW_BLOCK>(dot(normed, normed));
    write_row(a.normed + start, a.width,
              scaled(normed, norm_factor(squares, a.width, a.eps), input_norm));
}

// `residual = (streams[active] + rms(attended, post_norm) + normed + rms(laurel, laurel_norm)) / sqrt(2)`, then
// `ffn_input = rms(residual, ffn_norm)`.
KERNEL(attention_residual, AttentionResidualArguments, ROW_BLOCK) {
    const auto& a = arguments;
    const u64 start = static_cast<u64>(block_y()) * a.width;
    const float* active = a.streams + (static_cast<u64>(block_y()) * a.count + a.active) * a.width;
    const Row attended = read_row(a.attended + start, a.width), laurel = read_row(a.laurel + start, a.width);
    const Row before = added(read_row(active, a.width), read_row(a.normed + start, a.width));
    const Row post_norm = read_row(a.post_norm, a.width), laurel_norm = read_row(a.laurel_norm, a.width);
    const Row ffn_norm = read_row(a.ffn_norm, a.width);
    float sums[2] = {dot(attended, attended), dot(laurel, laurel)};
    block_sums<ROW_BLOCK>(sums);
    Row sum = added(before, added(scaled(attended, norm_factor(sums[0], a.width, a.eps), post_norm),
                                  scaled(laurel, norm_factor(sums[1], a.width, a.eps), laurel_norm)));
    sum = make_row([&](u32 s, u32 i) { return sum.slices[s].at[i] * HALF_ROOT; });
    const float squares = block_sum<ROW_BLOCK>(dot(sum, sum));
    write_row(a.residual + start, a.width, sum);
    write_row(a.ffn_input + start, a.width, scaled(sum, norm_factor(squares, a.width, a.eps), ffn_norm));
}

// `z = residual + rms(ffn, post_norm)`; `c = coefficients * router(z) + 1`; `streams[j] += c[j] * (z - streams[active])`.
KERNEL(altup_correct, AltUpCorrectArguments, ROW_BLOCK) {
    const auto& a = arguments;
    float* streams = a.streams + static_cast<u64>(block_y()) * a.count * a.width;
    const u64 start = static_cast<u64>(block_y()) * a.width;
    const Row ffn = read_row(a.ffn + start, a.width), post_norm = read_row(a.post_norm, a.width);
    const Row residual = read_row(a.residual + start, a.width);
    Row old[STREAMS];
    UNROLL
    for (u32 j = 0; j < STREAMS; ++j) old[j] = read_stream(streams, j, a.width, a.count);
    const Row active = read_row(streams + a.active * a.width, a.width);
    const Line line = read_line(a.coefficients, a.count, a.count);
    const float squares = block_sum<ROW_BLOCK>(dot(ffn, ffn));
    const Row z = added(residual, scaled(ffn, norm_factor(squares, a.width, a.eps), post_norm));
    float sums[STREAMS + 2];
    ask(z, a.router, a.width, a.count, sums);
    sums[STREAMS + 1] = 0.0f;
    block_sums<ROW_BLOCK>(sums);
    float routed[STREAMS];
    modalities(sums, a.width, a.eps, routed);
    const float factor = combined(line, a.count, routed) + 1.0f;
    const Row change = make_row([&](u32 s, u32 i) { return z.slices[s].at[i] - active.slices[s].at[i]; });
    UNROLL
    for (u32 j = 0; j < STREAMS; ++j) {
        if (j < a.count) {
            add_scaled(old[j], broadcast(factor, j), change);
            write_row(streams + j * a.width, a.width, old[j]);
        }
    }
}

// `output = rms((streams[0] + sum over i of match(projected[i - 1], streams[0])) / count, norm)`.
KERNEL(altup_merge, AltUpMergeArguments, ROW_BLOCK) {
    const auto& a = arguments;
    const float* streams = a.streams + static_cast<u64>(block_y()) * a.count * a.width;
    const float* projected = a.projected + static_cast<u64>(block_y()) * (a.count - 1) * a.width;
    Row sum = read_row(streams, a.width);
    Row rows[STREAMS];
    float sums[STREAMS] = {dot(sum, sum)};
    UNROLL
    for (u32 j = 1; j < STREAMS; ++j) {
        rows[j] = j < a.count ? read_row(projected + (j - 1) * a.width, a.width) : zero_row();
        sums[j] = dot(rows[j], rows[j]);
    }
    block_sums<ROW_BLOCK>(sums);
    const float width = static_cast<float>(a.width);
    UNROLL
    for (u32 j = 1; j < STREAMS; ++j) {
        if (j < a.count) add_scaled(sum, match_factor(sums[0] / width, sums[j] / width), rows[j]);
    }
    const float each = 1.0f / static_cast<float>(a.count);
    sum = make_row([&](u32 s, u32 i) { return sum.slices[s].at[i] * each; });
    const float squares = block_sum<ROW_BLOCK>(dot(sum, sum));
    const Row norm = read_row(a.norm, a.width);
    write_row(a.output + static_cast<u64>(block_y()) * a.width, a.width,
              scaled(sum, norm_factor(squares, a.width, a.eps), norm));
}

// `streams[j] += rms(projected, norm)` for j other than `active`.
KERNEL(per_layer_add, PerLayerAddArguments, ROW_BLOCK) {
    const auto& a = arguments;
    float* streams = a.streams + static_cast<u64>(block_y()) * a.count * a.width;
    const Row projected = read_row(a.projected + static_cast<u64>(block_y()) * a.width, a.width);
    const Row norm = read_row(a.norm, a.width);
    Row old[STREAMS];
    UNROLL
    for (u32 j = 0; j < STREAMS; ++j) old[j] = read_stream(streams, j, a.width, a.count);
    const float squares = block_sum<ROW_BLOCK>(dot(projected, projected));
    const Row value = scaled(projected, norm_factor(squares, a.width, a.eps), norm);
    UNROLL
    for (u32 j = 0; j < STREAMS; ++j) {
        if (j < a.count && j != a.active) write_row(streams + j * a.width, a.width, added(old[j], value));
    }
}
