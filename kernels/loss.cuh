// loss.cuh: softmax and categorical cross-entropy of one row of logits, by one warp; see softmax_cross_entropy.cu.
//
//   -DTARGETS_ARE_CLASSES=1  a row's target is the number of its class; =0 its probabilities, padded as in matrix.cuh
//   -DWEIGHTED=1             every example has a weight that multiplies its loss; without it, all weights are 1
#pragma once
#ifndef WEIGHTED
#define WEIGHTED 0
#endif
#include "matrix.cuh"
#include "warp.cuh"

#if TARGETS_ARE_CLASSES
using Target = int;
#else
using Target = float;
#endif

// The numbers in a row's target.
__device__ __forceinline__ int target_size(int classes) { return TARGETS_ARE_CLASSES ? 1 : padded(classes); }

__device__ __forceinline__ const Target* targets_of(const Target* targets, int example, int classes) {
    return targets + (size_t)example * target_size(classes);
}

struct Largest {
    float number;
    int position;  // of the first occurrence; `count` if all are NaN
};

// The first largest of `count` numbers; every lane gets it.
__device__ __forceinline__ Largest warp_largest(const float* numbers, int count, int lane) {
    float peak = -CUDART_INFINITY;
    int position = count;
    for (int c = lane; c < count; c += 32) {
        if (numbers[c] > peak) peak = numbers[c], position = c;
    }
    const float highest = warp_max(peak);
    const unsigned holders = __ballot_sync(ALL_LANES, position < count && peak == highest);
    if (count <= 32) return {highest, holders ? __ffs(holders) - 1 : count};  // one vote, not 5 shuffles
    return {highest, warp_min(peak == highest ? position : count)};
}

struct RowLoss {
    float loss;  // in nats
    bool correct;    // the first largest logit is at the first largest target
};

// z (classes) logits, target and weight of the row; every lane gets the result. Writes dz (dz_size): the gradient of
// the mean loss over `rows` rows, padded with zeros.
__device__ __forceinline__ RowLoss row_loss(
        const float* z, const Target* target, float weight, int classes, int rows, float* dz, int dz_size, int lane) {
    const Largest guess = warp_largest(z, classes, lane);
    const float peak = guess.number;  // NaN logits make the total NaN, and the loss with it
    // Every exponential is computed once: a lane keeps its first one, and stores the others in dz.
    float total = 0.0f, own = 0.0f;
    for (int c = lane; c < classes; c += 32) {
        const float power = expf(z[c] - peak);
        total += power;
        if (c < 32) own = power;
        else dz[c] = power;
    }
    total = warp_sum(total);

#if TARGETS_ARE_CLASSES
    const int label = *target;
    const float expected = z[label] - peak;
    auto wanted = [&](int c) { return c == label ? 1.0f : 0.0f; };
#else
    const int label = warp_largest(target, classes, lane).position;
    float expected = 0.0f;
    for (int c = lane; c < classes; c += 32) {  // where a target is 0, the logit may be -infinity
        if (target[c] != 0.0f) expected = fmaf(target[c], z[c] - peak, expected);
    }
    expected = warp_sum(expected);
    auto wanted = [&](int c) { return target[c]; };
#endif

    for (int c = lane; c < dz_size; c += 32) {
        dz[c] = c < classes ? ((c < 32 ? own : dz[c]) / total - wanted(c)) * weight / rows : 0.0f;
    }
    return {(logf(total) - expected) * weight, guess.position == label};
}
