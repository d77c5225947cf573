"""`python bench/bounds.py`: bytes and operations of an update of the lecture's network, and the least time they take.

A launch takes at least the time of its operations at the peak rate, and the time of its bytes through memory. Bytes are
counted once per launch, from DRAM. That is a bound for a GPU whose cache cannot hold the weights and their moments
(7.8 MB); a larger cache can do better. Rates are from data sheets, not measured.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gpunet import commandline
from gpunet.layers import LECTURE

PROGRAM = "bounds.py"
BATCH_SIZES = (1, 10, 100, 1000, 10_000)
FLOAT, BYTE = 4, 1
ADAM_ARRAYS = 6  # weights, m and v, each read and written
ADAM_OPERATIONS = 13  # of the step, per weight; a square root and a division count as one each


class Cost(NamedTuple):
    """What a launch moves and computes."""

    kernel: str
    bytes: int
    operations: int


class Gpu(NamedTuple):
    """Peak rates from the data sheet: bytes per second of memory, float32 operations per second (an FMA is two)."""

    name: str
    bandwidth: float
    operations: float

    def microseconds(self, cost: Cost) -> float:
        """The time for a launch if its bytes come from DRAM and nothing else costs anything."""
        return 1e6 * max(cost.bytes / self.bandwidth, cost.operations / self.operations)


GTX_980 = Gpu("GTX 980", 224e9, 4.98e12)
H100 = Gpu("H100 SXM", 3.35e12, 66.9e12)


def costs(widths: tuple[int, ...], batch: int, input_bytes: int = BYTE) -> Iterator[Cost]:
    """The operations of one update with Adam, in the tiled engine's order, as if each were a launch of its own.

    input_bytes: bytes per number in the first layer's input.
    """
    layers = list(itertools.pairwise(widths))
    sizes = [input_bytes, *[FLOAT] * (len(layers) - 1)]
    for size, (inputs, units) in zip(sizes, layers, strict=True):
        moved = size * batch * inputs + FLOAT * ((inputs + 1) * units + batch * units)
        yield Cost(f"dense_forward {inputs}-{units}", moved, 2 * batch * inputs * units)
    yield Cost(f"softmax_cross_entropy {widths[-1]}", FLOAT * (2 * batch * widths[-1] + batch), 5 * batch * widths[-1])
    backward = [_backward(batch, *layer) for layer in layers]
    update = [_update(batch, *layer, size) for size, layer in zip(sizes, layers, strict=True)]
    for number in range(len(layers) - 1, 0, -1):  # the update of a layer comes with the backward step below it
        yield backward[number]
        yield from update[number + 1 : number + 2]
    yield from reversed(update[:2])


def _backward(batch: int, inputs: int, units: int) -> Cost:
    moved = FLOAT * (batch * units + inputs * units + 2 * batch * inputs)
    return Cost(f"dense_backward {inputs}-{units}", moved, 2 * batch * inputs * units)


def _update(batch: int, inputs: int, units: int, size: int) -> Cost:
    weights = (inputs + 1) * units
    moved = size * batch * inputs + FLOAT * (batch * units + ADAM_ARRAYS * weights)
    return Cost(f"dense_update {inputs}-{units}", moved, (2 * batch + ADAM_OPERATIONS) * weights)


# Of launches that make several operations; see kernels/.
OPERATIONS = {"dense_output": 3, "dense_backward_update": 2, "dense_update_pair": 2}


def costs_of(kernels: Iterable[str], widths: tuple[int, ...], batch: int) -> Iterator[Cost]:
    """What each launch of an update moves and computes, given its kernel: the sum over its operations."""
    operations = costs(widths, batch)
    for kernel in kernels:
        together = list(itertools.islice(operations, OPERATIONS.get(kernel.removesuffix("_vector"), 1)))
        layers = list(dict.fromkeys(cost.kernel.split()[1] for cost in together))
        which = layers[0] if kernel == "dense_output" else "+".join(layers)
        yield Cost(f"{kernel} {which}", sum(c.bytes for c in together), sum(c.operations for c in together))
    if left := list(operations):
        raise ValueError(f"the launches leave out {', '.join(cost.kernel for cost in left)}")


def kernel_table(batch: int) -> str:
    """The operations of one update, as Markdown."""
    lines = [
        f"| operation, batch {batch:,} | KB | million operations | GTX 980, us | H100 from DRAM, us |",
        "|---|---|---|---|---|",
    ]
    for cost in costs(LECTURE.widths, batch):
        lines.append(
            f"| {cost.kernel} | {cost.bytes / 1e3:,.0f} | {cost.operations / 1e6:,.2f} "
            f"| {GTX_980.microseconds(cost):,.1f} | {H100.microseconds(cost):,.2f} |"
        )
    return "\n".join(lines)


def update_table() -> str:
    """Whole updates for each batch size, as Markdown; an epoch has 50,000 examples."""
    lines = [
        "| batch size | MB per update | million operations | GTX 980, us | s per epoch "
        "| H100 from DRAM, us | s per epoch |",
        "|---|---|---|---|---|---|---|",
    ]
    for batch in BATCH_SIZES:
        update = list(costs(LECTURE.widths, batch))
        row = [f"{sum(c.bytes for c in update) / 1e6:,.1f}", f"{sum(c.operations for c in update) / 1e6:,.0f}"]
        for gpu in (GTX_980, H100):
            least = sum(gpu.microseconds(cost) for cost in update)
            row += [f"{least:,.1f}", f"{least * 50_000 / batch / 1e6:.3f}"]
        lines.append(f"| {batch:,} | {' | '.join(row)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _bounds, argv)


def _bounds(argv: Sequence[str] | None) -> int:
    parser = commandline.Parser(prog=PROGRAM, description="Print the bytes, operations and least times of an update.")
    parser.parse_args(argv)
    print(update_table(), kernel_table(1), kernel_table(100), sep="\n\n", flush=True)
    return commandline.DONE


if __name__ == "__main__":
    sys.exit(main())
