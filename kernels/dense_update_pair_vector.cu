// dense_update_pair_vector.cu: dense_update_pair for a batch of very few examples.
//
//   as in dense_update_vector.cu: the first layer with x, dz, inputs and units, the second with y and second_...
//
// Arrays  as in dense_update_pair.cu.
// Launch  256 threads, each for four neighbouring weights; grid: for the first layer `blocks` =
//         ceil((inputs + 1) * padded(units) / 4 / 256), then as many as the second needs.
// Range   any sizes >= 1.
// Cost    that of both. 784-500-500: 15.4 MB per update, which takes 69 us from the DRAM of a GTX 980. Bound by memory.
// Residency  at least 4 blocks per SM.
#include "update_four.cuh"

extern "C" __global__ void __launch_bounds__(256, 4) dense_update_pair_vector(
        const InputElement* __restrict__ x, const int* __restrict__ order, int gather, const float* __restrict__ dz,
        float* __restrict__ weights, float* __restrict__ state, int inputs, int units, int blocks,
        const float* __restrict__ y, const float* __restrict__ second_dz,
        float* __restrict__ second_weights, float* __restrict__ second_state, int second_units,
        int* cursors, int batch_size, int examples, const float* __restrict__ constants
#if L2
        , float twice_l2, float second_twice_l2
#endif
        ) {
#if !L2
    constexpr float twice_l2 = 0.0f, second_twice_l2 = 0.0f;
#endif
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    if ((int)blockIdx.x < blocks) {
        update_four(
            number, x, gather ? order : nullptr, dz, cursors, batch_size, examples, weights, state, constants,
            twice_l2, inputs, units);
    } else {
        const int* const no_order = nullptr;
        update_four(
            number - blocks * (int)blockDim.x, y, no_order, second_dz, cursors, batch_size, examples,
            second_weights, second_state, constants, second_twice_l2, units, second_units);
    }
    // Done last, so that the reads above need not wait for it.
    if (number == 0) cursors[FORWARD] = cursors[BACKWARD] + 1;
}
