// persistent_block.cuh: what a block keeps for a whole epoch, and where; see docs/persistent.md.
//
//   -DIN_SHARED=0,0,0,3   for each slice, how many of its arrays are in shared memory (slice.cuh), in the order
//                         incoming weights of hidden layers 1, 2, ...; output; outgoing weights of hidden layers 1, ...
//   -DIN_MEMORY=2,0       for the incoming weights of each hidden layer, how many of their arrays are in global memory;
//                         each block has MEMORY_FLOATS there
//   -DSTAGED=1            the next batch's inputs are loaded into shared memory in advance; 0: read from global memory
//   -DTWICE=1             weights between hidden layers are in two blocks; 0: in one
//   -DSTORE_OUTGOING=1    for tests: the other copy of weights between hidden layers is stored too, over the first
//   -DSHARED_FLOATS=...   dynamic shared memory as the host counts it (gpunet/engines/cuda/persistent_plan.py)
//
// Weights between two hidden layers may be on the chip twice: as rows of the later layer's neurons, for the forward
// pass, and as columns of the earlier layer's, for the backward pass. Both copies take the same steps from the same
// numbers in the same order, so they stay identical to the last bit and are never communicated. If they are there once,
// as rows, the backward pass takes one more exchange for each such pair of layers (parts.cuh).
#pragma once
#ifndef STORE_OUTGOING
#define STORE_OUTGOING 0
#endif
#include "block_sum.cuh"
#include "exchange.cuh"
#include "loss.cuh"
#include "parts.cuh"
#include "persistent_input.cuh"
#include "slice.cuh"

__device__ constexpr int arrays_in_shared(int slice) {
    constexpr int list[] = {IN_SHARED};
    return list[slice];
}

__device__ constexpr int arrays_streamed(int slice) {
    constexpr int list[] = {IN_MEMORY};
    return list[slice];
}

constexpr int TARGET_SIZE = (TARGETS_ARE_CLASSES ? 1 : padded(CLASSES)) + WEIGHTED;  // in shared memory, with a weight

// The weight of an example whose target is in shared memory: it follows the target.
__device__ __forceinline__ float weight_after(const Target* target) {
#if WEIGHTED && TARGETS_ARE_CLASSES
    return __uint_as_float((unsigned)target[TARGET_SIZE - 1]);
#elif WEIGHTED
    return target[TARGET_SIZE - 1];
#else
    return 1.0f;
#endif
}

// At batch size 1 every warp computes the loss and the first layer's gradients itself, so that no warp waits for
// another; each has its own copy of the logits' gradients.
constexpr bool LOSS_IN_EVERY_WARP = BATCH == 1 && CLASSES <= 32;
constexpr bool GRADIENTS_IN_EVERY_WARP = BATCH == 1 && HIDDEN > 1 && owned(1) <= 32;

using Sums = BlockSums<BATCH * larger(most_owned(), CLASSES)>;

// A thread's columns of a layer, for every example of a batch, in shared memory. No other thread reads them.
template <int LAYER>
struct Columns {
    static constexpr int COLUMNS = columns(LAYER);
    static constexpr int FLOATS = BATCH * COLUMNS * THREADS;

    float* elements;

    __device__ __forceinline__ float* at(int example, int column) const {
        return elements + example * COLUMNS * THREADS + column_place(COLUMNS, column);
    }

    __device__ __forceinline__ void operator()(int example, float (&numbers)[COLUMNS]) const {
        each_run<COLUMNS>([&](auto first, auto length) {
            read_run<length.value>(at(example, first.value), numbers + first.value);
        });
    }

    __device__ __forceinline__ void put(int example, const float (&numbers)[COLUMNS]) const {
        each_run<COLUMNS>([&](auto first, auto length) {
            write_run<length.value>(at(example, first.value), numbers + first.value);
        });
    }

    // Writes the 1 after the last neuron, for every example.
    __device__ __forceinline__ void put_ones() const {
#pragma unroll 1
        for (int example = threadIdx.x; example < BATCH; example += THREADS) {
            elements[example * COLUMNS * THREADS + width(LAYER)] = one_after(LAYER);
        }
    }
};

// One number per neuron of a block, for every example of a batch. All threads read them.
template <int ROWS, class Element = float>
struct Rows {
    static constexpr int STRIDE = ROWS <= 2 ? ROWS : padded(ROWS);
    static constexpr int FLOATS = BATCH * STRIDE;

    Element* elements;

    __device__ __forceinline__ Element& at(int example, int row) const { return elements[example * STRIDE + row]; }

    __device__ __forceinline__ void operator()(int example, Element (&numbers)[ROWS]) const {
        each_run<ROWS>([&](auto first, auto length) {
            read_run<length.value>(&at(example, first.value), numbers + first.value);
        });
    }
};

