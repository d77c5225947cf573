// update_tile.cuh: a block's tile of a layer's weights in an update; see dense_update.cu.
#pragma once
#include "input.cuh"
#include "optimizer.cuh"
#include "product.cuh"

constexpr int ROWS_AT_ONCE = 2;  // rows that a thread reads together, to wait for memory once

template <class Element>
__device__ __forceinline__ void update_tile(
        const Part& part, const Workspace& workspace, const Input<Element>& x, const float* dz, int update,
        float* weights, float* state, const float* constants, float twice_l2, int units) {
    const int inputs = x.columns;
    Products products{};
    multiply_tile<K_ALONG_COLUMNS, K_ALONG_COLUMNS>(
        InputWithOne<Element>{x}, Matrix{dz, x.rows, units}, part, x.rows, products);
    if (!sum_over_shares(workspace, part, products)) return;

    const Rule rule = read_rule(constants, update);  // not earlier: it would take registers from the product
    const size_t slot_size = (size_t)(inputs + 1) * padded(units);
#pragma unroll
    for (int j = 0; j < THREAD_N; j += 4) {
        const int n = part.first_n() + tile_column(j);
        if (n >= units) continue;
#pragma unroll
        for (int i = 0; i < THREAD_M; i += ROWS_AT_ONCE) {
            FourWeights rows[ROWS_AT_ONCE];
#pragma unroll
            for (int r = 0; r < ROWS_AT_ONCE; ++r) {
                const int m = part.first_m() + tile_row(i + r);
                const size_t at = (size_t)m * padded(units) + n;
                if (m <= inputs) rows[r].read(weights + at, state + at, slot_size);
            }
#pragma unroll
            for (int r = 0; r < ROWS_AT_ONCE; ++r) {
                const int m = part.first_m() + tile_row(i + r);
                const size_t at = (size_t)m * padded(units) + n;
                if (m > inputs) continue;
                const float4 g = scaled_input_sums<Element>(four_products(products, i + r, j));
                rows[r].step(g, m < inputs ? twice_l2 : 0.0f, rule);
                rows[r].write(weights + at, state + at, slot_size);
            }
        }
    }
}
