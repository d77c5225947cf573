// persistent_epoch.cuh: the data of an epoch, the part of one update, and how it gets into shared memory.
#pragma once
#include "dropout.cuh"
#include "persistent_block.cuh"

// An update of the epoch: its examples and its step. Examples that a short last batch lacks are computed all the same,
// from the epoch's last example or from leftovers in shared memory; their gradients are 0.
struct Update {
    int turn;  // number within its launch, from 0; its parity selects the buffers
    Batch batch;
    Rule rule;
#if L2  // only then, so that other updates need no further registers
    const float* twice_l2;  // of every layer
#endif
#if DROPOUT
    const unsigned* drops;
#endif

    // The factor of an example's gradient in the gradient of the mean loss.
    __device__ __forceinline__ float share() const { return BATCH == 1 ? 1.0f : approximate_reciprocal(batch.rows); }
};

struct Epoch {
    const InputElement* images;
    const Target* targets;
    const Target* weights;  // if WEIGHTED: floats, moved in the same way as targets
    const int* order;
    int batch_size, examples;
    const float* constants;
    float* losses;
    unsigned char* correct;
    int first_update;  // of the launch
#if L2
    const float* twice_l2;
#endif
#if DROPOUT
    const unsigned* drops;
#endif

    __device__ __forceinline__ Update update(int turn) const {
        const int number = first_update + turn;
        Update update{turn, batch_at(number, batch_size, examples), read_rule(constants, number)};
#if L2
        update.twice_l2 = twice_l2;
#endif
#if DROPOUT
        update.drops = drops;
#endif
        return update;
    }

    // The index of an update's example among all images.
    __device__ __forceinline__ int image(const Update& update, int example) const {
        return order[min(update.batch.first + example, examples - 1)];
    }
};

#if DROPOUT
__device__ constexpr bool dropped(int layer) {
    constexpr int list[] = {DROPPED};
    return list[layer - 1] != 0;
}

template <int LAYER>
__device__ __forceinline__ Dropout dropout_of(const Update& update) {
    return {update.drops, LAYER - 1};
}
#endif

// A thread's columns of an example's input.
__device__ __forceinline__ void input(
        const Block& block, const Epoch& epoch, const Update& update, int example, float (&numbers)[columns(0)]) {
    if constexpr (STAGED) {
        block.inputs.of(update.turn)(example, numbers);
    } else {
        read_inputs(epoch.images + (size_t)epoch.image(update, example) * padded(INPUTS), numbers);
    }
}

// An update's inputs and targets on their way from global to shared memory: find loads their indices, ask loads them,
// and keep stores them in shared memory. A thread does other work between these steps.
struct Fetched {
    static constexpr int ALL_WORDS = STAGED ? BATCH * ROW_WORDS : 0, WORDS = ceil_div(ALL_WORDS, THREADS);
    static constexpr int ALL_TARGETS = BATCH * TARGET_SIZE, TARGETS = ceil_div(ALL_TARGETS, THREADS);

    int word_examples[WORDS > 0 ? WORDS : 1], target_examples[TARGETS];
    unsigned words[WORDS > 0 ? WORDS : 1];
    Target targets[TARGETS];

    static __device__ __forceinline__ int word_place(int i) {
        return min(i * THREADS + (int)threadIdx.x, ALL_WORDS - 1);
    }
    static __device__ __forceinline__ int target_place(int i) {
        return min(i * THREADS + (int)threadIdx.x, ALL_TARGETS - 1);
    }

    __device__ __forceinline__ void find(const Epoch& epoch, const Update& update) {
#pragma unroll
        for (int i = 0; i < WORDS; ++i) {
            word_examples[i] = epoch.image(update, BATCH == 1 ? 0 : word_place(i) / ROW_WORDS);
        }
#pragma unroll
        for (int i = 0; i < TARGETS; ++i) {
            target_examples[i] = epoch.image(update, BATCH == 1 ? 0 : target_place(i) / TARGET_SIZE);
        }
    }

    __device__ __forceinline__ void ask(const Epoch& epoch) {
        const unsigned* images = reinterpret_cast<const unsigned*>(epoch.images);
#pragma unroll
        for (int i = 0; i < WORDS; ++i) {
            words[i] = images[(size_t)word_examples[i] * ROW_WORDS + word_place(i) % ROW_WORDS];
        }
#pragma unroll
        for (int i = 0; i < TARGETS; ++i) {
            const int number = target_place(i) % TARGET_SIZE;
            const Target* from = targets_of(epoch.targets, target_examples[i], CLASSES) + number;
            if (WEIGHTED && number == TARGET_SIZE - 1) from = epoch.weights + target_examples[i];
            targets[i] = *from;
        }
    }

    __device__ __forceinline__ void keep(const Block& block, const Update& update) const {
        const StagedInputs inputs = block.inputs.of(update.turn);
#pragma unroll
        for (int i = 0; i < WORDS; ++i) {
            const int place = i * THREADS + threadIdx.x, word = place % ROW_WORDS;
            const unsigned one = INPUTS < padded(INPUTS) ? (word == ONE_WORD ? ONE_BITS : 0) : 0;
            if (place < ALL_WORDS) inputs.word(place / ROW_WORDS, word) = words[i] | one;
        }
#pragma unroll
        for (int i = 0; i < TARGETS; ++i) {
            const int place = i * THREADS + threadIdx.x;
            if (place < ALL_TARGETS) {
                block.targets.of(update.turn).at(place / TARGET_SIZE, place % TARGET_SIZE) = targets[i];
            }
        }
    }
};
