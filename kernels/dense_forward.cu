// dense_forward.cu: a layer's output: matrix product, bias and activation in one launch.
//
//   y[m,n] = activation(sum over k of x[m,k] weights[k,n] + bias[n])
//
// Arrays  row-major, rows padded to a multiple of 4 (matrix.cuh), no overlap: x (batch_size, inputs) float32, or with
//         gather = 1 all images (any number, inputs) uint8 or float32, gathered through order (examples,) int32;
//         weights (inputs + 1, units), whose last row is the bias, and y (batch_size, units) float32.
//         cursors: see batch.cuh. partials, arrivals: see product.cuh; used if gridDim.z > 1.
// Launch  THREADS threads; grid (ceil(units / TILE_N), ceil(batch_size / TILE_M), blocks that split the inputs).
// Range   any sizes >= 1.
// Cost    2 batch inputs units operations. Weights and x are read ceil(batch / TILE_M) and ceil(units / TILE_N) times
//         from cache, once from DRAM. 784 -> 500: 1.6 MB of weights per batch; at batch 100, 78 million operations.
//         Bound by memory up to a batch of about 10, by multiply-adds from several hundred on.
// Tiles   small 16 x 64 x 16, 2 x 4 per thread; medium 64 x 64 x 16, 4 x 4; large 128 x 128 x 8, 8 x 8.
// Residency  at least RESIDENT_BLOCKS blocks per SM: 5 for small, 2 or 3 for medium, 2 for large.
#include "activation.cuh"
#include "dropout.cuh"
#include "input.cuh"
#include "product.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS) dense_forward(
        const InputElement* __restrict__ x, const int* __restrict__ order, int gather,
        const int* __restrict__ cursors, int batch_size, int examples,
        const float* __restrict__ weights, float* __restrict__ y,
#if DROPOUT
        const unsigned* __restrict__ drops, int dropped,
#endif
        int inputs, int units, float* partials, unsigned* arrivals) {
    const Batch batch = batch_at(cursors[FORWARD], batch_size, examples);
    const Part part = part_of_grid();
    if (part.first_m() >= batch.rows) return;  // the whole block leaves, as does every block that shares this tile

    Products products{};
    multiply_tile<K_ALONG_ROWS, K_ALONG_COLUMNS>(
        input_of(x, gather ? order : nullptr, batch, inputs), Matrix{weights, inputs, units}, part, inputs, products);
    if (!sum_over_shares(Workspace{partials, arrivals}, part, products)) return;

    const float* bias = weights + (size_t)inputs * padded(units);
#pragma unroll
    for (int j = 0; j < THREAD_N; j += 4) {
        const int n = part.first_n() + tile_column(j);
        if (n >= units) continue;
        const float4 b = read_four(bias + n);
#pragma unroll
        for (int i = 0; i < THREAD_M; ++i) {
            const int m = part.first_m() + tile_row(i);
            if (m >= batch.rows) continue;
            const float4 z = scaled_input_sums(four_products(products, i, j));
            float4 active = make_float4(
                activate<ACTIVATION>(z.x + b.x), activate<ACTIVATION>(z.y + b.y),
                activate<ACTIVATION>(z.z + b.z), activate<ACTIVATION>(z.w + b.w));
#if DROPOUT
            float factors[4];
            Dropout{drops, dropped}.factors(n / 4, batch.first + m, factors);
            active = make_float4(
                active.x * factors[0], active.y * factors[1], active.z * factors[2], active.w * factors[3]);
#endif
            write_four(y, units, m, n, active);
        }
    }
}
