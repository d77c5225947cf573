// backward_tile.cuh: a block's tile of the gradient in a layer's backward pass; see dense_backward.cu.
#pragma once
#include "activation.cuh"
#include "batch.cuh"
#include "dropout.cuh"
#include "product.cuh"

__device__ __forceinline__ void backward_tile(
        const Part& part, const Workspace& workspace, Batch batch, Dropout dropout, const float* dz, const float* weights,
        const float* y_previous, float* dz_previous, int inputs, int units) {
    const int rows = batch.rows;
    if (part.first_m() >= rows) return;  // the whole block leaves, as does every block that shares this tile
    Products products{};
    multiply_tile<K_ALONG_ROWS, K_ALONG_ROWS>(
        Matrix{dz, rows, units}, Matrix{weights, inputs, units}, part, units, products);
    if (!sum_over_shares(workspace, part, products)) return;

#pragma unroll
    for (int j = 0; j < THREAD_N; j += 4) {
        const int n = part.first_n() + tile_column(j);
        if (n >= inputs) continue;
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i) {
            const int m = part.first_m() + tile_row(i);
            if (m >= rows) continue;
            float4 y = read_four(y_previous + (size_t)m * padded(inputs) + n);
            float4 dx = four_products(products, i, j);
            if constexpr (DROPOUT) {
                const float scale = dropout.scale();
                float factors[4];
                dropout.factors(n / 4, batch.first + m, factors);
                y = make_float4(
                    undropped(y.x, scale), undropped(y.y, scale), undropped(y.z, scale), undropped(y.w, scale));
                dx = make_float4(dx.x * factors[0], dx.y * factors[1], dx.z * factors[2], dx.w * factors[3]);
            }
            write_four(dz_previous, inputs, m, n, make_float4(
                dx.x * activation_derivative<ACTIVATION>(y.x), dx.y * activation_derivative<ACTIVATION>(y.y),
                dx.z * activation_derivative<ACTIVATION>(y.z), dx.w * activation_derivative<ACTIVATION>(y.w)));
        }
    }
}
