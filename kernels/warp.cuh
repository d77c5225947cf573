// warp.cuh: reductions over the 32 lanes of a warp. All lanes must take part, and every lane gets the result.
//
// The order of a sum is fixed (a butterfly), so it has the same bits in every run and in every lane.
#pragma once

#define CUDART_INFINITY __int_as_float(0x7f800000)  // NVRTC has no host headers
constexpr unsigned ALL_LANES = 0xffffffffu;

__device__ __forceinline__ float warp_sum(float x) {
    for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(ALL_LANES, x, lanes);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
    for (int lanes = 16; lanes > 0; lanes /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, lanes));
    return x;
}

__device__ __forceinline__ int warp_min(int x) {
    for (int lanes = 16; lanes > 0; lanes /= 2) x = min(x, __shfl_xor_sync(ALL_LANES, x, lanes));
    return x;
}
