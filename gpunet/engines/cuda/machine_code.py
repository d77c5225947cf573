"""How the compiler translated a tiled product's loop over panels: facts read from the machine code (SASS).

nvdisasm, from the package nvidia-cuda-nvdisasm, prints the instructions with their encoding. The upper half of each
128-bit instruction holds its control fields: the scoreboard that its result releases, and those that it waits for. From
these follows how far ahead of its use a load is issued. Compute capability 7.5 and newer.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OLDEST = 75  # the oldest architecture that today's nvdisasm reads
NO_SCOREBOARD = 7
CONVERSIONS = ("I2F", "I2FP", "F2I", "F2F")  # executed by the special function unit, or as slow
MULTIPLY_ADDS = ("FFMA", "FFMA2")
_LABEL = re.compile(r"^\s*(\.L_\w+):")
_LINE = re.compile(r"^\s*/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([^;/]*)")
_ENCODING = re.compile(r"/\* 0x([0-9a-f]{16}) \*/\s*$")
_BRANCH = re.compile(r"`\((\.L_\w+)\)")


class DisassemblerError(RuntimeError):
    """nvdisasm is missing or cannot read this machine code; the message says which."""


@dataclass
class Instruction:
    """text: without its guard. sets: the scoreboard that its result releases. waits: a bit per one to wait for."""

    text: str
    sets: int = NO_SCOREBOARD
    waits: int = 0

    @property
    def opcode(self) -> list[str]:
        """The name and its modifiers: ["LDG", "E", "128", "CONSTANT"]."""
        return self.text.split(maxsplit=1)[0].split(".")

    @property
    def bits(self) -> int:
        """What a memory access moves per thread."""
        return next((bits for bits in (128, 64) if str(bits) in self.opcode), 32)

    def waits_for(self, other: Instruction) -> bool:
        return other.sets != NO_SCOREBOARD and bool(self.waits >> other.sets & 1)


@dataclass(frozen=True)
class Loop:
    """A tiled product's loop over panels.

    ahead:        multiply-adds from a load of global memory to the first wait for it; the minimum over all loads.
    shared_bits:  the width of the narrowest load from shared memory.
    local:        loads and stores of local memory, which replaces missing registers.
    """

    instructions: int
    multiply_adds: int
    ahead: int
    conversions: int
    shared_bits: int
    local: int


def loops_over_panels(cubin: bytes, multiply_adds: int) -> list[Loop]:
    """Facts about the innermost loops with a barrier and this many multiply-adds, which are fully unrolled.

    A kernel has one per product that it can compute.

    Raises DisassemblerError without an nvdisasm that reads the cubin, and if there is no such loop.
    """
    program, jumps = _parse(disassembled(cubin))
    found = [
        (first, last)
        for last, first in sorted(jumps.items())
        if first <= last
        and _count(program[first : last + 1], "BAR")
        and _count(program[first : last + 1], *MULTIPLY_ADDS) >= multiply_adds
    ]
    if not found:
        raise DisassemblerError(f"no loop has a barrier and {multiply_adds} multiply-adds")
    innermost = [
        (first, last)
        for first, last in found
        if not any((first, last) != other and first <= other[0] and other[1] <= last for other in found)
    ]
    return [_facts(program[first : last + 1]) for first, last in innermost]


def _facts(body: Sequence[Instruction]) -> Loop:
    return Loop(
        instructions=len(body),
        multiply_adds=_count(body, *MULTIPLY_ADDS),
        ahead=min(_ahead(body, at) for at, one in enumerate(body) if one.opcode[0] == "LDG"),
        conversions=_count(body, *CONVERSIONS),
        shared_bits=min(one.bits for one in body if one.opcode[0] == "LDS"),
        local=_count(body, "LDL", "STL"),
    )


def _ahead(body: Sequence[Instruction], at: int) -> int:
    """Multiply-adds from the load at this position to the first wait for it, in this iteration or the next."""
    passed = 0
    for one in [*body[at + 1 :], *body[: at + 1]]:
        if one.waits_for(body[at]):
            break
        passed += one.opcode[0] in MULTIPLY_ADDS
    return passed


def _count(body: Sequence[Instruction], *names: str) -> int:
    return sum(one.opcode[0] in names for one in body)


@functools.cache
def disassembler() -> str:
    """The path of nvdisasm, from one of Python's packages or from PATH. Raises DisassemblerError if there is none."""
    places = (path for folder in sys.path for path in sorted(Path(folder or ".").glob("nvidia/*/bin/nvdisasm*")))
    found = next((str(path) for path in places), None) or shutil.which("nvdisasm")
    if found is None:
        raise DisassemblerError("nvdisasm is not installed; pip install nvidia-cuda-nvdisasm")
    return found


def disassembled(cubin: bytes) -> str:
    """The instructions as nvdisasm prints them. Raises DisassemblerError as loops_over_panels does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        result = subprocess.run([disassembler(), "-hex", "-c", str(path)], capture_output=True, text=True)
    if result.returncode:
        raise DisassemblerError(f"nvdisasm: {(result.stderr or result.stdout).strip()[:200]}")
    return result.stdout


def _parse(text: str) -> tuple[list[Instruction], dict[int, int]]:
    """The instructions, and for each branch its target; both are numbers of instructions."""
    program: list[Instruction] = []
    labels: dict[str, int] = {}
    branches: dict[int, str] = {}
    for line in text.splitlines():
        label, instruction, encoding = _LABEL.match(line), _LINE.match(line), _ENCODING.search(line)
        if label:
            labels[label[1]] = len(program)
        elif instruction and instruction[1].strip():
            branch = _BRANCH.search(instruction[1])
            if branch and instruction[1].startswith("BRA"):
                branches[len(program)] = branch[1]
            program.append(Instruction(instruction[1].strip()))
        elif encoding and program:  # the upper half, on a line of its own
            control = int(encoding[1], 16) >> 41
            program[-1].sets, program[-1].waits = control >> 5 & 7, control >> 11 & 63
    return program, {at: labels[name] for at, name in branches.items() if name in labels}
