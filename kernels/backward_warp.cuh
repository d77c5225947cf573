// backward_warp.cuh: a warp's share of the gradient in a layer's backward pass; see dense_backward_vector.cu.
#pragma once
#include "activation.cuh"
#include "batch.cuh"
#include "dropout.cuh"
#include "matrix.cuh"
#include "warp.cuh"

constexpr int WARPS = 8;

// The gradient of a layer's input n, for example m. A whole warp must call this with the same n and m.
__device__ __forceinline__ void backward_warp(
        int n, int m, const float* dz, const float* weights, const float* y_previous, float* dz_previous,
        const int* cursors, int batch_size, int examples, Dropout dropout, int inputs, int units) {
    const Batch batch = batch_at(cursors[BACKWARD], batch_size, examples);
    const int rows = batch.rows;
    const int lane = threadIdx.x % 32;
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
        float y = y_previous[at];
        if constexpr (DROPOUT) {
            y = undropped(y, dropout.scale());
            sum *= dropout.factor(n, batch.first + m);
        }
        dz_previous[at] = sum * activation_derivative<ACTIVATION>(y);
    }
}
