// shared.cpp: a block's shared memory. Static arrays lie in one area of the kernel's library (shared.ld),
// whichever block runs; dynamic shared memory belongs to each co-resident block.
#include <stdlib.h>
#include <string.h>

#include "state.h"

namespace gpunet {

namespace {

const size_t alignment = 16;  // what DYN_SHARED promises, and no more

// Copies that the address sanitizer does not watch: the area contains its red zones.
__attribute__((optimize("no-tree-loop-distribute-patterns"))) void raw_copy(char* to, const char* from, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) to[i] = from[i];
}
__attribute__((optimize("no-tree-loop-distribute-patterns"))) void raw_poison(char* to, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) to[i] = char(0xff);
}

size_t static_bytes() { return gpunet_shared_end - gpunet_shared_begin; }

}  // namespace

void create_shared(Block& block, size_t dynamic_bytes) {
    // Not aligned_alloc: it wants a multiple of the alignment, and then the sanitizer would miss the last bytes.
    void* memory = nullptr;
    if (dynamic_bytes && posix_memalign(&memory, alignment, dynamic_bytes)) abort();
    block.dynamic_shared = static_cast<char*>(memory);
    if (state.launch->cooperative) block.static_shared.resize(static_bytes());
}

void destroy_shared(Block& block) {
    free(block.dynamic_shared);
    block.dynamic_shared = nullptr;
}

// Nothing written yet: NaN for float, -1 for int.
void poison_shared(Block& block, size_t dynamic_bytes) {
    if (dynamic_bytes) memset(block.dynamic_shared, 0xff, dynamic_bytes);
    if (state.launch->cooperative)
        memset(block.static_shared.data(), 0xff, block.static_shared.size());
    else
        raw_poison(gpunet_shared_begin, static_bytes());
}

void swap_shared(Block* from, Block* to) {
    if (from == to) return;
    if (from) raw_copy(from->static_shared.data(), gpunet_shared_begin, static_bytes());
    raw_copy(gpunet_shared_begin, to->static_shared.data(), static_bytes());
}

}  // namespace gpunet
