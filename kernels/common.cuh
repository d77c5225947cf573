// common.cuh: the two things that differ between a GPU and the emulator of tests/emulator.
//
//   DYN_SHARED(float, tile);         in a kernel: tile is a float* to the block's dynamic shared memory, aligned to
//                                    16 bytes (an `extern __shared__` array cannot be given to a CPU compiler)
//   while (!arrived()) SPIN_PAUSE(); in every loop that waits for another thread or block through memory: nothing on
//                                    a GPU, the point where the emulator lets the others run
//
// The emulator defines GPUNET_EMULATOR and its own version of both.
#pragma once

#ifndef GPUNET_EMULATOR
#define DYN_SHARED(type, name)                                           \
    extern __shared__ __align__(16) unsigned char gpunet_dynamic_shared[]; \
    type* const name = reinterpret_cast<type*>(gpunet_dynamic_shared)
#define SPIN_PAUSE() ((void)0)
#endif
