// scheduler.cpp: runs the threads of a launch, one at a time, each as a fibre.
//
// A block's threads that may run stand in a ring. A thread keeps the processor until it waits (barrier, warp
// rendezvous, spin) or returns; then the next in the ring goes on. Blocks run one after the other, or, in a
// cooperative launch, in turns: a block is left when all its threads that could run only spin.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <memory>

#include "flush_denormals.h"
#include "race.h"
#include "state.h"

#ifdef GPUNET_ADDRESS
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif

GPUNET_BUILT_IN uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace gpunet {

State state;
sigjmp_buf interrupted;  // where guard.cpp jumps to when it gives a launch up
GPUNET_BUILT_IN char* dynamic_shared;

namespace {

#ifdef GPUNET_ADDRESS
const size_t stack_bytes = 256 * 1024;  // the sanitizer surrounds local variables with padding
#else
const size_t stack_bytes = 128 * 1024;  // build.py refuses kernels with frames above half of that
#endif
// Not a power of two, so that the hot ends of the stacks do not fall on the same lines of the processor's
// cache.
const size_t stack_stride = stack_bytes + 17 * 64;

Context scheduler_context;
const void* scheduler_stack;
size_t scheduler_stack_bytes;
char* stacks;
size_t stacks_mapped;
std::vector<std::unique_ptr<Block>> pool;  // blocks of earlier launches, to be used again
size_t dynamic_bytes;

void switch_to(Context& from, Context& to, const void* to_stack, size_t to_bytes, bool for_good = false) {
#ifdef GPUNET_ADDRESS
    void* fake_stack = nullptr;
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fake_stack, to_stack, to_bytes);
    switch_context(from, to);
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#else
    (void)to_stack, (void)to_bytes, (void)for_good;
    switch_context(from, to);
#endif
}

void run(Context& from, Thread& thread, bool for_good = false) {
    state.current = &thread;
    threadIdx = thread.index;
    switch_to(from, thread.context, thread.stack, stack_bytes, for_good);
}

void leave_block(Context& from, bool for_good = false) {
    switch_to(from, scheduler_context, scheduler_stack, scheduler_stack_bytes, for_good);
}

Thread& pop(Block& block) {
    Thread& thread = block.threads[block.ring[block.first_ready]];
    block.first_ready = (block.first_ready + 1) % block.ring.size();
    --block.ready;
    return thread;
}

void thread_main() {
#ifdef GPUNET_ADDRESS
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    Thread& self = *state.current;
    self.started = true;
    kernels[state.launch->kernel].call(state.slots);
    Block& block = *self.block;
    self.returned = true;
    self.wait.name = nullptr;
    --block.alive;
    block.spins = 0, state.idle_spins = 0;
    if (block.ready)
        run(self.context, pop(block), true);
    else
        leave_block(self.context, true);
    __builtin_unreachable();
}

void map_stacks(size_t count) {
    const size_t bytes = count * stack_stride;
    if (bytes <= stacks_mapped) return;
    if (stacks) munmap(stacks, stacks_mapped);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    stacks = memory == MAP_FAILED ? nullptr : static_cast<char*>(memory);
    stacks_mapped = stacks ? bytes : 0;
}

// Shape slot `slot` for the blocks of this launch.
Block& prepare_slot(unsigned slot, unsigned threads) {
    if (pool.size() <= slot) pool.push_back(std::make_unique<Block>());
    Block& block = *pool[slot];
    block.slot = slot;
    if (block.threads.size() != threads) {
        block.threads.assign(threads, Thread());
        block.ring.resize(threads + 1);
    }
    block.at_rendezvous.assign((threads + 31) / 32, 0);
    for (unsigned t = 0; t < threads; ++t) {
        Thread& thread = block.threads[t];
        thread.block = &block;
        thread.number = t;
        thread.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
        thread.stack = stacks + (size_t(slot) * threads + t) * stack_stride;
    }
    create_shared(block, dynamic_bytes);
    return block;
}

void start_block(Block& block, unsigned number) {
    block.number = number;
    block.index = {number % gridDim.x, number / gridDim.x % gridDim.y, number / gridDim.x / gridDim.y};
    block.alive = block.threads.size();
    block.first_ready = block.ready = block.spins = block.arrived = 0;
    block.true_predicates = 0;
    std::fill(block.at_rendezvous.begin(), block.at_rendezvous.end(), 0);
    for (Thread& thread : block.threads) {
        thread.started = thread.returned = false;
        thread.wait.name = nullptr;
        prepare(thread.context, thread.stack, stack_bytes, thread_main);
    }
    make_all_ready(block);
    poison_shared(block, dynamic_bytes);
    race::start_block(block);
}

// Run a block until it is finished (true) or would rather let another block run (false).
bool run_block(Block& block) {
    state.block = &block;
    blockIdx = block.index;
    dynamic_shared = block.dynamic_shared;
    block.spins = 0;
    state.uninterruptible = false;
    run(scheduler_context, pop(block));
    state.uninterruptible = true;
    if (state.outcome != finished || block.alive == 0) return true;
    if (block.ready) return false;
    bool at_barrier = false;
    for (const Thread& thread : block.threads)
        at_barrier |= !thread.returned && strncmp(thread.wait.name, "__syncthreads", 13) == 0;
    state.outcome = at_barrier ? barrier_error : warp_error;
    state.message = (at_barrier ? "a barrier that not all threads of the block reach: "
                                : "a warp operation that not all lanes in its mask reach: ") + who_waits_where();
    return true;
}

void run_one_by_one(unsigned count) {
    Block& block = prepare_slot(0, blockDim.x * blockDim.y * blockDim.z);
    state.blocks.assign(1, &block);
    std::vector<unsigned> order(count);
    for (unsigned i = 0; i < count; ++i) order[i] = state.launch->order == Order::reverse ? count - 1 - i : i;
    if (state.launch->order == Order::seeded)
        for (unsigned i = count; i > 1; --i) std::swap(order[i - 1], order[random_number() % i]);
    for (unsigned number : order) {
        start_block(block, number);
        while (!run_block(block)) {}
        if (state.outcome != finished) return;
    }
}

// Seeded: some blocks are held back for a while, so that others run ahead of them as far as the kernel
// allows.
class Turns {
  public:
    explicit Turns(unsigned count) : held_back_(count, false), last_(count - 1) {}

    size_t next(size_t alive) {
        if (state.launch->order == Order::forward) return last_ = (last_ + 1) % alive;
        if (state.launch->order == Order::reverse) return last_ = (std::min(last_, alive - 1) + alive - 1) % alive;
        if (random_number() % 64 == 0)
            for (size_t i = 0; i < held_back_.size(); ++i) held_back_[i] = random_number() % 3 == 0;
        size_t choice = random_number() % alive;
        for (int attempt = 0; attempt < 8 && held_back_[state.blocks[choice]->number]; ++attempt)
            choice = random_number() % alive;
        return choice;
    }

  private:
    std::vector<bool> held_back_;
    size_t last_;
};

void run_together(unsigned count) {
    state.blocks.clear();
    for (unsigned i = 0; i < count; ++i) {
        state.blocks.push_back(&prepare_slot(i, blockDim.x * blockDim.y * blockDim.z));
        start_block(*state.blocks[i], i);
    }
    Turns turns(count);
    Block* running = nullptr;
    while (!state.blocks.empty()) {
        const size_t choice = turns.next(state.blocks.size());
        Block* block = state.blocks[choice];
        swap_shared(running, block);
        running = block;
        if (!run_block(*block)) continue;
        if (state.outcome != finished) return;
        state.blocks.erase(state.blocks.begin() + choice);
    }
}

}  // namespace

