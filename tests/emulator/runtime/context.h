// context.h: switching between fibres, each with a stack of its own.
#pragma once

#include <stddef.h>

namespace gpunet {

#if defined(__x86_64__) || defined(__aarch64__)

struct Context {
    void* stack_pointer;  // the registers that a call preserves are on the stack
};

extern "C" void gpunet_switch(void** save, void* load);

inline void switch_context(Context& from, Context& to) { gpunet_switch(&from.stack_pointer, to.stack_pointer); }

// Make `context` start in `entry` (which never returns) on the given stack.
inline void prepare(Context& context, char* stack, size_t size, void (*entry)()) {
    void** top = reinterpret_cast<void**>((reinterpret_cast<size_t>(stack) + size) & ~size_t{15});
#if defined(__x86_64__)
    *--top = nullptr;  // the return address of entry, which also brings the stack to the alignment after a call
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
#else
    for (int i = 0; i < 20; ++i) *--top = nullptr;
    top[11] = reinterpret_cast<void*>(entry);  // x30, the link register
#endif
    context.stack_pointer = top;
}

#else

}  // namespace gpunet
#include <ucontext.h>
namespace gpunet {

struct Context {
    ucontext_t registers;
};

inline void switch_context(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }

inline void prepare(Context& context, char* stack, size_t size, void (*entry)()) {
    getcontext(&context.registers);
    context.registers.uc_stack.ss_sp = stack;
    context.registers.uc_stack.ss_size = size;
    context.registers.uc_link = nullptr;
    makecontext(&context.registers, entry, 0);
}

#endif

}  // namespace gpunet
