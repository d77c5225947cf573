// matrix.cuh: row-major matrices in global memory, read four neighbours of a row at a time, as float.
//
// Rows are padded with zeros to a multiple of 4 elements, so that a read of four (16 bytes of float, 4 of bytes) is
// always aligned and never crosses the end of a row: the stride of a matrix of n columns is padded(n).
// Outside the matrix every element is 0.
#pragma once

__device__ __forceinline__ constexpr int padded(int columns) { return (columns + 3) & ~3; }

__device__ __forceinline__ float4 read_four(const float* __restrict__ from) {
    return *reinterpret_cast<const float4*>(from);
}

__device__ __forceinline__ float4 read_four(const unsigned char* __restrict__ from) {
    const uchar4 v = *reinterpret_cast<const uchar4*>(from);
    return make_float4(v.x, v.y, v.z, v.w);
}

// A matrix whose rows follow one another.
struct Matrix {
    const float* data;
    int rows, columns;

    __device__ __forceinline__ float4 read(int row, int column) const {
        if (row >= rows || column >= columns) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        return read_four(data + (size_t)row * padded(columns) + column);
    }
};

// Writes four neighbours of a row; what lies behind the last column stays 0.
__device__ __forceinline__ void write_four(float* data, int columns, int row, int column, float4 v) {
    if (column + 1 >= columns) v.y = 0.0f;
    if (column + 2 >= columns) v.z = 0.0f;
    if (column + 3 >= columns) v.w = 0.0f;
    *reinterpret_cast<float4*>(data + (size_t)row * padded(columns) + column) = v;
}
