// emulator.h: what NVRTC gives every kernel, for g++. The loader includes it before the kernel's own text.
//
// No host header is included here or in the files below, so a kernel that would need one fails to build, as
// it would under NVRTC.
#pragma once

#define GPUNET_EMULATOR 1

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;

#include "qualifiers.h"
#include "vectors.h"
#include "threads.h"
#include "warp.h"
#include "atomics.h"
#include "arithmetic.h"
#include "kernel_table.h"
