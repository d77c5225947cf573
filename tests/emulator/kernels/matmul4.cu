// matmul4.cu: C = A B with float4 loads, each thread one row of a tile and four columns; columns and depth
// are multiples of 4. Dynamic shared memory: (ROWS + 4 * COLUMNS) * DEPTH floats.
#include "common.cuh"

#define ROWS 8
#define COLUMNS 8  // threads; each has four columns of the matrix
#define DEPTH 16

extern "C" __global__ void matmul4(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c,
                                   int rows, int depth, int columns) {
    DYN_SHARED(float4, shared);
    float4* const b_tile = shared;                               // DEPTH x COLUMNS
    float* const a_tile = (float*)(shared + DEPTH * COLUMNS);    // ROWS x DEPTH
    const int row = blockIdx.y * ROWS + threadIdx.y, column = 4 * (blockIdx.x * COLUMNS + threadIdx.x);
    const int thread = threadIdx.y * COLUMNS + threadIdx.x, threads = ROWS * COLUMNS;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int start = 0; start < depth; start += DEPTH) {
        for (int i = thread; i < ROWS * DEPTH; i += threads) {
            const int r = blockIdx.y * ROWS + i / DEPTH, k = start + i % DEPTH;
            a_tile[i] = r < rows && k < depth ? a[r * depth + k] : 0.0f;
        }
        for (int i = thread; i < DEPTH * COLUMNS; i += threads) {
            const int k = start + i / COLUMNS, first = 4 * (blockIdx.x * COLUMNS + i % COLUMNS);
            const bool inside = k < depth && first < columns;
            b_tile[i] = inside ? __ldg(reinterpret_cast<const float4*>(b + k * columns + first)) : float4{};
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            const float x = a_tile[threadIdx.y * DEPTH + k];
            const float4 y = b_tile[k * COLUMNS + threadIdx.x];
            sum.x = __fmaf_rn(x, y.x, sum.x);
            sum.y = __fmaf_rn(x, y.y, sum.y);
            sum.z = __fmaf_rn(x, y.z, sum.z);
            sum.w = __fmaf_rn(x, y.w, sum.w);
        }
        __syncthreads();
    }
    if (row < rows && column < columns) *reinterpret_cast<float4*>(c + row * columns + column) = sum;
}
