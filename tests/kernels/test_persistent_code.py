"""Checks what kernels/exchange.cuh and persistent_input.cuh promise about machine code against the compiler's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from gpunet.engines.cuda import compiler, sources
from gpunet.engines.cuda import machine_code as machine_code_reader
from gpunet.engines.cuda.architectures import ARCHITECTURES
from gpunet.engines.cuda.persistent_plan import make_plan
from gpunet.layers import LECTURE
from support.devices import refuse_or_skip

pytest.importorskip("cupy_backends", reason="the CUDA compiler comes with CuPy, which has no wheel for this system")

(H100,) = [architecture for architecture in ARCHITECTURES if architecture.number == 90]
POLL = "LDG.E.128.STRONG.GPU"


def machine_code(folder: Path, batch: int, text: str | None = None) -> list[str]:
    """Instructions of the persistent kernel for an H100, bytes as inputs; `text` in place of the kernel's source."""
    try:
        disassembler = machine_code_reader.disassembler()
    except machine_code_reader.DisassemblerError as error:
        refuse_or_skip("CI", str(error))
    defines = make_plan(LECTURE, "adam", batch, True, True, H100).defines
    if text is None:
        _, code = compiler.compile_to_cubin("persistent_epoch", defines, H100.number)
    else:
        (code,) = compiler.machine_code([compiler.program("persistent_epoch", text, defines, H100.number)], print)
        code += b"\0"  # CuPy drops the last byte
    cubin = folder / f"{batch}.cubin"
    cubin.write_bytes(code)
    listing = subprocess.run([disassembler, "-c", cubin], capture_output=True, text=True, check=True).stdout
    return re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(\S.*?)\s*;", listing)


def polls_in_a_row(code: list[str]) -> list[int]:
    """Sizes of the groups of polls between which nothing branches; a poll with a condition is a group by itself."""
    groups, size = [], 0
    for instruction in code:
        if POLL in instruction:
            size += 1
        ends = re.search(r"\b(BRA|BSYNC|BSSY|EXIT)\b", instruction)
        if size and (ends or (instruction.startswith("@") and POLL in instruction)):
            groups.append(size)
            size = 0
    return groups


def test_all_packets_of_a_group_are_requested_in_a_row(tmp_path) -> None:
    """Batch size 10: five examples' packets, three places in the code for each of the two exchanges."""
    assert polls_in_a_row(machine_code(tmp_path, 10)) == [5] * 6


@pytest.mark.parametrize("batch", [1, 10])
def test_bytes_become_floats_without_conversions_and_nothing_is_spilled(tmp_path, batch: int) -> None:
    code = machine_code(tmp_path, batch)
    assert not [one for one in code if re.search(r"\bI2F\.(\w+\.)*U(8|16)\b|\b(LDL|STL)\b", one)]
    assert sum("PRMT" in one for one in code) >= 8


def test_conditional_polls_and_conversions_would_be_noticed(tmp_path) -> None:
    text = sources.read_source("persistent_epoch")
    call = "if constexpr (LENGTH > 1) load_two"
    assert text.count(call) == 1
    asked = text.replace(call, "if constexpr (LENGTH > 1) if ((unsigned)(to[FIRST] >> 32) != tag) load_two")
    asked = asked.replace("Group arrivals;", "Group arrivals{};")
    assert polls_in_a_row(machine_code(tmp_path, 10, asked)) != [5] * 6
    converted, count = re.subn(
        r"return __uint_as_float\(__byte_perm.*", "return (float)(word >> 8 * number & 255u);", text
    )
    assert count == 1
    assert [one for one in machine_code(tmp_path, 1, converted) if re.search(r"\bI2F", one) and "U8" in one]
