// optimizer.cuh: one optimizer step of a weight, by the rule that -DOPTIMIZER names.
//
//   adam      m = beta_1 m + (1 - beta_1) g;  v = beta_2 v + (1 - beta_2) g^2;  w -= alpha_t m / (sqrt(v) + epsilon_t)
//   adamw     w -= learning_rate weight_decay w, then as adam
//   momentum  velocity = momentum velocity - learning_rate g;  w += velocity
//   nesterov  velocity as for momentum;  w += momentum velocity - learning_rate g
//   sgd       w -= learning_rate g
//
//   -DL2=1     the loss has l2 times the sum of the squared weights, biases excepted: 2 l2 w in a weight's gradient
//   constants  (updates, CONSTANTS_STRIDE): the rule's constants for each update of the epoch, from the `constants`
//              method in gpunet/optimizers.py: computed in double precision, with the bias corrections folded in
//   state      the optimizer's slots, one after another, each with the shape of the weights: m and v, or velocity
//
// Reading, stepping and writing are separate, so that a kernel can issue many reads before it needs the first.
// Source  see gpunet/optimizers.py.
#pragma once
#include "approximate.cuh"
#include "matrix.cuh"
#ifndef L2
#define L2 0
#endif

// A rule defines the numbers of its slots and constants, and step: the new weight for gradient g. first and second are
// the slots, if it has them; c are its constants. If stepping two weights together costs less than two steps, it also
// defines steps. Multiply-adds are written explicitly, so that every kernel rounds the same way. The square root and
// the quotient are the GPU's approximations (2 units in the last place each, of a step that is itself far smaller than
// the weight): exact ones would cost a thread that keeps its weights in registers more than everything else here.
struct adam {
    static constexpr int SLOTS = 2, CONSTANTS = 6;

    static __device__ __forceinline__ float step(float w, float g, float& m, float& v, const float* c) {
        const float root = divisor(g, m, v, c);
        return fmaf(c[4], m * approximate_reciprocal(root), w);
    }

    // Two weights share a reciprocal, 1 / (a b), because Adam is bound by the unit that computes it: 3 of its
    // operations for 2 weights instead of 4. Which two weights are paired affects their last bits.
    static __device__ __forceinline__ void steps(
            float (&w)[2], const float (&g)[2], float (&m)[2], float (&v)[2], const float* c) {
        const float a = divisor(g[0], m[0], v[0], c), b = divisor(g[1], m[1], v[1], c);
        const float reciprocal = approximate_reciprocal(a * b);
        w[0] = fmaf(c[4], m[0] * (b * reciprocal), w[0]);
        w[1] = fmaf(c[4], m[1] * (a * reciprocal), w[1]);
    }

    // Updates the moments; returns the divisor of the first one. It is kept large enough for the product of two
    // divisors to be a normal number: where a gradient was always 0, the step is 0 too, whatever the divisor.
    static __device__ __forceinline__ float divisor(float g, float& m, float& v, const float* c) {
        constexpr float SMALLEST = 1.0852e-19f;  // its square is just above 2^-126
        m = fmaf(c[0], m, c[1] * g);
        v = fmaf(c[2], v, c[3] * (g * g));
        return approximate_root(v) + fmaxf(c[5], SMALLEST);
    }
};

struct adamw {
    static constexpr int SLOTS = 2, CONSTANTS = 7;
    static constexpr bool IN_PAIRS = false;

    static __device__ __forceinline__ float step(float w, float g, float& m, float& v, const float* c) {
        return adam::step(fmaf(c[6], w, w), g, m, v, c);
    }

    static __device__ __forceinline__ void steps(
            float (&w)[2], const float (&g)[2], float (&m)[2], float (&v)[2], const float* c) {
        w[0] = fmaf(c[6], w[0], w[0]);
        w[1] = fmaf(c[6], w[1], w[1]);
        adam::steps(w, g, m, v, c);
    }
};

struct momentum {
    static constexpr int SLOTS = 1, CONSTANTS = 2;

    static __device__ __forceinline__ float step(float w, float g, float& velocity, float&, const float* c) {
        velocity = fmaf(c[1], velocity, c[0] * g);
        return w + velocity;
    }
};

struct nesterov {
    static constexpr int SLOTS = 1, CONSTANTS = 2;
    static constexpr bool IN_PAIRS = false;

    static __device__ __forceinline__ float step(float w, float g, float& velocity, float&, const float* c) {
        velocity = fmaf(c[1], velocity, c[0] * g);
        return w + fmaf(c[1], velocity, c[0] * g);
    }
};

struct sgd {
    static constexpr int SLOTS = 0, CONSTANTS = 1;

    static __device__ __forceinline__ float step(float w, float g, float&, float&, const float* c) {
        return fmaf(c[0], g, w);
    }
};

// Whether a rule defines steps.
template <class Named>
constexpr auto steps_in_pairs(int) -> decltype(&Named::steps, true) { return true; }
template <class Named>
constexpr bool steps_in_pairs(...) { return false; }

constexpr int SLOTS = OPTIMIZER::SLOTS;
constexpr int CONSTANTS_STRIDE = padded(OPTIMIZER::CONSTANTS);  // floats from one update's constants to the next

// What all steps of an update share.
struct Rule {
    float constants[CONSTANTS_STRIDE];
};

__device__ __forceinline__ Rule read_rule(const float* constants, int update) {
    Rule rule;
#pragma unroll
    for (int i = 0; i < CONSTANTS_STRIDE; i += 4) {
        const float4 four = read_four(constants + update * CONSTANTS_STRIDE + i);
        rule.constants[i] = four.x;
        rule.constants[i + 1] = four.y;
        rule.constants[i + 2] = four.z;
        rule.constants[i + 3] = four.w;
    }
    return rule;
}

__device__ __forceinline__ float optimizer_step(float w, float g, float& first, float& second, const Rule& rule) {
    return OPTIMIZER::step(w, g, first, second, rule.constants);
}

// The gradient plus that of the penalty, which is twice_l2 times the weight.
__device__ __forceinline__ float penalized(float g, float w, float twice_l2) { return L2 ? fmaf(twice_l2, w, g) : g; }

// Four adjacent weights and their slots.
struct FourWeights {
    float4 w, first, second;

    // slot_size: floats between a weight's slots in the state.
    __device__ __forceinline__ void read(const float* weights, const float* state, size_t slot_size) {
        w = read_four(weights);
        if constexpr (SLOTS > 0) first = read_four(state);
        if constexpr (SLOTS > 1) second = read_four(state + slot_size);
    }

    __device__ __forceinline__ void step(float4 g, float twice_l2, const Rule& rule) {
        w.x = optimizer_step(w.x, penalized(g.x, w.x, twice_l2), first.x, second.x, rule);
        w.y = optimizer_step(w.y, penalized(g.y, w.y, twice_l2), first.y, second.y, rule);
        w.z = optimizer_step(w.z, penalized(g.z, w.z, twice_l2), first.z, second.z, rule);
        w.w = optimizer_step(w.w, penalized(g.w, w.w, twice_l2), first.w, second.w, rule);
    }

    __device__ __forceinline__ void write(float* weights, float* state, size_t slot_size) const {
        *reinterpret_cast<float4*>(weights) = w;
        if constexpr (SLOTS > 0) *reinterpret_cast<float4*>(state) = first;
        if constexpr (SLOTS > 1) *reinterpret_cast<float4*>(state + slot_size) = second;
    }
};
