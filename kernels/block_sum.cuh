// block_sum.cuh: sums over all threads of a block, many at a time; the order of addition is fixed.
//
//   put (by all threads), as often as needed; finish; then every thread may read any total
//
// There are two halves, used in turn, so that one barrier per round is enough: a half is overwritten only after the
// barrier of the other one, which no thread passes before it has read its totals.
#pragma once
#include "warp.cuh"

constexpr int WARPS = THREADS / 32;

__device__ constexpr int power_of_2_from(int n) { return n <= 1 ? 1 : 2 * power_of_2_from((n + 1) / 2); }

// Afterwards, lane l holds the sum over all lanes of values[l / (32 / N)]; N a power of 2, at most 32.
// Each step halves the number of values per lane: N - 1 + log2(32 / N) shuffles instead of 5 N. Lanes are added in the
// same order for every N, so the number of sums at a time changes no bit.
template <int N, int APART = 16, int SIZE>
__device__ __forceinline__ float warp_sums(float (&values)[SIZE]) {
    if constexpr (N > 1) {
        constexpr int HALF = N / 2;
        const bool upper = threadIdx.x & APART;
#pragma unroll
        for (int i = 0; i < HALF; ++i) {
            const float given = upper ? values[i] : values[i + HALF];
            const float kept = upper ? values[i + HALF] : values[i];
            values[i] = kept + __shfl_xor_sync(ALL_LANES, given, APART);
        }
        return warp_sums<HALF, APART / 2>(values);
    } else {
        float sum = values[0];
#pragma unroll
        for (int apart = APART; apart > 0; apart /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, apart);
        return sum;
    }
}

template <int MOST>
struct BlockSums {
    static constexpr int FLOATS = 2 * WARPS * MOST;  // of shared memory

    float* partial;
    int half;

    // Adds the first `count` of N sums, with the numbers first, first + 1, ... in this round.
    template <int N>
    __device__ __forceinline__ void put(float (&values)[N], int first, int count) {
        constexpr int LANES = 32 / N;  // lanes that end with the same sum
        const int number = threadIdx.x % 32 / LANES;
        const float sum = warp_sums<N>(values);
        if (threadIdx.x % LANES == 0 && number < count) {
            partial[(half * WARPS + threadIdx.x / 32) * MOST + first + number] = sum;
        }
    }

    // The same of sums that each lane of the warp brings by itself; every warp has a part of each.
    __device__ __forceinline__ void put_part(float part, int number) {
        partial[(half * WARPS + threadIdx.x / 32) * MOST + number] = part;
    }

    __device__ __forceinline__ void finish() {
        __syncthreads();
        half ^= 1;
    }

    __device__ __forceinline__ float total(int number) const {
        float sums[WARPS];
#pragma unroll
        for (int warp = 0; warp < WARPS; ++warp) sums[warp] = partial[((half ^ 1) * WARPS + warp) * MOST + number];
#pragma unroll
        for (int apart = 1; apart < WARPS; apart *= 2) {  // a tree, so that additions need not wait for one another
#pragma unroll
            for (int warp = 0; warp + apart < WARPS; warp += 2 * apart) sums[warp] += sums[warp + apart];
        }
        return sums[0];
    }
};
