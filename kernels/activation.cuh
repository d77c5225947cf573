// activation.cuh: the activation of a layer, chosen at compile time by one of the names below.
//
// A derivative is computed from the activation's output y, so that pre-activations need not be kept.
#pragma once
#include "approximate.cuh"

enum Activation { linear, sigmoid, hyperbolic_tangent, relu, softplus, softsign, hard_sigmoid };

// activation(z). Every function is finite for every finite z.
template <Activation ACTIVATION>
__device__ __forceinline__ float activate(float z) {
    switch (ACTIVATION) {
        // exp(-z) beyond 2^126, for very negative z, gives the limit, 0.
        case sigmoid: return approximate_reciprocal(1.0f + expf(-z));
        case hyperbolic_tangent: return tanhf(z);
        case relu: return fmaxf(z, 0.0f);
        case softplus: return fmaxf(z, 0.0f) + log1pf(expf(-fabsf(z)));
        case softsign: return z / (1.0f + fabsf(z));
        case hard_sigmoid: return fminf(fmaxf(0.2f * z + 0.5f, 0.0f), 1.0f);
        default: return z;
    }
}

// activation'(z), from y = activation(z).
template <Activation ACTIVATION>
__device__ __forceinline__ float activation_derivative(float y) {
    switch (ACTIVATION) {
        case sigmoid: return y * (1.0f - y);
        case hyperbolic_tangent: return 1.0f - y * y;
        case relu: return y > 0.0f ? 1.0f : 0.0f;
        case softplus: return -expm1f(-y);
        case softsign: return (1.0f - fabsf(y)) * (1.0f - fabsf(y));
        case hard_sigmoid: return 0.0f < y && y < 1.0f ? 0.2f : 0.0f;
        default: return 1.0f;
    }
}
