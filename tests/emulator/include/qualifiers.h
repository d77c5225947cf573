// qualifiers.h: CUDA's keywords.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define alignas(n) __attribute__((aligned(n)))  // g++ refuses `static alignas(16) ...`, which __shared__ makes of it

// A __shared__ array is a static variable of its function. The linker script gathers these into one area
// (shared.ld), which the scheduler poisons at the start of each block and swaps between co-resident blocks.
#define __shared__ static
#define DYN_SHARED(type, name) type* const name = reinterpret_cast<type*>(gpunet::dynamic_shared)
#define SPIN_PAUSE() gpunet::spin_pause(__FILE__, __LINE__)

#define assert(condition) ((condition) ? (void)0 : gpunet::assertion_failed(#condition, __FILE__, __LINE__))
