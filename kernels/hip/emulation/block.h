// What an emulated work-item may ask of its block. Implemented in block.cpp; kernels reach it through portable.h alone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulation {

constexpr uint32_t LANES = 32;

// A place in a kernel's source.
struct Site {
    const char* file;
    int line;

    static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

// A kernel of the library; each one registers itself when the library is loaded.
struct Kernel {
    const char* name;
    uint32_t threads;
    size_t argument_bytes;
    void (*run)(const void* arguments);
    const Kernel* next;

    Kernel(const char* name, uint32_t threads, size_t argument_bytes, void (*run)(const void*));
};

// All kernels, by `next`.
const Kernel* first_kernel();

uint32_t thread_index();
uint32_t block_index(uint32_t axis);

// Waits for all work-items of the block.
void wait_at_barrier(Site site);

// Waits for all lanes of the wave; the last one that comes calls `combine` with what each lane has brought.
void collective(const char* what, void* brought, void (*combine)(void** lanes), Site site);

// The block's memory with this identity, filled with a pattern that is no number before anyone writes it.
void* shared_memory(const void* identity, size_t bytes);

// Ends the launch with this message.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Runs a kernel; the answer is 0, or 1 with a message.
int launch(const Kernel& kernel, const uint32_t grid[3], const void* arguments, uint64_t seed, char* message,
           size_t message_bytes);

}  // namespace emulation
