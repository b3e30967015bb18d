// A product of tiles on one core: `c += a * b`, with the matrix unit. Tiles are cut into blocks of what one of its instructions
// takes; a block's elements stand in a row, and blocks stand row by row. The DMA brings tiles into that order.
//
// It is for AIE2 through aie_api, and for the host through host/aie_api. No part of it has run on an NPU.
#pragma once

#include <aie_api/aie.hpp>

#include <cstdint>

namespace npu {

// Bytes of a store.
constexpr unsigned STORE = 32;

// `c = 0`.
template <typename Value, unsigned Count>
inline void zero(Value *__restrict c)
{
    constexpr unsigned lanes = STORE / sizeof(Value);
    static_assert(Count % lanes == 0, "whole stores");
    const aie::vector<Value, lanes> zeros = aie::zeros<Value, lanes>();
    for (unsigned at = 0; at < Count; at += lanes)
        aie::store_v(c + at, zeros);
}

// `a` is Rows x Depth, `b` Depth x Columns, `c` Rows x Columns; blocks are R x S, S x T and R x T.
template <unsigned R, unsigned S, unsigned T, typename Input, typename Output, unsigned Rows, unsigned Depth, unsigned Columns>
inline void gemm(const Input *__restrict a, const Input *__restrict b, Output *__restrict c)
{
    using Product = aie::mmul<R, S, T, Input, Input>;
    static_assert(Rows % (2 * R) == 0 && Depth % S == 0 && Columns % (2 * T) == 0, "two by two whole blocks");
    constexpr unsigned rows = Rows / R, depth = Depth / S, columns = Columns / T;
    constexpr unsigned size_a = Product::size_A, size_b = Product::size_B, size_c = Product::size_C;

    for (unsigned row = 0; row < rows; row += 2) {
        for (unsigned column = 0; column < columns; column += 2) {
            // Four blocks of the result at a time, so that each block that is read is used twice.
            const Input *a0 = a + row * depth * size_a;
            const Input *a1 = a0 + depth * size_a;
            const Input *b0 = b + column * size_b;
            Output *c0 = c + (row * columns + column) * size_c;
            Output *c1 = c0 + columns * size_c;
            Product c00(aie::load_v<size_c>(c0));
            Product c01(aie::load_v<size_c>(c0 + size_c));
            Product c10(aie::load_v<size_c>(c1));
            Product c11(aie::load_v<size_c>(c1 + size_c));
            for (unsigned step = 0; step < depth; ++step) {
                const aie::vector<Input, size_a> upper = aie::load_v<size_a>(a0);
                const aie::vector<Input, size_a> lower = aie::load_v<size_a>(a1);
                const aie::vector<Input, size_b> left = aie::load_v<size_b>(b0);
                const aie::vector<Input, size_b> right = aie::load_v<size_b>(b0 + size_b);
                c00.mac(upper, left);
                c01.mac(upper, right);
                c10.mac(lower, left);
                c11.mac(lower, right);
                a0 += size_a;
                a1 += size_a;
                b0 += columns * size_b;
            }
            aie::store_v(c0, c00.template to_vector<Output>());
            aie::store_v(c0 + size_c, c01.template to_vector<Output>());
            aie::store_v(c1, c10.template to_vector<Output>());
            aie::store_v(c1 + size_c, c11.template to_vector<Output>());
        }
    }
}

} // namespace npu
