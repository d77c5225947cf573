// races.cu: kernels whose threads or blocks get in each other's way in global memory, if `broken`.
#include "common.cuh"

// No order of the threads shows this one: a fibre is never interrupted between its read and its write.
extern "C" __global__ void add_up(const float* in, float* total, int broken) {
    if (broken)
        *total += in[threadIdx.x];
    else
        atomicAdd(total, in[threadIdx.x]);
}

extern "C" __global__ void same_place(int* out, int broken) {
    if (threadIdx.x == 0) out[broken ? 0 : blockIdx.x] = 1;
}

extern "C" __global__ void neighbours_bytes(unsigned char* bytes, int broken) {
    bytes[broken ? threadIdx.x / 2 : threadIdx.x] = 1;
}

// One block waits for the other's flag, and reads the data that the flag announces.
extern "C" __global__ void announce(float* data, int* flag, float* out, int broken) {
    if (blockIdx.x == 0) {
        data[threadIdx.x] = threadIdx.x;
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) *(volatile int*)flag = 1;
    } else {
        if (!broken) {
            if (threadIdx.x == 0) {
                while (*(volatile int*)flag == 0) SPIN_PAUSE();
            }
            __syncthreads();
        }
        out[threadIdx.x] = data[threadIdx.x];
    }
}

// Within a block: the first warp hands a value a lane to the second, without a barrier of the block.
extern "C" __global__ void warp_to_warp(float* out, int broken) {
    __shared__ float values[32];
    __shared__ volatile int ready;
    if (threadIdx.x == 0) ready = 0;
    __syncthreads();
    if (threadIdx.x < 32) {
        values[threadIdx.x] = threadIdx.x;
        __syncwarp();
        if (!broken) __threadfence_block();
        if (threadIdx.x == 0) ready = 1;
    } else {
        if (threadIdx.x == 32) {
            while (!ready) SPIN_PAUSE();
        }
        __syncwarp();
        out[threadIdx.x - 32] = values[threadIdx.x - 32];
    }
}

// The block that finishes last adds up what all blocks have written; it needs the fence between data and
// counter.
extern "C" __global__ void last_block_adds(
        const float* in, float* partial, unsigned* finished, float* total, int broken) {
    __shared__ bool last;
    float sum = in[blockIdx.x * 32 + threadIdx.x];
    for (int delta = 16; delta; delta /= 2) sum += __shfl_down_sync(0xffffffffu, sum, delta);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        if (!broken) __threadfence();
        last = atomicAdd(finished, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float all = 0.0f;
        for (unsigned block = 0; block < gridDim.x; ++block) all += partial[block];
        *total = all;
        *finished = 0;  // for the next launch
    }
}
