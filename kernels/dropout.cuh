// dropout.cuh: what a layer's activations are multiplied by in training: 0, or a scale that keeps their mean.
//
//   -DDROPOUT=1  the layer has dropout
//   drops        (1 + layers, 4): the epoch's key, 2 words, then each layer's threshold and the bits of its scale
//
// A unit is dropped if its random word is below the threshold. The word depends only on the key, the layer, the unit
// and the example's position in the epoch, so every kernel, launch and split of the work drops the same units. Four
// neighbouring units share one call of Philox4x32-10, whose counter is (unit / 4, position, layer, 0). The backward
// pass computes the words again: reading them from memory would be slower. Layers count from 0 here.
// Source  Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3 (2011).
#pragma once
#ifndef DROPOUT
#define DROPOUT 0
#endif

struct FourWords {
    unsigned words[4];
};

__device__ __forceinline__ FourWords philox(FourWords counter, unsigned key_0, unsigned key_1) {
    unsigned c0 = counter.words[0], c1 = counter.words[1], c2 = counter.words[2], c3 = counter.words[3];
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned upper_0 = __umulhi(c0, 0xD2511F53u), lower_0 = c0 * 0xD2511F53u;
        const unsigned upper_1 = __umulhi(c2, 0xCD9E8D57u), lower_1 = c2 * 0xCD9E8D57u;
        c0 = upper_1 ^ c1 ^ key_0;
        c1 = lower_1;
        c2 = upper_0 ^ c3 ^ key_1;
        c3 = lower_0;
        key_0 += 0x9E3779B9u;
        key_1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

struct Dropout {
    const unsigned* drops;
    int layer;

    __device__ __forceinline__ float scale() const { return __uint_as_float(drops[4 * layer + 5]); }

    // The factors, 0 or the scale, of units 4 four, ..., 4 four + 3 of the example at a position in the epoch.
    __device__ __forceinline__ void factors(int four, int position, float (&of_units)[4]) const {
        const FourWords counter{{(unsigned)four, (unsigned)position, (unsigned)layer, 0u}};
        const FourWords random = philox(counter, drops[0], drops[1]);
        const unsigned threshold = drops[4 * layer + 4];
#pragma unroll
        for (int i = 0; i < 4; ++i) of_units[i] = random.words[i] < threshold ? 0.0f : scale();
    }

    __device__ __forceinline__ float factor(int unit, int position) const {
        float of_units[4];
        factors(unit / 4, position, of_units);
        const float low = unit & 1 ? of_units[1] : of_units[0], high = unit & 1 ? of_units[3] : of_units[2];
        return unit & 2 ? high : low;
    }
};

// The activation before it was multiplied. Division restores a value at the limit of the activation's range exactly.
__device__ __forceinline__ float undropped(float y, float scale) { return y / scale; }
