// state.h: the threads and blocks of a launch, and what the parts of the runtime ask of one another.
#pragma once

#include <stdint.h>

#include <string>
#include <vector>

#include "../include/kernel.h"
#include "context.h"

struct uint3 {
    unsigned x, y, z;
};
extern uint3 threadIdx, blockIdx, blockDim, gridDim;

// The section of the variables above, which kernels read all the time and the race detector need not look at.
#define GPUNET_BUILT_IN __attribute__((section("gpunet_built_in")))

namespace gpunet {

enum class Order : int32_t { forward, reverse, seeded };

// A launch as the loader describes it (the same layout in launches.py).
struct Launch {
    uint32_t grid[3], block[3];
    uint32_t shared_bytes;
    Order order;
    uint64_t seed;
    int32_t cooperative;
    int32_t kernel;
    double timeout;  // seconds of processor time
};

// What a launch ends with (the same numbers in errors.py).
enum Outcome {
    finished,
    kernel_error,
    barrier_error,
    warp_error,
    race_error,
    address_error,
    deadlock_error,
    time_limit
};

struct Block;

// What a thread waits for, and where; `name` is null while it runs.
struct Wait {
    const char* name;
    const char* file;
    int line;
};

struct Thread {
    Context context;
    Block* block;
    uint3 index;
    unsigned number;  // within the block
    bool started, returned;
    Wait wait;
    // the warp rendezvous it waits at
    uint32_t mask;
    int source;
    uint64_t value, result;
    char* stack;
};

struct Block {
    uint3 index;
    unsigned number;  // within the grid
    unsigned slot;    // which of the co-resident blocks it is
    std::vector<Thread> threads;
    unsigned alive;

    // Threads that may run, in the order in which they will.
    std::vector<uint16_t> ring;
    unsigned first_ready, ready;
    unsigned spins;  // in a row, without a thread doing anything else

    // The barrier.
    unsigned arrived;
    int true_predicates, barrier_result;

    std::vector<uint32_t> at_rendezvous;  // per warp: lanes that wait at a warp rendezvous
    char* dynamic_shared;
    std::vector<char> static_shared;  // while another co-resident block has the area
};

struct State {
    const Launch* launch;
    const unsigned long long* slots;
    Thread* current;
    Block* block;
    uint64_t random;
    uint64_t idle_spins;  // spins of the whole grid, without a thread doing anything else
    bool uninterruptible;  // outside the threads, or inside malloc: the time limit waits
    std::vector<Block*> blocks;  // alive at the same time: one, or the whole cooperative grid
    Outcome outcome;
    std::string message;
};
extern State state;

Outcome run_launch(const Launch& launch, const unsigned long long* slots);

// scheduler.cpp
uint32_t random_number();
void make_ready(Block& block, unsigned thread);
void make_all_ready(Block& block);
void next_thread();             // let others run; returns when this thread is run again
void maybe_hold_block_back();   // in a seeded cooperative launch: now and then let other blocks run first
[[noreturn]] void fail(Outcome outcome, const char* format, ...) __attribute__((format(printf, 2, 3)));
[[noreturn]] void abandon();    // give the launch up, with outcome and message set

#ifdef GPUNET_ADDRESS
[[noreturn]] void end_program();  // program.cpp: send outcome and message, and end
#endif

bool on_a_stack(size_t address);

// report.cpp
std::string place(unsigned thread, unsigned block);  // "thread (3,0,0) of block (1,0,0)", by their numbers
std::string place(const Thread& thread);
std::string who_waits_where();

// shared.cpp
void create_shared(Block& block, size_t dynamic_bytes);
void poison_shared(Block& block, size_t dynamic_bytes);
void destroy_shared(Block& block);
void swap_shared(Block* from, Block* to);
extern "C" char gpunet_shared_begin[] __attribute__((visibility("hidden")));
extern "C" char gpunet_shared_end[] __attribute__((visibility("hidden")));

// guard.cpp
void start_guard(double timeout);
void stop_guard();

}  // namespace gpunet
