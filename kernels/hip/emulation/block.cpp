// The emulation: each work-item of a block is a fibre that runs until it waits, in an order that a seed decides.
//
// Barriers and collectives are real: they let nobody through before all have come, and say who is missing. Blocks run one
// after the other. With GEMMA_CHECKED (emulation/checks.h) accesses to shared memory are watched as well.

#include "block.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <vector>

#include "checks.h"
#include "fibre.h"

namespace emulation {
namespace {

// Of a block, as on the GPU.
constexpr size_t SHARED_BYTES = 64 * 1024;
// Between pieces of shared memory, so that the end of one is not the beginning of another.
constexpr size_t SHARED_GAP = 32;
constexpr uint32_t MOST_THREADS = 1024;
// Of NaN as f32 and as f16, and far outside of every array as an index.
constexpr unsigned char POISON = 0xff;

enum class State { ready, at_barrier, at_collective, done };

struct WorkItem {
    Fibre fibre;
    State state;
    Site site;
    const char* what;
    void* brought;
    void (*combine)(void**);
};

struct Piece {
    const void* identity;
    size_t at;
    size_t bytes;
};

// xorshift64*: the order of work-items needs no better numbers.
struct Random {
    uint64_t state;

    uint32_t below(uint32_t bound) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return static_cast<uint32_t>((state * 0x2545f4914f6cdd1dULL >> 33) % bound);
    }
};

// A launch on one thread of the host.
struct Launch {
    const Kernel* kernel = nullptr;
    const void* arguments = nullptr;
    uint32_t grid[3] = {};
    uint32_t block[3] = {};
    Random random{1};
    bool in_order = true;
    Fibre main;
    // With stacks that are kept from block to block.
    WorkItem items[MOST_THREADS];
    uint32_t threads = 0;
    uint32_t current = 0;
    uint32_t waiting_at_barrier = 0;
    uint32_t done = 0;
    alignas(64) unsigned char shared[SHARED_BYTES + 64 * SHARED_GAP];
    std::vector<Piece> pieces;
    size_t shared_used = 0;
    bool failed = false;
    char message[512];
};

thread_local Launch* running = nullptr;

const Kernel* kernels = nullptr;

WorkItem& current() { return running->items[running->current]; }

// Gives the host's thread back to the scheduler until somebody makes this work-item ready.
void wait() {
    Launch& launch = *running;
    switch_fibre(launch.items[launch.current].fibre, launch.main);
}

void work_item() {
    arrive_in_fibre();
    Launch& launch = *running;
    launch.kernel->run(launch.arguments);
    WorkItem& item = current();
    item.state = State::done;
    ++launch.done;
    leave_fibre(launch.main);
}

// Lets a wave's work-items run until all of them wait or are done.
void run_wave(Launch& launch, uint32_t wave) {
    const bool backwards = !launch.in_order && launch.random.below(2) == 1;
    for (bool went_on = true; went_on;) {
        went_on = false;
        for (uint32_t i = 0; i < LANES; ++i) {
            const uint32_t lane = backwards ? LANES - 1 - i : i;
            launch.current = wave * LANES + lane;
            if (current().state != State::ready) continue;
            switch_fibre(launch.main, current().fibre);
            if (launch.failed) return;
            went_on = true;
        }
    }
}

const char* file_name(const char* path) {
    const char* slash = std::strrchr(path, '/');
    return slash ? slash + 1 : path;
}

// Nobody can go on: says why.
void report_deadlock(Launch& launch) {
    const uint32_t threads = launch.threads;
    for (uint32_t i = 0; i < threads; ++i) {
        const WorkItem& item = launch.items[i];
        if (item.state != State::at_collective) continue;
        const uint32_t first = i / LANES * LANES;
        uint32_t other = first;
        auto same = [&](const WorkItem& lane) {
            return lane.state == State::at_collective && lane.combine == item.combine && lane.site.line == item.site.line;
        };
        while (other < first + LANES && same(launch.items[other])) ++other;
        if (other == first + LANES) continue;
        const WorkItem& missing = launch.items[other];
        const char* where = missing.state == State::done         ? "has returned"
                            : missing.state == State::at_barrier ? "waits at a barrier"
                                                                 : "waits elsewhere";
        std::snprintf(launch.message, sizeof launch.message,
                      "divergent shuffle: lane %u of wave %u is at %s (%s:%d), lane %u %s (%s:%d)", i % LANES, i / LANES,
                      item.what, file_name(item.site.file), item.site.line, other % LANES, where,
                      file_name(missing.site.file), missing.site.line);
        return;
    }
    for (uint32_t i = 0; i < threads; ++i) {
        const WorkItem& item = launch.items[i];
        if (item.state != State::at_barrier) continue;
        uint32_t gone = 0;
        while (gone < threads && launch.items[gone].state != State::done) ++gone;
        std::snprintf(launch.message, sizeof launch.message,
                      "early return: work-item %u has returned, and %u of %u wait at the barrier at %s:%d", gone,
                      launch.waiting_at_barrier, threads, file_name(item.site.file), item.site.line);
        return;
    }
    std::snprintf(launch.message, sizeof launch.message, "nobody can go on");
}

void open_barrier(Launch& launch) {
    launch.waiting_at_barrier = 0;
    for (uint32_t i = 0; i < launch.threads; ++i) {
        if (launch.items[i].state == State::at_barrier) launch.items[i].state = State::ready;
    }
    checks::barrier();
}

// Runs one block to its end, or until something is wrong.
void run_block(Launch& launch) {
    const uint32_t threads = launch.kernel->threads;
    for (const Piece& piece : launch.pieces) checks::forbid(launch.shared + piece.at, piece.bytes);
    launch.pieces.clear();
    launch.shared_used = 0;
    launch.done = launch.waiting_at_barrier = 0;
    checks::begin_block(launch.shared, sizeof launch.shared);
    launch.threads = threads;
    for (uint32_t i = 0; i < threads; ++i) {
        WorkItem& item = launch.items[i];
        item.state = State::ready;
        item.site = {"start", 0};
        start_fibre(item.fibre, work_item);
    }
    const uint32_t waves = threads / LANES;
    while (launch.done < threads) {
        const uint32_t first = launch.in_order ? 0 : launch.random.below(waves);
        bool went_on = false;
        for (uint32_t i = 0; i < waves; ++i) {
            const uint32_t wave = (first + i) % waves;
            const uint32_t before = launch.done + launch.waiting_at_barrier;
            run_wave(launch, wave);
            if (launch.failed) return;
            went_on |= launch.done + launch.waiting_at_barrier != before;
        }
        if (launch.waiting_at_barrier == threads) {
            open_barrier(launch);
        } else if (!went_on && launch.done < threads) {
            report_deadlock(launch);
            launch.failed = true;
            return;
        }
    }
}

// Block number `index` of the launch, by a permutation that the seed decides.
uint64_t permuted(uint64_t index, uint64_t count, uint64_t stride, uint64_t start) {
    return (index * stride + start) % count;
}

uint64_t common_divisor(uint64_t a, uint64_t b) { return b == 0 ? a : common_divisor(b, a % b); }

void run_blocks(Launch& launch, uint64_t seed) {
    const uint64_t count = static_cast<uint64_t>(launch.grid[0]) * launch.grid[1] * launch.grid[2];
    uint64_t stride = 1, start = 0;
    if (!launch.in_order && count > 1) {
        start = seed % count;
        stride = 1 + seed / 7 % count;
        while (common_divisor(stride, count) != 1) ++stride;
    }
    for (uint64_t i = 0; i < count && !launch.failed; ++i) {
        const uint64_t number = permuted(i, count, stride, start);
        launch.block[0] = static_cast<uint32_t>(number % launch.grid[0]);
        launch.block[1] = static_cast<uint32_t>(number / launch.grid[0] % launch.grid[1]);
        launch.block[2] = static_cast<uint32_t>(number / launch.grid[0] / launch.grid[1]);
        run_block(launch);
    }
}

}  // namespace

