// built_ins.cu: CUDA's built-ins, one result after the other, for comparison with what they are known to
// give.
#include "common.cuh"

extern "C" __global__ void indices(int* out) {
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}

extern "C" __global__ void shuffles(int* out) {
    const int t = threadIdx.x, lane = t % 32;
    int* row = out + 12 * t;
    row[11] = (int)__activemask();  // here no thread can have returned
    row[0] = __shfl_sync(0xffffffffu, t, 5);
    row[1] = __shfl_sync(0xffffffffu, t, lane + 1, 8);
    row[2] = __shfl_up_sync(0xffffffffu, t, 3);
    row[3] = __shfl_down_sync(0xffffffffu, t, 3, 16);
    row[4] = __shfl_xor_sync(0xffffffffu, t, 7);
    row[5] = __shfl_xor_sync(0xffffffffu, t, 8, 8);
    row[6] = (int)__ballot_sync(0xffffffffu, lane % 3 == 0);
    row[7] = __any_sync(0xffffffffu, t == 33);
    row[8] = __all_sync(0xffffffffu, t < 32);
    row[9] = lane < 10 ? __shfl_sync(0x3ffu, t, min(lane + 1, 9)) : -1;
    row[10] = (int)__shfl_sync(0xffffffffu, 3.0 * t, 2);
}

extern "C" __global__ void votes(int* out) {
    const int t = threadIdx.x;
    out[3 * t] = __syncthreads_count(t % 3 == 0);
    out[3 * t + 1] = __syncthreads_or(t == 7);
    out[3 * t + 2] = __syncthreads_and(t != 7);
}

extern "C" __global__ void atomics(int* i, unsigned* u, unsigned long long* l, float* f) {
    const int t = threadIdx.x;
    atomicAdd(i + 0, t), atomicMax(i + 1, t), atomicMin(i + 2, t);
    atomicOr(i + 3, 1 << t % 8), atomicAnd(i + 4, ~(1 << t % 8));
    atomicAdd(u, 2u), atomicInc(u + 1, 9u), atomicExch(u + 2, 42u), atomicCAS(u + 3, (unsigned)t, t + 1u);
    atomicAdd(l, 1ull << 33), atomicMax(l + 1, (unsigned long long)t);
    atomicAdd(f, 0.5f);
}

extern "C" __global__ void numbers(float* f, int* i) {
    const float x = 2.0f;
    int n = 0;
    f[n++] = __fmaf_rn(x, 3.0f, 1.0f), f[n++] = __expf(0.0f), f[n++] = __logf(1.0f), f[n++] = __fdividef(1.0f, x);
    f[n++] = __frcp_rn(x), f[n++] = __fsqrt_rn(4.0f), f[n++] = rsqrtf(4.0f), f[n++] = __fadd_rn(x, x);
    f[n++] = fmaxf(x, nanf("")), f[n++] = min(1.0f, x), f[n++] = __int_as_float(0x3f800000), f[n++] = __saturatef(7.0f);
    const volatile float tiny = 1e-30f;
    f[n++] = tiny * 1e-10f;  // a denormal number, flushed to zero
    n = 0;
    i[n++] = __popc(0xffu), i[n++] = __ffs(8), i[n++] = __clz(1), i[n++] = __float_as_int(1.0f), i[n++] = max(3, 4);
    i[n++] = __float2int_rn(2.5f), i[n++] = __float2int_rz(-2.5f), i[n++] = __float2int_rz(1e20f);
    i[n++] = (int)__brev(1u), i[n++] = (int)__umulhi(1u << 31, 4u);
    i[n++] = sizeof(float3), i[n++] = alignof(float4), i[n++] = alignof(uchar4);
    i[n++] = (int)__dadd_rn(1.0, 2.0), i[n++] = isnan(nanf("")), i[n++] = __CUDA_ARCH__, i[n++] = warpSize;
    i[n++] = (int)__byte_perm(0x33221100u, 0x77665544u, 0x6130u);
}

// Static shared memory in an inline function, a template and a member function.
template <int N> __device__ float through_template(float value) {
    __shared__ float slots[N];
    slots[threadIdx.x] = value;
    __syncthreads();
    const float other = slots[blockDim.x - 1 - threadIdx.x];
    __syncthreads();
    return other;
}
struct Relay {
    float factor;
    __device__ float operator()(float value) const {
        __shared__ __align__(16) float slots[64];
        slots[threadIdx.x] = value * factor;
        __syncthreads();
        return slots[(threadIdx.x + 1) % blockDim.x];
    }
};
extern "C" __global__ void __launch_bounds__(64, 2) shared_places(const float* in, float* out) {
    out[threadIdx.x] = Relay{2.0f}(through_template<64>(through_template<65>(in[threadIdx.x])));
}

extern "C" __global__ void scalars(float* out, bool yes, int i, unsigned u, float f, double d, unsigned long long l) {
    out[0] = yes, out[1] = i, out[2] = u, out[3] = f, out[4] = d, out[5] = l;
}
