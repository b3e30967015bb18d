// Wrong on purpose: the odd lanes of a wave are not there when the others exchange values.
#include "portable.h"

using namespace gpu;

namespace {

struct Arguments {
    float* output;
    const float* input;
};

}  // namespace

KERNEL(broken_divergent_shuffle, Arguments, 64) {
    float value = arguments.input[thread_index()];
    if (lane() % 2 == 0) {
        value += exchange<2>(value);
    }
    arguments.output[thread_index()] = value;
}
