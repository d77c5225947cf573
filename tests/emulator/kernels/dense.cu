// dense.cu: y = sigmoid(x W + b) with tiles in shared memory, 32 x 32 outputs a block, 256 threads, 2 x 2
// outputs each.
#include "common.cuh"

#define TILE 32
#define DEPTH 16

extern "C" __global__ void __launch_bounds__(256) dense(
        const float* __restrict__ x, const float* __restrict__ weights, const float* __restrict__ bias,
        float* __restrict__ y, int batch, int inputs, int units) {
    __shared__ float x_tile[DEPTH][TILE + 1];
    __shared__ float w_tile[DEPTH][TILE + 1];
    const int column = threadIdx.x % 16, row = threadIdx.x / 16;
    const int first_unit = blockIdx.x * TILE, first_row = blockIdx.y * TILE;
    float sums[2][2] = {};
    for (int start = 0; start < inputs; start += DEPTH) {
        for (int i = threadIdx.x; i < DEPTH * TILE; i += blockDim.x) {
            const int r = i / DEPTH, k = i % DEPTH;
            const bool inside = first_row + r < batch && start + k < inputs;
            x_tile[k][r] = inside ? x[(size_t)(first_row + r) * inputs + start + k] : 0.0f;
        }
        for (int i = threadIdx.x; i < DEPTH * TILE; i += blockDim.x) {
            const int k = i / TILE, u = i % TILE;
            const bool inside = first_unit + u < units && start + k < inputs;
            w_tile[k][u] = inside ? weights[(size_t)(start + k) * units + first_unit + u] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            const float x0 = x_tile[k][row], x1 = x_tile[k][row + 16];
            const float w0 = w_tile[k][column], w1 = w_tile[k][column + 16];
            sums[0][0] = __fmaf_rn(x0, w0, sums[0][0]);
            sums[0][1] = __fmaf_rn(x0, w1, sums[0][1]);
            sums[1][0] = __fmaf_rn(x1, w0, sums[1][0]);
            sums[1][1] = __fmaf_rn(x1, w1, sums[1][1]);
        }
        __syncthreads();
    }
    for (int i = 0; i < 2; ++i) {
        for (int j = 0; j < 2; ++j) {
            const int r = first_row + row + 16 * i, u = first_unit + column + 16 * j;
            if (r < batch && u < units) y[(size_t)r * units + u] = 1.0f / (1.0f + expf(-(sums[i][j] + bias[u])));
        }
    }
}
