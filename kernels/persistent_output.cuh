// persistent_output.cuh: softmax, loss and the logits' gradients; every block computes them itself.
//
//   p = softmax(logits);  loss = -weight * sum over classes of target * log p;  gradient = weight * (p - target) / rows
//
// With up to 16 classes, an example takes half a warp, with up to 32 a warp, and each class a lane; more classes use
// loss.cuh. The gradients are written first. The numbers that the loss needs are kept in shared memory, and block 0
// writes losses and correctness during the next update, while it waits for other blocks.
#pragma once
#include "persistent_block.cuh"
#include "persistent_epoch.cuh"

constexpr int CLASS_LANES = CLASSES <= 16 ? 16 : 32;

__device__ __forceinline__ float sum_of_lanes(float x) {
#pragma unroll
    for (int apart = CLASS_LANES / 2; apart > 0; apart /= 2) x += __shfl_xor_sync(ALL_LANES, x, apart);
    return x;
}

__device__ __forceinline__ float largest_of_lanes(float x) {
#pragma unroll
    for (int apart = CLASS_LANES / 2; apart > 0; apart /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, apart));
    return x;
}

// The first class with the largest number in this lane's example; CLASS_LANES or more if all are NaN.
__device__ __forceinline__ int first_largest(float number, float largest) {
    const unsigned holders = __ballot_sync(ALL_LANES, threadIdx.x % CLASS_LANES < CLASSES && number == largest);
    const unsigned own = CLASS_LANES == 32 ? holders : holders >> (threadIdx.x & 16) & 0xffffu;
    return own ? __ffs(own) - 1 : 32;
}

// One class per lane. Afterwards the gradients are visible to the warp (LOSS_IN_EVERY_WARP) or the block.
__device__ __forceinline__ void loss_by_lanes(Block& block, const Update& update) {
    constexpr int AT_ONCE = LOSS_IN_EVERY_WARP ? 1 : THREADS / CLASS_LANES;
    constexpr int PER_WARP = LOSS_IN_EVERY_WARP ? 1 : 32 / CLASS_LANES;  // examples
    OutputLayer& output = block.output;
    const int lane = threadIdx.x % CLASS_LANES, c = min(lane, CLASSES - 1), warp = threadIdx.x / 32;
    const int part = PER_WARP == 1 ? 0 : threadIdx.x % 32 / CLASS_LANES;
#pragma unroll 1
    for (int first = LOSS_IN_EVERY_WARP ? 0 : warp * PER_WARP; first < BATCH; first += AT_ONCE) {
        const bool real = lane < CLASSES && first + part < BATCH;
        const int example = min(first + part, BATCH - 1);
        const Target* target = &block.targets.of(update.turn).at(example, 0);
        const float sum = block.sums.total(example * CLASSES + c);
        const float z = lane < CLASSES ? sum : -CUDART_INFINITY;
        const float peak = largest_of_lanes(z);  // NaN logits make the total NaN, and the loss with it
        const float exponential = expf(z - peak);
        const float total = sum_of_lanes(exponential);
#if TARGETS_ARE_CLASSES
        const int label = *target;
        const float wanted = c == label ? 1.0f : 0.0f;
#else
        const float wanted = target[c];
#endif
        const float error = exponential * approximate_reciprocal(total) - wanted;
        const float gradient = error * weight_after(target) * update.share();
        if (real && (!LOSS_IN_EVERY_WARP || lane == threadIdx.x % 32)) {
            output.gradients.at(example, c) = example < update.batch.rows ? gradient : 0.0f;
        }
        if (blockIdx.x != 0) continue;
#if TARGETS_ARE_CLASSES
        const float expected = __shfl_sync(ALL_LANES, z - peak, label, CLASS_LANES);
#else
        const float most = largest_of_lanes(lane < CLASSES ? wanted : -CUDART_INFINITY);
        const int label = first_largest(wanted, most);
        // Where a target is 0, the logit may be -infinity.
        const float expected = sum_of_lanes(lane < CLASSES && wanted != 0.0f ? wanted * (z - peak) : 0.0f);
#endif
        const bool correct = first_largest(z, peak) == label;
        if (real && lane == 0 && (!LOSS_IN_EVERY_WARP || threadIdx.x == 0)) {
            output.outcomes.at(example, 0) = total;
            output.outcomes.at(example, 1) = expected;
            output.outcomes.at(example, 2) = correct;
            if (WEIGHTED) output.outcomes.at(example, 3) = weight_after(target);
        }
    }
    if constexpr (LOSS_IN_EVERY_WARP) {
        __syncwarp();
    } else {
        __syncthreads();
    }
}

// More classes than lanes: one warp per example. Losses and correctness are written at once.
__device__ __forceinline__ void loss_by_warps(Block& block, const Epoch& epoch, const Update& update) {
    OutputLayer& output = block.output;
    const int lane = threadIdx.x % 32;
#pragma unroll 1
    for (int example = threadIdx.x / 32; example < BATCH; example += WARPS) {
        const bool real = example < update.batch.rows;
#pragma unroll 1
        for (int c = lane; c < CLASSES; c += 32) {
            output.logits.at(example, c) = block.sums.total(example * CLASSES + c);
            output.gradients.at(example, c) = 0.0f;
        }
        __syncwarp();
        if (!real) continue;
        const Target* target = &block.targets.of(update.turn).at(example, 0);
        const RowLoss result = row_loss(
            &output.logits.at(example, 0), target, weight_after(target), CLASSES, update.batch.rows,
            &output.gradients.at(example, 0), CLASSES, lane);
        if (blockIdx.x == 0 && lane == 0) {
            epoch.losses[update.batch.first + example] = result.loss;
            epoch.correct[update.batch.first + example] = result.correct;
        }
    }
    __syncthreads();
}

__device__ __forceinline__ void output_and_loss(Block& block, const Epoch& epoch, const Update& update) {
    if constexpr (CLASSES <= 32) {
        loss_by_lanes(block, update);
    } else {
        loss_by_warps(block, epoch, update);
    }
}

// Writes the losses and correctness of an update whose outcomes were kept; there was a barrier in between.
__device__ __forceinline__ void write_losses(const Block& block, const Epoch& epoch, const Update& update) {
    if (CLASSES > 32 || blockIdx.x != 0) return;
#pragma unroll 1
    for (int example = THREADS - 1 - threadIdx.x; example < update.batch.rows; example += THREADS) {
        const Rows<OUTCOME>& outcomes = block.output.outcomes;
        const float weight = WEIGHTED ? outcomes.at(example, 3) : 1.0f;
        epoch.losses[update.batch.first + example] = (logf(outcomes.at(example, 0)) - outcomes.at(example, 1)) * weight;
        epoch.correct[update.batch.first + example] = outcomes.at(example, 2) != 0.0f;
    }
}
