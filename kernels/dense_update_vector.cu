// dense_update_vector.cu: dense_update for a batch of very few examples: outer products, added up and used at once.
//
//   g[m,n] = sum over examples k of x[k,m] dz[k,n], with x[k,inputs] = 1;  weights, state <- step(weights, state, g)
//
// Arrays  as in dense_update.cu.
// Launch  256 threads, each for four neighbouring weights; grid ceil((inputs + 1) * padded(units) / 4 / 256).
// Range   any sizes >= 1.
// Cost    weights, m and v are read and written once: 24 bytes a weight with Adam. 784 -> 500: 9.4 MB an update, which
//         takes 42 us from the DRAM of a GTX 980. Bound by memory.
// Residency  at least 4 blocks an SM.
#include "input.cuh"
#include "optimizer.cuh"

extern "C" __global__ void __launch_bounds__(256, 4) dense_update_vector(
        const InputElement* __restrict__ x, const int* __restrict__ order, int gather,
        const float* __restrict__ dz, int* cursors, int batch_size, int examples, int last_of_update,
        float* __restrict__ weights, float* __restrict__ state, const float* __restrict__ constants,
#if L2
        float twice_l2,
#endif
        int inputs, int units) {
#if !L2
    constexpr float twice_l2 = 0.0f;
#endif
    const int fours = padded(units) / 4;
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const int m = index / fours;
    const int n = index % fours * 4;
    if (m > inputs) return;
    const size_t at = (size_t)m * padded(units) + n;
    const size_t slot_size = (size_t)(inputs + 1) * padded(units);
    FourWeights four;
    four.read(weights + at, state + at, slot_size);  // on its way while the gradient is made
    const int update = cursors[BACKWARD];
    const Rule rule = read_rule(constants, update);
    const Batch batch = batch_at(update, batch_size, examples);

    const Input input = input_of(x, order, gather, batch, inputs);
    float4 g = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 2
    for (int k = 0; k < batch.rows; ++k) {
        const float a = m < inputs ? input.row(input.place(k))[m] : ONE;
        const float4 b = read_four(dz + (size_t)k * padded(units) + n);
        g.x = fmaf(a, b.x, g.x);
        g.y = fmaf(a, b.y, g.y);
        g.z = fmaf(a, b.z, g.z);
        g.w = fmaf(a, b.w, g.w);
    }
    four.step(scaled_input_sums(g), m < inputs ? twice_l2 : 0.0f, rule);
    four.write(weights + at, state + at, slot_size);
    if (last_of_update && index == 0) cursors[FORWARD] = update + 1;  // last: the reads above need not wait for it
}
