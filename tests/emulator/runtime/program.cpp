// program.cpp: the kernels as a program of their own, for the address sanitizer. It serves launches from its
// standard input until that ends; program.py is the other side.
//
// Each array is allocated with exactly its size, so that the sanitizer sees the first byte beyond it. The
// sanitizer ends the program at the first error; so does every other error, because fibres given up half-way
// leave traces.
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "state.h"

namespace gpunet {

namespace {

struct Range {  // of a device array, as program.py sends it
    uint64_t bytes;
    uint64_t lead;  // its address modulo 256, kept here
    uint64_t send_back;
};

struct Memory {
    Range range;
    char* allocation;
    char* data() const { return allocation + range.lead; }
};

int output;
std::vector<Memory> memories;
std::vector<int> memory_of_argument;

void receive(void* data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        const ssize_t count = read(0, static_cast<char*>(data) + done, bytes - done);
        if (count <= 0) _exit(0);
        done += count;
    }
}

void send(const void* data, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        const ssize_t count = write(output, static_cast<const char*>(data) + done, bytes - done);
        if (count <= 0) _exit(1);
        done += count;
    }
}

template <class T> std::vector<T> receive_vector(size_t size) {
    std::vector<T> values(size);
    receive(values.data(), size * sizeof(T));
    return values;
}

void send_outcome() {
    const int32_t head[2] = {state.outcome, int32_t(state.message.size())};
    send(head, sizeof head);
    send(state.message.data(), state.message.size());
}

void report_thread() {
    if (state.current) fprintf(stderr, "\ngpunet thread: %s\n", place(*state.current).c_str());
}

// Called by the address sanitizer once it has printed its report: which thread, and which array is nearest.
void on_death() {
    report_thread();
    if (!state.current || !__asan_report_present()) return;
    const char* address = static_cast<const char*>(__asan_get_report_address());
    const long dynamic = address - state.block->dynamic_shared;
    const long shared_bytes = state.launch->shared_bytes;
    if (shared_bytes && dynamic > -64 && dynamic < shared_bytes + 64) {
        fprintf(stderr, "gpunet memory: byte %ld of %ld bytes of dynamic shared memory\n", dynamic, shared_bytes);
        return;
    }
    long nearest = 4096;
    size_t nearest_argument = 0;
    bool before = false;
    for (size_t argument = 0; argument < memory_of_argument.size(); ++argument) {
        if (memory_of_argument[argument] < 0) continue;
        const Memory& memory = memories[memory_of_argument[argument]];
        const long ahead = memory.data() - address, behind = address - (memory.data() + memory.range.bytes);
        const long distance = ahead > 0 ? ahead : behind;
        if (distance < 0 || distance >= nearest) continue;
        nearest = distance, nearest_argument = argument + 1, before = ahead > 0;
    }
    if (nearest_argument)
        fprintf(stderr, "gpunet memory: %ld bytes %s argument %zu\n", nearest, before ? "before" : "after the end of",
                nearest_argument);
}

Memory receive_memory(const Range& range) {
    Memory memory = {range, nullptr};
    void* allocation = nullptr;
    if (posix_memalign(&allocation, 256, range.lead + range.bytes) != 0) _exit(1);
    memory.allocation = static_cast<char*>(allocation);
    receive(memory.data(), range.bytes);
    __asan_poison_memory_region(memory.allocation, range.lead);
    return memory;
}

void serve() {
    Launch launch;
    uint32_t counts[2];
    receive(&launch, sizeof launch);
    receive(counts, sizeof counts);
    auto slots = receive_vector<unsigned long long>(counts[0]);  // a number, or an offset into a range
    memory_of_argument = receive_vector<int>(counts[0]);
    memories.clear();
    for (const Range& range : receive_vector<Range>(counts[1])) memories.push_back(receive_memory(range));
    for (size_t i = 0; i < slots.size(); ++i)
        if (memory_of_argument[i] >= 0) slots[i] += reinterpret_cast<size_t>(memories[memory_of_argument[i]].data());

    const Outcome outcome = run_launch(launch, slots.data());
    fflush(stdout);
    send_outcome();
    if (outcome != finished) _exit(0);
    for (const Memory& memory : memories) {
        if (memory.range.send_back) send(memory.data(), memory.range.bytes);
        __asan_unpoison_memory_region(memory.allocation, memory.range.lead);
        free(memory.allocation);
    }
}

}  // namespace

void end_program() {
    send_outcome();
    _exit(0);
}

}  // namespace gpunet

// Called by the undefined-behaviour sanitizer before it prints its report.
extern "C" __attribute__((visibility("default"))) void __ubsan_on_report() { gpunet::report_thread(); }

int main() {
    using namespace gpunet;
    output = dup(1);
    dup2(2, 1);  // what a kernel prints must not get between the answers
    __sanitizer_set_death_callback(on_death);
    std::string table;
    for (int i = 0; i < kernel_count; ++i) {
        char signature[4096];
        kernels[i].signature(signature);
        table += std::string(kernels[i].name) + " " + signature + "\n";
    }
    table += "\n";
    send(table.data(), table.size());
    for (;;) serve();
}