uint32_t random_number() {  // splitmix64
    uint64_t z = state.random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) >> 32;
}

void make_ready(Block& block, unsigned thread) {
    unsigned end = block.first_ready + block.ready++;
    if (end >= block.ring.size()) end -= block.ring.size();
    block.ring[end] = thread;
}

// Every thread of the block, in the order of the launch. Seeded: a new order each time; half of the times
// warps stay together.
void make_all_ready(Block& block) {
    const unsigned count = block.threads.size();
    uint16_t* ring = block.ring.data();
    block.first_ready = 0, block.ready = count;
    if (state.launch->order == Order::reverse) {
        for (unsigned i = 0; i < count; ++i) ring[i] = count - 1 - i;
        return;
    }
    for (unsigned i = 0; i < count; ++i) ring[i] = i;
    if (state.launch->order == Order::forward) return;
    const uint32_t draw = random_number();
    if (draw & 1) {
        for (unsigned i = count; i > 1; --i) std::swap(ring[i - 1], ring[random_number() % i]);
    } else {
        if (draw & 2) std::reverse(ring, ring + count);
        const unsigned whole_warps = count / 32;
        const unsigned start = draw & 2 ? count % 32 : 0;
        for (unsigned i = whole_warps; i > 1; --i) {
            const unsigned other = random_number() % i;
            if (other != i - 1)
                std::swap_ranges(ring + start + (i - 1) * 32, ring + start + i * 32, ring + start + other * 32);
        }
    }
}

