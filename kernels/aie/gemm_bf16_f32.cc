// bf16, summed in f32: `gemm_bf16_f32` and `zero_f32` over one tile, whose shape the build gives.
#include "gemm.h"

extern "C" {

void zero_f32(float *c)
{
    npu::zero<float, GEMM_BF16_ROWS * GEMM_BF16_COLUMNS>(c);
}

void gemm_bf16_f32(const bfloat16 *a, const bfloat16 *b, float *c)
{
    npu::gemm<4, 8, 4, bfloat16, float, GEMM_BF16_ROWS, GEMM_BF16_DEPTH, GEMM_BF16_COLUMNS>(a, b, c);
}

} // extern "C"
