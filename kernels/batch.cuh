// batch.cuh: the examples of an update. They follow from a counter on the device, so that one captured graph serves
// every update of an epoch.
//
//   cursors     two counters of updates in the epoch, from 0: the one in its forward pass, and the one in its backward
//               pass. dense_output, or softmax_cross_entropy, copies the first to the second; an update's last launch
//               advances the first.
//               No kernel reads a cursor that it writes, so no block can be ahead of another.
//   batch_size  examples per update; the last batch of an epoch may be smaller
//   examples    examples per epoch
#pragma once

enum Cursor { FORWARD, BACKWARD };

struct Batch {
    int first;  // position of the first example in the epoch's order
    int rows;   // number of examples
};

__device__ __forceinline__ Batch batch_at(int update, int batch_size, int examples) {
    const int first = update * batch_size;
    return {first, min(batch_size, examples - first)};
}
