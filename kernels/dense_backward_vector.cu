// dense_backward_vector.cu: a layer's backward pass for a batch of very few examples.
//
//   dz_previous[m,n] = (sum over k of dz[m,k] weights[n,k]) * activation'(y_previous[m,n])
//
// Arrays  as in dense_backward.cu.
// Launch  256 threads; grid (ceil(inputs / 8), batch_size). A warp computes one input's gradient: the product of dz
//         with a row of weights, 512 contiguous bytes at a time.
// Range   any sizes >= 1.
// Cost    the weights are read once per example, 4 inputs units bytes: 1 MB for 500 -> 500. Bound by memory.
// Residency  at least 4 blocks per SM.
#include "backward_warp.cuh"

extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) dense_backward_vector(
        const float* __restrict__ dz, const float* __restrict__ weights,
        const float* __restrict__ y_previous, float* __restrict__ dz_previous,
        const int* __restrict__ cursors, int batch_size, int examples,
#if DROPOUT
        const unsigned* __restrict__ drops, int dropped,
#endif
        int inputs, int units) {
#if !DROPOUT
    constexpr unsigned* drops = nullptr;
    constexpr int dropped = 0;
#endif
    backward_warp(
        blockIdx.x * WARPS + threadIdx.x / 32, blockIdx.y, dz, weights, y_previous, dz_previous,
        cursors, batch_size, examples, Dropout{drops, dropped}, inputs, units);
}
