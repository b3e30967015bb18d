// The C interface of the emulation: libgemma_kernels_emulated.so.

#include <cstdio>
#include <cstring>
#include <string>

#include "block.h"

namespace {

int refuse(char* message, size_t bytes, const char* kernel, const char* why) {
    if (message && bytes > 0) std::snprintf(message, bytes, "%s: %s", kernel ? kernel : "no kernel", why);
    return 1;
}

}  // namespace

extern "C" {

// Names of all kernels, one a line, in no particular order.
__attribute__((visibility("default"))) const char* gemma_emulated_kernels(void) {
    static const std::string names = [] {
        std::string names;
        for (auto* kernel = emulation::first_kernel(); kernel; kernel = kernel->next) {
            names += kernel->name;
            names += '\n';
        }
        return names;
    }();
    return names.c_str();
}

// Runs `kernel` over `grid` blocks to its end. `arguments` is the kernarg segment: the kernel's one structure. Seed 0 runs work-items
// in order, every other one in an order of its own. The answer is 0, or 1 with what went wrong in `message`.
__attribute__((visibility("default"))) int gemma_emulated_launch(const char* kernel, const uint32_t grid[3],
                                                                 const uint32_t block[3], uint32_t dynamic_shared_bytes,
                                                                 const void* arguments, size_t argument_bytes,
                                                                 uint64_t seed, char* message, size_t message_bytes) {
    if (!kernel || !grid || !block || !arguments) return refuse(message, message_bytes, kernel, "a null pointer");
    const emulation::Kernel* found = emulation::first_kernel();
    while (found && std::strcmp(found->name, kernel) != 0) found = found->next;
    if (!found) return refuse(message, message_bytes, kernel, "there is no such kernel");
    if (block[0] != found->threads || block[1] != 1 || block[2] != 1) {
        return refuse(message, message_bytes, kernel, "was compiled for blocks of another size");
    }
    if (dynamic_shared_bytes != 0) return refuse(message, message_bytes, kernel, "has no dynamic shared memory");
    if (argument_bytes < found->argument_bytes) return refuse(message, message_bytes, kernel, "lacks arguments");
    return emulation::launch(*found, grid, arguments, seed, message, message_bytes);
}
}
