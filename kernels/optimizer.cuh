// optimizer.cuh: one optimizer step for four weights, chosen at compile time by -DOPTIMIZER=adam, momentum or sgd.
//
//   adam      m = beta_1 m + (1 - beta_1) g;  v = beta_2 v + (1 - beta_2) g^2;  w -= alpha_t m / (sqrt(v) + epsilon_t)
//   momentum  velocity = momentum velocity - learning_rate g;  w += velocity
//   sgd       w -= learning_rate g
//
//   constants  adam {beta_1, 1 - beta_1, beta_2, 1 - beta_2}, momentum {momentum}: differences are taken in double on
//              the host, since 1 - 0.999 is off by 1e-5 in float
//   steps      for each update of the epoch adam {alpha_t, epsilon_t}, else {learning_rate, 0}: the bias corrections
//              are folded in on the host, in double
//   state      the optimizer's slots one after the other, each of the shape of the weights: m and v, or velocity
// Source  Kingma & Ba, Adam: A Method for Stochastic Optimization (2015), Algorithm 1 and the end of its section 2.
#pragma once
#include "matrix.cuh"

enum Optimizer { adam, momentum, sgd };

struct Step {
    float size, epsilon;
};

__device__ __forceinline__ void write_float4(float* to, float4 v) { *reinterpret_cast<float4*>(to) = v; }

__device__ __forceinline__ float adam_step(
        float w, float g, float& m, float& v, const float* __restrict__ constants, Step step) {
    m = constants[0] * m + constants[1] * g;
    v = constants[2] * v + constants[3] * (g * g);
    return w - step.size * (m / (sqrtf(v) + step.epsilon));
}

// Takes the step for the four weights at `weights`; `slot_size` floats lie between a weight's numbers in the state.
__device__ __forceinline__ void optimizer_step(
        float* weights, float* state, size_t slot_size, float4 g, const float* __restrict__ constants, Step step) {
    float4 w = read_four(weights);
    if constexpr (OPTIMIZER == adam) {
        float4 m = read_four(state), v = read_four(state + slot_size);
        w.x = adam_step(w.x, g.x, m.x, v.x, constants, step);
        w.y = adam_step(w.y, g.y, m.y, v.y, constants, step);
        w.z = adam_step(w.z, g.z, m.z, v.z, constants, step);
        w.w = adam_step(w.w, g.w, m.w, v.w, constants, step);
        write_float4(state, m);
        write_float4(state + slot_size, v);
    } else if constexpr (OPTIMIZER == momentum) {
        float4 velocity = read_four(state);
        velocity.x = constants[0] * velocity.x - step.size * g.x, w.x += velocity.x;
        velocity.y = constants[0] * velocity.y - step.size * g.y, w.y += velocity.y;
        velocity.z = constants[0] * velocity.z - step.size * g.z, w.z += velocity.z;
        velocity.w = constants[0] * velocity.w - step.size * g.w, w.w += velocity.w;
        write_float4(state, velocity);
    } else {
        w.x -= step.size * g.x;
        w.y -= step.size * g.y;
        w.z -= step.size * g.z;
        w.w -= step.size * g.w;
    }
    write_float4(weights, w);
}
