// warp.h: shuffles, votes and __syncwarp.
//
// Each is one rendezvous of the lanes named in the mask: every lane brings a value and says which lane's
// value it wants. Votes and __syncwarp want the ballot of all values instead.
#pragma once

namespace gpunet {
const int ballot = -1;  // in place of a source lane
unsigned long long warp_exchange(const char* name, unsigned mask, unsigned long long value, int source,
                                 const char* file, int line);
void check_width(const char* name, int width, const char* file, int line);
int lane();
unsigned active_lanes();

template <class T>
inline T shuffle(const char* name, unsigned mask, T value, int source, const char* file, int line) {
    static_assert(sizeof(T) <= 8 && __is_trivially_copyable(T), "a shuffle moves numbers of up to 8 bytes");
    unsigned long long bits = 0;
    __builtin_memcpy(&bits, &value, sizeof(T));
    bits = warp_exchange(name, mask, bits, source, file, line);
    __builtin_memcpy(&value, &bits, sizeof(T));
    return value;
}
}  // namespace gpunet

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, GPUNET_WHERE) {
    gpunet::check_width("__shfl_sync", width, file, line);
    const int start = gpunet::lane() & ~(width - 1);
    return gpunet::shuffle("__shfl_sync", mask, value, start | (source & (width - 1)), file, line);
}

template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, GPUNET_WHERE) {
    gpunet::check_width("__shfl_up_sync", width, file, line);
    const int me = gpunet::lane(), start = me & ~(width - 1), source = me - (int)delta;
    return gpunet::shuffle("__shfl_up_sync", mask, value, source < start ? me : source, file, line);
}

template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, GPUNET_WHERE) {
    gpunet::check_width("__shfl_down_sync", width, file, line);
    const int me = gpunet::lane(), end = (me & ~(width - 1)) + width, source = me + (int)delta;
    return gpunet::shuffle("__shfl_down_sync", mask, value, source >= end ? me : source, file, line);
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, GPUNET_WHERE) {
    gpunet::check_width("__shfl_xor_sync", width, file, line);
    const int me = gpunet::lane(), end = (me & ~(width - 1)) + width, source = me ^ lane_mask;
    return gpunet::shuffle("__shfl_xor_sync", mask, value, source >= end ? me : source, file, line);
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, GPUNET_WHERE) {
    gpunet::warp_exchange("__syncwarp", mask, 0, gpunet::ballot, file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, GPUNET_WHERE) {
    return (unsigned)gpunet::warp_exchange("__ballot_sync", mask, predicate != 0, gpunet::ballot, file, line);
}
static inline int __any_sync(unsigned mask, int predicate, GPUNET_WHERE) {
    return gpunet::warp_exchange("__any_sync", mask, predicate != 0, gpunet::ballot, file, line) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, GPUNET_WHERE) {
    return gpunet::warp_exchange("__all_sync", mask, predicate == 0, gpunet::ballot, file, line) == 0;
}
static inline unsigned __activemask() { return gpunet::active_lanes(); }
