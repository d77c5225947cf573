// input.cuh: what a layer reads: the rows of a batch as they lie, or examples gathered from all images.
//
//   -DINPUT_BYTES=1  images of bytes, which count as byte / 255; =0 float
//   -DBIAS=0         the layer has no biases; =1, if nothing is said: it has
#pragma once
#include "batch.cuh"
#include "matrix.cuh"

#if INPUT_BYTES
using InputElement = unsigned char;
#else
using InputElement = float;
#endif

// Bytes are scaled once a sum instead of once a byte; until then they are exact.
__device__ __forceinline__ float scaled_input_sum(float sum) {
    return INPUT_BYTES ? sum * (1.0f / 255.0f) : sum;
}

__device__ __forceinline__ float4 scaled_input_sums(float4 sums) {
    return make_float4(scaled_input_sum(sums.x), scaled_input_sum(sums.y),
                       scaled_input_sum(sums.z), scaled_input_sum(sums.w));
}

// After its last number, every example has one more, which is 1: the input whose weight is the bias. In a layer without
// biases it is 0, so that their gradient is 0, and they stay 0 by every rule.
#ifndef BIAS
#define BIAS 1
#endif
constexpr float ONE = BIAS ? (INPUT_BYTES ? 255.0f : 1.0f) : 0.0f;

// Row r of a batch is row order[r] of x; without an order, row r. Rows are padded, and read, as in matrix.cuh.
struct Input {
#if INPUT_BYTES
    using Four = unsigned;
#else
    using Four = float4;
#endif
    const InputElement* x;
    const int* order;
    int rows, columns;

    __device__ __forceinline__ int place(int r) const {
        const int row = min(r, rows - 1);
        return order ? order[row] : row;
    }

    __device__ __forceinline__ const InputElement* row(int place) const { return x + (size_t)place * padded(columns); }

    __device__ __forceinline__ Four fetch(int place, int column) const {
        return *reinterpret_cast<const Four*>(row(place) + min(column, padded(columns) - 4));
    }

    __device__ __forceinline__ float4 values(Four four, bool inside, int) const {
#if INPUT_BYTES
        return bytes_as_floats(inside ? four : 0);
#else
        return inside ? four : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#endif
    }
};

// The same with the 1 after every row, for the sum that is the bias' gradient. What follows the 1 is of no use, and
// beyond the last row the other factor's 0 is enough.
struct InputWithOne : Input {
    __device__ __forceinline__ float4 values(Four four, bool inside, int column) const {
        const int ahead = columns - column;  // where the 1 is, counted from here
#if INPUT_BYTES
        const unsigned one = 0 <= ahead && ahead < 4 ? (BIAS ? 255u : 0u) << 8 * ahead : 0;
        return bytes_as_floats((inside && ahead > 0 ? four : 0) | one);
#else
        four = Input::values(four, inside, column);
        if (ahead == 0) four.x = ONE;
        if (ahead == 1) four.y = ONE;
        if (ahead == 2) four.z = ONE;
        if (ahead == 3) four.w = ONE;
        return four;
#endif
    }
};

__device__ __forceinline__ Input input_of(
        const InputElement* x, const int* order, int gather, Batch batch, int inputs) {
    return {x, gather ? order + batch.first : nullptr, batch.rows, inputs};
}
