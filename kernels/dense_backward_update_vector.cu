// dense_backward_update_vector.cu: dense_backward_update for a batch of very few examples.
//
//   as in dense_backward_vector.cu; and as in dense_update_vector.cu, for y, upper_dz and the other upper arrays
//
// Arrays  as in dense_backward_update.cu.
// Launch  256 threads; grid: `blocks` = ceil(inputs / 8) for the backward pass of each example, then as many as the
//         update needs, ceil((units + 1) * padded(upper_units) / 4 / 256).
// Range   any sizes >= 1. ACTIVATION is the previous layer's.
// Cost    that of both. 500-500-10: 1.1 MB at batch 1. Bound by memory.
// Residency  at least 4 blocks per SM.
#include "backward_warp.cuh"
#include "update_four.cuh"

extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) dense_backward_update_vector(
        const float* __restrict__ dz, const float* __restrict__ weights,
        const float* __restrict__ y_previous, float* __restrict__ dz_previous, int inputs, int units, int blocks,
        const float* __restrict__ y, const float* __restrict__ upper_dz,
        float* __restrict__ upper_weights, float* __restrict__ upper_state, int upper_units,
        const int* __restrict__ cursors, int batch_size, int examples, const float* __restrict__ constants
#if L2
        , float twice_l2
#endif
        ) {
#if !L2
    constexpr float twice_l2 = 0.0f;
#endif
    const int block = blockIdx.x;
    if (block < blocks * batch_size) {
        backward_warp(
            block % blocks * WARPS + threadIdx.x / 32, block / blocks, dz, weights, y_previous, dz_previous,
            cursors, batch_size, examples, Dropout{}, inputs, units);
    } else {
        const int* const no_order = nullptr;
        update_four(
            (block - blocks * batch_size) * (int)blockDim.x + (int)threadIdx.x, y, no_order, upper_dz,
            cursors, batch_size, examples, upper_weights, upper_state, constants, twice_l2, units, upper_units);
    }
}
