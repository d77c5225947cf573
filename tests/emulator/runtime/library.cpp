// library.cpp: the functions that Python calls when the kernels run inside its own process.
#include <string.h>

#include "state.h"

using namespace gpunet;

#define GPUNET_EXPORT extern "C" __attribute__((visibility("default")))

GPUNET_EXPORT const char* gpunet_kernel_name(int kernel) {
    return kernel < kernel_count ? kernels[kernel].name : nullptr;
}

GPUNET_EXPORT void gpunet_kernel_signature(int kernel, char* text) { kernels[kernel].signature(text); }

GPUNET_EXPORT int gpunet_launch(const Launch* launch, const unsigned long long* slots) {
    return run_launch(*launch, slots);
}

GPUNET_EXPORT const char* gpunet_message() { return state.message.c_str(); }
