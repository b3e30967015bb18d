// `output[i] = input[i]`: the choice of output rows, which are the last ones of a run.
//
// Grid: (count / 1,024); a thread has four values, and counts are a multiple of 4.
#include "portable.h"

using namespace gpu;

namespace {

struct CopyArguments {
    const float* input;
    float* output;
    u32 count;
};

constexpr u32 THREADS = 256;

}  // namespace

KERNEL(copy_values, CopyArguments, THREADS) {
    const auto& a = arguments;
    const u32 at = 4 * (block_x() * THREADS + thread_index());
    if (at < a.count) store_words(a.output + at, load_words(a.input + at));
}
