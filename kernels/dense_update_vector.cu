// dense_update_vector.cu: dense_update for a batch of very few examples: outer products, summed and used immediately.
//
//   g[m,n] = sum over examples k of x[k,m] dz[k,n], with x[k,inputs] = 1;  weights, state <- step(weights, state, g)
//
// Arrays  as in dense_update.cu.
// Launch  256 threads, each for four neighbouring weights; grid ceil((inputs + 1) * padded(units) / 4 / 256).
// Range   any sizes >= 1.
// Cost    weights, m and v are read and written once: 24 bytes per weight with Adam. 784 -> 500: 9.4 MB per update,
//         which takes 42 us from the DRAM of a GTX 980. Bound by memory.
// Residency  at least 4 blocks per SM.
#include "update_four.cuh"

extern "C" __global__ void __launch_bounds__(256, 4) dense_update_vector(
        const InputElement* __restrict__ x, const int* __restrict__ order, int gather,
        const float* __restrict__ dz, int* cursors, int batch_size, int examples, int last_of_update,
        float* __restrict__ weights, float* __restrict__ state, const float* __restrict__ constants,
#if L2
        float twice_l2,
#endif
        int inputs, int units) {
#if !L2
    constexpr float twice_l2 = 0.0f;
#endif
    const int number = blockIdx.x * blockDim.x + threadIdx.x;
    update_four(
        number, x, gather ? order : nullptr, dz, cursors, batch_size, examples, weights, state, constants,
        twice_l2, inputs, units);
    // Done last, so that the reads above need not wait for it.
    if (last_of_update && number == 0) cursors[FORWARD] = cursors[BACKWARD] + 1;
}
