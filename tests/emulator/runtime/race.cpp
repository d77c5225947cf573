// race.cpp: the race detector. The compiler calls __tsan_read4(address) and so on before each access of a
// kernel (-fsanitize=thread); here are these functions, in place of the thread sanitizer's own runtime.
//
// For every 4 bytes of memory a cell remembers who used them last. Two accesses are a race if they touch the
// same byte, come from different threads, at least one writes, not both are volatile or atomic, and nothing
// orders them (order.h). A cell keeps the last write and two reads, and the last volatile or atomic write and
// read. Two reads are enough: they are kept from different blocks or warps where there are any, and a write
// that is ordered after both of them is ordered after the others as well.
#include "race.h"

#include <stdio.h>
#include <sys/mman.h>

#include "order.h"
#include "state.h"

extern "C" char __ehdr_start[] __attribute__((visibility("hidden")));
extern "C" char __start_gpunet_built_in[] __attribute__((visibility("hidden")));
extern "C" char __stop_gpunet_built_in[] __attribute__((visibility("hidden")));

namespace gpunet {

namespace {

using race::Access;

struct Cell {
    Access write, synchronising_write, reads[2], synchronising_read;
};

// Cells by address: a tree of three levels, 12 bits each, over pages of 4 KB.
struct Page {
    Cell cells[1024];
};
struct Pages {
    Page* pages[4096];
};
struct Root {
    Pages* directories[4096];
};
Root* roots[4096];

// Zeroed memory straight from the system, so that the time limit may interrupt it.
template <class T> T* at(T*& pointer) {
    if (!pointer) {
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* memory = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, flags, -1, 0);
        if (memory == MAP_FAILED) fail(kernel_error, "the race detector has run out of memory");
        pointer = static_cast<T*>(memory);
    }
    return pointer;
}

Cell& cell(size_t address) {
    static size_t last_number = 0;  // most accesses are to the same page as the one before
    static Page* last_page = nullptr;
    const size_t number = address >> 12;
    if (number != last_number) {
        Root* root = at(roots[number >> 24 & 4095]);
        Pages* directory = at(root->directories[number >> 12 & 4095]);
        last_page = at(directory->pages[number & 4095]);
        last_number = number;
    }
    return last_page->cells[address >> 2 & 1023];
}

const char* verb(const Access& access, bool write) {
    if (access.synchronising) return write ? "volatile or atomic write" : "volatile read";
    return write ? "write" : "read";
}

struct Memory {
    const char* name;   // for a report; the address or offset follows
    bool of_one_block;
    size_t key;         // the address, made different for each co-resident block where blocks share it
    size_t name_offset; // from the address to the number that follows the name
};

Memory memory_at(size_t address) {
    const size_t area = reinterpret_cast<size_t>(gpunet_shared_begin);
    const size_t area_bytes = gpunet_shared_end - gpunet_shared_begin;
    if (address - area < area_bytes) {
        const size_t copies = (size_t{1} << 47) + state.block->slot * ((area_bytes | 4095) + 1);
        return {"static shared memory, byte %zu", true, copies + address - area, area};
    }
    const size_t dynamic = reinterpret_cast<size_t>(state.block->dynamic_shared);
    if (address - dynamic < state.launch->shared_bytes)
        return {"dynamic shared memory, byte %zu", true, address, dynamic};
    return {"global memory [0x%zx]", false, address, 0};
}

[[noreturn]] void report(const Memory& memory, size_t address, const Access& before, bool before_writes,
                         const Access& now, bool writes) {
    char where[64];
    snprintf(where, sizeof where, memory.name, address - memory.name_offset);
    fail(race_error, "race in %s: %s by %s at {%x}, then %s by %s at {%x}, and nothing orders the two", where,
         verb(before, before_writes), place(before.thread, before.block).c_str(), before.code, verb(now, writes),
         place(now.thread, now.block).c_str(), now.code);
}

// Keep the newer access; of one that the same thread made to other bytes at the same time, keep the bytes.
void replace(Access& older, const Access& newer) {
    const bool same = older.time == newer.time && older.block == newer.block && older.thread == newer.thread;
    const uint8_t bytes = same ? older.bytes : 0;
    older = newer;
    older.bytes |= bytes;
}

void remember_read(Cell& cell, const Access& read, bool of_one_block) {
    if (read.synchronising) return replace(cell.synchronising_read, read);
    Access* reads = cell.reads;
    for (int i = 0; i < 2; ++i) {
        const bool own = reads[i].block == read.block && reads[i].thread == read.thread;
        const bool old = reads[i].time < race::launch_start || (of_one_block && reads[i].block != read.block);
        if (own || old || race::ordered(reads[i])) {
            replace(reads[i], read);
            return;
        }
    }
    const bool same_block = reads[0].block == reads[1].block;
    const bool same_warp = same_block && reads[0].thread / 32 == reads[1].thread / 32;
    const bool another_warp = reads[0].block != read.block || reads[0].thread / 32 != read.thread / 32;
    if ((same_warp && another_warp) || (same_block && reads[0].block != read.block)) reads[1] = read;
}

void access(const void* pointer, size_t size, bool write, bool read, bool synchronising, void* return_address) {
    const size_t address = reinterpret_cast<size_t>(pointer);
    if (!state.current || on_a_stack(address)) return;
    if (address - reinterpret_cast<size_t>(__start_gpunet_built_in) <
        size_t(__stop_gpunet_built_in - __start_gpunet_built_in))
        return;
    const Memory memory = memory_at(address);
    if (synchronising && read) race::received(address);
    if (synchronising && write) race::handed_on(address);
    Access self = {};
    self.time = race::now;
    self.block = state.block->number;
    self.code = static_cast<char*>(return_address) - 1 - __ehdr_start;
    self.thread = state.current->number;
    self.synchronising = synchronising;
    for (size_t word = memory.key & ~size_t{3}; word < memory.key + size; word += 4) {
        self.bytes = 0;
        for (size_t byte = 0; byte < 4; ++byte)
            self.bytes |= (word + byte >= memory.key && word + byte < memory.key + size) << byte;
        Cell& there = cell(word);
        const auto check = [&](const Access& before, bool before_writes) {
            if (!(before.bytes & self.bytes) || before.time < race::launch_start) return;
            if (before.synchronising && synchronising) return;
            if (before.block == self.block ? before.thread == self.thread : memory.of_one_block) return;
            if (race::ordered(before)) return;
            report(memory, word - memory.key + address, before, before_writes, self, write);
        };
        check(there.write, true);
        check(there.synchronising_write, true);
        if (write) {
            check(there.reads[0], false);
            check(there.reads[1], false);
            check(there.synchronising_read, false);
            replace(synchronising ? there.synchronising_write : there.write, self);
        } else {
            remember_read(there, self, memory.of_one_block);
        }
    }
}

}  // namespace

