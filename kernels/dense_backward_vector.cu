// dense_backward_vector.cu: the gradient's way back through a layer, for a batch of very few examples.
//
//   dz_previous[m,n] = (sum over k of dz[m,k] weights[n,k]) * activation'(y_previous[m,n])
//
// Arrays  as in dense_backward.cu.
// Launch  256 threads; grid (ceil(inputs / 8), batch_size). A warp computes one input's gradient: the product of dz
//         with a row of weights, 512 neighbouring bytes at a time.
// Range   any sizes >= 1.
// Cost    the weights are read once an example, 4 inputs units bytes: 1 MB for 500 -> 500. Bound by memory.
// Residency  at least 4 blocks an SM.
#include "activation.cuh"
#include "batch.cuh"
#include "dropout.cuh"
#include "matrix.cuh"
#include "warp.cuh"

constexpr int WARPS = 8;

extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) dense_backward_vector(
        const float* __restrict__ dz, const float* __restrict__ weights,
        const float* __restrict__ y_previous, float* __restrict__ dz_previous,
        const int* __restrict__ cursors, int batch_size, int examples,
#if DROPOUT
        const unsigned* __restrict__ drops, int dropped,
#endif
        int inputs, int units) {
    const Batch batch = batch_at(cursors[BACKWARD], batch_size, examples);
    const int rows = batch.rows;
    const int lane = threadIdx.x % 32;
    const int n = blockIdx.x * WARPS + threadIdx.x / 32;
    const int m = blockIdx.y;
    if (m >= rows || n >= inputs) return;  // a whole warp leaves, so its shuffles stay complete

    float sum = 0.0f;
#pragma unroll 2
    for (int k = 4 * lane; k < units; k += 4 * 32) {
        const float4 a = read_four(dz + (size_t)m * padded(units) + k);
        const float4 b = read_four(weights + (size_t)n * padded(units) + k);
        sum = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, sum))));
    }
    sum = warp_sum(sum);
    if (lane == 0) {
        const size_t at = (size_t)m * padded(inputs) + n;
#if DROPOUT
        const Dropout dropout{drops, dropped};
        const float y = undropped(y_previous[at], dropout.scale()), factor = dropout.factor(n, batch.first + m);
        dz_previous[at] = sum * factor * activation_derivative<ACTIVATION>(y);
#else
        dz_previous[at] = sum * activation_derivative<ACTIVATION>(y_previous[at]);
#endif
    }
}
