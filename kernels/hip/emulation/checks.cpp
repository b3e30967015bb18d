// The checks of checks.h. Compiled without the instrumentation that calls it.

#include "checks.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "block.h"
#include "fibre.h"

namespace emulation::checks {
namespace {

constexpr uint16_t NOBODY = 0xffff;
constexpr uint16_t SEVERAL = 0xfffe;

// What is known of one byte of shared memory.
struct Byte {
    // Number of the last barrier before it was written or read, from 1 on; 0 is never.
    uint32_t written = 0;
    uint32_t read = 0;
    uint16_t writer = NOBODY;
    uint16_t reader = NOBODY;
};

thread_local const unsigned char* begin = nullptr;
thread_local std::vector<Byte> bytes;
thread_local uint32_t epoch = 1;

// Where in shared memory `place` lies, or nowhere.
inline bool is_shared(const void* place, size_t& at) {
    at = static_cast<size_t>(static_cast<const unsigned char*>(place) - begin);
    return begin != nullptr && at < bytes.size();
}

void load(const void* place, size_t count) {
    size_t at;
    if (!is_shared(place, at)) return;
    const uint16_t self = static_cast<uint16_t>(thread_index());
    for (size_t i = at; i < at + count && i < bytes.size(); ++i) {
        Byte& byte = bytes[i];
        if (byte.written == 0) fail("reads byte %zu of shared memory, which nobody has written", i);
        if (byte.written == epoch && byte.writer != self) {
            fail("missing barrier: reads byte %zu of shared memory, which work-item %u has written since the last one", i,
                 byte.writer);
        }
        byte.reader = byte.read == epoch && byte.reader != self ? SEVERAL : self;
        byte.read = epoch;
    }
}

void store(void* place, size_t count) {
    size_t at;
    if (!is_shared(place, at)) return;
    const uint16_t self = static_cast<uint16_t>(thread_index());
    for (size_t i = at; i < at + count && i < bytes.size(); ++i) {
        Byte& byte = bytes[i];
        if (byte.written == epoch && byte.writer != self) {
            fail("missing barrier: writes byte %zu of shared memory, as work-item %u has since the last one", i, byte.writer);
        }
        if (byte.read == epoch && byte.reader != self) {
            fail("missing barrier: writes byte %zu of shared memory, which others have read since the last one", i);
        }
        byte.written = epoch;
        byte.writer = self;
    }
}

}  // namespace

void begin_block(const void* shared, size_t count) {
    begin = static_cast<const unsigned char*>(shared);
    epoch = 1;
    if (bytes.size() == count) return;
    bytes.assign(count, Byte{});
    forbid(const_cast<void*>(shared), count);
}

void barrier() { ++epoch; }

void forbid([[maybe_unused]] void* place, [[maybe_unused]] size_t count) {
#if defined(GEMMA_ASAN)
    __asan_poison_memory_region(place, count);
#endif
}

void allow(void* place, size_t count) {
    size_t at;
    if (is_shared(place, at)) std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(at), count, Byte{});
#if defined(GEMMA_ASAN)
    __asan_unpoison_memory_region(place, count);
#endif
}

}  // namespace emulation::checks

// Called by instrumented code.
extern "C" {
void __sanitizer_cov_load1(uint8_t* place) { emulation::checks::load(place, 1); }
void __sanitizer_cov_load2(uint16_t* place) { emulation::checks::load(place, 2); }
void __sanitizer_cov_load4(uint32_t* place) { emulation::checks::load(place, 4); }
void __sanitizer_cov_load8(uint64_t* place) { emulation::checks::load(place, 8); }
void __sanitizer_cov_load16(void* place) { emulation::checks::load(place, 16); }
void __sanitizer_cov_store1(uint8_t* place) { emulation::checks::store(place, 1); }
void __sanitizer_cov_store2(uint16_t* place) { emulation::checks::store(place, 2); }
void __sanitizer_cov_store4(uint32_t* place) { emulation::checks::store(place, 4); }
void __sanitizer_cov_store8(uint64_t* place) { emulation::checks::store(place, 8); }
void __sanitizer_cov_store16(void* place) { emulation::checks::store(place, 16); }
}
