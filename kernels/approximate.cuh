// approximate.cuh: the special function unit's square root and reciprocal, one instruction each; the emulator computes
// exact ones.
//
// Accurate to 2 units in the last place. Denormal numbers are taken as 0, and the reciprocal of a number above 2^126 is
// 0. Source  PTX ISA, sqrt.approx.ftz.f32 and rcp.approx.ftz.f32.
#pragma once

#ifdef GPUNET_EMULATOR
__device__ __forceinline__ float approximate_root(float x) { return sqrtf(x); }
__device__ __forceinline__ float approximate_reciprocal(float x) { return 1.0f / x; }
#else
__device__ __forceinline__ float approximate_root(float x) {
    float root;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
    return root;
}
__device__ __forceinline__ float approximate_reciprocal(float x) {
    float reciprocal;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
    return reciprocal;
}
#endif
