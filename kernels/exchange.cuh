// exchange.cuh: blocks that run at the same time give one another their neurons' values; no barrier, no fence, no atomic.
//
// A value travels with its flag: one aligned 8-byte packet {value, tag}, written and read in one access. The tag is the
// number of the update, counted from 1 in each launch (the host clears the packets before it). A reader polls exactly
// the packets that it needs until they carry the tag. As in NCCL's LL protocol.
//
// Why a packet is never overwritten before all have read it: packets of even and odd updates lie apart. A block
// publishes for update t only after it has received all of update t - 1; each of those was published by a block that
// had passed a barrier behind its reading of update t - 2, which lies where t is written now. For this every block must
// own a neuron of every hidden layer.
//
// Why it never hangs: a thread that has polled `patience` times writes down who waited for what and gives up, and with
// it, sooner or later, all others. The host launches cooperatively, so all blocks are on the GPU at once.
#pragma once
#include "common.cuh"
#include "phases.cuh"
#include "persistent_network.cuh"

constexpr int EXCHANGES = HIDDEN == 1 ? 1 : 2 * HIDDEN - 2;  // HIDDEN forward, HIDDEN - 2 backward
constexpr int POLLS_AT_ONCE = 8;
constexpr int POLLS_BETWEEN_CHECKS = 64;

__device__ constexpr int forward_exchange(int layer) { return layer - 1; }
__device__ constexpr int backward_exchange(int layer) { return HIDDEN + layer - 2; }

// What the host reads when a launch has failed: {whether, block, exchange, update}.
enum Status { FAILED, FAILED_BLOCK, FAILED_EXCHANGE, FAILED_UPDATE };

struct Exchange {
    Packet* packets;  // (EXCHANGES, 2, BATCH, widest())
    int* status;
    int patience;
    volatile int* gave_up;  // in shared memory: whether a thread of this block did
    int update;
    unsigned tag;

    __device__ __forceinline__ Packet* packet(int exchange, int example, int neuron) const {
        return packets + ((size_t)(exchange * 2 + update % 2) * BATCH + example) * widest() + neuron;
    }

    __device__ __forceinline__ void publish(int exchange, int example, int neuron, float value) const {
        if constexpr (BLOCKS > 1) {
            store_relaxed(packet(exchange, example, neuron), (Packet)tag << 32 | __float_as_uint(value));
        }
    }

    // Calls take(example, column, value) for this thread's columns of a layer, when they have arrived.
    template <int LAYER, class Take>
    __device__ __forceinline__ void receive(int exchange, int examples, Take take) const {
        constexpr int COLUMNS = columns(LAYER);
        constexpr int EXAMPLES = BATCH == 1 || COLUMNS >= POLLS_AT_ONCE ? 1 : POLLS_AT_ONCE / COLUMNS;
        for (int example = 0; example < examples; example += EXAMPLES) {
            Packet arrived[EXAMPLES][COLUMNS] = {};
            for (int polls = 0; !poll<LAYER>(exchange, example, examples, arrived) && WAIT_TIMES; ++polls) {
                if (polls % POLLS_BETWEEN_CHECKS == POLLS_BETWEEN_CHECKS - 1 && hopeless(exchange, polls)) break;
                SPIN_PAUSE();
            }
#pragma unroll
            for (int e = 0; e < EXAMPLES; ++e) {
#pragma unroll
                for (int column = 0; column < COLUMNS; ++column) {
                    if (expected<LAYER>(example + e, examples, column)) {
                        take(example + e, column, __uint_as_float((unsigned)arrived[e][column]));
                    }
                }
            }
        }
    }

    template <int LAYER>
    static __device__ __forceinline__ bool expected(int example, int examples, int column) {
        return example < examples && column * THREADS + threadIdx.x < width(LAYER);
    }

    // Asks for all packets that are missing, so that their ways overlap; true if none is missing any more.
    template <int LAYER, int EXAMPLES, int COLUMNS>
    __device__ __forceinline__ bool poll(
            int exchange, int example, int examples, Packet (&arrived)[EXAMPLES][COLUMNS]) const {
        bool complete = true;
#pragma unroll
        for (int e = 0; e < EXAMPLES; ++e) {
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column) {
                const bool missing = (unsigned)(arrived[e][column] >> 32) != tag;
                if (missing && expected<LAYER>(example + e, examples, column)) {
                    arrived[e][column] = load_relaxed(packet(exchange, example + e, column * THREADS + threadIdx.x));
                }
            }
        }
#pragma unroll
        for (int e = 0; e < EXAMPLES; ++e) {
#pragma unroll
            for (int column = 0; column < COLUMNS; ++column) {
                const bool missing = (unsigned)(arrived[e][column] >> 32) != tag;
                if (missing && expected<LAYER>(example + e, examples, column)) complete = false;
            }
        }
        return complete;
    }

    // Whether to stop waiting, because this has taken too long or because someone else gave up.
    __device__ __forceinline__ bool hopeless(int exchange, int polls) const {
        const bool others = *(volatile int*)(status + FAILED) != 0;
        if (!others && polls < patience) return false;
        if (!others && atomicCAS(status + FAILED, 0, 1) == 0) {
            status[FAILED_BLOCK] = blockIdx.x;
            status[FAILED_EXCHANGE] = exchange;
            status[FAILED_UPDATE] = update;
        }
        *gave_up = 1;
        return true;
    }
};
