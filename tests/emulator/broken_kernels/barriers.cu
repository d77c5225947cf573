// barriers.cu: kernels that leave out a barrier, or that not all threads bring to one, if `broken`.
#include "common.cuh"

extern "C" __global__ void reverse(const float* in, float* out, int broken) {
    __shared__ float tile[64];
    tile[threadIdx.x] = in[threadIdx.x];
    if (!broken) __syncthreads();
    out[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

// Each step reads what the neighbours wrote in the step before; without the second barrier a fast thread
// overwrites what a slow one still has to read.
extern "C" __global__ void rotate(const float* in, float* out, int steps, int broken) {
    __shared__ float ring[64];
    float value = in[threadIdx.x];
    for (int step = 0; step < steps; ++step) {
        ring[threadIdx.x] = value;
        __syncthreads();
        value = ring[(threadIdx.x + 1) % blockDim.x];
        if (!broken) __syncthreads();
    }
    out[threadIdx.x] = value;
}

extern "C" __global__ void swap_in_warp(const float* in, float* out, int broken) {
    DYN_SHARED(float, pairs);
    pairs[threadIdx.x] = in[threadIdx.x];
    if (!broken) __syncwarp();
    out[threadIdx.x] = pairs[threadIdx.x ^ 1];
}

extern "C" __global__ void read_unwritten(float* out, int dynamic, int broken) {
    DYN_SHARED(float, moving);
    __shared__ float fixed[64];
    float* const memory = dynamic ? moving : fixed;
    if (!(broken && threadIdx.x == 5)) memory[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = memory[threadIdx.x];
}

extern "C" __global__ void early_return(float* out, int broken) {
    if (broken && threadIdx.x >= 40) return;
    __syncthreads();
    out[threadIdx.x] = 1.0f;
}

extern "C" __global__ void divergent(float* out, int broken) {
    if (broken && threadIdx.x % 2) {
        __syncthreads();
        out[threadIdx.x] = 2.0f;
    } else {
        __syncthreads();
        out[threadIdx.x] = 1.0f;
    }
}

extern "C" __global__ void absent_lanes(float* out, int broken) {
    float value = threadIdx.x;
    if (!broken || threadIdx.x < 20) value = __shfl_xor_sync(0xffffffffu, value, 1);
    out[threadIdx.x] = value;
}

extern "C" __global__ void outside_the_mask(float* out, int broken) {
    float value = threadIdx.x;
    if (threadIdx.x < 16) value = __shfl_sync(0x0000ffffu, value, broken ? 20 : 3);
    out[threadIdx.x] = value;
}

extern "C" __global__ void different_operations(float* out, int broken) {
    float value = threadIdx.x;
    if (broken && threadIdx.x % 2)
        value = __shfl_down_sync(0xffffffffu, value, 1);
    else
        value = __shfl_xor_sync(0xffffffffu, value, 1);
    out[threadIdx.x] = value;
}