void atomic_access(void* address, unsigned size, void* caller) { access(address, size, true, true, true, caller); }

}  // namespace gpunet

#define GPUNET_HOOK(name, size, write, synchronising)                                                             \
    extern "C" void name(void* address) {                                                                         \
        gpunet::access(address, size, write, !(write), synchronising, __builtin_return_address(0));               \
    }
#define GPUNET_HOOKS(size)                                            \
    GPUNET_HOOK(__tsan_read##size, size, false, false)                \
    GPUNET_HOOK(__tsan_write##size, size, true, false)                \
    GPUNET_HOOK(__tsan_unaligned_read##size, size, false, false)      \
    GPUNET_HOOK(__tsan_unaligned_write##size, size, true, false)      \
    GPUNET_HOOK(__tsan_volatile_read##size, size, false, true)        \
    GPUNET_HOOK(__tsan_volatile_write##size, size, true, true)        \
    GPUNET_HOOK(__tsan_unaligned_volatile_read##size, size, false, true) \
    GPUNET_HOOK(__tsan_unaligned_volatile_write##size, size, true, true)
GPUNET_HOOKS(1)
GPUNET_HOOKS(2)
GPUNET_HOOKS(4)
GPUNET_HOOKS(8)
GPUNET_HOOKS(16)

extern "C" void __tsan_read_range(void* address, size_t size) {
    gpunet::access(address, size, false, true, false, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* address, size_t size) {
    gpunet::access(address, size, true, false, false, __builtin_return_address(0));
}
extern "C" void __tsan_init() {}
