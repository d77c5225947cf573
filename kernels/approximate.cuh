// approximate.cuh: the special function unit's root and reciprocal, one instruction each; to the emulator, exact ones.
//
// Accurate to 2 units in the last place. Denormal numbers count as 0, and the reciprocal of more than 2^126 is 0.
// Source  PTX ISA, sqrt.approx.ftz.f32 and rcp.approx.ftz.f32.
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
