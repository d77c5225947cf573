// parts.cuh: gradients of a hidden layer as sums over all blocks; each block receives those of its own neurons.
//
// If a weight between hidden layers is in one block only, that of the later layer's neuron, a block has a part of every
// gradient of the previous layer: the sum over its own neurons. Every block publishes its parts, in packets like those
// of exchange.cuh, and collects the parts of its own neurons from all blocks: a reduce-scatter. They are added in the
// order of the blocks, not of their arrival. So the number of blocks affects the last bits, but their timing does not.
//
// Adjacent lanes take adjacent neurons, so that a warp reads few cache lines, and every thread adds the parts of the
// same number of senders. Then lanes are added, then warps (block_sum.cuh).
//
// Each update reuses the packets of the last one. A block publishes its parts of update t after it has received all of
// the first layer's activations of update t; each of those was published by a block that had passed a barrier after it
// read its parts of update t - 1.
#pragma once
#include "block_sum.cuh"
#include "exchange.cuh"

constexpr int PARTS_START = COPIES * EXCHANGES * 2 * BATCH * PACKET_ROW;  // packets before them

// (HIDDEN - 1, BATCH, BLOCKS, PACKET_ROW): each sender's parts of all neurons.
template <int LAYER>
__device__ __forceinline__ Packet* parts_of(const Exchange& exchange, int example, int sender) {
    return exchange.packets + PARTS_START + (((LAYER - 1) * BATCH + example) * BLOCKS + sender) * PACKET_ROW;
}

// A thread's columns of a layer.
template <int LAYER>
__device__ __forceinline__ void publish_parts(
        const Exchange& exchange, int example, const float (&parts)[columns(LAYER)]) {
    each_run<columns(LAYER)>([&](auto first, auto length) {
        constexpr int FIRST = first.value, LENGTH = length.value;
        const int place = column_place(columns(LAYER), FIRST);
        if (place >= width(LAYER)) return;  // in a run that begins with a neuron, packets after the last are never read
        Packet* to = parts_of<LAYER>(exchange, example, blockIdx.x) + place;
        if constexpr (LENGTH == 1) store_relaxed(to, exchange.packet(parts[FIRST]));
#pragma unroll
        for (int i = 0; i + 1 < LENGTH; i += 2) {
            store_two_relaxed(to + i, exchange.packet(parts[FIRST + i]), exchange.packet(parts[FIRST + i + 1]));
        }
    });
}

// The parts that a thread adds, for some examples, as far as they have arrived.
template <int LAYER>
struct Parts {
    static constexpr int OWNED = owned(LAYER);
    static constexpr int ROW_LANES = power_of_2_from(OWNED) < 32 ? power_of_2_from(OWNED) : 32;
    static constexpr int ROWS = ceil_div(OWNED, ROW_LANES);  // of a thread
    static constexpr int SENDERS_AT_ONCE = THREADS / ROW_LANES;
    static constexpr int SENDERS = ceil_div(BLOCKS, SENDERS_AT_ONCE);  // of a thread
    static constexpr int PACKETS = ROWS * SENDERS;
    static constexpr int MOST = PACKETS >= PACKETS_AT_ONCE ? 1 : PACKETS_AT_ONCE / PACKETS;
    static constexpr int EXAMPLES = ceil_div(BATCH, ceil_div(BATCH, MOST));  // as evenly as possible

    Packet packets[EXAMPLES][ROWS][SENDERS];

    static __device__ __forceinline__ int row(int number) { return number * ROW_LANES + threadIdx.x % ROW_LANES; }
    static __device__ __forceinline__ int sender(int number) {
        return number * SENDERS_AT_ONCE + threadIdx.x / ROW_LANES;
    }

    // Unconditional loads, as in exchange.cuh: positions that the thread does not have are replaced by the last ones.
    __device__ __forceinline__ void ask(const Exchange& exchange, int example, int first, int count) {
#pragma unroll
        for (int e = 0; e < EXAMPLES; ++e) {
#pragma unroll
            for (int s = 0; s < SENDERS; ++s) {
                const int present = min(sender(s), BLOCKS - 1);
                const Packet* from = parts_of<LAYER>(exchange, min(example + e, BATCH - 1), present) + first;
#pragma unroll
                for (int r = 0; r < ROWS; ++r) packets[e][r][s] = load_relaxed(from + min(row(r), count - 1));
            }
        }
    }

    __device__ __forceinline__ bool complete(unsigned tag) const {
        unsigned difference = 0;
#pragma unroll
        for (int e = 0; e < EXAMPLES; ++e) {
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
#pragma unroll
                for (int s = 0; s < SENDERS; ++s) difference |= (unsigned)(packets[e][r][s] >> 32) ^ tag;
            }
        }
        return difference == 0;
    }

    // Puts the sums of an example's parts over this warp's senders.
    template <class Sums>
    __device__ __forceinline__ void put(int e, int example, Sums& sums) const {
#pragma unroll
        for (int r = 0; r < ROWS; ++r) {
            float sum = 0.0f;
#pragma unroll
            for (int s = 0; s < SENDERS; ++s) {
                sum += sender(s) < BLOCKS ? __uint_as_float((unsigned)packets[e][r][s]) : 0.0f;
            }
#pragma unroll
            for (int apart = 16; apart >= ROW_LANES; apart /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, apart);
            if (threadIdx.x % 32 < ROW_LANES && row(r) < OWNED) sums.put_part(sum, example * OWNED + row(r));
        }
    }
};

// Puts sum number example * owned(LAYER) + row = sum over all blocks of their parts of the gradient of this block's
// neuron. meanwhile() runs while the first packets are on their way. first, count: this block's neurons.
template <int LAYER, class Meanwhile, class Sums>
__device__ __forceinline__ void receive_parts(
        const Exchange& exchange, int number, int first, int count, Meanwhile meanwhile, Sums& sums) {
    Parts<LAYER> parts;
    meet_before_polling();
    parts.ask(exchange, 0, first, count);
    meanwhile();
#pragma unroll 1
    for (int example = 0;;) {
        exchange.poll(
            number, [&] { return parts.complete(exchange.tag); }, [&] { parts.ask(exchange, example, first, count); });
#pragma unroll
        for (int e = 0; e < parts.EXAMPLES; ++e) parts.put(e, min(example + e, BATCH - 1), sums);
        example += parts.EXAMPLES;
        if (example >= BATCH) break;
        parts.ask(exchange, example, first, count);
    }
}
