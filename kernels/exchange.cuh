// exchange.cuh: blocks that run at the same time exchange their neurons' values, without barriers, fences or atomics.
//
// A value travels with its tag in one aligned 8-byte packet {value, tag}, written by one 64-bit store. The tag is the
// number of the update, counted from 1 in each launch (the host clears the packets before it). A reader polls exactly
// the packets that it needs until they carry the tag. This is NCCL's LL protocol.
//
// Memory order. Stores and loads are relaxed, and order nothing except what is in the same packet:
//   - A packet is read whole or not at all. One 16-byte load reads two adjacent packets. In the PTX memory model, such
//     a vector access is one access per element, in unspecified order: each 8-byte half is read at once, the 16 bytes
//     need not be. So each half is checked by its own tag, which says nothing about the other half.
//   - A value with the tag of update t belongs to update t: only the neuron's owner writes that tag, once.
//   - Blocks read nothing else from one another: no data is passed beside the packets.
//   - A thread's packets go to registers, and from there to columns of shared memory that no other thread reads.
//
// Why a packet is never overwritten before all blocks have read it: packets of even and odd updates have separate
// buffers. A block publishes for update t only after it has received all of update t - 1. Each of those packets was
// published by a block that had passed a barrier after reading update t - 2, whose buffer is overwritten now. For this,
// every block must own a neuron of every hidden layer. Nothing is stored before the loads of update t - 1 have
// returned: a branch on their tags and a barrier come between. If a packet were overwritten too early all the same, its
// reader would find a wrong tag and wait until it gives up: an error, never a wrong number.
//
// Why it never hangs: a thread that has polled `patience` times records who waited for what and gives up, and with
// it, sooner or later, all others. The grid is no larger than what the GPU holds at once. A cooperative launch
// guarantees that all blocks are there. A GPU without such launches (GTX 900) guarantees nothing; if a block does not
// get its place, the others give up.
//
// Before compute capability 7.0, lanes of a warp that have taken different branches run one after the other, not in
// turns. So all lanes of a warp must have published before any polls: they meet in between (meet_before_polling).
#pragma once
#include "common.cuh"
#include "phases.cuh"
#include "persistent_network.cuh"

// HIDDEN forward and HIDDEN - 2 backward; if weights between hidden layers are in one block, the latter are in
// parts.cuh.
constexpr int EXCHANGES = HIDDEN > 1 && TWICE ? 2 * HIDDEN - 2 : HIDDEN;
constexpr int PACKETS_AT_ONCE = 16;                          // packets a thread waits for; each takes 2 registers
constexpr int POLLS_BETWEEN_CHECKS = 64;
constexpr int PACKET_ROW = padded(widest());

// At batch size 1, lanes with nothing else to publish publish copies of the packets, so that fewer multiprocessors poll
// the same line of the second-level cache.
constexpr int COPIES = BATCH > 1 ? 1 : most_owned() > 16 ? 1 : most_owned() > 8 ? 2 : most_owned() > 4 ? 4 : 8;

__device__ constexpr int forward_exchange(int layer) { return layer - 1; }
__device__ constexpr int backward_exchange(int layer) { return HIDDEN + layer - 2 + !TWICE; }

// What the host reads after a launch: {whether it failed, block, exchange, update}.
enum Status { FAILED, FAILED_BLOCK, FAILED_EXCHANGE, FAILED_UPDATE };

__device__ __forceinline__ void meet_before_polling() {
#if __CUDA_ARCH__ < 700
    __syncwarp();
#endif
}

// The packets of a thread's columns of a layer, for some examples, as far as they have arrived.
template <int LAYER>
struct Arrivals {
    static constexpr int COLUMNS = columns(LAYER);
    static constexpr int MOST = COLUMNS >= PACKETS_AT_ONCE ? 1 : PACKETS_AT_ONCE / COLUMNS;
    static constexpr int EXAMPLES = ceil_div(BATCH, ceil_div(BATCH, MOST));  // as evenly as possible

    Packet packets[EXAMPLES][COLUMNS];
};

struct Exchange {
    Packet* packets;  // (COPIES, EXCHANGES, 2, BATCH, PACKET_ROW), then those of parts.cuh
    int* status;
    int patience;
    volatile int* gave_up;  // in shared memory: whether a thread of this block did
    int first_update;       // of the launch
    unsigned tag;

    __device__ __forceinline__ Packet* row(int copy, int exchange, int example) const {
        return packets + (((copy * EXCHANGES + exchange) * 2 + (tag & 1)) * BATCH + example) * PACKET_ROW;
    }

    __device__ __forceinline__ Packet packet(float value) const { return (Packet)tag << 32 | __float_as_uint(value); }

