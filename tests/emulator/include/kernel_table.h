// kernel_table.h: how the runtime calls a kernel and knows its parameters.
//
// The loader ends each kernel text with a table of GPUNET_KERNEL(name). An entry holds a function that
// unpacks 8-byte argument slots for that kernel, and the kernel's parameters as text, one code each, each
// ended by a comma: `f4`, `i4`, `u8`, ... as NumPy names element types; `*` before it for a pointer, `*c` for
// a pointer to const; `V` for any other type (an array of any kind may be passed for `*V`).
#pragma once

#include "kernel.h"

namespace gpunet {

template <class T> struct Code { static constexpr const char* text = "V"; };
template <> struct Code<bool> { static constexpr const char* text = "b1"; };
template <> struct Code<char> { static constexpr const char* text = "i1"; };
template <> struct Code<signed char> { static constexpr const char* text = "i1"; };
template <> struct Code<unsigned char> { static constexpr const char* text = "u1"; };
template <> struct Code<short> { static constexpr const char* text = "i2"; };
template <> struct Code<unsigned short> { static constexpr const char* text = "u2"; };
template <> struct Code<int> { static constexpr const char* text = "i4"; };
template <> struct Code<unsigned> { static constexpr const char* text = "u4"; };
template <> struct Code<long> { static constexpr const char* text = "i8"; };
template <> struct Code<unsigned long> { static constexpr const char* text = "u8"; };
template <> struct Code<long long> { static constexpr const char* text = "i8"; };
template <> struct Code<unsigned long long> { static constexpr const char* text = "u8"; };
template <> struct Code<float> { static constexpr const char* text = "f4"; };
template <> struct Code<double> { static constexpr const char* text = "f8"; };
#define GPUNET_VECTOR_CODE(type)                   \
    template <> struct Code<type##1> : Code<type##1::element> {}; \
    template <> struct Code<type##2> : Code<type##2::element> {}; \
    template <> struct Code<type##3> : Code<type##3::element> {}; \
    template <> struct Code<type##4> : Code<type##4::element> {};
GPUNET_VECTOR_CODE(char) GPUNET_VECTOR_CODE(uchar) GPUNET_VECTOR_CODE(short) GPUNET_VECTOR_CODE(ushort)
GPUNET_VECTOR_CODE(int) GPUNET_VECTOR_CODE(uint) GPUNET_VECTOR_CODE(long) GPUNET_VECTOR_CODE(ulong)
GPUNET_VECTOR_CODE(longlong) GPUNET_VECTOR_CODE(ulonglong) GPUNET_VECTOR_CODE(float) GPUNET_VECTOR_CODE(double)
#undef GPUNET_VECTOR_CODE
template <class T> struct Code<volatile T> : Code<T> {};

// A parameter: the text before its code, and the code itself (that of the pointed-to type for a pointer; a
// vector passed by value has no code that an argument could match).
template <class T> struct Parameter {
    static constexpr const char* prefix = "";
    static constexpr const char* text = __is_class(T) ? "V" : Code<T>::text;
};
template <class T> struct Parameter<T*> {
    static constexpr const char* prefix = "*";
    static constexpr const char* text = Code<T>::text;
};
template <class T> struct Parameter<const T*> {
    static constexpr const char* prefix = "*c";
    static constexpr const char* text = Code<T>::text;
};
template <class T> struct Parameter<const volatile T*> : Parameter<const T*> {};

template <auto kernel> struct Trampoline;
template <class... A, void (*kernel)(A...)> struct Trampoline<kernel> {
    struct Call {
        Call(A... arguments) { kernel(arguments...); }
    };
    template <class T> static T argument(const unsigned long long* slot) {
        static_assert(sizeof(T) <= 8, "a kernel parameter is a pointer or a number");
        T value;
        __builtin_memcpy(&value, slot, sizeof(T));
        return value;
    }
    static void call(const unsigned long long* slots) {
        Call{argument<A>(slots++)...};  // braces: unpacked from left to right
    }

    static void append(char*& end, const char* text) {
        while (*text) *end++ = *text++;
    }
    static void signature(char* text) {
        ((append(text, Parameter<A>::prefix), append(text, Parameter<A>::text), *text++ = ','), ...);
        *text = 0;
    }
};

}  // namespace gpunet

#define GPUNET_KERNEL(name) {#name, gpunet::Trampoline<&::name>::call, gpunet::Trampoline<&::name>::signature}
