"""`python -m gpunet.kernel_report`: what each kernel needs on every GPU generation, from the compiler. Needs no GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from gpunet import commandline
from gpunet.engines.cuda import persistent_plan, tiled_plan
from gpunet.engines.cuda.architectures import ARCHITECTURES, Architecture
from gpunet.engines.cuda.compiler import Resources, compile_kernel, compile_to_cubin
from gpunet.engines.cuda.configuration import Configuration
from gpunet.engines.cuda.machine_code import OLDEST, DisassemblerError, Loop, disassembler, loops_over_panels

PROGRAM = "gpunet.kernel_report"
SHAPE_DEFINES = ("TILE_M", "TILE_N", "TILE_K")


class Row(NamedTuple):
    """A configuration compiled for an architecture. loops: of its tiled products, if the machine code was read."""

    configuration: Configuration
    architecture: Architecture
    resources: Resources
    loops: Sequence[Loop] = ()

    @property
    def resident_blocks(self) -> int:
        needed = self.configuration
        return self.architecture.resident_blocks(self.resources, needed.threads, needed.shared_bytes)


def configurations(architecture: Architecture) -> Iterator[Configuration]:
    """Every kernel in every configuration that engines use on such a GPU; for the persistent engine, examples."""
    yield from tiled_plan.configurations(architecture.capability)
    yield from persistent_plan.configurations(architecture)
    yield Configuration("try_out", (), threads=1, resident_blocks=1)  # the diagnosis'


Job = tuple[Configuration, Architecture]


def compile_all(architectures: Sequence[Architecture], kernel: str | None = None, code: bool = False) -> Iterator[Row]:
    """Every configuration that engines use (of one kernel, if named), compiled for every architecture.

    code: read the tiled products' machine code, where nvdisasm can.
    Raises CompileError for the first that does not compile without a warning, DisassemblerError without nvdisasm.
    """
    jobs = (
        (configuration, architecture)
        for architecture in architectures
        for configuration in configurations(architecture)
        if kernel in (None, configuration.kernel)
    )
    return compile_jobs(jobs, code)


def compile_jobs(jobs: Iterable[Job], code: bool = False) -> Iterator[Row]:
    """These configurations for these architectures; otherwise as compile_all."""

    def row(job: Job) -> Row:
        configuration, architecture = job
        kernel, tile = configuration.kernel, configuration.tile
        if not (code and tile and architecture.number >= OLDEST):
            resources = compile_kernel(kernel, dict(configuration.defines), architecture.number)
            return Row(configuration, architecture, resources[kernel])
        resources, cubin = compile_to_cubin(kernel, dict(configuration.defines), architecture.number)
        return Row(configuration, architecture, resources[kernel], loops_over_panels(cubin, tile.multiply_adds))

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the compiler runs outside Python's lock
        yield from pool.map(row, jobs)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return commandline.run(PROGRAM, _report, argv)


def _report(argv: Sequence[str] | None) -> int:
    parser = commandline.Parser(prog=PROGRAM, description="Compile every kernel for every GPU generation.")
    numbers = [architecture.number for architecture in ARCHITECTURES]
    parser.add_argument("--sm", type=int, nargs="+", choices=numbers, default=numbers, help="architectures (all)")
    parser.add_argument("--kernel", help="one kernel only, by name")
    options = parser.parse_args(argv)
    architectures = [architecture for architecture in ARCHITECTURES if architecture.number in options.sm]
    known = sorted({configuration.kernel for configuration in configurations(ARCHITECTURES[-1])})
    if options.kernel not in (None, *known):
        parser.error(f"--kernel: expected one of {', '.join(known)}; got {options.kernel!r}")
    print(f"{'kernel':<24}{'configuration':<62}{'sm':>4}{'threads':>9}{'registers':>11}{'shared B':>10}"
          f"{'spilled B':>11}{'blocks/SM':>11}{'ahead':>7}{'I2F':>5}{'LDS bits':>10}{'local':>7}")  # fmt: skip
    code, why = _disassembler_is_there()
    for row in compile_all(architectures, options.kernel, code):
        needs = row.resources
        shared = needs.shared_bytes + row.configuration.shared_bytes
        print(
            f"{row.configuration.kernel:<24}{_describe(row.configuration):<62}{row.architecture.number:>4}"
            f"{row.configuration.threads:>9}{needs.registers:>11}{shared:>10}{needs.spill_bytes:>11}"
            f"{row.resident_blocks:>11}{_worst(row.loops)}",
            flush=True,
        )
    print(
        f"\nThe last four: of a tiled product's loop over panels, from the machine code (sm_{OLDEST} and newer){why}.\n"
        "ahead: multiply-adds from a load to the first wait for it, as a share of a panel's, the least of all loads;\n"
        "I2F: conversions; LDS bits: the narrowest load from shared memory; local: memory that stands in for registers."
    )
    return commandline.DONE


def _disassembler_is_there() -> tuple[bool, str]:
    try:
        disassembler()
    except DisassemblerError as error:
        return False, f"; {error}"
    return True, ""


def _worst(loops: Sequence[Loop]) -> str:
    """Of a kernel's loops, the worst of each."""
    if not loops:
        return f"{'-':>7}{'-':>5}{'-':>10}{'-':>7}"
    ahead = min(loop.ahead / loop.multiply_adds for loop in loops)
    conversions, local = (max(getattr(loop, name) for loop in loops) for name in ("conversions", "local"))
    return f"{ahead:>7.0%}{conversions:>5}{min(loop.shared_bits for loop in loops):>10}{local:>7}"


def _describe(configuration: Configuration) -> str:
    defines = dict(configuration.defines)
    if configuration.kernel == "persistent_epoch":
        widths = str(defines["WIDTHS"]).replace(",", "-")
        return (
            f"{widths} {defines['OPTIMIZER']} batch={defines['BATCH']} blocks={defines['BLOCKS']} "
            f"arrays in shared memory {defines['IN_SHARED']}"
        )
    shape = " x ".join(str(defines[name]) for name in SHAPE_DEFINES if name in defines)
    hidden = (*SHAPE_DEFINES, "THREAD_M", "THREAD_N", "RESIDENT_BLOCKS")
    others = [f"{name.lower()}={value}" for name, value in defines.items() if name not in hidden]
    return " ".join([shape, *others]).strip()


if __name__ == "__main__":
    sys.exit(main())
