// race.h: what the scheduler tells the race detector (race.cpp). Without it, nothing.
#pragma once

#include "state.h"

namespace gpunet::race {

#ifdef GPUNET_RACE
void start_launch();
void start_block(Block& block);
void barrier(Block& block);
void rendezvous(Block& block, unsigned first, uint32_t lanes);
void fence();
#else
inline void start_launch() {}
inline void start_block(Block&) {}
inline void barrier(Block&) {}
inline void rendezvous(Block&, unsigned, uint32_t) {}
inline void fence() {}
#endif

}  // namespace gpunet::race
