// waiting.cu: kernels that never end, if `broken`.
#include "common.cuh"

// A token goes from block to block.
extern "C" __global__ void pass_token(volatile int* token, int broken) {
    if (threadIdx.x == 0) {
        while (*token != (int)blockIdx.x + broken) SPIN_PAUSE();
        *token = blockIdx.x + 1;
    }
    __syncthreads();
}

extern "C" __global__ void endless(volatile int* counter, int broken) {
    do {
        ++*counter;
    } while (broken);
}

extern "C" __global__ void claim(const float* in, int n) {
    assert(in[threadIdx.x] >= 0.0f);
}
