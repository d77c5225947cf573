// common.cuh: the few things that differ between a GPU and the emulator of tests/emulator.
//
//   DYN_SHARED(float, tile);         in a kernel: tile is a float* to the block's dynamic shared memory, aligned to
//                                    16 bytes (a CPU compiler does not accept an `extern __shared__` array)
//   while (!arrived()) SPIN_PAUSE(); in every loop that waits for another thread or block through memory: does nothing
//                                    on a GPU; on the emulator, it lets the others run
//   load_relaxed, store_relaxed      8 bytes of global memory, atomically: visible to all blocks, without ordering
//   load_two_, store_two_relaxed     16 bytes: each half is atomic, and the halves come in any order
//   arrive                           counts a block's arrival and returns how many came before it. Later arrivals see
//                                    what it wrote before (its other threads' writes too, after a barrier)
//
// The emulator defines GPUNET_EMULATOR and its own version of the first two. There, and on GPUs before sm_70,
// `volatile` stands in for the relaxed accesses.
#pragma once

#ifndef GPUNET_EMULATOR
#define DYN_SHARED(type, name)                                           \
    extern __shared__ __align__(16) unsigned char gpunet_dynamic_shared[]; \
    type* const name = reinterpret_cast<type*>(gpunet_dynamic_shared)
#define SPIN_PAUSE() ((void)0)
#endif

#ifdef GPUNET_EMULATOR
__device__ __forceinline__ void fetch_ahead(const float*) {}
#else
// Brings a line of global memory into the second-level cache.
__device__ __forceinline__ void fetch_ahead(const float* from) { asm volatile("prefetch.global.L2 [%0];" ::"l"(from)); }
#endif

using Packet = unsigned long long;  // see exchange.cuh

#if !defined(GPUNET_EMULATOR) && __CUDA_ARCH__ >= 700
// GPU scope: `volatile` would mean system scope, which is slower.
__device__ __forceinline__ Packet load_relaxed(const Packet* from) {
    Packet value;
    asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(from) : "memory");
    return value;
}
__device__ __forceinline__ void load_two_relaxed(const Packet* from, Packet& first, Packet& second) {
    asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];" : "=l"(first), "=l"(second) : "l"(from) : "memory");
}
__device__ __forceinline__ unsigned arrive(unsigned* counter) {
    unsigned before;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
    return before;
}
__device__ __forceinline__ void store_relaxed(Packet* to, Packet value) {
    asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(value) : "memory");
}
__device__ __forceinline__ void store_two_relaxed(Packet* to, Packet first, Packet second) {
    asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(first), "l"(second) : "memory");
}
#else
__device__ __forceinline__ Packet load_relaxed(const Packet* from) { return *(const volatile Packet*)from; }
__device__ __forceinline__ void load_two_relaxed(const Packet* from, Packet& first, Packet& second) {
    first = load_relaxed(from), second = load_relaxed(from + 1);
}
__device__ __forceinline__ unsigned arrive(unsigned* counter) {
    __threadfence();
    const unsigned before = atomicAdd(counter, 1u);
    __threadfence();
    return before;
}
__device__ __forceinline__ void store_relaxed(Packet* to, Packet value) { *(volatile Packet*)to = value; }
__device__ __forceinline__ void store_two_relaxed(Packet* to, Packet first, Packet second) {
    store_relaxed(to, first), store_relaxed(to + 1, second);
}
#endif
