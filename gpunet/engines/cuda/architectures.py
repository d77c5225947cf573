"""The GPU generations that kernels are compiled for and checked against, and how many blocks their SMs can hold.

Source: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability". The rounding of registers, and
the kilobyte of each block's shared memory that the system reserves from compute capability 8.0 on, are from the same
chapter and the occupancy calculator.
"""

from __future__ import annotations

from typing import NamedTuple

from gpunet.engines.cuda.compiler import Resources

REGISTERS = 65536  # per multiprocessor, on every architecture below
REGISTER_UNIT = 256  # registers are allocated to warps in multiples of this
WARP = 32


class Architecture(NamedTuple):
    """The limits of a multiprocessor, and how many of them an example GPU has.

    Shared memory: sm_shared_bytes for all blocks of a multiprocessor, system_bytes of them reserved per block, and at
    most shared_bytes for one block.
    """

    number: int  # as in sm_90
    example: str
    threads: int
    blocks: int
    sm_shared_bytes: int
    system_bytes: int
    shared_bytes: int
    multiprocessors: int

    @property
    def capability(self) -> tuple[int, int]:
        return divmod(self.number, 10)

    @property
    def cooperative(self) -> bool:
        return self.capability >= (6, 0)

    def resident_blocks(self, resources: Resources, threads: int, dynamic_shared_bytes: int = 0) -> int:
        """How many blocks of a kernel a multiprocessor can hold at once."""
        warps = -(-threads // WARP)
        warp_registers = -(-resources.registers * WARP // REGISTER_UNIT) * REGISTER_UNIT
        shared = resources.shared_bytes + dynamic_shared_bytes + self.system_bytes
        by_shared = self.sm_shared_bytes // shared if shared else self.blocks
        return min(self.blocks, self.threads // (warps * WARP), REGISTERS // warp_registers // warps, by_shared)


ARCHITECTURES = (
    Architecture(52, "GTX 980", 2048, 32, 96 * 1024, 0, 48 * 1024, 16),
    Architecture(61, "GTX 1080", 2048, 32, 96 * 1024, 0, 48 * 1024, 20),
    Architecture(75, "RTX 2080 Ti, GTX 1660", 1024, 16, 64 * 1024, 0, 64 * 1024, 68),
    Architecture(80, "A100", 2048, 32, 164 * 1024, 1024, 163 * 1024, 108),
    Architecture(86, "RTX 3090", 1536, 16, 100 * 1024, 1024, 99 * 1024, 82),
    Architecture(89, "RTX 4090", 1536, 24, 100 * 1024, 1024, 99 * 1024, 128),
    Architecture(90, "H100", 2048, 32, 228 * 1024, 1024, 227 * 1024, 132),
    Architecture(120, "RTX 5090", 1536, 24, 100 * 1024, 1024, 99 * 1024, 170),
)
