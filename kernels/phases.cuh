// phases.cuh: parts of an update that a measurement can leave out or repeat, to see what they cost.
//
//   -DFORWARD_TIMES=0  and so on; the network then learns nonsense. Used by bench/persistent_times.py.
#pragma once

#ifndef FORWARD_TIMES  // weights times activations, of hidden layers and logits
#define FORWARD_TIMES 1
#endif
#ifndef LOSS_TIMES  // softmax, loss and its gradient
#define LOSS_TIMES 1
#endif
#ifndef BACKWARD_TIMES  // gradients of the hidden layers
#define BACKWARD_TIMES 1
#endif
#ifndef STEPS_TIMES  // optimizer steps
#define STEPS_TIMES 1
#endif
#ifndef STAGE_TIMES  // loading the next inputs
#define STAGE_TIMES 1
#endif
#ifndef WAIT_TIMES  // waiting for packets: 1, or 0 to use whatever is there
#define WAIT_TIMES 1
#endif

template <int TIMES, class Work>
__device__ __forceinline__ void repeat(Work work) {
#pragma unroll 1
    for (int i = 0; i < TIMES; ++i) work();
}
