// arithmetic.h: the mathematical functions, rounding and fast-math intrinsics, bit casts and bit counts of
// CUDA.
//
// Fast intrinsics (__expf, __fdividef, ...) are the exact functions here: the accuracy of the GPU's
// approximations is not modelled.
#pragma once

#define GPUNET_FLOAT1(name)                                                             \
    extern "C" float name##f(float) noexcept;                                           \
    extern "C" double name(double) noexcept;                                            \
    static inline float name(float x) { return name##f(x); }
#define GPUNET_FLOAT2(name)                                                             \
    extern "C" float name##f(float, float) noexcept;                                    \
    extern "C" double name(double, double) noexcept;                                    \
    static inline float name(float x, float y) { return name##f(x, y); }

GPUNET_FLOAT1(acos) GPUNET_FLOAT1(asin) GPUNET_FLOAT1(atan) GPUNET_FLOAT1(cbrt) GPUNET_FLOAT1(ceil)
GPUNET_FLOAT1(cos) GPUNET_FLOAT1(cosh) GPUNET_FLOAT1(erf) GPUNET_FLOAT1(erfc) GPUNET_FLOAT1(exp)
GPUNET_FLOAT1(exp2) GPUNET_FLOAT1(expm1) GPUNET_FLOAT1(fabs) GPUNET_FLOAT1(floor) GPUNET_FLOAT1(log)
GPUNET_FLOAT1(log10) GPUNET_FLOAT1(log1p) GPUNET_FLOAT1(log2) GPUNET_FLOAT1(rint) GPUNET_FLOAT1(round)
GPUNET_FLOAT1(sin) GPUNET_FLOAT1(sinh) GPUNET_FLOAT1(sqrt) GPUNET_FLOAT1(tan) GPUNET_FLOAT1(tanh)
GPUNET_FLOAT1(trunc) GPUNET_FLOAT1(nearbyint)
GPUNET_FLOAT2(atan2) GPUNET_FLOAT2(copysign) GPUNET_FLOAT2(fmax) GPUNET_FLOAT2(fmin) GPUNET_FLOAT2(fmod)
GPUNET_FLOAT2(hypot) GPUNET_FLOAT2(pow)
#undef GPUNET_FLOAT1
#undef GPUNET_FLOAT2

extern "C" float fmaf(float, float, float) noexcept;
extern "C" double fma(double, double, double) noexcept;
extern "C" float ldexpf(float, int) noexcept;
extern "C" float frexpf(float, int*) noexcept;
extern "C" float nanf(const char*) noexcept;
extern "C" double nan(const char*) noexcept;
extern "C" int abs(int) noexcept;
extern "C" void* memcpy(void*, const void*, size_t) noexcept;
extern "C" void* memset(void*, int, size_t) noexcept;
static inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
static inline float abs(float x) { return fabsf(x); }
static inline double abs(double x) { return fabs(x); }
static inline long long abs(long long x) { return x < 0 ? -x : x; }
static inline float rsqrtf(float x) { return (float)(1.0 / sqrt((double)x)); }
static inline float rcbrtf(float x) { return (float)(1.0 / cbrt((double)x)); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float fdividef(float x, float y) { return x / y; }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
static inline void sincosf(float x, float* sine, float* cosine) { *sine = sinf(x), *cosine = cosf(x); }

static inline bool isnan(float x) { return __builtin_isnan(x); }
static inline bool isnan(double x) { return __builtin_isnan(x); }
static inline bool isinf(float x) { return __builtin_isinf(x); }
static inline bool isinf(double x) { return __builtin_isinf(x); }
static inline bool isfinite(float x) { return __builtin_isfinite(x); }
static inline bool isfinite(double x) { return __builtin_isfinite(x); }
static inline bool signbit(float x) { return __builtin_signbit(x); }
static inline bool signbit(double x) { return __builtin_signbit(x); }

#define GPUNET_MIN_MAX(a, b, type)                                              \
    static inline type min(a x, b y) { return (type)x < (type)y ? (type)x : (type)y; } \
    static inline type max(a x, b y) { return (type)x > (type)y ? (type)x : (type)y; }
GPUNET_MIN_MAX(int, int, int)
GPUNET_MIN_MAX(unsigned, unsigned, unsigned)
GPUNET_MIN_MAX(int, unsigned, unsigned)
GPUNET_MIN_MAX(unsigned, int, unsigned)
GPUNET_MIN_MAX(long, long, long)
GPUNET_MIN_MAX(unsigned long, unsigned long, unsigned long)
GPUNET_MIN_MAX(long long, long long, long long)
GPUNET_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
#undef GPUNET_MIN_MAX
static inline float min(float x, float y) { return fminf(x, y); }
static inline float max(float x, float y) { return fmaxf(x, y); }
static inline double min(double x, double y) { return fmin(x, y); }
static inline double max(double x, double y) { return fmax(x, y); }
static inline double min(float x, double y) { return fmin((double)x, y); }
static inline double max(float x, double y) { return fmax((double)x, y); }
static inline double min(double x, float y) { return fmin(x, (double)y); }
static inline double max(double x, float y) { return fmax(x, (double)y); }

// Rounding to nearest, spelled out so that the compiler forms no fused multiply-add.
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frsqrt_rn(float x) { return rsqrtf(x); }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline double __dadd_rn(double x, double y) { return x + y; }
static inline double __dmul_rn(double x, double y) { return x * y; }
static inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }

static inline float __expf(float x) { return expf(x); }
static inline float __exp10f(float x) { return powf(10.0f, x); }
static inline float __logf(float x) { return logf(x); }
static inline float __log2f(float x) { return log2f(x); }
static inline float __log10f(float x) { return log10f(x); }
static inline float __powf(float x, float y) { return powf(x, y); }
static inline float __sinf(float x) { return sinf(x); }
static inline float __cosf(float x) { return cosf(x); }
static inline float __tanf(float x) { return tanf(x); }
static inline float __fdividef(float x, float y) { return x / y; }

// Conversions. Out of range, CUDA clamps and turns NaN into 0; a C++ cast would be undefined.
namespace gpunet {
template <class Integer>
static inline Integer clamped(double x, double lowest, double above) {
    if (!(x >= lowest)) return x < lowest ? (Integer)lowest : 0;
    return x >= above ? (Integer)(above - 1) : (Integer)x;
}
}  // namespace gpunet
static inline int __float2int_rn(float x) { return gpunet::clamped<int>(rintf(x), -2147483648.0, 2147483648.0); }
static inline int __float2int_rz(float x) { return gpunet::clamped<int>(truncf(x), -2147483648.0, 2147483648.0); }
static inline int __float2int_rd(float x) { return gpunet::clamped<int>(floorf(x), -2147483648.0, 2147483648.0); }
static inline int __float2int_ru(float x) { return gpunet::clamped<int>(ceilf(x), -2147483648.0, 2147483648.0); }
static inline unsigned __float2uint_rn(float x) { return gpunet::clamped<unsigned>(rintf(x), 0.0, 4294967296.0); }
static inline unsigned __float2uint_rz(float x) { return gpunet::clamped<unsigned>(truncf(x), 0.0, 4294967296.0); }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline float __double2float_rn(double x) { return (float)x; }

namespace gpunet {
template <class To, class From>
static inline To bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
    To to;
    __builtin_memcpy(&to, &from, sizeof(To));
    return to;
}
}  // namespace gpunet
static inline int __float_as_int(float x) { return gpunet::bit_cast<int>(x); }
static inline unsigned __float_as_uint(float x) { return gpunet::bit_cast<unsigned>(x); }
static inline float __int_as_float(int x) { return gpunet::bit_cast<float>(x); }
static inline float __uint_as_float(unsigned x) { return gpunet::bit_cast<float>(x); }
static inline long long __double_as_longlong(double x) { return gpunet::bit_cast<long long>(x); }
static inline double __longlong_as_double(long long x) { return gpunet::bit_cast<double>(x); }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline unsigned __brev(unsigned x) {
    unsigned reversed = 0;
    for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1u) << (31 - bit);
    return reversed;
}
// Four of the eight bytes of x (0 to 3) and y (4 to 7), named by the selector's hexadecimal digits, the lowest first.
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
    const unsigned long long bytes = (unsigned long long)y << 32 | x;
    unsigned picked = 0;
    for (int i = 0; i < 4; ++i) picked |= ((unsigned)(bytes >> 8 * (selector >> 4 * i & 7u)) & 255u) << 8 * i;
    return picked;
}
static inline int __mul24(int x, int y) { return (x << 8 >> 8) * (y << 8 >> 8); }
static inline int __mulhi(int x, int y) { return (int)(((long long)x * y) >> 32); }
static inline unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)(((unsigned long long)x * y) >> 32); }
