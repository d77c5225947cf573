// persistent_network.cuh: the network and a block's share of it, as compile-time constants.
//
//   -DWIDTHS=784,500,500,10        inputs, units of the hidden layers, classes
//   -DACTIVATIONS=sigmoid,sigmoid  of the hidden layers (activation.cuh)
//   -DBLOCKS=125 -DTHREADS=256     the launch
//   -DBATCH=1                      the most examples an update
//
// Layers count from 1; layer 0 is the input. Every block owns a range of each hidden layer's neurons, at most
// owned(layer) of them; a thread of a block looks after the columns threadIdx.x, threadIdx.x + THREADS, ... of what
// comes from a whole layer. The output layer is in every block.
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

constexpr Activation HIDDEN_ACTIVATIONS[] = {ACTIVATIONS};
constexpr int HIDDEN = sizeof(HIDDEN_ACTIVATIONS) / sizeof(Activation);  // layers
constexpr int OUTPUT = HIDDEN + 1;                                       // the output layer's number
constexpr int CLASSES = width(OUTPUT);
constexpr int INPUTS = width(0);

__device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
__device__ constexpr int owned(int layer) { return ceil_div(width(layer), BLOCKS); }
__device__ constexpr int columns(int layer) { return ceil_div(width(layer), THREADS); }  // a thread's

__device__ constexpr int larger(int a, int b) { return a > b ? a : b; }

__device__ constexpr int widest(int layer = HIDDEN) {  // of the hidden layers
    return layer == 0 ? 0 : larger(width(layer), widest(layer - 1));
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
