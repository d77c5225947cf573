// order.h: which accesses of a launch are ordered, and by what.
//
// Time counts the events that order something. An access carries the time at which it was made; "before time
// t" means all that were made earlier.
//   - A barrier orders all earlier accesses of the block before all later ones.
//   - A warp operation orders earlier accesses of the lanes in its mask before later ones of the same lanes, and
//     carries on what those lanes knew already (a vector clock a lane).
//   - Through memory: a volatile or atomic write after a __threadfence hands on what the writing thread did before
//     the fence, what its warp did before their last warp operation and what its block did before the last barrier;
//     a volatile or atomic read of the same address receives it, for the reading thread at once, for its warp from
//     their next warp operation on, for its block from the next barrier on.
#pragma once

#include <stdint.h>

#include "state.h"

namespace gpunet::race {

extern uint32_t now;
extern uint32_t launch_start;

struct Access {
    uint32_t time;
    uint32_t block;      // its number in the grid
    uint32_t code;       // address of the instruction, relative to the library
    uint16_t thread;     // its number in the block
    uint8_t bytes;       // which of four, one bit each
    bool synchronising;  // volatile or atomic
};

// Is an access ordered before what the running thread does now?
bool ordered(const Access& before);

void handed_on(size_t address);  // by the running thread, which writes there
void received(size_t address);   // by the running thread, which reads there

}  // namespace gpunet::race
