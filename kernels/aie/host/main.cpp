// The kernels on this machine. `kernels check SEED` holds them against the formula, `kernels fault N` makes a mistake that must be
// noticed, and `kernels serve` computes what the simulator of the array asks for.
//
// A request is one byte, 0 to 3 for the functions below, and the bytes of its objects; the answer is the bytes of the last one.
#include "../gemm.h"

#include <algorithm>
#include <cmath>
#include <random>

extern "C" {
void zero_i32(int32_t *c);
void gemm_i8_i32(const int8_t *a, const int8_t *b, int32_t *c);
void zero_f32(float *c);
void gemm_bf16_f32(const bfloat16 *a, const bfloat16 *b, float *c);
}

namespace {

using Random = std::mt19937_64;

// Memory of a tile, aligned as there, and known to the checks. AddressSanitizer watches what is beside it.
template <typename Value>
class Memory
{
    size_t count;
    Value *values;

public:
    Memory(size_t count, bool writable) : count(count)
    {
        const size_t bytes = (count * sizeof(Value) + aie::host::ALIGNMENT - 1) / aie::host::ALIGNMENT * aie::host::ALIGNMENT;
        values = static_cast<Value *>(std::aligned_alloc(aie::host::ALIGNMENT, bytes));
        if (values == nullptr)
            aie::host::fail("no memory");
        const uintptr_t begin = reinterpret_cast<uintptr_t>(values);
        aie::host::buffers().push_back({begin, begin + count * sizeof(Value), writable});
    }

    Memory(const Memory &) = delete;
    Memory &operator=(const Memory &) = delete;

    ~Memory()
    {
        const uintptr_t begin = reinterpret_cast<uintptr_t>(values);
        std::erase_if(aie::host::buffers(), [=](const aie::host::Buffer &buffer) { return buffer.begin == begin; });
        std::free(values);
    }

