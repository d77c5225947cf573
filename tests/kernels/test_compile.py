"""Every kernel, in every configuration that engines use, compiled for every GPU generation. Needs no GPU."""

from __future__ import annotations

import re

import pytest

from gpunet.engines.cuda import compiler
from gpunet.engines.cuda.architectures import ARCHITECTURES, Architecture
from gpunet.engines.cuda.compiler import CompileError, Resources, compile_kernel
from gpunet.engines.cuda.persistent_plan import make_plan
from gpunet.engines.cuda.sources import source_folder
from gpunet.kernel_report import Row, compile_all, configurations
from gpunet.layers import Network
from gpunet.optimizers import RULES

(H100,) = [architecture for architecture in ARCHITECTURES if architecture.number == 90]

pytest.importorskip("cupy_backends", reason="the CUDA compiler comes with CuPy, which has no wheel for this system")


def complaints(row: Row) -> list[str]:
    """What is wrong with a compiled kernel: spills, a stack, or fewer resident blocks than promised."""
    found = []
    if row.resources.spill_bytes or row.resources.stack_bytes:
        found.append(f"{row.resources.spill_bytes} bytes spilled, {row.resources.stack_bytes} bytes of stack")
    if row.resident_blocks < row.configuration.resident_blocks:
        found.append(f"{row.resident_blocks} blocks an SM, promised {row.configuration.resident_blocks}")
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: f"sm_{architecture.number}")
def test_every_kernel_compiles_within_budget_for(architecture: Architecture) -> None:
    from cupy_backends.cuda.libs import nvrtc

    if architecture.number not in nvrtc.getSupportedArchs():
        pytest.skip(f"NVRTC {nvrtc.getVersion()} no longer or not yet compiles for sm_{architecture.number}")
    rows = list(compile_all([architecture]))
    assert len(rows) == len(list(configurations(architecture))) > 50
    bad = [f"{row.configuration}: {', '.join(complaints(row))}" for row in rows if complaints(row)]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("optimizer", RULES)
def test_the_persistent_kernel_compiles_with_every_optimizer(optimizer: str) -> None:
    plan = make_plan(Network((4, 8, 2), ("sigmoid", "softmax")), optimizer, 1, True, True, H100)
    compile_kernel("persistent_epoch", plan.defines, H100.number)


def test_the_persistent_kernel_without_biases_needs_no_more_registers() -> None:
    def resources(biases: tuple[bool, ...]) -> Resources:
        network = Network((20, 40, 40, 5), ("sigmoid", "sigmoid", "softmax"), biases)
        plan = make_plan(network, "adam", 1, True, True, H100)
        return compile_kernel("persistent_epoch", plan.defines, H100.number)["persistent_epoch"]

    without, whole = resources((False, False, False)), resources(())
    assert (without.spill_bytes, without.stack_bytes) == (0, 0)
    assert without.registers <= whole.registers


def test_every_kernel_source_is_compiled() -> None:
    used = {configuration.kernel for configuration in configurations(H100)}
    assert used == {path.stem for path in source_folder().glob("*.cu")}


def test_comments_end_within_120_columns() -> None:
    lines = [(path.name, line) for path in source_folder().glob("*.cu*") for line in path.read_text().splitlines()]
    assert not [(name, line) for name, line in lines if "//" in line and len(line) > 120]


def test_configurations_differ_from_one_another() -> None:
    listed = list(configurations(H100))
    assert len(set(listed)) == len(listed)


def test_kernel_headers_promise_what_configurations_require() -> None:
    """The header comment of a kernel names every number of resident blocks that is asked for."""
    for architecture in ARCHITECTURES:
        for configuration in configurations(architecture):
            header = (source_folder() / f"{configuration.kernel}.cu").read_text().split("#include")[0]
            (promise,) = re.findall(r"^// Residency (.*)", header, re.MULTILINE)
            assert str(configuration.resident_blocks) in re.findall(r"\d+", promise), configuration


