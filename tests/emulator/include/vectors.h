// vectors.h: float4 and its kin, with CUDA's alignment, and dim3.
#pragma once

#define GPUNET_VECTOR(type, scalar, alignment2, alignment4)                                              \
    struct __attribute__((aligned(sizeof(scalar)))) type##1 { typedef scalar element; scalar x; };         \
    struct __attribute__((aligned(alignment2))) type##2 { typedef scalar element; scalar x, y; };          \
    struct __attribute__((aligned(sizeof(scalar)))) type##3 { typedef scalar element; scalar x, y, z; };   \
    struct __attribute__((aligned(alignment4))) type##4 { typedef scalar element; scalar x, y, z, w; };    \
    static inline type##1 make_##type##1(scalar x) { return {x}; }                                         \
    static inline type##2 make_##type##2(scalar x, scalar y) { return {x, y}; }                            \
    static inline type##3 make_##type##3(scalar x, scalar y, scalar z) { return {x, y, z}; }               \
    static inline type##4 make_##type##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }

GPUNET_VECTOR(char, signed char, 2, 4)
GPUNET_VECTOR(uchar, unsigned char, 2, 4)
GPUNET_VECTOR(short, short, 4, 8)
GPUNET_VECTOR(ushort, unsigned short, 4, 8)
GPUNET_VECTOR(int, int, 8, 16)
GPUNET_VECTOR(uint, unsigned, 8, 16)
GPUNET_VECTOR(long, long, 16, 16)
GPUNET_VECTOR(ulong, unsigned long, 16, 16)
GPUNET_VECTOR(longlong, long long, 16, 16)
GPUNET_VECTOR(ulonglong, unsigned long long, 16, 16)
GPUNET_VECTOR(float, float, 8, 16)
GPUNET_VECTOR(double, double, 16, 16)
#undef GPUNET_VECTOR

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
