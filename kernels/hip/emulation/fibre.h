// Fibres: a stack each, and a switch between them. Hand-written for x86-64, ucontext elsewhere.
//
// AddressSanitizer is told of each switch, so that it knows whose stack is in use.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define GEMMA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GEMMA_ASAN 1
#endif
#endif
#if defined(GEMMA_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

constexpr size_t STACK_BYTES = 128 * 1024;
constexpr size_t GUARD_BYTES = 4096;

struct Fibre {
    // Without one: the thread's own stack.
    char* stack = nullptr;
#if defined(__x86_64__)
    void* saved = nullptr;
#else
    ucontext_t context;
#endif
    // What the sanitizer knows.
    const void* bottom = nullptr;
    size_t size = 0;
    void* fake_stack = nullptr;
};

namespace detail {

// Who was left by the last switch; none where it was for good.
inline thread_local Fibre* left = nullptr;
inline thread_local void* nowhere = nullptr;

inline void before_switch(Fibre* from, [[maybe_unused]] Fibre& to) {
    left = from;
#if defined(GEMMA_ASAN)
    __sanitizer_start_switch_fiber(from ? &from->fake_stack : nullptr, to.bottom, to.size);
#endif
}

inline void after_switch([[maybe_unused]] void* fake_stack) {
#if defined(GEMMA_ASAN)
    const void* bottom = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    if (left && left->bottom == nullptr) {
        left->bottom = bottom;
        left->size = size;
    }
#endif
}

#if defined(__x86_64__)
// Saves what a call must keep and the stack pointer, and goes on where `to` was saved.
__attribute__((naked, noinline, no_instrument_function)) inline void swap_stacks(void**, void*) {
    asm volatile(
        "pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
        "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"
        "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tretq");
}
#endif

}  // namespace detail

// Goes on in `to`; comes back when somebody switches to `from`.
inline void switch_fibre(Fibre& from, Fibre& to) {
    detail::before_switch(&from, to);
#if defined(__x86_64__)
    detail::swap_stacks(&from.saved, to.saved);
#else
    swapcontext(&from.context, &to.context);
#endif
    detail::after_switch(from.fake_stack);
}

// Goes on in `to` and never comes back.
[[noreturn]] inline void leave_fibre(Fibre& to) {
    detail::before_switch(nullptr, to);
#if defined(__x86_64__)
    // Not on this stack, which is gone already for the sanitizer.
    detail::swap_stacks(&detail::nowhere, to.saved);
#else
    setcontext(&to.context);
#endif
    __builtin_unreachable();
}

// What a fibre does first.
inline void arrive_in_fibre() { detail::after_switch(nullptr); }

// Makes `fibre` one that begins with `entry`, whatever it was before. Its stack is kept for the next one.
inline void start_fibre(Fibre& fibre, void (*entry)()) {
    if (fibre.stack == nullptr) {
        void* memory = mmap(nullptr, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        // A stack that grows too far ends here.
        mprotect(memory, GUARD_BYTES, PROT_NONE);
        fibre.stack = static_cast<char*>(memory) + GUARD_BYTES;
        fibre.bottom = fibre.stack;
        fibre.size = STACK_BYTES;
    }
#if defined(__x86_64__)
    void** top = reinterpret_cast<void**>(fibre.stack + STACK_BYTES) - 8;
    for (int i = 0; i < 8; ++i) top[i] = nullptr;
    top[6] = reinterpret_cast<void*>(entry);
    fibre.saved = top;
#else
    getcontext(&fibre.context);
    fibre.context.uc_stack.ss_sp = fibre.stack;
    fibre.context.uc_stack.ss_size = STACK_BYTES;
    fibre.context.uc_link = nullptr;
    makecontext(&fibre.context, entry, 0);
#endif
}

// Forgets what a fibre that was never resumed has left on its stack.
inline void abandon_fibre([[maybe_unused]] Fibre& fibre) {
#if defined(GEMMA_ASAN)
    if (fibre.stack) __asan_unpoison_memory_region(fibre.stack, STACK_BYTES);
#endif
}

}  // namespace emulation
