// optimizer.cuh: one optimizer step of a weight, chosen at compile time by -DOPTIMIZER=adam, momentum or sgd.
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
constexpr int SLOTS = OPTIMIZER == adam ? 2 : OPTIMIZER == momentum ? 1 : 0;

struct Step {
    float size, epsilon;
};

// What every step of an update shares.
struct Rule {
    float4 constants;
    Step step;
};

// Multiply-adds are spelt out, so that every kernel rounds alike. The root and the quotient are the GPU's approximations
// (2 units in the last place each, of a step that is itself far below the weight): the exact ones would cost a thread
// that keeps its weights in registers more than everything else here.
__device__ __forceinline__ float adam_step(float w, float g, float& m, float& v, const Rule& rule) {
    constexpr float SMALLEST = 1.17549435e-38f;  // keeps the root of 0 at 0
    m = fmaf(rule.constants.x, m, rule.constants.y * g);
    v = fmaf(rule.constants.z, v, rule.constants.w * (g * g));
    const float root = v * rsqrtf(fmaxf(v, SMALLEST));
    return fmaf(-rule.step.size, __fdividef(m, root + rule.step.epsilon), w);
}

__device__ __forceinline__ float momentum_step(float w, float g, float& velocity, const Rule& rule) {
    velocity = fmaf(rule.constants.x, velocity, -rule.step.size * g);
    return w + velocity;
}

// The new weight for gradient g; first and second are the optimizer's slots, as far as it has them.
__device__ __forceinline__ float optimizer_step(float w, float g, float& first, float& second, const Rule& rule) {
    if constexpr (OPTIMIZER == adam) return adam_step(w, g, first, second, rule);
    if constexpr (OPTIMIZER == momentum) return momentum_step(w, g, first, rule);
    return fmaf(-rule.step.size, g, w);
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
        w.x = optimizer_step(w.x, g.x, first.x, second.x, rule);
        w.y = optimizer_step(w.y, g.y, first.y, second.y, rule);
        w.z = optimizer_step(w.z, g.z, first.z, second.z, rule);
        w.w = optimizer_step(w.w, g.w, first.w, second.w, rule);
    }

    __device__ __forceinline__ void write(float* weights, float* state, size_t slot_size) const {
        *reinterpret_cast<float4*>(weights) = w;
        if constexpr (OPTIMIZER != sgd) *reinterpret_cast<float4*>(state) = first;
        if constexpr (OPTIMIZER == adam) *reinterpret_cast<float4*>(state + slot_size) = second;
    }
};
