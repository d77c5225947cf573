// flush_denormals.h: CuPy compiles kernels with -ftz=true, so denormal numbers count as zero while a launch
// runs.
#pragma once

#include <stdint.h>

namespace gpunet {

class FlushDenormals {
  public:
#if defined(__x86_64__)
    FlushDenormals() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(before_ | 0x8040); }
    ~FlushDenormals() { __builtin_ia32_ldmxcsr(before_); }

  private:
    unsigned before_;
#elif defined(__aarch64__)
    FlushDenormals() : before_(__builtin_aarch64_get_fpcr()) { __builtin_aarch64_set_fpcr(before_ | (1u << 24)); }
    ~FlushDenormals() { __builtin_aarch64_set_fpcr(before_); }

  private:
    unsigned before_;
#else
    FlushDenormals() {}
#endif
};

}  // namespace gpunet
