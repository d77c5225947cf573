// input.cuh: what a layer reads: the rows of a batch in place, or examples gathered from all images.
//
//   -DINPUT_BYTES=1  images of bytes, which count as byte / 255; =0 float
//   -DBIAS=0         the layer has no biases; =1, the default: it has
#pragma once
#include "batch.cuh"
#include "matrix.cuh"

#if INPUT_BYTES
using InputElement = unsigned char;
#else
using InputElement = float;
#endif

// A kind of number: the type of four of them in memory, and the value that counts as 1.
template <class Element>
struct Kind {
    using Four = float4;
    static constexpr float ONE = 1.0f;
};
template <>
struct Kind<unsigned char> {
    using Four = unsigned;
    static constexpr float ONE = 255.0f;
};

// Bytes are scaled once per sum instead of once per byte; until then they are exact.
template <class Element = InputElement>
__device__ __forceinline__ float scaled_input_sum(float sum) {
    return Kind<Element>::ONE == 1.0f ? sum : sum * (1.0f / Kind<Element>::ONE);
}

template <class Element = InputElement>
__device__ __forceinline__ float4 scaled_input_sums(float4 sums) {
    return make_float4(scaled_input_sum<Element>(sums.x), scaled_input_sum<Element>(sums.y),
                       scaled_input_sum<Element>(sums.z), scaled_input_sum<Element>(sums.w));
}

// Every example has one more number after its last, which is 1: the input whose weight is the bias. In a layer without
// biases it is 0. So the gradient of the biases is 0, and every rule leaves them at 0.
#ifndef BIAS
#define BIAS 1
#endif
template <class Element>
constexpr float ONE_OF = BIAS ? Kind<Element>::ONE : 0.0f;
constexpr float ONE = ONE_OF<InputElement>;

// Row r of a batch is row order[r] of x; without an order, row r. Rows are padded, and read, as in matrix.cuh.
template <class Element>
struct Input {
    using Four = typename Kind<Element>::Four;
    const Element* x;
    const int* order;
    int rows, columns;

    __device__ __forceinline__ int place(int r) const {
        const int row = min(r, rows - 1);
        return order ? order[row] : row;
    }

    __device__ __forceinline__ const Element* row(int place) const { return x + (size_t)place * padded(columns); }

    __device__ __forceinline__ Four fetch(int place, int column) const {
        return *reinterpret_cast<const Four*>(row(place) + min(column, padded(columns) - 4));
    }

    __device__ __forceinline__ float4 values(Four four, bool inside, int) const {
        if constexpr (sizeof(Element) == 1) return bytes_as_floats(inside ? four : 0);
        else return inside ? four : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
};

// The same with the 1 after every row, for the sum that is the gradient of the bias. What follows the 1 is never used,
// and beyond the last row it is enough that the other factor is 0.
template <class Element>
struct InputWithOne : Input<Element> {
    using typename Input<Element>::Four;

    __device__ __forceinline__ float4 values(Four four, bool inside, int column) const {
        const int ahead = this->columns - column;  // where the 1 is, counted from here
        if constexpr (sizeof(Element) == 1) {
            const unsigned one = 0 <= ahead && ahead < 4 ? (BIAS ? 255u : 0u) << 8 * ahead : 0;
            return bytes_as_floats((inside && ahead > 0 ? four : 0) | one);
        } else {
            four = Input<Element>::values(four, inside, column);
            if (ahead == 0) four.x = ONE_OF<Element>;
            if (ahead == 1) four.y = ONE_OF<Element>;
            if (ahead == 2) four.z = ONE_OF<Element>;
            if (ahead == 3) four.w = ONE_OF<Element>;
            return four;
        }
    }
};

// order: of all examples, or null to take the rows in place.
template <class Element>
__device__ __forceinline__ Input<Element> input_of(const Element* x, const int* order, Batch batch, int inputs) {
    return {x, order ? order + batch.first : nullptr, batch.rows, inputs};
}
