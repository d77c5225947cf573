// dense_forward_vector.cu: a layer's output for a batch of very few examples: matrix-vector products.
//
//   y[m,n] = activation(sum over k of x[m,k] weights[k,n] + bias[n])
//
// Arrays  as in dense_forward.cu.
// Launch  256 threads; grid (ceil(units / 8), batch_size). A block computes 8 units of one example: its threads are 32
//         groups of 8 neighbours, so a group reads 32 neighbouring bytes of a row of weights, a whole memory sector.
// Range   any sizes >= 1.
// Cost    the weights are read once an example, 4 inputs units bytes: 1.6 MB for 784 -> 500, which takes 7 us from the
//         DRAM of a GTX 980 (224 GB/s). Two operations for 4 bytes: bound by memory.
// Residency  at least 4 blocks an SM.
#include "activation.cuh"
#include "input.cuh"

constexpr int COLUMNS = 8;
constexpr int GROUPS = 32;

extern "C" __global__ void __launch_bounds__(COLUMNS * GROUPS) dense_forward_vector(
        const InputElement* __restrict__ x, const int* __restrict__ order, int gather,
        const int* __restrict__ cursors, int batch_size, int examples,
        const float* __restrict__ weights, float* __restrict__ y, int inputs, int units) {
    __shared__ float sums[GROUPS][COLUMNS + 1];
    const Batch batch = batch_at(cursors[FORWARD], batch_size, examples);
    const int m = blockIdx.y;
    if (m >= batch.rows) return;  // the whole block
    const int column = threadIdx.x % COLUMNS;
    const int group = threadIdx.x / COLUMNS;
    const int n = blockIdx.x * COLUMNS + column;
    const InputElement* row = input_of(x, order, gather, batch, inputs).row(m);

    float sum = 0.0f;
    if (n < units) {
#pragma unroll 4
        for (int k = group; k < inputs; k += GROUPS) {
            sum = fmaf(row[k], weights[(size_t)k * padded(units) + n], sum);
        }
    }
    sums[group][column] = sum;
    __syncthreads();

    if (group > 0 || n >= units) return;
    float total = 0.0f;
#pragma unroll
    for (int g = 0; g < GROUPS; ++g) total += sums[g][column];
    const float bias = weights[(size_t)inputs * padded(units) + n];
    y[(size_t)m * padded(units) + n] = activate(scaled_input_sum(total) + bias);
}
