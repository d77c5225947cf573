// dense_backward.cu: the gradient's way back through a layer: matrix product and the previous layer's derivative.
//
//   dz_previous[m,n] = (sum over k of dz[m,k] weights[n,k]) * activation'(y_previous[m,n])
//
// Arrays  row-major, rows padded to a multiple of 4 (matrix.cuh), no overlap, float32: dz (batch_size, units);
//         weights (inputs + 1, units), whose last row, the bias, is not read; y_previous and dz_previous
//         (batch_size, inputs). cursors: see batch.cuh. partials, arrivals: see product.cuh; used if gridDim.z > 1.
// Launch  THREADS threads; grid (ceil(inputs / TILE_N), ceil(batch_size / TILE_M), blocks that split the units).
// Range   any sizes >= 1. ACTIVATION is the previous layer's.
// Cost    2 batch inputs units operations; the weights are read ceil(batch / TILE_M) times, once from DRAM.
//         500 -> 500: 1 MB of weights a batch; at batch 100 50 million operations.
// Tiles   as in dense_forward.cu.
// Residency  at least RESIDENT_BLOCKS blocks an SM: 5 for small, 2 or 3 for medium, 2 for large.
#include "activation.cuh"
#include "batch.cuh"
#include "dropout.cuh"
#include "product.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS) dense_backward(
        const float* __restrict__ dz, const float* __restrict__ weights,
        const float* __restrict__ y_previous, float* __restrict__ dz_previous,
        const int* __restrict__ cursors, int batch_size, int examples,
#if DROPOUT
        const unsigned* __restrict__ drops, int dropped,
#endif
        int inputs, int units, float* partials, unsigned* arrivals) {
    const Batch batch = batch_at(cursors[BACKWARD], batch_size, examples);
    const int rows = batch.rows;
    const int first_m = blockIdx.y * TILE_M;
    const int first_n = blockIdx.x * TILE_N;
    if (first_m >= rows) return;  // the whole block, and every block that shares this tile

    Products products{};
    multiply_tile<K_ALONG_ROWS, K_ALONG_ROWS>(
        Matrix{dz, rows, units}, Matrix{weights, inputs, units},
        first_m, first_n, first_of_share(units), last_of_share(units), products);
    if (!sum_over_split(partials, arrivals, products)) return;

#pragma unroll
    for (int j = 0; j < THREAD_N; j += 4) {
        const int n = first_n + tile_column(j);
        if (n >= inputs) continue;
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i) {
            const int m = first_m + tile_row(i);
            if (m >= rows) continue;
            float4 y = read_four(y_previous + (size_t)m * padded(inputs) + n);
            float4 dx = four_products(products, i, j);
#if DROPOUT
            const Dropout dropout{drops, dropped};
            const float scale = dropout.scale();
            float factors[4];
            dropout.factors(n / 4, batch.first + m, factors);
            y = make_float4(undropped(y.x, scale), undropped(y.y, scale), undropped(y.z, scale), undropped(y.w, scale));
            dx = make_float4(dx.x * factors[0], dx.y * factors[1], dx.z * factors[2], dx.w * factors[3]);
#endif
            write_four(dz_previous, inputs, m, n, make_float4(
                dx.x * activation_derivative<ACTIVATION>(y.x), dx.y * activation_derivative<ACTIVATION>(y.y),
                dx.z * activation_derivative<ACTIVATION>(y.z), dx.w * activation_derivative<ACTIVATION>(y.w)));
        }
    }
}