@pytest.fixture
def broken(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Compile a text as a kernel."""

    def compile_text(text: str, architecture: int = 75) -> dict[str, Resources]:
        (tmp_path / "broken.cu").write_text(text)
        monkeypatch.setattr("gpunet.engines.cuda.sources.source_folder", lambda: tmp_path)
        return compile_kernel("broken", {}, architecture)

    return compile_text


def test_a_warning_is_an_error(broken) -> None:
    with pytest.raises(CompileError, match=r"warning.*never referenced"):
        broken('extern "C" __global__ void broken(float* x) { int unused; x[0] = 1; }')


def test_reports_are_cached_until_source_options_or_compiler_change(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compiled, compile_now = [], compiler._compile

    def counting(program: compiler.Program) -> tuple[bytes, str]:
        compiled.append(program.name)
        return compile_now(program)

    monkeypatch.setattr(compiler, "_compile", counting)
    text = 'extern "C" __global__ void kept(float* x) { x[0] = 1; }'

    def report(architecture: int = 90) -> dict[str, Resources]:
        (tmp_path / "kept.cu").write_text(text)
        monkeypatch.setattr("gpunet.engines.cuda.sources.source_folder", lambda: tmp_path)
        return compile_kernel("kept", {}, architecture)

    first = report()
    assert report() == first
    machine_code = compiler.compile_to_cubin("kept", {}, 90)[1]  # kept beside the report
    assert len(compiled) == 1
    assert machine_code == compile_now(compiler.program("kept", text, {}, 90, compiler.REPORT_OPTIONS))[0] + b"\0"
    report(80)
    assert len(compiled) == 2
    text = text.replace("1", "2")
    assert report() == first
    assert len(compiled) == 3
    monkeypatch.setattr(compiler, "_compiler", lambda: "another")
    report()
    assert len(compiled) == 4
    for kept in (tmp_path / "cache" / "gpunet" / "compiler").iterdir():
        kept.write_bytes(kept.read_bytes().replace(b"registers", b"registrars"))
    assert report() == first
    assert len(compiled) == 5


def test_an_error_names_file_and_line(broken) -> None:
    with pytest.raises(CompileError, match=r"broken\.cu\(2\)"):
        broken('extern "C" __global__ void broken(float* x) {\n x = 1.0f; }')


def test_an_activation_without_a_formula_does_not_compile(broken, tmp_path) -> None:
    """It was taken for linear."""
    for header in source_folder().glob("*.cuh"):
        text = header.read_text().replace("enum Activation { linear,", "enum Activation { linear, newcomer,")
        (tmp_path / header.name).write_text(text)
    for call in ("activate", "activation_derivative"):
        kernel = f'extern "C" __global__ void broken(float* x) {{ x[0] = {call}<newcomer>(x[0]); }}'
        with pytest.raises(CompileError, match=f"{call} has no formula"):
            broken(f'#include "activation.cuh"\n{kernel}')


def test_spills_and_stack_are_seen(broken) -> None:
    spilling = """
    extern "C" __global__ void __launch_bounds__(1024, 2) broken(float* x) {
        float kept[96];
        #pragma unroll
        for (int i = 0; i < 96; ++i) kept[i] = x[threadIdx.x + i * 1024];
        __syncthreads();
        #pragma unroll
        for (int i = 0; i < 96; ++i) x[threadIdx.x * 96 + i] = kept[(i * 7) % 96] * kept[95 - i];
    }"""
    resources = broken(spilling, 80)["broken"]
    assert resources.spill_bytes > 0
    assert resources.stack_bytes > 0
    assert resources.registers == 32


@pytest.mark.parametrize(
    ("number", "registers", "shared", "threads", "expected"),
    [
        (52, 64, 0, 256, 4),  # by registers
        (52, 32, 49152, 256, 2),  # by shared memory
        (75, 32, 0, 256, 4),  # by threads: 1024
        (86, 16, 0, 32, 16),  # by blocks
        (80, 16, 16384, 64, 9),  # 164 KB hold nine blocks of 16 KB and 1 KB for the system
        (90, 65, 0, 256, 3),  # 65 registers count as 72
    ],
)
def test_persistent_blocks_are_counted_as_the_occupancy_calculator_does(number, registers, shared, threads, expected):
    (architecture,) = [each for each in ARCHITECTURES if each.number == number]
    assert architecture.resident_blocks(Resources(registers, shared, 0, 0), threads) == expected
