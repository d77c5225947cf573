// softmax_cross_entropy.cu: loss, correctness and the logits' gradient, fused into one launch.
//
//   p[r,c]  = exp(z[r,c] - max(z[r])) / sum over k of exp(z[r,k] - max(z[r]))
//   loss[r] = - weight[r] sum over c of target[r,c] log p[r,c]                   in nats
//   dz[r,c] = weight[r] (p[r,c] - target[r,c]) / rows                            of the mean loss over the batch
//   correct[r]  = 1 if the first largest logit is at the first largest target, else 0
//
// Arrays  row-major, rows padded to a multiple of 4 (matrix.cuh): logits z and dz (batch_size, classes) float32.
//         -DTARGETS_ARE_CLASSES=1: targets (any number,) int32; =0: (any number, classes) float32, each summing to 1.
//         -DWEIGHTED=1: weights (any number,) float32, one per target; without it, there are none, and all count as 1.
//         With gather = 1, targets and weights are gathered through order (examples,) int32; otherwise taken in place.
//         losses (examples,) float32 and correct (examples,) uint8 are written in the epoch's order. cursors:
//         batch.cuh.
// Launch  one warp per row: block (32 * 4), grid ceil(batch_size / 4), no shared memory.
// Range   any batch_size and classes >= 1; finite for any logits whose differences are.
// Cost    logits read once from DRAM and twice more from cache, gradient written once: 8 classes bytes per row.
// Residency  at least 8 blocks per SM.
// Source  subtracting the row's maximum: Goodfellow et al., Deep Learning (2016), section 4.1.
#include "batch.cuh"
#include "loss.cuh"

constexpr int ROWS_PER_BLOCK = 4;

extern "C" __global__ void __launch_bounds__(32 * ROWS_PER_BLOCK, 8) softmax_cross_entropy(
        const float* __restrict__ logits, const Target* __restrict__ targets,
#if WEIGHTED
        const float* __restrict__ weights,
#endif
        const int* __restrict__ order, int gather,
        int* cursors, int batch_size, int examples, int classes,
        float* __restrict__ dz, float* __restrict__ losses, unsigned char* __restrict__ correct) {
    const int update = cursors[FORWARD];
    const Batch batch = batch_at(update, batch_size, examples);
    const int lane = threadIdx.x % 32;
    const int row = blockIdx.x * ROWS_PER_BLOCK + threadIdx.x / 32;
    if (blockIdx.x == 0 && threadIdx.x == 0) cursors[BACKWARD] = update;
    if (row >= batch.rows) return;  // a whole warp leaves, so its shuffles stay complete
    const int example = gather ? order[batch.first + row] : batch.first + row;

#if WEIGHTED
    const float weight = weights[example];
#else
    constexpr float weight = 1.0f;
#endif
    const RowLoss result = row_loss(
        logits + (size_t)row * padded(classes), targets_of(targets, example, classes), weight, classes, batch.rows,
        dz + (size_t)row * padded(classes), padded(classes), lane);
    if (lane == 0) {
        losses[batch.first + row] = result.loss;
        correct[batch.first + row] = result.correct;
    }
}
