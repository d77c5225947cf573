// block_sum.cuh: sums over all threads of a block, many at a time; the order of adding is fixed.
//
//   put (by all threads), as often as needed; finish; then every thread may ask for any total
//
// Two halves take turns, so that one barrier a round is enough: a half is written again only behind the other's
// barrier, which nobody passes before it has read its totals.
#pragma once
#include "warp.cuh"

constexpr int WARPS = THREADS / 32;

// Afterwards, lane l holds the sum over all lanes of values[l % N]; N a power of 2, at most 32.
// Each step halves the values that a lane looks after: N - 1 + log2(32 / N) shuffles instead of 5 N.
template <int N, int SIZE>
__device__ __forceinline__ float warp_sums(float (&values)[SIZE]) {
    if constexpr (N > 1) {
        constexpr int HALF = N / 2;
        const bool upper = threadIdx.x & HALF;
#pragma unroll
        for (int i = 0; i < HALF; ++i) {
            const float given = upper ? values[i] : values[i + HALF];
            const float kept = upper ? values[i + HALF] : values[i];
            values[i] = kept + __shfl_xor_sync(ALL_LANES, given, HALF);
        }
        return warp_sums<HALF>(values);
    } else {
        float sum = values[0];
#pragma unroll
        for (int lanes = 16; lanes >= SIZE; lanes /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, lanes);
        return sum;
    }
}

template <int MOST>
struct BlockSums {
    static constexpr int FLOATS = 2 * WARPS * MOST;  // of shared memory

    float* partial;
    int half;

    // Adds the first `count` of N sums, as numbers first, first + 1, ... of this round.
    template <int N>
    __device__ __forceinline__ void put(float (&values)[N], int first, int count) {
        const int lane = threadIdx.x % 32;
        const float sum = warp_sums<N>(values);
        if (lane < count) partial[(half * WARPS + threadIdx.x / 32) * MOST + first + lane] = sum;
    }

    __device__ __forceinline__ void finish() {
        __syncthreads();
        half ^= 1;
    }

    __device__ __forceinline__ float total(int number) const {
        const float* sums = partial + (half ^ 1) * WARPS * MOST + number;
        float total = sums[0];
#pragma unroll
        for (int warp = 1; warp < WARPS; ++warp) total += sums[warp * MOST];
        return total;
    }
};
