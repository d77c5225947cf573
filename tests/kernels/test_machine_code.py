"""Checks what kernels/product.cuh promises about its loop against the compiler's machine code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gpunet.engines.cuda import machine_code, sources
from gpunet.engines.cuda.architectures import ARCHITECTURES
from gpunet.engines.cuda.compiler import compile_to_cubin
from gpunet.engines.cuda.configuration import Tile
from gpunet.engines.cuda.machine_code import DisassemblerError, Loop
from gpunet.kernel_report import Job, Row, compile_jobs, configurations
from support.devices import refuse_or_skip

pytest.importorskip("cupy_backends", reason="the CUDA compiler comes with CuPy, which has no wheel for this system")

# One of each group with the same loop: the activation and the optimizer's rule come after the loop.
REPRESENTATIVE = {"ACTIVATION": "sigmoid", "OPTIMIZER": "adam"}
LOOPS = {"dense_update_pair": 2, "dense_backward_update": 2}  # a kernel has one for each of its products


@pytest.fixture(autouse=True)
def _nvdisasm() -> None:
    try:
        machine_code.disassembler()
    except DisassemblerError as error:
        refuse_or_skip("CI", str(error))


def tiled_products(number: int, kernel: str | None = None) -> list[Job]:
    (architecture,) = [one for one in ARCHITECTURES if one.number == number]
    return [
        (one, architecture)
        for one in configurations(architecture)
        if one.tile
        and kernel in (None, one.kernel)
        and all(dict(one.defines).get(name, value) == value for name, value in REPRESENTATIVE.items())
        # Float images: two copies of a loop that bytes have one of.
        and (one.kernel, dict(one.defines).get("INPUT_BYTES")) != ("dense_update_pair", 0)
    ]


def complaints(row: Row) -> list[str]:
    """The promises that a loop breaks."""
    found = [one for loop in row.loops for one in _complaints(loop, row.configuration.tile)]
    if len(row.loops) != LOOPS.get(row.configuration.kernel, 1):
        found.append(f"{len(row.loops)} loops over panels")
    return [f"sm_{row.architecture.number} {row.configuration}: {one}" for one in found]


def _complaints(loop: Loop, tile: Tile | None) -> list[str]:
    assert tile is not None
    found = []
    if loop.multiply_adds != tile.multiply_adds:
        found.append(f"{loop.multiply_adds} multiply-adds a round, expected {tile.multiply_adds}")
    if loop.ahead < loop.multiply_adds / 2:
        found.append(f"a load is waited for after {loop.ahead} of {loop.multiply_adds} multiply-adds")
    if loop.conversions:
        found.append(f"{loop.conversions} conversions")
    if loop.shared_bits < 32 * min(4, tile.thread_m):  # two rows of a small tile are 64 bits
        found.append(f"loads of {loop.shared_bits} bits from shared memory")
    if loop.local:
        found.append(f"{loop.local} accesses of local memory")
    return found


@pytest.mark.parametrize("number", [86, 90])
def test_loads_are_issued_half_a_panels_multiply_adds_ahead(number: int) -> None:
    rows = list(compile_jobs(tiled_products(number), code=True))
    # Three tiles each: forward and update of float and of bytes, update without bias, backward. Two tiles each: two
    # updates, the first of bytes, and a backward step beside an update.
    assert len(rows) == 18 + 4
    bad = [one for row in rows for one in complaints(row)]
    assert not bad, "\n".join(bad)


def test_a_block_waits_for_memory_once_when_it_counts_itself_in() -> None:
    """One operation that releases and acquires, and no sequentially consistent fence."""
    (configuration, architecture), *_ = tiled_products(90, "dense_backward")
    _, cubin = compile_to_cubin(configuration.kernel, dict(configuration.defines), architecture.number)
    code = machine_code.disassembled(cubin)
    assert code.count("MEMBAR") == 1
    assert "MEMBAR.SC" not in code


def mutated(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, *changes: tuple[str, str]) -> None:
    """Compile with a changed header from here on."""
    shutil.copytree(sources.source_folder(), folder / "kernels")
    path = folder / "kernels" / name
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    monkeypatch.setattr(sources, "source_folder", lambda: folder / "kernels")


def test_a_conversion_right_after_the_load_is_noticed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch, zero = "source.fetch(now[i], column)", "make_float4(0.0f, 0.0f, 0.0f, 0.0f)"
    mutated(
        tmp_path, monkeypatch, "product.cuh",
        ("typename Source::Four staged", "float4 staged"),
        (f"staged[i] = {fetch};", f"staged[i] = source.values({fetch}, true, column);"),
        ("source.values(staged[i], inside, column)", f"(inside && column >= 0 ? staged[i] : {zero})"),
    )  # fmt: skip
    jobs = tiled_products(90, "dense_update")
    assert any("is waited for after 0 of" in one for row in compile_jobs(jobs, code=True) for one in complaints(row))


def test_a_conversion_in_the_special_function_unit_is_noticed(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = "__uint_as_float(__byte_perm(word, __float_as_uint(TWO_TO_23), 0x7650 + number)) - TWO_TO_23"
    mutated(tmp_path, monkeypatch, "matrix.cuh", (exact, "(float)(word >> 8 * number & 255u) + 0.0f * TWO_TO_23"))
    jobs = [job for job in tiled_products(90, "dense_update") if dict(job[0].defines)["INPUT_BYTES"] == 1]
    assert any("conversions" in one for row in compile_jobs(jobs, code=True) for one in complaints(row))


def test_a_kernel_without_such_a_loop_is_refused() -> None:
    (configuration, architecture), *_ = tiled_products(90, "dense_backward")
    _, cubin = compile_to_cubin(configuration.kernel, dict(configuration.defines), architecture.number)
    with pytest.raises(DisassemblerError, match="no loop has a barrier and 4096 multiply-adds"):
        machine_code.loops_over_panels(cubin, 4096)
    with pytest.raises(DisassemblerError, match="nvdisasm: "):
        machine_code.loops_over_panels(b"no machine code", 64)
