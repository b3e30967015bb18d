// The parts of aie_api that kernels use, for the host: by definition, one element after another, with every access checked.
//
// A load or store outside of a buffer that somebody has announced, or one that is not aligned, ends the program with words, and so
// does a sum that 32 bits do not hold. Lanes that nobody wrote hold what no test expects.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

// The upper half of an f32.
struct bfloat16 {
    uint16_t bits;

    operator float() const
    {
        const uint32_t wide = uint32_t(bits) << 16;
        float value;
        std::memcpy(&value, &wide, sizeof value);
        return value;
    }
};

// Names that kernels may give to sums.
struct accauto {};

namespace aie {

namespace host {

// What vector loads and stores are aligned to, in bytes.
constexpr uintptr_t ALIGNMENT = 32;

struct Buffer {
    uintptr_t begin, end;
    bool writable;
};

inline std::vector<Buffer> &buffers()
{
    static std::vector<Buffer> all;
    return all;
}

[[noreturn]] inline void fail(const char *problem)
{
    std::fprintf(stderr, "aie_api: %s\n", problem);
    std::abort();
}

inline void check(const void *address, size_t bytes, bool write)
{
    const uintptr_t begin = reinterpret_cast<uintptr_t>(address);
    if (begin % ALIGNMENT != 0)
        fail("an access that is not aligned");
    for (const Buffer &buffer : buffers()) {
        if (begin >= buffer.begin && begin <= buffer.end && bytes <= buffer.end - begin) {
            if (write && !buffer.writable)
                fail("a store to a buffer that is for reading");
            return;
        }
    }
    fail(write ? "a store outside of all buffers" : "a load outside of all buffers");
}

} // namespace host

template <typename Value, unsigned Count>
class vector
{
    static_assert(Count * sizeof(Value) >= 16 && Count * sizeof(Value) <= 256, "a vector has 128 to 2048 bits");
    static_assert((Count & (Count - 1)) == 0, "a vector has a power of two of lanes");

    Value lanes[Count];

public:
    vector()
    {
        std::memset(lanes, 0xA5, sizeof lanes);
    }

    Value &operator[](unsigned lane)
    {
        if (lane >= Count)
            host::fail("a lane that the vector does not have");
        return lanes[lane];
    }

    const Value &operator[](unsigned lane) const
    {
        return const_cast<vector &>(*this)[lane];
    }
};

template <typename Value, unsigned Count>
vector<Value, Count> zeros()
{
    vector<Value, Count> all;
    for (unsigned lane = 0; lane < Count; ++lane)
        all[lane] = Value{};
    return all;
}

template <unsigned Count, typename Value>
vector<std::remove_const_t<Value>, Count> load_v(Value *from)
{
    using Lane = std::remove_const_t<Value>;
    host::check(from, Count * sizeof(Lane), false);
    vector<Lane, Count> all;
    for (unsigned lane = 0; lane < Count; ++lane)
        all[lane] = from[lane];
    return all;
}

template <typename Value, unsigned Count>
void store_v(Value *to, const vector<Value, Count> &all)
{
    host::check(to, Count * sizeof(Value), true);
    for (unsigned lane = 0; lane < Count; ++lane)
        to[lane] = all[lane];
}

// Which blocks the matrix unit of AIE2 takes, and what it sums in.
template <unsigned M, unsigned K, unsigned N, typename A, typename B>
struct Sum;

template <>
struct Sum<4, 8, 8, int8_t, int8_t> {
    using Type = int32_t;
};

template <>
struct Sum<4, 8, 4, bfloat16, bfloat16> {
    using Type = float;
};

template <unsigned M, unsigned K, unsigned N, typename A, typename B = A, typename Accumulator = accauto>
class mmul
{
    using Total = typename Sum<M, K, N, A, B>::Type;

public:
    static constexpr unsigned size_A = M * K, size_B = K * N, size_C = M * N;

private:
    vector<Total, size_C> sums;

    static int32_t add(int32_t sum, const int8_t &a, const int8_t &b)
    {
        const int64_t wide = int64_t(sum) + int64_t(a) * int64_t(b);
        if (wide < INT32_MIN || wide > INT32_MAX)
            host::fail("a sum that 32 bits do not hold");
        return int32_t(wide);
    }

    static float add(float sum, const bfloat16 &a, const bfloat16 &b)
    {
        return sum + float(a) * float(b);
    }

public:
    explicit mmul(const vector<Total, size_C> &start) : sums(start) {}

    void mac(const vector<A, size_A> &a, const vector<B, size_B> &b)
    {
        for (unsigned row = 0; row < M; ++row)
            for (unsigned column = 0; column < N; ++column)
                for (unsigned k = 0; k < K; ++k)
                    sums[row * N + column] = add(sums[row * N + column], a[row * K + k], b[k * N + column]);
    }

    template <typename Output>
    vector<Output, size_C> to_vector() const
    {
        static_assert(std::is_same_v<Output, Total>, "sums leave as they are");
        return sums;
    }
};

} // namespace aie
