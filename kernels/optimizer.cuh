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
//
// Reading, stepping and writing are apart, so that a kernel can have many reads on their way before it needs the first.
// Source  Kingma & Ba, Adam: A Method for Stochastic Optimization (2015), Algorithm 1 and the end of its section 2.
#pragma once
#include "matrix.cuh"

enum Optimizer { adam, momentum, sgd };

struct Step {
    float size, epsilon;
};

// What every step of an update shares.
struct Rule {
    float4 constants;
    Step step;
};

__device__ __forceinline__ float adam_step(float w, float g, float& m, float& v, const Rule& rule) {
    m = rule.constants.x * m + rule.constants.y * g;
    v = rule.constants.z * v + rule.constants.w * (g * g);
    return w - rule.step.size * (m / (sqrtf(v) + rule.step.epsilon));
}

__device__ __forceinline__ float momentum_step(float w, float g, float& velocity, const Rule& rule) {
    velocity = rule.constants.x * velocity - rule.step.size * g;
    return w + velocity;
}

// Four neighbouring weights and what the optimizer remembers of them: first and second slot.
struct FourWeights {
    float4 w, first, second;

    // slot_size: floats between a weight's numbers in the state.
    __device__ __forceinline__ void read(const float* weights, const float* state, size_t slot_size) {
        w = read_four(weights);
        if constexpr (OPTIMIZER != sgd) first = read_four(state);
        if constexpr (OPTIMIZER == adam) second = read_four(state + slot_size);
    }

    __device__ __forceinline__ void step(float4 g, const Rule& rule) {
        if constexpr (OPTIMIZER == adam) {
            w.x = adam_step(w.x, g.x, first.x, second.x, rule);
            w.y = adam_step(w.y, g.y, first.y, second.y, rule);
            w.z = adam_step(w.z, g.z, first.z, second.z, rule);
            w.w = adam_step(w.w, g.w, first.w, second.w, rule);
        } else if constexpr (OPTIMIZER == momentum) {
            w.x = momentum_step(w.x, g.x, first.x, rule);
            w.y = momentum_step(w.y, g.y, first.y, rule);
            w.z = momentum_step(w.z, g.z, first.z, rule);
            w.w = momentum_step(w.w, g.w, first.w, rule);
        } else {
            w.x -= rule.step.size * g.x;
            w.y -= rule.step.size * g.y;
            w.z -= rule.step.size * g.z;
            w.w -= rule.step.size * g.w;
        }
    }

    __device__ __forceinline__ void write(float* weights, float* state, size_t slot_size) const {
        *reinterpret_cast<float4*>(weights) = w;
        if constexpr (OPTIMIZER != sgd) *reinterpret_cast<float4*>(state) = first;
        if constexpr (OPTIMIZER == adam) *reinterpret_cast<float4*>(state + slot_size) = second;
    }
};
