// exchange.cu: co-resident blocks exchange their values in every step, as the persistent engine does.
//
//   value[b] <- 0.5 * value[b] + mean over all blocks of value        `steps` times
//
// A value travels as one 8-byte packet {float, step}; readers poll until the step is theirs. With BUFFERS 2
// no packet is overwritten before all have read it; with 1 it can be.
#include "common.cuh"

__device__ __forceinline__ void publish(volatile unsigned long long* packet, float value, unsigned step) {
    *packet = (unsigned long long)step << 32 | __float_as_uint(value);
}

__device__ __forceinline__ float receive(const volatile unsigned long long* packet, unsigned step) {
    unsigned long long bits = *packet;
    while ((unsigned)(bits >> 32) != step) {
        SPIN_PAUSE();
        bits = *packet;
    }
    return __uint_as_float((unsigned)bits);
}

__device__ __forceinline__ float block_sum(float value) {
    __shared__ float sums[32];
    for (int delta = 16; delta; delta /= 2) value += __shfl_xor_sync(0xffffffffu, value, delta);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0.0f;
    for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) value += sums[warp];
    __syncthreads();
    return value;
}

extern "C" __global__ void exchange(const float* in, float* out, unsigned long long* packets, int steps) {
    float mine = in[blockIdx.x];
    for (int step = 1; step <= steps; ++step) {
        unsigned long long* const buffer = packets + step % BUFFERS * gridDim.x;
        if (threadIdx.x == 0) publish(buffer + blockIdx.x, mine, step);
        const float received = threadIdx.x < gridDim.x ? receive(buffer + threadIdx.x, step) : 0.0f;
        mine = 0.5f * mine + block_sum(received) / gridDim.x;
    }
    if (threadIdx.x == 0) out[blockIdx.x] = mine;
}
