// dense_backward.cu: a layer's backward pass: matrix product and the previous layer's derivative.
//
//   dz_previous[m,n] = (sum over k of dz[m,k] weights[n,k]) * activation'(y_previous[m,n])
//
// Arrays  row-major, rows padded to a multiple of 4 (matrix.cuh), no overlap, float32: dz (batch_size, units);
//         weights (inputs + 1, units), whose last row, the bias, is not read; y_previous and dz_previous
//         (batch_size, inputs). cursors: see batch.cuh. partials, arrivals: see product.cuh; used if gridDim.z > 1.
// Launch  THREADS threads; grid (ceil(inputs / TILE_N), ceil(batch_size / TILE_M), blocks that split the units).
// Range   any sizes >= 1. ACTIVATION is the previous layer's.
// Cost    2 batch inputs units operations; the weights are read ceil(batch / TILE_M) times, once from DRAM.
//         500 -> 500: 1 MB of weights per batch; at batch 100, 50 million operations.
// Tiles   as in dense_forward.cu.
// Residency  at least RESIDENT_BLOCKS blocks per SM: 5 for small, 2 or 3 for medium, 2 for large.
#include "backward_tile.cuh"
#include "batch.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS) dense_backward(
        const float* __restrict__ dz, const float* __restrict__ weights,
        const float* __restrict__ y_previous, float* __restrict__ dz_previous,
        const int* __restrict__ cursors, int batch_size, int examples,
#if DROPOUT
        const unsigned* __restrict__ drops, int dropped,
#endif
        int inputs, int units, float* partials, unsigned* arrivals) {
#if !DROPOUT
    constexpr unsigned* drops = nullptr;
    constexpr int dropped = 0;
#endif
    const Batch batch = batch_at(cursors[BACKWARD], batch_size, examples);
    backward_tile(
        part_of_grid(), Workspace{partials, arrivals}, batch, Dropout{drops, dropped}, dz, weights, y_previous,
        dz_previous, inputs, units);
}
