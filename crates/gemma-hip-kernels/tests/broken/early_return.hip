// Wrong on purpose: work-items without work of their own leave before the barrier that the others wait at.
#include "portable.h"

using namespace gpu;

namespace {

struct Arguments {
    float* output;
    const float* input;
};

}  // namespace

KERNEL(broken_early_return, Arguments, 64) {
    SHARED(float, shared, 64);
    if (thread_index() >= 48) {
        return;
    }
    shared[thread_index()] = arguments.input[thread_index()];
    barrier();
    arguments.output[thread_index()] = shared[47 - thread_index()];
}