Kernel::Kernel(const char* name, uint32_t threads, size_t argument_bytes, void (*run)(const void*))
    : name(name), threads(threads), argument_bytes(argument_bytes), run(run), next(kernels) {
    kernels = this;
}

const Kernel* first_kernel() { return kernels; }

uint32_t thread_index() { return running->current; }

uint32_t block_index(uint32_t axis) { return running->block[axis]; }

void wait_at_barrier(Site site) {
    Launch& launch = *running;
    WorkItem& item = current();
    item.state = State::at_barrier;
    item.site = site;
    ++launch.waiting_at_barrier;
    wait();
}

void collective(const char* what, void* brought, void (*combine)(void**), Site site) {
    Launch& launch = *running;
    WorkItem& item = current();
    item.state = State::at_collective;
    item.site = site;
    item.what = what;
    item.brought = brought;
    item.combine = combine;
    WorkItem* lanes = &launch.items[launch.current / LANES * LANES];
    void* all[LANES];
    for (uint32_t i = 0; i < LANES; ++i) {
        const WorkItem& lane = lanes[i];
        if (lane.state != State::at_collective || lane.combine != combine || lane.site.line != site.line) {
            wait();
            return;
        }
        all[i] = lane.brought;
    }
    combine(all);
    for (uint32_t i = 0; i < LANES; ++i) lanes[i].state = State::ready;
}

