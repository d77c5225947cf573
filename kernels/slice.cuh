// slice.cuh: a block's slice of a weight matrix with its optimizer state, kept for a whole epoch.
//
//   ROWS     neurons of this block (or all classes); every thread has some columns of each row
//   COLUMNS  columns per thread (persistent_network.cuh)
//   SHARED   how many of the arrays (weights, first slot, second slot) are in shared memory, starting with the last;
//            the others are in registers, so every index into them must be known at compile time
//   STREAMED how many of the arrays, the very last, are in global memory: read and written in every update
//   REAL     columns that there are, of all threads together
//
// A thread works on its part independently of other threads, until sums over all columns are taken (block_sum.cuh).
#pragma once
#include "block_sum.cuh"
#include "optimizer.cuh"

constexpr int ARRAYS = 1 + SLOTS;
constexpr int GROUP = 32;  // sums that a thread computes at a time

// Examples whose numbers a loop reads before it uses the first one, so that their latencies overlap.
constexpr int UNROLLED = BATCH <= 3 ? BATCH : BATCH % 4 == 0 ? 4 : BATCH % 3 == 0 ? 3 : 2;

template <int ROWS, int COLUMNS, int SHARED, int STREAMED, int REAL>
struct Slice {
    static constexpr int KEPT = ARRAYS - SHARED - STREAMED;                     // arrays in registers
    static constexpr int FLOATS = SHARED * ROWS * COLUMNS * THREADS;            // of shared memory
    static constexpr int STREAMED_FLOATS = STREAMED * ROWS * COLUMNS * THREADS;  // of global memory
    static constexpr int FETCHED_ROWS = ceil_div(ROWS, 4);                      // ahead of their step
    static constexpr int ROWS_AT_ONCE = ROWS < GROUP ? ROWS : GROUP;
    static constexpr int EXAMPLES_AT_ONCE = GROUP / ROWS_AT_ONCE < BATCH ? GROUP / ROWS_AT_ONCE : BATCH;
    static constexpr int STEPS_AT_ONCE = ROWS < 16 ? ROWS : 16;  // rows

    float kept[KEPT > 0 ? KEPT : 1][ROWS][COLUMNS];
    float* shared;
    float* streamed;  // no other thread reads or writes this thread's numbers

    template <int ARRAY>
    __device__ __forceinline__ float& at(int row, int column) {
        if constexpr (ARRAY < KEPT) {
            return kept[ARRAY][row][column];
        } else if constexpr (ARRAY >= KEPT + SHARED) {
            return streamed[(((ARRAY - KEPT - SHARED) * ROWS + row) * COLUMNS + column) * THREADS + threadIdx.x];
        } else {
            return shared[(((ARRAY - KEPT) * ROWS + row) * COLUMNS + column) * THREADS + threadIdx.x];
        }
    }

    // Whether a step is made: not of what is streamed in vain, after the last column.
    __device__ __forceinline__ bool holds(int column) const {
        return STREAMED == 0 || column_place(COLUMNS, column) < REAL;
    }

    // Brings the slots that are streamed, as far as the second-level cache has room for them, nearer for the next step.
    __device__ __forceinline__ void fetch() {
        if constexpr (STREAMED > 0) {
#pragma unroll
            for (int row = 0; row < FETCHED_ROWS; ++row) {
#pragma unroll
                for (int column = 0; column < COLUMNS; ++column) {
                    if (!holds(column)) continue;
                    if constexpr (SLOTS > 0 && 1 >= KEPT + SHARED) fetch_ahead(&at<1>(row, column));
                    if constexpr (SLOTS > 1 && 2 >= KEPT + SHARED) fetch_ahead(&at<2>(row, column));
                }
            }
        }
    }

    // Calls work(element, array, row, column) for every number of this thread; array: 0 for weights, then the slots.
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
    // input(example, numbers) returns the numbers of this thread's columns.
    template <class Input, class Sums>
    __device__ __forceinline__ void put_products(Input input, Sums& sums) {
        constexpr int WHOLE = BATCH / EXAMPLES_AT_ONCE * EXAMPLES_AT_ONCE, REST = BATCH - WHOLE;
#pragma unroll 1
        for (int example = 0; example < WHOLE; example += EXAMPLES_AT_ONCE) {
            put_some_products<EXAMPLES_AT_ONCE>(example, input, sums);
        }
        if constexpr (REST > 0) put_some_products<REST>(WHOLE, input, sums);
    }

