// dense_output.cu: everything in an update for a small output layer except its step: logits, loss and both gradients.
//
//   z[r,c]           = sum over k of x[r,k] weights[k,c] + bias[c]
//   loss, correct, dz  from z and the targets, as in softmax_cross_entropy.cu
//   dz_previous[r,k] = (sum over c of dz[r,c] weights[k,c]) * activation'(x[r,k])
//
// Arrays  weights and cursors as in dense_forward.cu; targets, example_weights (-DWEIGHTED=1: `weights` there), order,
//         gather, dz, losses and correct as in softmax_cross_entropy.cu. This writes the same cursor as that kernel.
//         x and dz_previous (batch_size, inputs) float32; if first_layer = 1, x is as in dense_forward.cu, and
//         dz_previous is not touched: images have no gradient.
// Launch  THREADS threads, grid batch_size: one block per example. A thread takes inputs THREADS apart, and reads
//         their weights twice, the second time from the first-level cache.
// Range   any batch_size and inputs >= 1, classes from 1 to MOST_CLASSES. ACTIVATION is the previous layer's.
// Cost    4 batch inputs classes operations; the weights are read once per example from the second-level cache:
//         500-10: 24 KB; at batch 100, 2.4 MB. Bound by a chain of latencies up to a few examples per SM.
// Residency  at least 3 blocks per SM.
#include "activation.cuh"
#include "block_sum.cuh"
#include "input.cuh"
#include "loss.cuh"

constexpr int AT_ONCE = 16;  // classes that a thread adds up together
static_assert(MOST_CLASSES == 32, "a lane of a warp looks after each logit");

// Four weights of a row from class c on; beyond the end of the row, its last four. So the reads have no condition, and
// all of a row are in flight together.
__device__ __forceinline__ float4 weights_of(const float* row, int c, int stride) {
    return read_four(row + min(c, stride - 4));
}

extern "C" __global__ void __launch_bounds__(THREADS, 3) dense_output(
        const InputElement* __restrict__ x, const int* __restrict__ order, int gather, int first_layer,
        int* cursors, int batch_size, int examples, const float* __restrict__ weights, int inputs, int all_classes,
        const Target* __restrict__ targets,
#if WEIGHTED
        const float* __restrict__ example_weights,
#endif
        float* __restrict__ dz, float* __restrict__ losses,
        unsigned char* __restrict__ correct, float* __restrict__ dz_previous) {
    __shared__ float partial[BlockSums<MOST_CLASSES>::FLOATS];
    __shared__ __align__(16) float logits[MOST_CLASSES], own_dz[MOST_CLASSES];
    const int classes = min(all_classes, MOST_CLASSES);  // tells the compiler the bound
    const int stride = padded(classes);
    const int lane = threadIdx.x % 32;
    const int update = cursors[FORWARD];
    const Batch batch = batch_at(update, batch_size, examples);
    if (blockIdx.x + threadIdx.x == 0) cursors[BACKWARD] = update;

    // Rows beyond a smaller batch are computed, and not written, so that the weights need not wait for the cursor.
    const int row = blockIdx.x;
    const bool writes = row < batch.rows;
    const int* const picked = gather ? order : nullptr;
    const int position = batch.first + min(row, batch.rows - 1);
    const int example = picked ? picked[position] : position;
    const Input<InputElement> input = input_of(x, picked, batch, inputs);
    const InputElement* own_x = input.row(first_layer ? input.place(row) : row);
    const float bias = threadIdx.x < classes ? weights[(size_t)inputs * stride + lane] : 0.0f;

    BlockSums<MOST_CLASSES> sums{partial, 0};
    for (int first = 0; first < classes; first += AT_ONCE) {
        float z[AT_ONCE] = {};
#pragma unroll 2
        for (int k = threadIdx.x; k < inputs; k += THREADS) {
            const float a = own_x[k];
#pragma unroll
            for (int c = 0; c < AT_ONCE; c += 4) {
                const float4 w = weights_of(weights + (size_t)k * stride, first + c, stride);
                z[c] = fmaf(a, w.x, z[c]), z[c + 1] = fmaf(a, w.y, z[c + 1]);
                z[c + 2] = fmaf(a, w.z, z[c + 2]), z[c + 3] = fmaf(a, w.w, z[c + 3]);
            }
        }
        sums.put(z, first, classes - first);
    }
    sums.finish();

    if (threadIdx.x < 32) {
        if (lane < classes) logits[lane] = scaled_input_sum(sums.total(lane)) + bias;
        if (lane >= stride) own_dz[lane] = 0.0f;  // weights_of repeats weights there
        __syncwarp();
#if WEIGHTED
        const float weight = example_weights[example];
#else
        constexpr float weight = 1.0f;
#endif
        const RowLoss result = row_loss(
            logits, targets_of(targets, example, classes), weight, classes, batch.rows, own_dz, stride, lane);
        if (writes && lane < stride) dz[(size_t)row * stride + lane] = own_dz[lane];
        if (writes && lane == 0) {
            losses[batch.first + row] = result.loss;
            correct[batch.first + row] = result.correct;
        }
    }
    if (first_layer) return;
    __syncthreads();

#pragma unroll 1
    for (int k = threadIdx.x; k < inputs; k += THREADS) {
        float sum = 0.0f;
        for (int first = 0; first < classes; first += AT_ONCE) {
#pragma unroll
            for (int c = first; c < first + AT_ONCE; c += 4) {
                const float4 w = weights_of(weights + (size_t)k * stride, c, stride), d = read_four(own_dz + c);
                sum = fmaf(d.x, w.x, fmaf(d.y, w.y, fmaf(d.z, w.z, fmaf(d.w, w.w, sum))));
            }
        }
        if (writes) dz_previous[(size_t)row * padded(inputs) + k] = sum * activation_derivative<ACTIVATION>(own_x[k]);
    }
}
