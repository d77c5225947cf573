// dense_update.cu: weight gradient, bias gradient and the optimizer's step. The gradient is never written to memory.
//
//   g[m,n] = sum over examples k of x[k,m] dz[k,n], with x[k,inputs] = 1;  weights, state <- step(weights, state, g)
//
// Arrays  row-major, rows padded to a multiple of 4 (matrix.cuh), no overlap: x as in dense_forward.cu; dz (batch_size,
//         units), weights (inputs + 1, units), whose last row is the bias, and state (slots, inputs + 1, units)
//         float32; constants, twice_l2 (-DL2=1): see optimizer.cuh; cursors: see batch.cuh; last_of_update: 1 in the
//         launch that ends an update. partials, arrivals: see product.cuh; used if gridDim.z > 1.
// Launch  THREADS threads; grid (ceil(units / TILE_N), ceil((inputs + 1) / TILE_M), blocks that split the examples).
// Range   any sizes >= 1.
// Cost    2 batch inputs units operations; weights, m and v are read and written once: 24 bytes per weight with Adam.
//         784 -> 500: 9.4 MB per update, 42 us from the DRAM of a GTX 980; 78 million operations at batch 100.
// Tiles   as in dense_forward.cu.
// Residency  at least RESIDENT_BLOCKS blocks per SM: 5 for small, 2 or 3 for medium, 1 or 2 for large.
#include "update_tile.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS) dense_update(
        const InputElement* __restrict__ x, const int* __restrict__ order, int gather,
        const float* __restrict__ dz, int* cursors, int batch_size, int examples, int last_of_update,
        float* __restrict__ weights, float* __restrict__ state, const float* __restrict__ constants,
#if L2
        float twice_l2,
#endif
        int inputs, int units, float* partials, unsigned* arrivals) {
#if !L2
    constexpr float twice_l2 = 0.0f;
#endif
    const int update = cursors[BACKWARD];
    const Batch batch = batch_at(update, batch_size, examples);
    if (last_of_update && blockIdx.x + blockIdx.y + blockIdx.z + threadIdx.x == 0) cursors[FORWARD] = update + 1;
    update_tile(
        part_of_grid(), Workspace{partials, arrivals}, input_of(x, gather ? order : nullptr, batch, inputs), dz, update,
        weights, state, constants, twice_l2, units);
}
