// input.cuh: what a layer reads: the rows of a batch as they lie, or examples gathered from all images.
//
//   -DINPUT_BYTES=1  images of bytes, which count as byte / 255; =0 float
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

// Behind its last number, every example has one more, which is 1: the input whose weight is the bias.
constexpr float ONE = INPUT_BYTES ? 255.0f : 1.0f;

// Row r of a batch is row order[r] of x; without an order, row r. Rows are padded as in matrix.cuh.
struct Input {
    const InputElement* x;
    const int* order;
    int rows, inputs;

    __device__ __forceinline__ const InputElement* row(int r) const {
        return x + (size_t)(order ? order[r] : r) * padded(inputs);
    }

    __device__ __forceinline__ float4 read(int r, int column) const {
        if (r >= rows || column >= inputs) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        return read_four(row(r) + column);
    }
};

// The same with the 1 behind every row, for the sum that is the bias' gradient.
struct InputWithOne {
    Input input;

    __device__ __forceinline__ float4 read(int r, int column) const {
        float4 v = input.read(r, column);
        if (r < input.rows) {
            const int ahead = input.inputs - column;  // where the 1 is, counted from here
            if (ahead == 0) v.x = ONE;
            if (ahead == 1) v.y = ONE;
            if (ahead == 2) v.z = ONE;
            if (ahead == 3) v.w = ONE;
        }
        return v;
    }
};

__device__ __forceinline__ Input input_of(
        const InputElement* x, const int* order, int gather, Batch batch, int inputs) {
    return {x, gather ? order + batch.first : nullptr, batch.rows, inputs};
}
