// persistent_input.cuh: a thread's columns of the input, from shared memory or from the images in global memory.
//
// Images are read in words: rows are padded with zeros to whole words (matrix.cuh).
// Bytes mean byte / 255 and are scaled once per sum; so the 1 after them, whose weight is the bias, is 255.
#pragma once
#include "input.cuh"
#include "persistent_network.cuh"

constexpr int WORD = 4 / (int)sizeof(InputElement);    // elements per word
constexpr int ROW_WORDS = padded(INPUTS) / WORD;       // words per example in global memory
constexpr int ONE_WORD = INPUTS / WORD;                // the word with the 1
constexpr unsigned ONE_BITS = !BIAS ? 0 : INPUT_BYTES ? 255u << 8 * (INPUTS % 4) : 0x3f800000u;

// Reads LENGTH adjacent inputs, from an address that is a multiple of their size.
template <int LENGTH>
__device__ __forceinline__ void read_inputs(const float* from, float* to) {
    read_run<LENGTH>(from, to);
}

template <int LENGTH>
__device__ __forceinline__ void read_inputs(const unsigned char* from, float* to) {
    unsigned word = *from;
    if constexpr (LENGTH == 2) word = *reinterpret_cast<const unsigned short*>(from);
    if constexpr (LENGTH == 4) word = *reinterpret_cast<const unsigned*>(from);
#pragma unroll
    for (int i = 0; i < LENGTH; ++i) to[i] = byte_as_float(word, i);
}

// The inputs of a batch in shared memory, followed by the 1 and zeros. All threads read them.
struct StagedInputs {
    static constexpr int STRIDE = padded(INPUTS + 1) + 4;  // elements; the last ones are for columns beyond the inputs
    static constexpr int WORDS = STRIDE / WORD;
    static constexpr int FLOATS = BATCH * WORDS;

    InputElement* elements;

    __device__ __forceinline__ unsigned& word(int example, int number) const {
        return reinterpret_cast<unsigned*>(elements)[example * WORDS + number];
    }

    __device__ __forceinline__ void put_ones() const {
#pragma unroll 1
        for (int example = threadIdx.x; example < BATCH; example += THREADS) word(example, ONE_WORD) = ONE_BITS;
    }

    __device__ __forceinline__ void operator()(int example, float (&numbers)[columns(0)]) const {
        each_run<columns(0)>([&](auto first, auto length) {
            const int place = min(column_place(columns(0), first.value), STRIDE - 4);
            read_inputs<length.value>(elements + example * STRIDE + place, numbers + first.value);
        });
    }
};

// The same, from an example in global memory.
__device__ __forceinline__ void read_inputs(const InputElement* row, float (&numbers)[columns(0)]) {
    each_run<columns(0)>([&](auto first, auto length) {
        constexpr int FIRST = first.value, LENGTH = length.value;
        const int place = column_place(columns(0), FIRST);
        read_inputs<LENGTH>(row + min(place, padded(INPUTS) - LENGTH), numbers + FIRST);
#pragma unroll
        for (int i = 0; i < LENGTH; ++i) {
            if (place + i >= INPUTS) numbers[FIRST + i] = place + i == INPUTS ? ONE : 0.0f;
        }
    });
}