using Targets = Rows<TARGET_SIZE, Target>;

// Two of them, for the even and odd updates of a launch.
template <class One>
struct InTurns {
    static constexpr int FLOATS = 2 * padded(One::FLOATS);

    float* elements;

    // Not an array of two: an index unknown at compile time would keep the whole block out of registers.
    __device__ __forceinline__ One of(int turn) const {
        return {(decltype(One::elements))(elements + (turn & 1) * padded(One::FLOATS))};
    }
};

// Allocates shared memory, zeroed, at multiples of 16 bytes. All offsets are known at compile time.
struct Arena {
    float* next;

    __device__ __forceinline__ float* take(int floats) {
        float* const taken = next;
        floats = padded(floats);
#pragma unroll 1
        for (int i = threadIdx.x; i < floats; i += THREADS) taken[i] = 0.0f;
        next += floats;
        return taken;
    }
};

// This block's range of a hidden layer's neurons.
template <int LAYER>
__device__ __forceinline__ int first_owned() {
    return (int)((long long)blockIdx.x * width(LAYER) / BLOCKS);
}
template <int LAYER>
__device__ __forceinline__ int count_owned() {
    return (int)((long long)(blockIdx.x + 1) * width(LAYER) / BLOCKS) - first_owned<LAYER>();
}

template <int LAYER>
struct HiddenLayer {
    static constexpr int OWNED = owned(LAYER);
    static constexpr bool KEEPS_OUTGOING = TWICE && LAYER < HIDDEN;
    static constexpr bool KEEPS_GRADIENTS = TWICE && LAYER > 1;

    Slice<OWNED, columns(LAYER - 1), arrays_in_shared(LAYER - 1), arrays_streamed(LAYER - 1), width(LAYER - 1) + 1>
        incoming;
    // Into the next hidden layer, if KEEPS_OUTGOING; the last one's are in OutputLayer.
    static constexpr int OUTGOING_TO = KEEPS_OUTGOING ? LAYER + 1 : LAYER;
    Slice<
        OWNED, columns(OUTGOING_TO), arrays_in_shared(KEEPS_OUTGOING ? HIDDEN + LAYER : LAYER - 1), 0,
        width(OUTGOING_TO)>
        outgoing;
    Columns<LAYER> activations;  // of the whole layer
    Columns<LAYER> gradients;    // d(mean loss)/d(pre-activation), 0 after the last neuron; if KEEPS_GRADIENTS
    InTurns<Rows<OWNED>> own_activations;
    Rows<OWNED> own_gradients;

    __device__ __forceinline__ void take(Arena& arena) {
        incoming.shared = arena.take(incoming.FLOATS);
        if constexpr (KEEPS_OUTGOING) outgoing.shared = arena.take(outgoing.FLOATS);
        activations.elements = arena.take(activations.FLOATS);
        if constexpr (KEEPS_GRADIENTS) gradients.elements = arena.take(gradients.FLOATS);
        own_activations.elements = arena.take(own_activations.FLOATS);
        own_gradients.elements = arena.take(own_gradients.FLOATS);
    }
};

// Numbers per example that the loss is computed from later; see persistent_output.cuh.
constexpr int OUTCOME = 4;

struct OutputLayer {
    static constexpr int COPIES = LOSS_IN_EVERY_WARP ? WARPS : 1;

    Slice<CLASSES, columns(HIDDEN), arrays_in_shared(HIDDEN), 0, width(HIDDEN) + 1> weights;
    Rows<CLASSES> logits;     // if there are more classes than lanes
    Rows<CLASSES> gradients;  // this warp's copy
    Rows<OUTCOME> outcomes;   // if there are no more classes than lanes

    __device__ __forceinline__ void take(Arena& arena) {
        weights.shared = arena.take(weights.FLOATS);
        logits.elements = arena.take(CLASSES > 32 ? logits.FLOATS : 0);
        gradients.elements = arena.take(COPIES * padded(gradients.FLOATS));
        if constexpr (COPIES > 1) gradients.elements += threadIdx.x / 32 * padded(gradients.FLOATS);
        outcomes.elements = arena.take(CLASSES > 32 ? 0 : outcomes.FLOATS);
    }
};

template <int LAYER>
struct HiddenLayers : HiddenLayers<LAYER - 1>, HiddenLayer<LAYER> {};
template <>
struct HiddenLayers<0> {};

struct Block {
    HiddenLayers<HIDDEN> hidden;
    OutputLayer output;
    Sums sums;
    InTurns<StagedInputs> inputs;  // if STAGED
    InTurns<Targets> targets;
    volatile int* gave_up;

    template <int LAYER>
    __device__ __forceinline__ HiddenLayer<LAYER>& layer() {
        return hidden;
    }

