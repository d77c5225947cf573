// persistent_network.cuh: the network and a block's part of it, as compile-time constants.
//
//   -DWIDTHS=784,500,500,10        inputs, units of the hidden layers, classes
//   -DACTIVATIONS=sigmoid,sigmoid  of the hidden layers (activation.cuh)
//   -DBIASES=1,0,1                 whether each layer has biases; all have, if nothing is said
//   -DBLOCKS=125 -DTHREADS=256     the launch
//   -DBATCH=1                      the most examples per update
//   -DTWICE=1                      weights between hidden layers are in two blocks (persistent_block.cuh); 0: in one
//
// Layers count from 1; layer 0 is the input. Every block owns a range of each hidden layer's neurons, at most
// owned(layer) of them. The output layer is in every block.
//
// The columns of a layer are its neurons followed by a constant 1, whose weight is the bias. A thread is responsible
// for columns(layer) of them, in runs of 4 adjacent columns while 4 are left, then of 2, then of 1, so that a run is
// one memory access. Within run number i, each thread's columns follow those of the previous thread.
#pragma once
#include "activation.cuh"
#include "matrix.cuh"

__device__ constexpr int width(int layer) {
    constexpr int widths[] = {WIDTHS};
    return widths[layer];
}

__device__ constexpr Activation activation_of(int layer) {
    constexpr Activation activations[] = {ACTIVATIONS};
    return activations[layer - 1];
}

// The constant after a layer's neurons: 1, or 0 where the next layer has no biases, so that those stay 0 (input.cuh).
#ifdef BIASES
__device__ constexpr float one_after(int layer) {
    constexpr bool biases[] = {BIASES};
    return biases[layer] ? 1.0f : 0.0f;
}
#else
__device__ constexpr float one_after(int) { return 1.0f; }
#endif

constexpr Activation HIDDEN_ACTIVATIONS[] = {ACTIVATIONS};
constexpr int HIDDEN = sizeof(HIDDEN_ACTIVATIONS) / sizeof(Activation);  // layers
constexpr int OUTPUT = HIDDEN + 1;                                       // the output layer's number
constexpr int CLASSES = width(OUTPUT);
constexpr int INPUTS = width(0);

__device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
__device__ constexpr int owned(int layer) { return ceil_div(width(layer), BLOCKS); }
__device__ constexpr int columns(int layer) { return ceil_div(width(layer) + 1, THREADS); }  // per thread, with the 1

__device__ constexpr int larger(int a, int b) { return a > b ? a : b; }

__device__ constexpr int widest(int layer = HIDDEN) {  // of the hidden layers
    return layer == 0 ? 0 : larger(width(layer), widest(layer - 1));
}

__device__ constexpr int most_owned(int layer = HIDDEN) {
    return layer == 0 ? 0 : larger(owned(layer), most_owned(layer - 1));
}

// The length of a column's run, and its first column.
__device__ constexpr int run_length(int columns, int column) {
    return column < columns / 4 * 4 ? 4 : column < columns / 2 * 2 ? 2 : 1;
}
__device__ constexpr int run_start(int columns, int column) {
    return column / run_length(columns, column) * run_length(columns, column);
}

// The position of a thread's column among the columns of all threads.
__device__ __forceinline__ int column_place(int columns, int column) {
    const int length = run_length(columns, column), start = run_start(columns, column);
    return start * THREADS + length * threadIdx.x + column - start;
}

// Calls work(Number<FIRST>()), ..., work(Number<LAST>()): a loop whose counter is a compile-time constant.
template <int N>
struct Number {
    static constexpr int value = N;
};

template <int FIRST, int LAST, class Work>
__device__ __forceinline__ void upward(Work work) {
    if constexpr (FIRST <= LAST) {
        work(Number<FIRST>());
        upward<FIRST + 1, LAST>(work);
    }
}

template <int FIRST, int LAST, class Work>
__device__ __forceinline__ void downward(Work work) {
    if constexpr (FIRST >= LAST) {
        work(Number<FIRST>());
        downward<FIRST - 1, LAST>(work);
    }
}

// Calls work(Number<its first column>(), Number<its length>()) for every run of `COLUMNS` columns.
template <int COLUMNS, int FIRST = 0, class Work>
__device__ __forceinline__ void each_run(Work work) {
    if constexpr (FIRST < COLUMNS) {
        constexpr int LENGTH = run_length(COLUMNS, FIRST);
        work(Number<FIRST>(), Number<LENGTH>());
        each_run<COLUMNS, FIRST + LENGTH>(work);
    }
}

// One access of LENGTH adjacent numbers, at an address that is a multiple of their size.
template <int LENGTH>
__device__ __forceinline__ void read_run(const float* from, float* to) {
    if constexpr (LENGTH == 4) {
        const float4 four = *reinterpret_cast<const float4*>(from);
        to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
    } else if constexpr (LENGTH == 2) {
        const float2 two = *reinterpret_cast<const float2*>(from);
        to[0] = two.x, to[1] = two.y;
    } else {
        to[0] = *from;
    }
}

template <int LENGTH>
__device__ __forceinline__ void write_run(float* to, const float* from) {
    if constexpr (LENGTH == 4) {
        *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
    } else if constexpr (LENGTH == 2) {
        *reinterpret_cast<float2*>(to) = make_float2(from[0], from[1]);
    } else {
        *to = *from;
    }
}
