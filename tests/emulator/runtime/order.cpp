// order.cpp: see order.h.
#include "order.h"

#include <array>
#include <map>
#include <unordered_map>

#include "race.h"

namespace gpunet::race {

uint32_t now, launch_start;

namespace {

// What is known of a block: its accesses before `block_until`, those of single threads before the times in `threads`,
// and its volatile and atomic ones before `synchronising_until`: the access that hands on is one of these.
struct Known {
    uint32_t block_until = 0, synchronising_until = 0;
    std::map<unsigned, uint32_t> threads;
};
typedef std::map<uint32_t, Known> Knowledge;  // by block number

void raise(uint32_t& time, uint32_t to) { time = std::max(time, to); }

void learn(Knowledge& mine, const Knowledge& others) {
    for (const auto& [block, known] : others) {
        Known& entry = mine[block];
        raise(entry.block_until, known.block_until);
        raise(entry.synchronising_until, known.synchronising_until);
        for (const auto& [thread, until] : known.threads) raise(entry.threads[thread], until);
    }
}

struct Clocks {
    uint32_t barrier;                            // time of the last one
    std::vector<std::array<uint32_t, 32>> lane;  // of a thread: until when it knows each lane of its warp
    std::vector<uint32_t> fence;                 // of a thread: time of its last one, 0 for none
    Knowledge knowledge;                         // of the whole block
    std::map<unsigned, Knowledge> received;      // of a thread, since the last barrier
};
std::vector<Clocks> clocks;                              // by slot
std::unordered_map<size_t, Knowledge> handed_over;       // by address
bool any_fence;

bool covers(const Knowledge& knowledge, const Access& access) {
    const auto entry = knowledge.find(access.block);
    if (entry == knowledge.end()) return false;
    const Known& known = entry->second;
    if (access.time < known.block_until) return true;
    if (access.synchronising && access.time < known.synchronising_until) return true;
    const auto thread = known.threads.find(access.thread);
    return thread != known.threads.end() && access.time < thread->second;
}

// The time limit must not strike while memory is being allocated.
struct Uninterruptible {
    Uninterruptible() { state.uninterruptible = true; }
    ~Uninterruptible() { state.uninterruptible = false; }
};

}  // namespace

void start_launch() {
    launch_start = ++now;
    handed_over.clear();
    any_fence = false;
}

void start_block(Block& block) {
    if (clocks.size() <= block.slot) clocks.resize(block.slot + 1);
    Clocks& mine = clocks[block.slot];
    mine.barrier = ++now;
    mine.lane.assign(block.threads.size(), {});
    mine.fence.assign(block.threads.size(), 0);
    mine.knowledge.clear();
    mine.received.clear();
}

void barrier(Block& block) {
    Clocks& mine = clocks[block.slot];
    mine.barrier = ++now;
    if (mine.received.empty()) return;
    const Uninterruptible guard;
    for (const auto& [thread, knowledge] : mine.received) learn(mine.knowledge, knowledge);
    mine.received.clear();
}

void rendezvous(Block& block, unsigned first, uint32_t lanes) {
    std::array<uint32_t, 32>* clock = &clocks[block.slot].lane[first];
    std::array<uint32_t, 32> joint = {};
    ++now;
    for (unsigned l = 0; l < 32; ++l) {
        if (!(lanes >> l & 1)) continue;
        for (unsigned other = 0; other < 32; ++other) joint[other] = std::max(joint[other], clock[l][other]);
    }
    for (unsigned l = 0; l < 32; ++l)
        if (lanes >> l & 1) joint[l] = now;
    for (unsigned l = 0; l < 32; ++l)
        if (lanes >> l & 1) clock[l] = joint;

    auto& received = clocks[block.slot].received;
    if (received.empty()) return;
    const Uninterruptible guard;
    Knowledge together;
    for (unsigned l = 0; l < 32; ++l) {
        const auto own = lanes >> l & 1 ? received.find(first + l) : received.end();
        if (own != received.end()) learn(together, own->second);
    }
    if (together.empty()) return;
    for (unsigned l = 0; l < 32; ++l)
        if (lanes >> l & 1) received[first + l] = together;
}

void fence() {
    any_fence = true;
    clocks[state.block->slot].fence[state.current->number] = ++now;
}

void handed_on(size_t address) {
    if (!any_fence) return;
    const Clocks& mine = clocks[state.block->slot];
    const unsigned thread = state.current->number;
    if (mine.fence[thread] == 0) return;
    const Uninterruptible guard;
    Knowledge& there = handed_over[address];
    learn(there, mine.knowledge);
    const auto own = mine.received.find(thread);
    if (own != mine.received.end()) learn(there, own->second);
    ++now;  // the access that follows gets this time
    Known& known = there[state.block->number];
    raise(known.block_until, mine.barrier);
    raise(known.synchronising_until, now + 1);
    raise(known.threads[thread], mine.fence[thread]);
    const unsigned first = thread / 32 * 32;
    for (unsigned l = 0; l < 32; ++l)
        if (mine.lane[thread][l]) raise(known.threads[first + l], mine.lane[thread][l]);
}

void received(size_t address) {
    if (!any_fence) return;
    const auto there = handed_over.find(address);
    if (there == handed_over.end()) return;
    const Uninterruptible guard;
    learn(clocks[state.block->slot].received[state.current->number], there->second);
}

bool ordered(const Access& before) {
    const Clocks& mine = clocks[state.block->slot];
    const unsigned me = state.current->number;
    if (before.block == state.block->number) {
        if (before.time < mine.barrier) return true;
        if (before.thread / 32u == me / 32 && before.time < mine.lane[me][before.thread % 32]) return true;
    }
    if (covers(mine.knowledge, before)) return true;
    const auto own = mine.received.find(me);
    return own != mine.received.end() && covers(own->second, before);
}

}  // namespace gpunet::race