    __device__ __forceinline__ void publish(int copy, int exchange, int example, int neuron, float value) const {
        if constexpr (BLOCKS > 1) {
            store_relaxed(row(copy, exchange, example) + neuron, packet(value));
        }
    }

    // Polls until all packets have arrived, or there is no hope.
    template <class Complete, class Ask>
    __device__ __forceinline__ void poll(int exchange, Complete complete, Ask ask) const {
        for (int polls = 0; !complete() && WAIT_TIMES; ++polls) {
            if (polls % POLLS_BETWEEN_CHECKS == POLLS_BETWEEN_CHECKS - 1 && hopeless(exchange, polls)) break;
            SPIN_PAUSE();
            ask();
        }
    }

    // Calls take(example, numbers) with this thread's columns of a layer, example by example, when they have arrived.
    // Numbers after the last neuron are 0. meanwhile() runs while the first packets are on their way.
    template <int LAYER, class Meanwhile, class Take>
    __device__ __forceinline__ void receive(int exchange, Meanwhile meanwhile, Take take) const {
        using Group = Arrivals<LAYER>;
        Group arrivals;
        meet_before_polling();
        ask(exchange, 0, arrivals);
        meanwhile();
#pragma unroll 1
        for (int example = 0;;) {
            poll(exchange, [&] { return complete(arrivals); }, [&] { ask(exchange, example, arrivals); });
#pragma unroll
            for (int e = 0; e < Group::EXAMPLES; ++e) {
                float numbers[Group::COLUMNS];
#pragma unroll
                for (int column = 0; column < Group::COLUMNS; ++column) {
                    const bool real = column_place(Group::COLUMNS, column) < width(LAYER);
                    numbers[column] = real ? __uint_as_float((unsigned)arrivals.packets[e][column]) : 0.0f;
                }
                take(min(example + e, BATCH - 1), numbers);
            }
            example += Group::EXAMPLES;
            if (example >= BATCH) break;
            ask(exchange, example, arrivals);
        }
    }

    // Requests all packets of a group, even those that have arrived: unconditional loads are all issued before the
    // first is waited for. Positions after the last neuron are replaced by the last run, examples after the last by the
    // last.
    template <int LAYER>
    __device__ __forceinline__ void ask(int exchange, int example, Arrivals<LAYER>& arrivals) const {
        constexpr int COLUMNS = columns(LAYER);
        const int copy = COPIES > 1 ? blockIdx.x % COPIES : 0;
#pragma unroll
        for (int e = 0; e < arrivals.EXAMPLES; ++e) {
            const Packet* from = row(copy, exchange, min(example + e, BATCH - 1));
            Packet* to = arrivals.packets[e];
            each_run<COLUMNS>([&](auto first, auto length) {
                constexpr int FIRST = first.value, LENGTH = length.value;
                const int place = min(column_place(COLUMNS, FIRST), (width(LAYER) - 1) / LENGTH * LENGTH);
                if constexpr (LENGTH == 1) to[FIRST] = load_relaxed(from + place);
                if constexpr (LENGTH > 1) load_two_relaxed(from + place, to[FIRST], to[FIRST + 1]);
                if constexpr (LENGTH > 2) load_two_relaxed(from + place + 2, to[FIRST + 2], to[FIRST + 3]);
            });
        }
    }

    // Whether all of them carry the tag. The differences are combined first, so that one branch waits for all loads.
    template <int LAYER>
    __device__ __forceinline__ bool complete(const Arrivals<LAYER>& arrivals) const {
        constexpr int COLUMNS = columns(LAYER);
        unsigned difference = 0;
#pragma unroll
        for (int e = 0; e < arrivals.EXAMPLES; ++e) {
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column) {
                // In a run that begins with a neuron, or that replaced another one, packets after the last neuron never
                // arrive.
                const bool ragged = width(LAYER) % run_length(COLUMNS, column) != 0;
                const bool real = !ragged || column_place(COLUMNS, column) < width(LAYER);
                const unsigned tag_of_it = (unsigned)(arrivals.packets[e][column] >> 32);
                difference |= real ? tag_of_it ^ tag : 0;
            }
        }
        return difference == 0;
    }

    // Whether to stop waiting, because it has taken too long or because another thread gave up.
    __device__ __forceinline__ bool hopeless(int exchange, int polls) const {
        const bool others = *(volatile int*)(status + FAILED) != 0;
        if (!others && polls < patience) return false;
        if (!others && atomicCAS(status + FAILED, 0, 1) == 0) {
            status[FAILED_BLOCK] = blockIdx.x;
            status[FAILED_EXCHANGE] = exchange;
            status[FAILED_UPDATE] = first_update + (int)tag - 1;
        }
        *gave_up = 1;
        return true;
    }
};
