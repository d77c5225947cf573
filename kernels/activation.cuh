// activation.cuh: the activation of a layer, chosen at compile time by one of the names below.
//
// A derivative is computed from the activation's output y, so pre-activations need not be stored.
#pragma once
#include "approximate.cuh"

enum Activation { linear, sigmoid, hyperbolic_tangent, relu, softplus, softsign, hard_sigmoid };

template <Activation>
constexpr bool unknown = false;  // used in a branch that only an activation without a formula reaches

// activation(z). Every function is finite for every finite z.
template <Activation ACTIVATION>
__device__ __forceinline__ float activate(float z) {
    if constexpr (ACTIVATION == linear) return z;
    // For very negative z, exp(-z) exceeds 2^126 and the result is the limit, 0.
    else if constexpr (ACTIVATION == sigmoid) return approximate_reciprocal(1.0f + expf(-z));
    else if constexpr (ACTIVATION == hyperbolic_tangent) return tanhf(z);
    else if constexpr (ACTIVATION == relu) return fmaxf(z, 0.0f);
    else if constexpr (ACTIVATION == softplus) return fmaxf(z, 0.0f) + log1pf(expf(-fabsf(z)));
    else if constexpr (ACTIVATION == softsign) return z / (1.0f + fabsf(z));
    else if constexpr (ACTIVATION == hard_sigmoid) return fminf(fmaxf(0.2f * z + 0.5f, 0.0f), 1.0f);
    else static_assert(unknown<ACTIVATION>, "activate has no formula for this activation");
}

// activation'(z), from y = activation(z).
template <Activation ACTIVATION>
__device__ __forceinline__ float activation_derivative(float y) {
    if constexpr (ACTIVATION == linear) return 1.0f;
    else if constexpr (ACTIVATION == sigmoid) return y * (1.0f - y);
    else if constexpr (ACTIVATION == hyperbolic_tangent) return 1.0f - y * y;
    else if constexpr (ACTIVATION == relu) return y > 0.0f ? 1.0f : 0.0f;
    else if constexpr (ACTIVATION == softplus) return -expm1f(-y);
    else if constexpr (ACTIVATION == softsign) return (1.0f - fabsf(y)) * (1.0f - fabsf(y));
    else if constexpr (ACTIVATION == hard_sigmoid) return 0.0f < y && y < 1.0f ? 0.2f : 0.0f;
    else static_assert(unknown<ACTIVATION>, "activation_derivative has no formula for this activation");
}
