// update_four.cuh: a thread's four neighbouring weights in an update; see dense_update_vector.cu.
#pragma once
#include "input.cuh"
#include "optimizer.cuh"

// number: which four of the layer's weights, counted row by row. Threads beyond the last row do nothing.
template <class Element>
__device__ __forceinline__ void update_four(
        int number, const Element* x, const int* order, const float* dz, const int* cursors, int batch_size,
        int examples, float* weights, float* state, const float* constants, float twice_l2,
        int inputs, int units) {
    const int fours = padded(units) / 4;
    const int m = number / fours;
    const int n = number % fours * 4;
    if (m > inputs) return;
    const size_t at = (size_t)m * padded(units) + n;
    const size_t slot_size = (size_t)(inputs + 1) * padded(units);
    FourWeights four;
    four.read(weights + at, state + at, slot_size);  // in flight while the gradient is computed
    const int update = cursors[BACKWARD];
    const Rule rule = read_rule(constants, update);
    const Batch batch = batch_at(update, batch_size, examples);

    const Input<Element> input = input_of(x, order, batch, inputs);
    float4 g = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 2
    for (int k = 0; k < batch.rows; ++k) {
        const float a = m < inputs ? input.row(input.place(k))[m] : ONE_OF<Element>;
        const float4 b = read_four(dz + (size_t)k * padded(units) + n);
        g.x = fmaf(a, b.x, g.x);
        g.y = fmaf(a, b.y, g.y);
        g.z = fmaf(a, b.z, g.z);
        g.w = fmaf(a, b.w, g.w);
    }
    four.step(scaled_input_sums<Element>(g), m < inputs ? twice_l2 : 0.0f, rule);
    four.write(weights + at, state + at, slot_size);
}