void next_thread() {
    Thread& self = *state.current;
    Block& block = *self.block;
    if (!block.ready) {
        leave_block(self.context);
    } else {
        Thread& next = pop(block);
        if (&next != &self) run(self.context, next);
    }
}

void maybe_hold_block_back() {
    if (state.launch->cooperative && state.launch->order == Order::seeded && random_number() % 8 == 0)
        leave_block(state.current->context);
    else
        next_thread();
}

void spin_pause(const char* file, int line) {
    Thread& self = *state.current;
    Block& block = *self.block;
    self.wait = {"SPIN_PAUSE", file, line};
    make_ready(block, self.number);
    ++state.idle_spins;
    if (++block.spins >= block.ready && state.launch->cooperative) {
        leave_block(self.context);
    } else {
        next_thread();
    }
}

bool on_a_stack(size_t address) { return address - reinterpret_cast<size_t>(stacks) < stacks_mapped; }

void abandon() {
#ifdef GPUNET_ADDRESS
    end_program();
#else
    leave_block(state.current->context, true);
    __builtin_unreachable();
#endif
}

void fail(Outcome outcome, const char* format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    state.outcome = outcome;
    state.message = text;
    abandon();
}

Outcome run_launch(const Launch& launch, const unsigned long long* slots) {
    gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
    blockDim = {launch.block[0], launch.block[1], launch.block[2]};
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    const size_t threads = size_t(blockDim.x) * blockDim.y * blockDim.z;
    state.launch = &launch;
    state.slots = slots;
    state.random = launch.seed;
    state.idle_spins = 0;
    state.uninterruptible = true;
    state.outcome = finished;
    state.message.clear();
    state.current = nullptr;
    state.block = nullptr;
    dynamic_bytes = launch.shared_bytes;
    map_stacks(threads * (launch.cooperative ? blocks : 1));
    if (!stacks) {
        state.outcome = kernel_error;
        state.message = "not enough memory for the stacks of the threads";
        return state.outcome;
    }
#ifdef GPUNET_ADDRESS
    pthread_attr_t attributes;
    void* stack;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &stack, &scheduler_stack_bytes);
    pthread_attr_destroy(&attributes);
    scheduler_stack = stack;
#endif
    race::start_launch();
    const FlushDenormals flush;
    if (sigsetjmp(interrupted, 1) == 0) {
        start_guard(launch.timeout);
        if (launch.cooperative)
            run_together(blocks);
        else
            run_one_by_one(blocks);
    }
    stop_guard();
    for (auto& block : pool) destroy_shared(*block);
    state.current = nullptr;
    return state.outcome;
}

}  // namespace gpunet
