// RMS norms of rows: `rms(x, w) = x / sqrt(mean(x^2) + eps) * w`.
//
// Grid: (1, rows). A block has a row of at most 4,096 values.
#include "row.h"

using namespace gpu;

namespace {

struct RmsNormArguments {
    const float* input;
    const float* weight;
    float* output;
    u32 width;
    float eps;
};

struct AddNormArguments {
    const float* input;
    const float* post_norm;
    float* residual;
    const float* next_norm;
    float* normed;
    u32 width;
    float eps;
};

}  // namespace

// `output = rms(input, weight)`.
KERNEL(rms_norm, RmsNormArguments, ROW_BLOCK) {
    const auto& a = arguments;
    const u64 start = static_cast<u64>(block_y()) * a.width;
    const Row row = read_row(a.input + start, a.width);
    const Row weight = read_row(a.weight, a.width);
    const float squares = block_sum<ROW_BLOCK>(dot(row, row));
    write_row(a.output + start, a.width, scaled(row, norm_factor(squares, a.width, a.eps), weight));
}

// `residual += rms(input, post_norm); normed = rms(residual, next_norm)`.
KERNEL(add_norm, AddNormArguments, ROW_BLOCK) {
    const auto& a = arguments;
    const u64 start = static_cast<u64>(block_y()) * a.width;
    const Row row = read_row(a.input + start, a.width);
    const Row post_norm = read_row(a.post_norm, a.width);
    const Row before = read_row(a.residual + start, a.width);
    const Row next_norm = read_row(a.next_norm, a.width);
    const float squares = block_sum<ROW_BLOCK>(dot(row, row));
    const Row sum = added(before, scaled(row, norm_factor(squares, a.width, a.eps), post_norm));
    write_row(a.residual + start, a.width, sum);
    const float next = block_sum<ROW_BLOCK>(dot(sum, sum));
    write_row(a.normed + start, a.width, scaled(sum, norm_factor(next, a.width, a.eps), next_norm));
}
