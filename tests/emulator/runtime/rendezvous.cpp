// rendezvous.cpp: the block's barrier, and warp operations.
#include <string.h>

#include "race.h"
#include "state.h"

namespace gpunet {

int barrier(const char* name, int predicate, const char* file, int line) {
    Thread& self = *state.current;
    Block& block = *self.block;
    self.wait = {name, file, line};
    block.spins = 0, state.idle_spins = 0;
    block.true_predicates += predicate != 0;
    if (++block.arrived < block.threads.size()) {
        next_thread();
    } else {
        for (const Thread& thread : block.threads)
            if (thread.wait.line != line || strcmp(thread.wait.name, name) || strcmp(thread.wait.file, file))
                fail(barrier_error, "threads of a block meet at different barriers: %s", who_waits_where().c_str());
        block.barrier_result = block.true_predicates;
        block.arrived = 0, block.true_predicates = 0;
        race::barrier(block);
        make_all_ready(block);
        maybe_hold_block_back();
    }
    self.wait.name = nullptr;
    return block.barrier_result;
}

int block_threads() { return state.block->threads.size(); }

int lane() { return state.current->number % 32; }

unsigned active_lanes() {
    const Thread* warp = state.current - lane();
    unsigned lanes = 0;
    for (int l = 0; l < 32 && warp[l].number < state.block->threads.size(); ++l)
        lanes |= unsigned(!warp[l].returned) << l;
    return lanes;
}

void check_width(const char* name, int width, const char* file, int line) {
    if (width < 1 || width > 32 || (width & (width - 1)))
        fail(warp_error, "%s at %s:%d: the width must be 1, 2, 4, 8, 16 or 32, got %d", name, file, line, width);
}

unsigned long long warp_exchange(const char* name, unsigned mask, unsigned long long value, int source,
                                 const char* file, int line) {
    Thread& self = *state.current;
    Block& block = *self.block;
    const unsigned me = self.number % 32, first = self.number - me;
    Thread* const lanes = &block.threads[first];
    const unsigned count = block.threads.size() - first;
    const uint32_t existing = count >= 32 ? 0xffffffffu : (1u << count) - 1;
    const uint32_t awaited = mask & existing;
    uint32_t& waiting = block.at_rendezvous[self.number / 32];

    self.wait = {name, file, line};
    block.spins = 0, state.idle_spins = 0;
    if (!(mask >> me & 1))
        fail(warp_error, "%s at %s:%d: lane %u calls it with mask 0x%08x, which leaves that lane out; %s", name, file,
             line, me, mask, place(self).c_str());
    if (source != -1 && !(awaited >> source & 1))
        fail(warp_error, "%s at %s:%d: lane %u reads from lane %d, which %s; %s", name, file, line, me, source,
             existing >> source & 1 ? "is not in the mask" : "does not exist in this block", place(self).c_str());
    self.mask = mask, self.source = source, self.value = value;
    waiting |= 1u << me;

    if ((waiting & awaited) == awaited) {
        uint32_t ballot = 0;
        for (unsigned l = 0; l < 32; ++l) {
            if (!(awaited >> l & 1)) continue;
            const Thread& other = lanes[l];
            if (other.mask != mask || strcmp(other.wait.name, name))
                fail(warp_error,
                     "lanes of one warp meet at different operations: "
                     "lane %u at %s (%s:%d) with mask 0x%08x, lane %u at %s (%s:%d) with mask 0x%08x; %s",
                     me, name, file, line, mask, l, other.wait.name, other.wait.file, other.wait.line, other.mask,
                     place(self).c_str());
            ballot |= uint32_t(other.value != 0) << l;
        }
        const bool backwards = state.launch->order == Order::reverse ||
                               (state.launch->order == Order::seeded && random_number() % 2);
        for (unsigned i = 0; i < 32; ++i) {
            const unsigned l = backwards ? 31 - i : i;
            if (!(awaited >> l & 1)) continue;
            lanes[l].result = lanes[l].source == -1 ? ballot : lanes[lanes[l].source].value;
            make_ready(block, first + l);
        }
        waiting &= ~awaited;
        race::rendezvous(block, first, awaited);
    }
    next_thread();
    self.wait.name = nullptr;
    return self.result;
}

}  // namespace gpunet
