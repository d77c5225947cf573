// threads.h: who a thread is, the block's barriers, fences, spinning and clocks.
//
// Everything that waits is a call into the scheduler (runtime/scheduler.cpp) and carries the place it was
// made from, so that a report can say who waits where.
#pragma once

#define GPUNET_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace gpunet {
extern char* dynamic_shared;
int barrier(const char* name, int predicate, const char* file, int line);  // how many threads passed a true predicate
int block_threads();
void spin_pause(const char* file, int line);
void fence();
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);
[[noreturn]] void trap(const char* file, int line);
long long clock_ticks();
}  // namespace gpunet

extern uint3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

static inline void __syncthreads(GPUNET_WHERE) { gpunet::barrier("__syncthreads", 0, file, line); }
static inline int __syncthreads_count(int predicate, GPUNET_WHERE) {
    return gpunet::barrier("__syncthreads_count", predicate, file, line);
}
static inline int __syncthreads_or(int predicate, GPUNET_WHERE) {
    return gpunet::barrier("__syncthreads_or", predicate, file, line) != 0;
}
static inline int __syncthreads_and(int predicate, GPUNET_WHERE) {
    return gpunet::barrier("__syncthreads_and", predicate, file, line) == gpunet::block_threads();
}

static inline void __threadfence_block() { gpunet::fence(); }
static inline void __threadfence() { gpunet::fence(); }
static inline void __threadfence_system() { gpunet::fence(); }
static inline void __nanosleep(unsigned, GPUNET_WHERE) { gpunet::spin_pause(file, line); }
static inline void __trap(GPUNET_WHERE) { gpunet::trap(file, line); }

static inline long long clock64() { return gpunet::clock_ticks(); }
static inline int clock() { return (int)gpunet::clock_ticks(); }

extern "C" int printf(const char* format, ...);
