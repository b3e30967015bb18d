// What the checked emulation watches besides: who reads and writes shared memory, and whether a barrier lies between.
//
// clang calls the functions of checks.cpp at each access (-fsanitize-coverage=trace-loads,trace-stores). Without
// GEMMA_CHECKED nothing is watched.
#pragma once

#include <cstddef>

namespace emulation::checks {

#if defined(GEMMA_CHECKED)
// A block begins, with all of its shared memory.
void begin_block(const void* shared, size_t bytes);
// All work-items of the block have come to a barrier.
void barrier();
// No access to these bytes, for now.
void forbid(void* place, size_t bytes);
void allow(void* place, size_t bytes);
#else
inline void begin_block(const void*, size_t) {}
inline void barrier() {}
inline void forbid(void*, size_t) {}
inline void allow(void*, size_t) {}
#endif

}  // namespace emulation::checks
