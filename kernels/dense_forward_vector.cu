// dense_forward_vector.cu: a layer's output for a batch of very few examples: matrix-vector products.
//
//   y[m,n] = activation(sum over k of x[m,k] weights[k,n] + bias[n])
//
// Arrays  as in dense_forward.cu.
// Launch  256 threads; grid (ceil(units / 8), batch_size). A block computes 8 units of one example. Its threads form
//         128 pairs; a pair reads 8 neighbouring weights of a row, 32 bytes, a whole memory sector.
// Range   any sizes >= 1.
// Cost    the weights are read once per example, 4 inputs units bytes: 1.6 MB for 784 -> 500, which takes 7 us from the
//         DRAM of a GTX 980 (224 GB/s). Two operations per 4 bytes: bound by memory.
// Residency  at least 4 blocks per SM.
#include "activation.cuh"
#include "dropout.cuh"
#include "input.cuh"
#include "warp.cuh"

constexpr int COLUMNS = 8;
constexpr int WARPS = 8;
constexpr int PAIRS = 32 * WARPS / 2;
constexpr int EARLY = 8;  // rows of a pair that are read early: all of them, up to 1,024 inputs

// Sum over the 16 lanes of a warp that hold the same half of the columns.
__device__ __forceinline__ float sum_of_same_half(float x) {
    for (int lanes = 16; lanes > 1; lanes /= 2) x += __shfl_xor_sync(ALL_LANES, x, lanes);
    return x;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) dense_forward_vector(
        const InputElement* __restrict__ x, const int* __restrict__ order, int gather,
        const int* __restrict__ cursors, int batch_size, int examples,
        const float* __restrict__ weights, float* __restrict__ y,
#if DROPOUT
        const unsigned* __restrict__ drops, int dropped,
#endif
        int inputs, int units) {
    __shared__ float sums[WARPS][COLUMNS];
    const int first_n = blockIdx.x * COLUMNS;
    const int half = threadIdx.x % 2;  // which four of the eight columns
    const int first_k = threadIdx.x / 2;
    const bool within = first_n + 4 * half < units;
    const float4* column = reinterpret_cast<const float4*>(weights + (within ? first_n + 4 * half : 0));
    const int stride = padded(units) / 4;

    // Weights and bias do not depend on the batch: their loads start before it is known.
    const int n = first_n + threadIdx.x;
    const bool writes = threadIdx.x < COLUMNS && n < units;
    const float bias = writes ? __ldcg(weights + (size_t)inputs * padded(units) + n) : 0.0f;
    float4 early[EARLY];
#pragma unroll
    for (int i = 0; i < EARLY; ++i) {
        const int k = first_k + i * PAIRS;
        if (k < inputs) early[i] = __ldcg(column + (size_t)k * stride);
    }

    __syncthreads();  // otherwise the compiler would put the chain from the cursor to x first, and wait for it

    const Batch batch = batch_at(__ldcg(cursors + FORWARD), batch_size, examples);
    const int m = blockIdx.y;  // blocks beyond a smaller batch compute its last row, and do not write it
    const Input<InputElement> input = input_of(x, gather ? order : nullptr, batch, inputs);
    const InputElement* row = input.row(input.place(m));

    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    auto add = [&](float a, float4 w) {
        sum.x = fmaf(a, w.x, sum.x);
        sum.y = fmaf(a, w.y, sum.y);
        sum.z = fmaf(a, w.z, sum.z);
        sum.w = fmaf(a, w.w, sum.w);
    };
#pragma unroll
    for (int i = 0; i < EARLY; ++i) {
        const int k = first_k + i * PAIRS;
        if (k < inputs) add(row[k], early[i]);
    }
#pragma unroll 4
    for (int k = first_k + EARLY * PAIRS; k < inputs; k += PAIRS) add(row[k], column[(size_t)k * stride]);
    sum = make_float4(sum_of_same_half(sum.x), sum_of_same_half(sum.y), sum_of_same_half(sum.z),
                      sum_of_same_half(sum.w));
    if (threadIdx.x % 32 < 2) {
        float* of_warp = &sums[threadIdx.x / 32][4 * half];
        of_warp[0] = sum.x, of_warp[1] = sum.y, of_warp[2] = sum.z, of_warp[3] = sum.w;
    }
    __syncthreads();

    if (!writes || m >= batch.rows) return;
    float total = 0.0f;
#pragma unroll
    for (int warp = 0; warp < WARPS; ++warp) total += sums[warp][threadIdx.x];
#if DROPOUT
    const float factor = Dropout{drops, dropped}.factor(n, batch.first + m);
#else
    constexpr float factor = 1.0f;
#endif
    y[(size_t)m * padded(units) + n] = activate<ACTIVATION>(scaled_input_sum(total) + bias) * factor;
}
