// Wrong on purpose: what one work-item leaves in shared memory another one reads without a barrier between.
#include "portable.h"

using namespace gpu;

namespace {

struct Arguments {
    float* output;
    const float* input;
};

}  // namespace

KERNEL(broken_missing_barrier, Arguments, 64) {
    SHARED(float, shared, 64);
    shared[thread_index()] = arguments.input[thread_index()];
    arguments.output[thread_index()] = shared[63 - thread_index()];
}
