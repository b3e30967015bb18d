// Kernels that the tests launch. What they compute is in emulation.c; here only names, arguments and sizes count.
//
// clang-19 -x hip --offload-arch=gfx1103 --cuda-device-only --no-gpu-bundle-output -nogpuinc -nogpulib -fuse-cuid=none -std=c++17 -O3 kernels.hip -o kernels.gfx1103.co
#define KERNEL(n) extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(n, n))) void

struct ScaleArguments {
    const float *from;
    float *to;
    int count;
    float factor;
};

KERNEL(64) scale(ScaleArguments x) {
    const int i = __builtin_amdgcn_workgroup_id_x() * 64 + __builtin_amdgcn_workitem_id_x();
    if (i < x.count) x.to[i] = x.from[i] * x.factor;
}

// Three arguments, as a kernel has whose arguments are not one structure.
KERNEL(32) fill(float *to, int count, float value) {
    const int i = __builtin_amdgcn_workgroup_id_x() * 32 + __builtin_amdgcn_workitem_id_x();
    if (i < count) to[i] = value;
}

KERNEL(32) reverse(float *values) {
    __attribute__((shared)) static float room[32];
    const int i = __builtin_amdgcn_workitem_id_x();
    room[i] = values[i];
    __builtin_amdgcn_s_barrier();
    values[i] = room[31 - i];
}

// No emulation knows it.
KERNEL(32) unknown(float *values) {
    values[__builtin_amdgcn_workitem_id_x()] = 0;
}