void* shared_memory(const void* identity, size_t bytes) {
    Launch& launch = *running;
    for (const Piece& piece : launch.pieces) {
        if (piece.identity == identity) return launch.shared + piece.at;
    }
    const size_t at = launch.shared_used + SHARED_GAP;
    const size_t end = (at + bytes + 31) / 32 * 32;
    size_t all = bytes;
    for (const Piece& piece : launch.pieces) all += piece.bytes;
    if (all > SHARED_BYTES || end > sizeof launch.shared) fail("more than %zu bytes of shared memory", SHARED_BYTES);
    launch.shared_used = end;
    launch.pieces.push_back({identity, at, bytes});
    checks::allow(launch.shared + at, bytes);
    std::memset(launch.shared + at, POISON, bytes);
    return launch.shared + at;
}

void fail(const char* format, ...) {
    Launch& launch = *running;
    char text[400];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    std::snprintf(launch.message, sizeof launch.message, "work-item %u of block (%u, %u, %u): %s", launch.current,
                  launch.block[0], launch.block[1], launch.block[2], text);
    launch.failed = true;
    // The work-item is never resumed; nothing in a kernel has a destructor.
    wait();
    __builtin_unreachable();
}

int launch(const Kernel& kernel, const uint32_t grid[3], const void* arguments, uint64_t seed, char* message,
           size_t message_bytes) {
    thread_local Launch* own = nullptr;
    if (own == nullptr) own = new Launch;  // for the thread's life
    if (kernel.threads > MOST_THREADS || kernel.threads % LANES != 0) {
        std::snprintf(message, message_bytes, "%s: %u work-items a block", kernel.name, kernel.threads);
        return 1;
    }
    Launch& launch = *own;
    std::memcpy(launch.grid, grid, sizeof launch.grid);
    launch.kernel = &kernel;
    launch.arguments = arguments;
    launch.in_order = seed == 0;
    launch.random = {seed * 0x9e3779b97f4a7c15ULL | 1};
    launch.failed = false;
    launch.message[0] = 0;
    running = &launch;
    run_blocks(launch, seed);
    if (launch.failed) {
        for (WorkItem& item : launch.items) abandon_fibre(item.fibre);
    }
    running = nullptr;
    if (message_bytes > 0) {
        message[0] = 0;
        if (launch.failed) std::snprintf(message, message_bytes, "%s: %s", kernel.name, launch.message);
    }
    return launch.failed ? 1 : 0;
}

}  // namespace emulation