    template <int EXAMPLES, class Input, class Sums>
    __device__ __forceinline__ void put_some_products(int example, Input input, Sums& sums) {
#pragma unroll
        for (int row = 0; row < ROWS; row += ROWS_AT_ONCE) {
            float products[power_of_2_from(EXAMPLES * ROWS_AT_ONCE)] = {};
#pragma unroll
            for (int e = 0; e < EXAMPLES; ++e) {
                float x[COLUMNS];
                input(example + e, x);
#pragma unroll
                for (int column = 0; column < COLUMNS; ++column) {
#pragma unroll
                    for (int r = 0; r < ROWS_AT_ONCE; ++r) {
                        float& sum = products[e * ROWS_AT_ONCE + r];
                        if (row + r < ROWS) sum = fmaf(at<0>(row + r, column), x[column], sum);
                    }
                }
            }
            sums.put(products, example * ROWS + row, EXAMPLES * min(ROWS_AT_ONCE, ROWS - row));
        }
    }

    // sums(column) = sum over all rows of weight(row, column) * numbers(row), for the columns of this thread.
    __device__ __forceinline__ void sum_rows(const float (&numbers)[ROWS], float (&sums)[COLUMNS]) {
#pragma unroll
        for (int column = 0; column < COLUMNS; ++column) {
            sums[column] = 0.0f;
#pragma unroll
            for (int row = 0; row < ROWS; ++row) sums[column] = fmaf(at<0>(row, column), numbers[row], sums[column]);
        }
    }

    // An optimizer step of rows FIRST to LAST - 1, for the gradient sum over examples of
    // left(example, row) * right(example, column). left(example, numbers) and right(example, numbers) return them.
    //
    // IN_PAIRS: weights of adjacent columns are stepped together. Not possible if another block has a copy of the same
    // weight, with other neighbours (optimizer.cuh). penalty(column): twice_l2 of a column's weights.
    template <bool IN_PAIRS, int FIRST = 0, int LAST = ROWS, class Left, class Right, class Penalty>
    __device__ __forceinline__ void step(Left left, Right right, Penalty penalty, const Rule& rule) {
        constexpr int AT_ONCE = LAST - FIRST < STEPS_AT_ONCE ? LAST - FIRST : STEPS_AT_ONCE;
#pragma unroll
        for (int row = FIRST; row < LAST; row += AT_ONCE) {
            float gradients[AT_ONCE][COLUMNS] = {};
#pragma unroll UNROLLED
            for (int example = 0; example < BATCH; ++example) {
                float numbers[ROWS], x[COLUMNS];
                left(example, numbers);
                right(example, x);
#pragma unroll
                for (int r = 0; r < AT_ONCE; ++r) {
#pragma unroll
                    for (int column = 0; column < COLUMNS; ++column) {
                        float& sum = gradients[r][column];
                        if (row + r < LAST) sum = fmaf(numbers[row + r], x[column], sum);
                    }
                }
            }
#pragma unroll
            for (int r = 0; r < AT_ONCE; ++r) {
                if (row + r >= LAST) continue;
                if constexpr (L2) penalize(row + r, gradients[r], penalty);
                step_row<IN_PAIRS>(row + r, gradients[r], rule);
            }
        }
    }

    template <class Penalty>
    __device__ __forceinline__ void penalize(int row, float (&gradients)[COLUMNS], Penalty penalty) {
#pragma unroll
        for (int c = 0; c < COLUMNS; ++c) gradients[c] = penalized(gradients[c], at<0>(row, c), penalty(c));
    }

    template <bool IN_PAIRS, class Named = OPTIMIZER>
    __device__ __forceinline__ void step_row(int row, const float (&gradients)[COLUMNS], const Rule& rule) {
        constexpr int PAIRED = IN_PAIRS && steps_in_pairs<Named>(0) ? COLUMNS / 2 * 2 : 0;
        if constexpr (PAIRED > 0) {
#pragma unroll
            for (int c = 0; c < PAIRED; c += 2) {
                if (!holds(c)) continue;
                float w[] = {at<0>(row, c), at<0>(row, c + 1)}, first[] = {at<1>(row, c), at<1>(row, c + 1)};
                float second[] = {at<2>(row, c), at<2>(row, c + 1)};
                const float g[] = {gradients[c], gradients[c + 1]};
                Named::steps(w, g, first, second, rule.constants);
                at<0>(row, c) = w[0], at<0>(row, c + 1) = w[1];
                at<1>(row, c) = first[0], at<1>(row, c + 1) = first[1];
                at<2>(row, c) = second[0], at<2>(row, c + 1) = second[1];
            }
        }
#pragma unroll
        for (int c = PAIRED; c < COLUMNS; ++c) {
            if (holds(c)) step_one(row, c, gradients[c], rule);
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
