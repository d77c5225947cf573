// matrix.cuh: row-major matrices in global memory, read as float, four adjacent numbers of a row at a time.
//
// Rows are padded with zeros to a multiple of 4 elements, so that a read of four (16 bytes as float, 4 as bytes) is
// always aligned and never crosses the end of a row: the stride of a matrix with n columns is padded(n).
#pragma once

__device__ __forceinline__ constexpr int padded(int columns) { return (columns + 3) & ~3; }

__device__ __forceinline__ float4 read_four(const float* __restrict__ from) {
    return *reinterpret_cast<const float4*>(from);
}

// A byte of a word as float: the byte is placed in the mantissa of 2^23, and 2^23 is subtracted. This is exact and uses
// the integer units; a conversion would take one of the few special function units.
__device__ __forceinline__ float byte_as_float(unsigned word, int number) {
    constexpr float TWO_TO_23 = 8388608.0f;
    return __uint_as_float(__byte_perm(word, __float_as_uint(TWO_TO_23), 0x7650 + number)) - TWO_TO_23;
}

__device__ __forceinline__ float4 bytes_as_floats(unsigned word) {
    return make_float4(byte_as_float(word, 0), byte_as_float(word, 1), byte_as_float(word, 2), byte_as_float(word, 3));
}

// A matrix with contiguous rows. product.cuh needs from every matrix:
//
//   Four, fetch  four adjacent numbers of a row in their memory format; `values` is the first to use them. A fetch is
//                always valid: beyond the last row it reads the last row, beyond the end of a row its end.
//   place        where a row is stored, so that this can be determined ahead of the fetch
//   values       the four as float; 0 if not `inside`
struct Matrix {
    using Four = float4;
    const float* data;
    int rows, columns;

    __device__ __forceinline__ int place(int row) const { return min(row, rows - 1); }

    __device__ __forceinline__ Four fetch(int place, int column) const {
        return read_four(data + (size_t)place * padded(columns) + min(column, padded(columns) - 4));
    }

    __device__ __forceinline__ float4 values(Four four, bool inside, int) const {
        return inside ? four : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
};

// Writes four adjacent numbers of a row; the padding after the last column stays 0.
__device__ __forceinline__ void write_four(float* data, int columns, int row, int column, float4 v) {
    if (column + 1 >= columns) v.y = 0.0f;
    if (column + 2 >= columns) v.z = 0.0f;
    if (column + 3 >= columns) v.w = 0.0f;
    *reinterpret_cast<float4*>(data + (size_t)row * padded(columns) + column) = v;
}
