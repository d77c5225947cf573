// kernel.h: an entry of the table of kernels, shared by the kernel text and the runtime.
#pragma once

namespace gpunet {

struct Kernel {
    const char* name;
    void (*call)(const unsigned long long* slots);
    void (*signature)(char* text);
};

extern const Kernel kernels[];
extern const int kernel_count;

}  // namespace gpunet
