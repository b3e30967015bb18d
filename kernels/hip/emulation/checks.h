// What the checked emulation watches besides: who reads and writes shared memory, and whether a barrier lies between.
//
// clang calls the functions of checks.cpp at each access (-fsanitize-coverage=trace-loads,trace-stores). Without
// GEMMA_CHECKED nothing is watched.
#pragma once

#include <cstddef>

namespace emulation::checks {

#if defined(GEMMA_CHECKED)
// A block begins. Its shared memory is the same each time, and nobody may touch it yet.
void begin_block(const void* shared, size_t bytes);
// All work-items of the block have come to a barrier.
void barrier();
// No access to these bytes any more.
void forbid(void* place, size_t bytes);
// These bytes may be used; nobody has written them.
void allow(void* place, size_t bytes);
#else
inline void begin_block(const void*, size_t) {}
inline void barrier() {}
inline void forbid(void*, size_t) {}
inline void allow(void*, size_t) {}
#endif

}  // namespace emulation::checks
