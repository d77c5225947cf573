// intrinsics.cpp: the built-ins that report or measure.
#include <time.h>

#include "race.h"
#include "state.h"

namespace gpunet {

void fence() { race::fence(); }  // one fibre runs at a time: memory itself is always up to date

void assertion_failed(const char* condition, const char* file, int line) {
    fail(kernel_error, "assertion failed at %s:%d: %s; %s", file, line, condition, place(*state.current).c_str());
}

void trap(const char* file, int line) {
    fail(kernel_error, "__trap at %s:%d; %s", file, line, place(*state.current).c_str());
}

long long clock_ticks() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

}  // namespace gpunet
