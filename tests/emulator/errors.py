"""What can go wrong with a kernel on the emulated device."""

from __future__ import annotations


class EmulatorError(Exception):
    """A kernel did something wrong, or cannot be built; the message says what, where and in which thread."""


class BuildError(EmulatorError):
    """g++ refuses the kernel's source."""


class BarrierError(EmulatorError):
    """Threads of a block wait at a barrier that others never reach, or meet at different barriers."""


class WarpError(BarrierError):
    """A shuffle, vote or __syncwarp with absent lanes, lanes outside the mask, or differing masks."""


class RaceError(EmulatorError):
    """Two threads use the same memory, at least one writes, and nothing orders the two accesses."""


class AddressError(EmulatorError):
    """A read or write outside an array, or at a misaligned address."""


class DeadlockError(EmulatorError):
    """Threads wait for one another in spin loops, and the time limit has passed."""


class TimeLimitError(EmulatorError):
    """A kernel has not ended within the time limit."""


# By the runtime's outcome (runtime/state.h); 0 is success.
BY_OUTCOME: tuple[type[EmulatorError], ...] = (
    EmulatorError,
    EmulatorError,
    BarrierError,
    WarpError,
    RaceError,
    AddressError,
    DeadlockError,
    TimeLimitError,
)