    Value *data() { return values; }
    size_t size() const { return count; }
    Value &operator[](size_t at) { return values[at]; }
    Value *begin() { return values; }
    Value *end() { return values + count; }
};

bfloat16 narrow(float value)
{
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bfloat16{uint16_t(bits >> 16)};
}

// Where an element of a tile of so many columns is, when it is cut into blocks.
size_t blocked(size_t row, size_t column, size_t columns, size_t block_rows, size_t block_columns)
{
    const size_t block = row / block_rows * (columns / block_columns) + column / block_columns;
    return block * block_rows * block_columns + row % block_rows * block_columns + column % block_columns;
}

// Values of one kind: any, the least, the largest, both in turn.
void fill(Memory<int8_t> &to, unsigned kind, Random &random)
{
    for (size_t at = 0; at < to.size(); ++at)
        to[at] = kind == 0 ? int8_t(random()) : kind == 1 || (kind == 3 && at % 2 == 0) ? int8_t(-128) : int8_t(127);
}

// Values of one kind: small whole numbers, of which sums are exact; any of about 1; far apart.
void fill(Memory<bfloat16> &to, unsigned kind, Random &random)
{
    std::normal_distribution<float> normal;
    for (bfloat16 &value : to) {
        const float near = normal(random);
        value = narrow(kind == 0 ? float(random() % 17) - 8.0f : kind == 1 ? near : std::ldexp(near, int(random() % 40) - 20));
    }
}

void fill(Memory<int32_t> &to, Random &random)
{
    for (int32_t &value : to)
        value = int32_t(random() % (1u << 30)) - (1 << 29);
}

void fill(Memory<float> &to, Random &random)
{
    for (float &value : to)
        value = float(random() % 17) - 8.0f;
}

// Of a tile, and of its blocks.
struct Sizes {
    size_t rows, depth, columns, r, s, t;
};

// One sum by the formula, in 64 bits, and how far a kernel that sums in its own way may be from it.
template <typename Input, typename Output>
bool close(const Input *a, const Input *b, Output before, Output after, size_t row, size_t column, const Sizes &sizes)
{
    double sum = double(before), magnitude = std::fabs(sum);
    for (size_t k = 0; k < sizes.depth; ++k) {
        const double product = double(a[blocked(row, k, sizes.depth, sizes.r, sizes.s)])
            * double(b[blocked(k, column, sizes.columns, sizes.s, sizes.t)]);
        sum += product;
        magnitude += std::fabs(product);
    }
    // Each of depth sums rounds to 24 bits; whole numbers below them are exact.
    const double bound = std::is_same_v<Output, float> ? magnitude * double(sizes.depth) * 0x1p-24 : 0.0;
    return std::fabs(sum - double(after)) <= bound;
}

template <typename Input, typename Output, typename Kernel, typename Clear>
void compare(const char *name, const Sizes &sizes, unsigned kinds, Kernel kernel, Clear clear, Random &random)
{
    Memory<Input> a(sizes.rows * sizes.depth, false), b(sizes.depth * sizes.columns, false);
    Memory<Output> c(sizes.rows * sizes.columns, true);
    for (unsigned kind = 0; kind < kinds * kinds; ++kind) {
        fill(a, kind % kinds, random);
        fill(b, kind / kinds, random);
        fill(c, random);
        // Once upon what is there, once upon nothing.
        for (unsigned times = 0; times < 2; ++times) {
            if (times == 1) {
                clear(c.data());
                if (std::any_of(c.begin(), c.end(), [](Output value) { return value != Output{}; }))
                    aie::host::fail("what was cleared is not zero");
            }
            const std::vector<Output> before(c.begin(), c.end());
            kernel(a.data(), b.data(), c.data());
            for (size_t row = 0; row < sizes.rows; ++row)
                for (size_t column = 0; column < sizes.columns; ++column) {
                    const size_t at = blocked(row, column, sizes.columns, sizes.r, sizes.t);
                    if (!close(a.data(), b.data(), before[at], c[at], row, column, sizes)) {
                        std::fprintf(stderr, "%s: a wrong sum in row %zu, column %zu\n", name, row, column);
                        std::exit(1);
                    }
                }
        }
    }
    std::printf("%s %zux%zux%zu: %u products\n", name, sizes.rows, sizes.depth, sizes.columns,
                2 * kinds * kinds);
}

// The same source for a tile of another shape.
template <unsigned R, unsigned S, unsigned T, typename Input, typename Output, unsigned Rows, unsigned Depth, unsigned Columns>
void shape(const char *name, unsigned kinds, Random &random)
{
    compare<Input, Output>(name, {Rows, Depth, Columns, R, S, T}, kinds,
                           npu::gemm<R, S, T, Input, Output, Rows, Depth, Columns>, npu::zero<Output, Rows * Columns>, random);
}

void check_all(uint64_t seed)
{
    Random random(seed);
    compare<int8_t, int32_t>("gemm_i8_i32", {GEMM_I8_ROWS, GEMM_I8_DEPTH, GEMM_I8_COLUMNS, 4, 8, 8}, 4, gemm_i8_i32, zero_i32,
                             random);
    shape<4, 8, 8, int8_t, int32_t, 8, 8, 16>("i8", 4, random);
    shape<4, 8, 8, int8_t, int32_t, 16, 8, 48>("i8", 4, random);
    shape<4, 8, 8, int8_t, int32_t, 24, 40, 16>("i8", 4, random);
    shape<4, 8, 8, int8_t, int32_t, 8, 2048, 16>("i8", 4, random);
    compare<bfloat16, float>("gemm_bf16_f32", {GEMM_BF16_ROWS, GEMM_BF16_DEPTH, GEMM_BF16_COLUMNS, 4, 8, 4}, 3, gemm_bf16_f32,
                             zero_f32, random);
    shape<4, 8, 4, bfloat16, float, 8, 8, 8>("bf16", 3, random);
    shape<4, 8, 4, bfloat16, float, 16, 24, 40>("bf16", 3, random);
    shape<4, 8, 4, bfloat16, float, 24, 512, 8>("bf16", 3, random);
}

// Mistakes that kernels could make.
void fault(int number)
{
    Memory<int8_t> a(64 * 64, false), b(64 * 64, false);
    Memory<int32_t> c(64 * 64, true);
    std::fill(a.begin(), a.end(), int8_t(1));
    std::fill(b.begin(), b.end(), int8_t(1));
    std::fill(c.begin(), c.end(), INT32_MAX - 8);
    const aie::vector<int8_t, 32> lanes = aie::load_v<32>(a.data());
    switch (number) {
    case 0: aie::load_v<32>(a.data() + 64 * 64); break;
    case 1: aie::store_v(c.data() + 64 * 64 - 8, aie::zeros<int32_t, 16>()); break;
    case 2: aie::load_v<32>(b.data() + 8); break;
    case 3: aie::store_v(b.data(), aie::zeros<int8_t, 32>()); break;
    case 4: std::printf("%d\n", lanes[32]); break;
    case 5: npu::gemm<4, 8, 8, int8_t, int32_t, 8, 16, 16>(a.data(), b.data(), c.data()); break;
    default: break;
    }
}

template <typename Value>
bool receive(Memory<Value> &to)
{
    return std::fread(to.data(), sizeof(Value), to.size(), stdin) == to.size();
}

template <typename Value>
bool answer(Memory<Value> &from)
{
    return std::fwrite(from.data(), sizeof(Value), from.size(), stdout) == from.size() && std::fflush(stdout) == 0;
}

template <typename Input, typename Output, typename Kernel, typename Clear>
bool one(bool product, size_t rows, size_t depth, size_t columns, Kernel kernel, Clear clear)
{
    Memory<Output> c(rows * columns, true);
    if (!product)
        return receive(c) && (clear(c.data()), answer(c));
    Memory<Input> a(rows * depth, false), b(depth * columns, false);
    return receive(a) && receive(b) && receive(c) && (kernel(a.data(), b.data(), c.data()), answer(c));
}

int serve()
{
    for (int request = std::getchar(); request != EOF; request = std::getchar()) {
        const bool product = request % 2 == 1;
        const bool done =
            request < 2
                ? one<int8_t, int32_t>(product, GEMM_I8_ROWS, GEMM_I8_DEPTH, GEMM_I8_COLUMNS, gemm_i8_i32, zero_i32)
                : request < 4 && one<bfloat16, float>(product, GEMM_BF16_ROWS, GEMM_BF16_DEPTH, GEMM_BF16_COLUMNS,
                                                      gemm_bf16_f32, zero_f32);
        if (!done)
            return 1;
    }
    return 0;
}

} // namespace

int main(int count, char **words)
{
    if (count == 3 && std::strcmp(words[1], "check") == 0)
        check_all(std::strtoull(words[2], nullptr, 10));
    else if (count == 3 && std::strcmp(words[1], "fault") == 0)
        fault(std::atoi(words[2]));
    else if (count == 2 && std::strcmp(words[1], "serve") == 0)
        return serve();
    else
        return 2;
    return 0;
}
