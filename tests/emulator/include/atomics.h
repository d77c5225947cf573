// atomics.h: atomic operations, and loads and stores with cache hints.
//
// One fibre runs at a time, so a plain read-modify-write is atomic; the race detector is told that it was
// meant to be.
#pragma once

#ifdef GPUNET_RACE
namespace gpunet {
void atomic_access(void* address, unsigned size, void* caller);
}
#define GPUNET_ATOMIC __attribute__((noinline, no_sanitize("thread"))) static
#define GPUNET_RECORD(address) gpunet::atomic_access(address, sizeof(*address), __builtin_return_address(0))
#else
#define GPUNET_ATOMIC static inline
#define GPUNET_RECORD(address)
#endif

#define GPUNET_READ_MODIFY_WRITE(name, type, result)          \
    GPUNET_ATOMIC type name(type* address, type operand) {    \
        GPUNET_RECORD(address);                               \
        const type old = *address;                            \
        *address = (result);                                  \
        return old;                                           \
    }
#define GPUNET_INTEGER_ATOMICS(type)                                                     \
    GPUNET_READ_MODIFY_WRITE(atomicAdd, type, old + operand)                             \
    GPUNET_READ_MODIFY_WRITE(atomicExch, type, operand)                                  \
    GPUNET_READ_MODIFY_WRITE(atomicMax, type, old > operand ? old : operand)             \
    GPUNET_READ_MODIFY_WRITE(atomicMin, type, old < operand ? old : operand)             \
    GPUNET_READ_MODIFY_WRITE(atomicAnd, type, old & operand)                             \
    GPUNET_READ_MODIFY_WRITE(atomicOr, type, old | operand)                              \
    GPUNET_READ_MODIFY_WRITE(atomicXor, type, old ^ operand)                             \
    GPUNET_ATOMIC type atomicCAS(type* address, type expected, type desired) {           \
        GPUNET_RECORD(address);                                                          \
        const type old = *address;                                                       \
        if (old == expected) *address = desired;                                         \
        return old;                                                                      \
    }

GPUNET_INTEGER_ATOMICS(int)
GPUNET_INTEGER_ATOMICS(unsigned)
GPUNET_INTEGER_ATOMICS(unsigned long long)
GPUNET_READ_MODIFY_WRITE(atomicSub, int, old - operand)
GPUNET_READ_MODIFY_WRITE(atomicSub, unsigned, old - operand)
GPUNET_READ_MODIFY_WRITE(atomicInc, unsigned, old >= operand ? 0 : old + 1)
GPUNET_READ_MODIFY_WRITE(atomicDec, unsigned, old == 0 || old > operand ? operand : old - 1)
GPUNET_READ_MODIFY_WRITE(atomicAdd, float, old + operand)
GPUNET_READ_MODIFY_WRITE(atomicExch, float, operand)
GPUNET_READ_MODIFY_WRITE(atomicAdd, double, old + operand)
#undef GPUNET_INTEGER_ATOMICS
#undef GPUNET_READ_MODIFY_WRITE

// Cache hints change nothing here: plain accesses, to the race detector too.
template <class T> static inline T __ldg(const T* address) { return *address; }
template <class T> static inline T __ldcg(const T* address) { return *address; }
template <class T> static inline T __ldca(const T* address) { return *address; }
template <class T> static inline T __ldcs(const T* address) { return *address; }
template <class T> static inline T __ldlu(const T* address) { return *address; }
template <class T> static inline T __ldcv(const T* address) { return *(const volatile T*)address; }
template <class T> static inline void __stwb(T* address, T value) { *address = value; }
template <class T> static inline void __stcg(T* address, T value) { *address = value; }
template <class T> static inline void __stcs(T* address, T value) { *address = value; }
template <class T> static inline void __stwt(T* address, T value) { *(volatile T*)address = value; }
