// Wrong on purpose: the last work-item reads one value behind the end of the input.
#include "portable.h"

using namespace gpu;

namespace {

struct Arguments {
    float* output;
    const float* input;
};

}  // namespace

KERNEL(broken_out_of_bounds, Arguments, 64) {
    arguments.output[thread_index()] = arguments.input[thread_index() + 1];
}
