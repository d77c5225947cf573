"""Kernels run in a process of their own, built with the address sanitizer. runtime/program.cpp is the other side."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import struct
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from .arrays import Argument, EmulatedArray
from .errors import AddressError, EmulatorError
from .launches import Launch, Signature
from .places import resolve

_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:halt_on_error=1:symbolize=1:color=never",
    "UBSAN_OPTIONS": "print_stacktrace=0:halt_on_error=1:color=never",
}
_UNDEFINED = re.compile(r"^(?:\S*/)?([^\s/]+\.cuh?:\d+):\d+: runtime error: (.*)$", re.MULTILINE)
_FRAME = re.compile(r"^\s*#\d+ .*?([^\s/]+\.cuh?:\d+)", re.MULTILINE)
_KIND = re.compile(r"ERROR: AddressSanitizer: (\S+)")
_ACCESS = re.compile(r"^(READ|WRITE) of size (\d+)", re.MULTILINE)
_VARIABLE = re.compile(r"(?:global variable|\[\d+, \d+\)) '(\w+)'")
_OUT_OF_BOUNDS = ("misaligned address", "out of bounds", "null pointer", "insufficient space", "pointer index")


class Program:
    """The program of one kernel source; started again after an error, which ends it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.signatures = dict(self._start())

    def run(self, launch: Launch, signature: Signature, arguments: Sequence[Argument]) -> tuple[int, str]:
        """Run a launch; returns the outcome (0: finished) and its message."""
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        ranges = _ranges(arguments)
        owners = [_owner(ranges, argument) for argument in arguments]
        slots = signature.slots(arguments)
        numbers = [slot if owner < 0 else slot - ranges[owner][0] for slot, owner in zip(slots, owners, strict=True)]
        written = {owner for i, owner in enumerate(owners) if signature.writes(i)}
        request, answer = process.stdin, process.stdout
        try:
            request.write(bytes(launch))
            request.write(
                struct.pack(f"=II{len(numbers)}Q{len(owners)}i", len(numbers), len(ranges), *numbers, *owners)
            )
            for i, (start, end) in enumerate(ranges):
                request.write(struct.pack("=QQQ", end - start, start % 256, i in written))
            for start, end in ranges:
                request.write(_bytes_at(start, end))
            request.flush()
            outcome, length = struct.unpack("=ii", _receive(answer, 8))
            message = _receive(answer, length).decode()
            if outcome == 0:
                for i in sorted(written):
                    _bytes_at(*ranges[i])[:] = _receive(answer, ranges[i][1] - ranges[i][0])
        except (EOFError, BrokenPipeError):
            raise _explain(self._stop()) from None
        if outcome:
            self._stop()
        return outcome, resolve(self._path, message, arguments)

    def _start(self) -> list[tuple[str, str]]:
        """Start the process; returns the names and signatures of its kernels, which it sends first."""
        messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        process = subprocess.Popen(
            [self._path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            env={**os.environ, **_OPTIONS},
        )
        self._process: subprocess.Popen[bytes] | None = process
        self._end = weakref.finalize(self, _end, process, messages)
        assert process.stdout is not None
        kernels: list[tuple[str, str]] = []
        while line := process.stdout.readline().decode().rstrip("\n"):
            name, _, signature = line.partition(" ")
            kernels.append((name, signature))
        if not kernels:
            raise _explain(self._stop())
        return kernels

    def _stop(self) -> str:
        """End the process; returns what it wrote to standard error."""
        self._process = None
        report = self._end()
        return report.decode(errors="replace") if report else ""


def _explain(report: str) -> EmulatorError:
    thread = _first(re.search(r"^gpunet thread: (.*)$", report, re.MULTILINE), "unknown thread")
    undefined = _UNDEFINED.search(report)
    if undefined:
        what = re.sub(r"0x[0-9a-f]+", "", undefined[2]).replace("  ", " ")
        kind = AddressError if any(phrase in what for phrase in _OUT_OF_BOUNDS) else EmulatorError
        return kind(f"{what} at {undefined[1]}, {thread}")
    found = _KIND.search(report)
    if not found:
        return EmulatorError(f"the program of the address sanitizer ended: {report.strip()[-2000:] or 'no message'}")
    access = _ACCESS.search(report)
    did = f"{access[1].lower()} of {access[2]} bytes, " if access else ""
    where = _first(_FRAME.search(report), "an unknown line")
    memory = _first(re.search(r"^gpunet memory: (.*)$", report, re.MULTILINE), "")
    variable = _first(_VARIABLE.search(report), "")
    place = f", {memory}" if memory else f", near the variable {variable}" if variable else ""
    kind = EmulatorError if found[1] == "FPE" else AddressError
    return kind(f"{did}{found[1]} at {where}, {thread}{place}")


def _first(match: re.Match[str] | None, otherwise: str) -> str:
    return match[1] if match else otherwise


def _ranges(arguments: Sequence[Argument]) -> list[tuple[int, int]]:
    """Start and end address of the arrays; those that overlap (views of one array) as one."""
    spans = sorted((a.address, a.address + a.nbytes) for a in arguments if isinstance(a, EmulatedArray))
    ranges: list[tuple[int, int]] = []
    for start, end in spans:
        if ranges and (start < ranges[-1][1] or (start, end) == ranges[-1]):
            ranges[-1] = ranges[-1][0], max(end, ranges[-1][1])
        else:
            ranges.append((start, end))
    return ranges


def _owner(ranges: list[tuple[int, int]], argument: Argument) -> int:
    if not isinstance(argument, EmulatedArray):
        return -1
    first, last = argument.address, argument.address + argument.nbytes
    return next(i for i, (start, end) in enumerate(ranges) if start <= first and last <= end)


def _bytes_at(start: int, end: int) -> memoryview:
    return memoryview((ctypes.c_ubyte * (end - start)).from_address(start)).cast("B")


def _receive(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _end(process: subprocess.Popen[bytes], messages: IO[bytes]) -> bytes:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    process.wait()
    with messages:
        messages.seek(0)
        return messages.read()
