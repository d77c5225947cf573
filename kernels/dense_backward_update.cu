// dense_backward_update.cu: dense_backward of a layer and dense_update of the layer above, side by side in one launch:
// neither reads what the other writes.
//
//   as in dense_backward.cu; and as in dense_update.cu, for y, upper_dz and the other upper arrays
//
// Arrays  as in both; y (batch_size, units) float32 is the layer's output, which the layer above reads.
// Launch  THREADS threads; grid: `shares` blocks for each tile of dz_previous, then `upper_shares` blocks for each tile
//         of the upper weights.
// Range   any sizes >= 1. ACTIVATION is the previous layer's.
// Cost    that of both. 500-500-10: 1.1 MB of weights and moments; at batch 100, 51 million operations.
// Tiles   small and medium, as in dense_forward.cu, the same for both.
// Residency  at least RESIDENT_BLOCKS blocks per SM: 5 for small, 2 or 3 for medium.
#include "backward_tile.cuh"
#include "update_tile.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS) dense_backward_update(
        const float* __restrict__ dz, const float* __restrict__ weights,
        const float* __restrict__ y_previous, float* __restrict__ dz_previous, int inputs, int units, int shares,
        const float* __restrict__ y, const float* __restrict__ upper_dz,
        float* __restrict__ upper_weights, float* __restrict__ upper_state, int upper_units, int upper_shares,
        const int* __restrict__ cursors, int batch_size, int examples, const float* __restrict__ constants,
#if L2
        float twice_l2,
#endif
        float* partials, unsigned* arrivals) {
#if !L2
    constexpr float twice_l2 = 0.0f;
#endif
    const int update = cursors[BACKWARD];
    const Batch batch = batch_at(update, batch_size, examples);

    const Workspace workspace{partials, arrivals};
    const Part part = part_of_product(Part{}, batch_size, inputs, shares);
    if (part.share < shares) {
        backward_tile(
            kept(part), workspace, batch, Dropout{}, dz, weights, y_previous, dz_previous, inputs, units);
    } else {
        const Part upper = part_of_product(part, units + 1, upper_units, upper_shares);
        update_tile(
            kept(upper), workspace, input_of(y, nullptr, batch, units), upper_dz, update,
            upper_weights, upper_state, constants, twice_l2, upper_units);
    }
}
