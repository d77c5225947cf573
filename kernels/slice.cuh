// slice.cuh: a block's slice of a weight matrix with its optimizer state, kept for a whole epoch.
//
//   ROWS     neurons of this block (or all classes); every thread has its columns of each row
//   COLUMNS  of each thread: column c of thread t is column c * THREADS + t of the layer at the other end
//   SHARED   how many of the arrays (weights, first slot, second slot) lie in shared memory, from the last; the others
//            lie in registers, which is why every index into them must be known at compile time
//
// What a thread does with its part needs no other thread, until sums over all columns are taken (block_sum.cuh).
#pragma once
#include "block_sum.cuh"
#include "optimizer.cuh"

constexpr int ARRAYS = 1 + SLOTS;
constexpr int GROUP = 16;  // sums that a thread makes at a time

__device__ constexpr int power_of_2_from(int n) { return n <= 1 ? 1 : 2 * power_of_2_from((n + 1) / 2); }

template <int ROWS, int COLUMNS, int SHARED>
struct Slice {
    static constexpr int KEPT = ARRAYS - SHARED;                        // arrays in registers
    static constexpr int FLOATS = SHARED * ROWS * COLUMNS * THREADS;    // of shared memory
    static constexpr int ROWS_AT_ONCE = ROWS < GROUP ? ROWS : GROUP;
    static constexpr int EXAMPLES_AT_ONCE = BATCH == 1 ? 1 : GROUP / ROWS_AT_ONCE;

    float kept[KEPT > 0 ? KEPT : 1][ROWS][COLUMNS];
    float* shared;

    template <int ARRAY>
    __device__ __forceinline__ float& at(int row, int column) {
        if constexpr (ARRAY < KEPT) {
            return kept[ARRAY][row][column];
        } else {
            return shared[(((ARRAY - KEPT) * ROWS + row) * COLUMNS + column) * THREADS + threadIdx.x];
        }
    }

    // Calls work(element, array, row, column) for every number of this thread, of which `array` says what it is.
    template <class Work>
    __device__ __forceinline__ void each(Work work) {
#pragma unroll
        for (int row = 0; row < ROWS; ++row) {
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column) {
                work(at<0>(row, column), 0, row, column);
                if constexpr (SLOTS > 0) work(at<1>(row, column), 1, row, column);
                if constexpr (SLOTS > 1) work(at<2>(row, column), 2, row, column);
            }
        }
    }

    // Puts sum number example * ROWS + row = sum over all columns of weight(row, column) * input(example, column).
    template <class Input, class Sums>
    __device__ __forceinline__ void put_products(int examples, Input input, Sums& sums) {
        for (int example = 0; example < examples; example += EXAMPLES_AT_ONCE) {
#pragma unroll
            for (int row = 0; row < ROWS; row += ROWS_AT_ONCE) {
                constexpr int COUNT = EXAMPLES_AT_ONCE * ROWS_AT_ONCE;
                float products[power_of_2_from(COUNT)] = {};
#pragma unroll
                for (int e = 0; e < EXAMPLES_AT_ONCE; ++e) {
#pragma unroll
                    for (int column = 0; column < COLUMNS; ++column) {
                        const float x = input(min(example + e, examples - 1), column);
#pragma unroll
                        for (int r = 0; r < ROWS_AT_ONCE; ++r) {
                            float& sum = products[e * ROWS_AT_ONCE + r];
                            if (row + r < ROWS) sum = fmaf(at<0>(row + r, column), x, sum);
                        }
                    }
                }
                const int filled = min(EXAMPLES_AT_ONCE, examples - example) * min(ROWS_AT_ONCE, ROWS - row);
                sums.put(products, example * ROWS + row, filled);
            }
        }
    }

    // The sum over all rows of weight(row, column) * input(row), for a column of this thread.
    template <class Input>
    __device__ __forceinline__ float sum_of_rows(int column, Input input) {
        float sum = 0.0f;
#pragma unroll
        for (int row = 0; row < ROWS; ++row) sum = fmaf(at<0>(row, column), input(row), sum);
        return sum;
    }

    // One optimizer step, for the gradient scale * sum over examples of left(example, row) * right(example, column).
    template <class Left, class Right>
    __device__ __forceinline__ void step(int examples, Left left, Right right, float scale, const Rule& rule) {
#pragma unroll
        for (int row = 0; row < ROWS; row += ROWS_AT_ONCE) {
            float gradients[ROWS_AT_ONCE][COLUMNS] = {};
            for (int example = 0; example < examples; ++example) {
#pragma unroll
                for (int column = 0; column < COLUMNS; ++column) {
                    const float x = right(example, column);
#pragma unroll
                    for (int r = 0; r < ROWS_AT_ONCE; ++r) {
                        if (row + r < ROWS) gradients[r][column] = fmaf(left(example, row + r), x, gradients[r][column]);
                    }
                }
            }
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column) {
#pragma unroll
                for (int r = 0; r < ROWS_AT_ONCE; ++r) {
                    if (row + r < ROWS) step_one(row + r, column, scale * gradients[r][column], rule);
                }
            }
        }
    }

    __device__ __forceinline__ void step_one(int row, int column, float gradient, const Rule& rule) {
        float& w = at<0>(row, column);
        if constexpr (SLOTS == 2) {
            w = optimizer_step(w, gradient, at<1>(row, column), at<2>(row, column), rule);
        } else {
            float none = 0.0f;
            if constexpr (SLOTS == 1) w = optimizer_step(w, gradient, at<1>(row, column), none, rule);
            if constexpr (SLOTS == 0) w = optimizer_step(w, gradient, none, none, rule);
        }
    }
};

// The biases of ROWS neurons with their optimizer state, in shared memory. The last threads step them: the first
// ones have enough to do (persistent_epoch.cu).
template <int ROWS>
struct Biases {
    static constexpr int FLOATS = ARRAYS * ROWS;

    float* numbers;  // (ARRAYS, ROWS)

    __device__ __forceinline__ float operator[](int row) const { return numbers[row]; }

    // gradient = sum over examples of left(example, row)
    template <class Left>
    __device__ __forceinline__ void step(int examples, Left left, const Rule& rule) {
#pragma unroll 1
        for (int row = THREADS - 1 - threadIdx.x; row < ROWS; row += THREADS) {
            float gradient = 0.0f;
            for (int example = 0; example < examples; ++example) gradient += left(example, row);
            float first = SLOTS > 0 ? numbers[ROWS + row] : 0.0f;
            float second = SLOTS > 1 ? numbers[2 * ROWS + row] : 0.0f;
            numbers[row] = optimizer_step(numbers[row], gradient, first, second, rule);
            if constexpr (SLOTS > 0) numbers[ROWS + row] = first;
            if constexpr (SLOTS > 1) numbers[2 * ROWS + row] = second;
        }
    }
};
