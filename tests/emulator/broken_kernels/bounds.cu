// bounds.cu: kernels that leave their memory, or use it misaligned, if `broken` (by that many elements).
#include "common.cuh"

extern "C" __global__ void read_global(const float* in, float* out, int n, int broken) {
    const int i = threadIdx.x;
    if (i < n) out[i] = in[i + broken];
}

extern "C" __global__ void write_global(const float* in, float* out, int n, int broken) {
    const int i = threadIdx.x;
    if (i < n) out[i + broken] = in[i];
}

extern "C" __global__ void gather(const float* in, const int* order, float* out, int n) {
    const int i = threadIdx.x;
    if (i < n) out[i] = in[order[i]];
}

extern "C" __global__ void static_shared(float* out, int broken) {
    __shared__ float tile[64];
    tile[threadIdx.x + broken] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void dynamic_shared(float* out, int broken) {
    DYN_SHARED(float, tile);
    float* const mine = tile + threadIdx.x;
    mine[broken] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = *mine;
}

extern "C" __global__ void local_array(float* out, int broken) {
    float values[8];
    for (int i = 0; i < 8; ++i) values[i + broken] = i;
    out[threadIdx.x] = values[threadIdx.x % 8];
}

extern "C" __global__ void vector_load(const float* in, float* out, int broken) {
    const float4 v = *reinterpret_cast<const float4*>(in + 4 * threadIdx.x + broken);
    out[threadIdx.x] = v.x + v.y + v.z + v.w;
}

extern "C" __global__ void far_away(float* out, int broken) {
    out[threadIdx.x + (broken ? (1ll << 40) : 0)] = 1.0f;
}

extern "C" __global__ void divide(const int* in, int* out) {
    out[threadIdx.x] = 100 / in[threadIdx.x];
}
