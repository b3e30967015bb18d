// 8-bit integers, summed in 32 bits: `gemm_i8_i32` and `zero_i32` over one tile, whose shape the build gives.
#include "gemm.h"

extern "C" {

void zero_i32(int32_t *c)
{
    npu::zero<int32_t, GEMM_I8_ROWS * GEMM_I8_COLUMNS>(c);
}

void gemm_i8_i32(const int8_t *a, const int8_t *b, int32_t *c)
{
    npu::gemm<4, 8, 8, int8_t, int32_t, GEMM_I8_ROWS, GEMM_I8_DEPTH, GEMM_I8_COLUMNS>(a, b, c);
}

} // extern "C"
