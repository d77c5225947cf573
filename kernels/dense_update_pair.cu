// dense_update_pair.cu: dense_update of the first two layers in one launch, which ends an update.
//
//   as in dense_update.cu: the first layer with x, dz, inputs and units, the second with y and second_...
//
// Arrays  as in dense_update.cu; y (batch_size, units) float32 is the first layer's output.
// Launch  THREADS threads; grid: `shares` blocks for each of the first layer's tiles, then `second_shares` blocks for
//         each of the second's.
// Range   any sizes >= 1.
// Cost    that of both. 784-500-500: 15.4 MB per update, 129 million operations at batch 100.
// Tiles   small and medium, as in dense_forward.cu, the same for both layers.
// Residency  at least RESIDENT_BLOCKS blocks per SM: 5 for small, 2 or 3 for medium.
#include "update_tile.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT_BLOCKS) dense_update_pair(
        const InputElement* __restrict__ x, const int* __restrict__ order, int gather, const float* __restrict__ dz,
        float* __restrict__ weights, float* __restrict__ state, int inputs, int units, int shares,
        const float* __restrict__ y, const float* __restrict__ second_dz,
        float* __restrict__ second_weights, float* __restrict__ second_state, int second_units, int second_shares,
        int* cursors, int batch_size, int examples, const float* __restrict__ constants,
#if L2
        float twice_l2, float second_twice_l2,
#endif
        float* partials, unsigned* arrivals) {
#if !L2
    constexpr float twice_l2 = 0.0f, second_twice_l2 = 0.0f;
#endif
    const int update = cursors[BACKWARD];
    const Batch batch = batch_at(update, batch_size, examples);
    if (blockIdx.x + threadIdx.x == 0) cursors[FORWARD] = update + 1;

    const Workspace workspace{partials, arrivals};
    const Part first = part_of_product(Part{}, inputs + 1, units, shares);
    if (first.share < shares) {
        const Input<InputElement> input = input_of(x, gather ? order : nullptr, batch, inputs);
        update_tile(kept(first), workspace, input, dz, update, weights, state, constants, twice_l2, units);
    } else {
        const Part second = part_of_product(first, units + 1, second_units, second_shares);
        update_tile(
            kept(second), workspace, input_of(y, nullptr, batch, units), second_dz, update,
            second_weights, second_state, constants, second_twice_l2, second_units);
    }
}