    // memory: shared; streamed: global, of all blocks.
    __device__ __forceinline__ Block(float* memory, float* streamed) {
        Arena arena{memory};
        upward<1, HIDDEN>([&](auto number) { layer<number.value>().take(arena); });
        streamed += (size_t)blockIdx.x * MEMORY_FLOATS;
        upward<1, HIDDEN>([&](auto number) {
            layer<number.value>().incoming.streamed = streamed;
            streamed += layer<number.value>().incoming.STREAMED_FLOATS;
        });
        output.take(arena);
        sums = {arena.take(Sums::FLOATS), 0};
        inputs.elements = arena.take(STAGED ? inputs.FLOATS : 0);
        targets.elements = arena.take(targets.FLOATS);
        gave_up = (volatile int*)arena.take(1);
        if (arena.next - memory != SHARED_FLOATS) __trap();  // resolved at compile time
        __syncthreads();
        upward<1, HIDDEN>([&](auto number) { layer<number.value>().activations.put_ones(); });
        if (STAGED) inputs.of(0).put_ones(), inputs.of(1).put_ones();
        __syncthreads();
    }
};

// Where a weight is in global memory: layer after layer, each (inputs + 1, padded(units)), with the biases as the last
// row. The optimizer's slots are stored likewise, all slots of a layer together.
__device__ constexpr int matrix_size(int layer) { return (width(layer - 1) + 1) * padded(width(layer)); }
__device__ constexpr int matrix_start(int layer) {
    return layer == 1 ? 0 : matrix_start(layer - 1) + matrix_size(layer - 1);
}

struct State {
    float* weights;
    float* slots;

    template <int LAYER>
    __device__ __forceinline__ float* at(int array, int input, int unit) const {
        const size_t place = (size_t)input * padded(width(LAYER)) + unit;
        if (array == 0) return weights + matrix_start(LAYER) + place;
        return slots + (size_t)SLOTS * matrix_start(LAYER) + (size_t)(array - 1) * matrix_size(LAYER) + place;
    }
};

// Calls work(number in the block, its place in the state) for every number that this thread keeps in one of the slices.
// The bias follows the weights of all inputs in both.
template <int LAYER, class Work>
__device__ __forceinline__ void each_incoming(HiddenLayer<LAYER>& layer, const State& state, Work work) {
    layer.incoming.each([&](float& number, int array, int row, int column) {
        const int input = column_place(columns(LAYER - 1), column);
        if (row < count_owned<LAYER>() && input <= width(LAYER - 1)) {
            work(number, state.at<LAYER>(array, input, first_owned<LAYER>() + row));
        }
    });
}

template <int LAYER, class Work>
__device__ __forceinline__ void each_outgoing(HiddenLayer<LAYER>& layer, const State& state, Work work) {
    layer.outgoing.each([&](float& number, int array, int row, int column) {
        const int unit = column_place(columns(LAYER + 1), column);
        if (row < count_owned<LAYER>() && unit < width(LAYER + 1)) {
            work(number, state.at<LAYER + 1>(array, first_owned<LAYER>() + row, unit));
        }
    });
}

template <class Work>
__device__ __forceinline__ void each_output(OutputLayer& output, const State& state, Work work) {
    output.weights.each([&](float& number, int array, int row, int column) {
        const int input = column_place(columns(HIDDEN), column);
        if (input <= width(HIDDEN)) work(number, state.at<OUTPUT>(array, input, row));
    });
}

// Loads from global memory; numbers beyond the block's neurons are 0 and have no effect.
__device__ __forceinline__ void load(Block& block, const State& from) {
    const auto read = [](float& number, const float* place) { number = *place; };
    upward<1, HIDDEN>([&](auto number) {
        constexpr int LAYER = number.value;
        block.layer<LAYER>().incoming.each([](float& number, int, int, int) { number = 0.0f; });
        each_incoming(block.layer<LAYER>(), from, read);
        if constexpr (HiddenLayer<LAYER>::KEEPS_OUTGOING) {
            block.layer<LAYER>().outgoing.each([](float& number, int, int, int) { number = 0.0f; });
            each_outgoing(block.layer<LAYER>(), from, read);
        }
    });
    block.output.weights.each([](float& number, int, int, int) { number = 0.0f; });
    each_output(block.output, from, read);
}

// Stores to global memory: each weight from the block that owns its neuron, the output layer from the first block.
__device__ __forceinline__ void store(Block& block, const State& to) {
    const auto write = [](float& number, float* place) { *place = number; };
    upward<1, HIDDEN>([&](auto number) {
        constexpr int LAYER = number.value;
        each_incoming(block.layer<LAYER>(), to, write);
        if constexpr (STORE_OUTGOING && HiddenLayer<LAYER>::KEEPS_OUTGOING) {
            each_outgoing(block.layer<LAYER>(), to, write);
        }
    });
    if (blockIdx.x == 0) each_output(block.output, to, write);
}
