"""The compiled engine's innermost loops, written as LLVM vector code.

A compiler vectorizes plain loops if it can prove that arrays do not overlap. In the loops that decide the engine's
speed it cannot, and sums that should stay in registers go through memory. So these loops are written with explicit
vectors. LLVM maps them onto whatever the processor has. compiler.py turns each into a C function, called by its
address; what depends on an activation or an optimizer is in formulas.py.

Matrices are stored in panels: two vectors of columns at a time (one for the last panel, if that is enough), each panel
(rows, its width) row-major. A panel's rows are contiguous in memory, so passes over a matrix are sequential, and two
vectors of a panel's row stay in registers while a loop runs down the panel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import config

Value = Any  # an llvmlite value; llvmlite has no type hints


def _shape_of_tiles(features: Mapping[str, bool]) -> tuple[int, int]:
    """(floats in a vector, rows of a tile). With two vectors per row, the tile's sums just fit into the registers."""
    if features.get("avx512f"):
        return 16, 14
    if features.get("avx"):
        return 8, 6
    return 4, 14 if features.get("neon") else 6


def _features() -> Mapping[str, bool]:
    """The features of the processor that Numba compiles for."""
    if config.CPU_FEATURES is None:
        return dict(llvmlite.binding.get_host_cpu_features())
    return {name.lstrip("+-"): name.startswith("+") for name in config.CPU_FEATURES.split(",")}


LANES, TILE_ROWS = _shape_of_tiles(_features())

FLOAT, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
INTEGERS = ir.VectorType(I32, LANES)


class Code:
    """Writes vector instructions with an llvmlite builder. Offsets are in elements."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def at(self, pointer: Value, offset: Value | int) -> Value:
        return self.builder.gep(pointer, [self.whole(offset)])

    def whole(self, number: Value | int) -> Value:
        return number if isinstance(number, ir.Value) else ir.Constant(I64, number)

    def times(self, index: Value, factor: Value | int) -> Value:
        return self.builder.mul(index, self.whole(factor))

    def load(self, pointer: Value, offset: Value | int = 0) -> Value:
        value = self.builder.load(self.builder.bitcast(self.at(pointer, offset), VECTOR.as_pointer()))
        value.align = 4
        return value

    def store(self, value: Value, pointer: Value, offset: Value | int = 0) -> None:
        stored = self.builder.store(value, self.builder.bitcast(self.at(pointer, offset), VECTOR.as_pointer()))
        stored.align = 4

    def load_splat(self, pointer: Value, offset: Value | int = 0) -> Value:
        """One float, in every lane."""
        return self.splat(self.builder.load(self.at(pointer, offset)))

    def splat(self, scalar: Value) -> Value:
        """One number, in every lane."""
        nothing = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
        first = self.builder.insert_element(nothing, scalar, ir.Constant(I32, 0))
        return self.builder.shuffle_vector(first, nothing, ir.Constant(INTEGERS, [0] * LANES))

    def constant(self, value: float) -> Value:
        return ir.Constant(VECTOR, [value] * LANES)

    def call(self, name: str, *arguments: Value) -> Value:
        module, full_name = self.builder.module, f"llvm.{name}.v{LANES}f32"
        function = module.globals.get(full_name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(VECTOR, [VECTOR] * len(arguments)), full_name)
        return self.builder.call(function, arguments)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a b + c, with a single rounding if the processor can."""
        return self.call("fmuladd", a, b, c)

    def add(self, a: Value, b: Value) -> Value:
        return self.builder.fadd(a, b)

    def sub(self, a: Value, b: Value) -> Value:
        return self.builder.fsub(a, b)

    def mul(self, a: Value, b: Value) -> Value:
        return self.builder.fmul(a, b)

    def div(self, a: Value, b: Value) -> Value:
        return self.builder.fdiv(a, b)

    def larger(self, a: Value, b: Value) -> Value:
        """The larger of a and b; a if it is NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), b, a)

    def smaller(self, a: Value, b: Value) -> Value:
        """The smaller of a and b; a if it is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), b, a)

    def loop(self, count: Value, body: Callable[..., Sequence[Value]], *start: Value) -> list[Value]:
        """Repeat body(index, *values) -> new values for every index below count; returns the last values.

        start: the first values. Values stay in registers from one iteration to the next.
        """
        builder, zero = self.builder, self.whole(0)
        before, inside, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", zero, count), inside, after)
        builder.position_at_end(inside)
        index, values = builder.phi(I64), [builder.phi(value.type) for value in start]
        new = body(index, *values)
        following, last = builder.add(index, self.whole(1)), builder.block
        builder.cbranch(builder.icmp_signed("<", following, count), inside, after)
        builder.position_at_end(after)
        result = [builder.phi(value.type) for value in start]
        for phi, first, next_one in zip([index, *values], [zero, *start], [following, *new], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(next_one, last)
        for phi, first, next_one in zip(result, start, new, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(next_one, last)
        return result

    def lesser(self, a: Value, b: Value) -> Value:
        """The smaller of two integers."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def cases(self, value: Value, known: Sequence[int]) -> Iterator[int]:
        """Write code for each value that `value` may have; the body of the caller's loop writes it."""
        end = self.builder.append_basic_block("end")
        switch = self.builder.switch(value, end)
        for case in known:
            block = self.builder.append_basic_block(f"case_{case}")
            switch.add_case(ir.Constant(I64, case), block)
            self.builder.position_at_end(block)
            yield case
            self.builder.branch(end)
        self.builder.position_at_end(end)


@dataclass(frozen=True)
class VectorFunction:
    """A C function of pointers to floats (F), pointers to int32 (N) and int64 (I), not compiled yet.

    write: writes its instructions, given a Code and the function's arguments.
    """

    name: str
    parameters: str
    write: Callable[..., None]


# Products


def _product(by_rows: bool) -> Callable[..., None]:
    def write(
        code: Code, sums: Value, a: Value, stride: Value, b: Value, steps: Value, rows: Value, vectors: Value,
        fresh: Value,
    ) -> None:  # fmt: skip
        for width in code.cases(vectors, (1, 2)):
            for height in code.cases(rows, range(1, (TILE_ROWS if width == 2 else max(TILE_ROWS, LANES)) + 1)):
                _product_of_size(code, by_rows, height, width, sums, a, stride, b, steps, fresh)

    return write


def _product_of_size(
    code: Code, by_rows: bool, height: int, width: int, sums: Value, a: Value, stride: Value, b: Value, steps: Value,
    fresh: Value,
) -> None:  # fmt: skip
    tile = [(row, vector) for row in range(height) for vector in range(width)]
    offset = {(row, vector): (row * width + vector) * LANES for row, vector in tile}
    from_zero = code.builder.icmp_signed("!=", fresh, code.whole(0))
    start = [code.builder.select(from_zero, code.constant(0.0), code.load(sums, offset[place])) for place in tile]
    row_starts = [code.at(a, code.times(code.whole(row), stride)) for row in range(height)] if by_rows else []

    def step(k: Value, *totals: Value) -> Sequence[Value]:
        b_row = code.at(b, code.times(k, width * LANES))
        loaded = [code.load(b_row, vector * LANES) for vector in range(width)]
        a_column = None if by_rows else code.at(a, code.times(k, stride))
        new = []
        for row in range(height):
            factor = code.load_splat(row_starts[row], k) if by_rows else code.load_splat(a_column, row)
            new += [code.fma(factor, loaded[vector], totals[row * width + vector]) for vector in range(width)]
        return new

    for place, total in zip(tile, code.loop(steps, step, *start), strict=True):
        code.store(total, sums, offset[place])


# sums[r, :] += sum over k of a[r, k] b[k, :], from zero if `fresh`: (sums, a, stride, b, steps, rows, vectors, fresh).
# sums and b have contiguous rows of 1 or 2 vectors; a's rows are `stride` apart. There are at most TILE_ROWS rows, or
# LANES with one vector if that is more.
PRODUCT_OF_ROWS = VectorFunction("product_of_rows", "FFIFIIII", _product(by_rows=True))
# The same for a transposed a: its ks are `stride` apart, its rows adjacent.
PRODUCT_OF_COLUMNS = VectorFunction("product_of_columns", "FFIFIIII", _product(by_rows=False))


# Transposing


def _transpose(code: Code, target: Value, target_stride: Value, source: Value, source_stride: Value) -> None:
    """Interleave the first half of the rows with the second half, until columns are left."""
    halves = [[half * LANES // 2 + n // 2 + n % 2 * LANES for n in range(LANES)] for half in (0, 1)]
    masks = [ir.Constant(INTEGERS, half) for half in halves]
    rows = [code.load(source, code.times(code.whole(row), source_stride)) for row in range(LANES)]
    for _ in range(LANES.bit_length() - 1):
        pairs = zip(rows[: LANES // 2], rows[LANES // 2 :], strict=True)
        rows = [code.builder.shuffle_vector(one, other, mask) for one, other in pairs for mask in masks]
    for number, column in enumerate(rows):
        code.store(column, target, code.times(code.whole(number), target_stride))


# target[c, r] = source[r, c], LANES of each: (target, target_stride, source, source_stride)
TRANSPOSE = VectorFunction("transpose", "FIFI", _transpose)


# Sums over panels


def _sums_of_rows(code: Code, rows: Sequence[Value]) -> Value:
    """The sums of LANES vectors, as one vector.

    Vectors are combined in pairs. Lanes that differ in one bit are added; the sums of the first vector go to the lanes
    where the bit is 0, those of the second to the lanes where it is 1. After every bit, lane n has the sum of row n.
    """
    bit = 1
    while len(rows) > 1:
        first = [n if not n & bit else n - bit + LANES for n in range(LANES)]
        masks = [ir.Constant(INTEGERS, [n + further for n in first]) for further in (0, bit)]
        pairs = zip(rows[::2], rows[1::2], strict=True)
        rows = [code.add(*[code.builder.shuffle_vector(*pair, mask) for mask in masks]) for pair in pairs]
        bit *= 2
    return rows[0]


def _sums_over_panels(code: Code, target: Value, sums: Value, stride: Value, panels: Value, vectors: Value) -> None:
    def sum_of_vector(index: Value) -> Sequence[Value]:
        here = code.times(index, LANES)

        def add(panel: Value, total: Value) -> Sequence[Value]:
            return [code.add(total, code.load(sums, code.builder.add(code.times(panel, stride), here)))]

        code.store(code.loop(panels, add, code.constant(0.0))[0], target, here)
        return []

    code.loop(vectors, sum_of_vector)


# target[n] = sum over p of sums[p, n], first panel first: (target, sums, stride, panels, vectors)
SUMS_OVER_PANELS = VectorFunction("sums_over_panels", "FFIII", _sums_over_panels)


# Functions made from an activation or an optimizer's rule

Formula = Callable[[Code, Value], Value]  # (code, a vector) -> a vector
# (code, constants, gradient, weights, *slots) -> new (weights, *slots), a vector of each
Step = Callable[..., Sequence[Value]]


def function_of_rows(name: str, formula: Formula) -> VectorFunction:
    """y[r, :] = formula(z[r, :]): (y, stride, z, rows, vectors).

    z has contiguous rows of 1 or 2 vectors; y's rows are `stride` apart.
    """

    def write(code: Code, y: Value, stride: Value, z: Value, rows: Value, vectors: Value) -> None:
        def row(index: Value) -> Sequence[Value]:
            target = code.at(y, code.times(index, stride))
            source = code.at(z, code.times(code.times(index, vectors), LANES))

            def vector(number: Value) -> Sequence[Value]:
                here = code.times(number, LANES)
                code.store(formula(code, code.load(source, here)), target, here)
                return []

            code.loop(vectors, vector)
            return []

        code.loop(rows, row)

    return VectorFunction(f"{name}_rows", "FIFII", write)


def function_of_slopes(name: str, slope: Formula | None) -> VectorFunction:
    """dz[r, :] *= slope(y[r, :]), for rows of one vector: (dz, dz_stride, y, y_stride, rows). None: slopes of 1."""

    def write(code: Code, dz: Value, dz_stride: Value, y: Value, y_stride: Value, rows: Value) -> None:
        def row(index: Value) -> Sequence[Value]:
            assert slope is not None
            here = code.times(index, dz_stride)
            factor = slope(code, code.load(code.at(y, code.times(index, y_stride))))
            code.store(code.mul(code.load(dz, here), factor), dz, here)
            return []

        if slope is not None:
            code.loop(rows, row)

    return VectorFunction(f"{name}_slopes", "FIFII", write)


class _Rule:
    """A rule's step on vectors of weights and slots in memory, with its constants in registers, in every lane."""

    def __init__(
        self, code: Code, step: Step, slots: int, numbers: int, arrays: Sequence[Value], constants: Value
    ) -> None:
        self.code, self.step, self.arrays = code, step, arrays[: 1 + slots]
        self.constants = [code.load_splat(constants, n) for n in range(numbers)]

    def take(self, here: Value, gradient: Value) -> tuple[Value, Value]:
        """Make one step on the vectors at an offset; returns the weights before and after it."""
        old = [self.code.load(array, here) for array in self.arrays]
        new = self.step(self.code, self.constants, gradient, *old)
        for array, value in zip(self.arrays, new, strict=True):
            self.code.store(value, array, here)
        return old[0], new[0]


def step_function(name: str, step: Step, slots: int, numbers: int) -> VectorFunction:
    """An optimizer's step on `count` vectors: (w, slot_1, slot_2, gradient, count, constants).

    Slots that an optimizer does not have are not touched.
    """

    def write(code: Code, w: Value, m: Value, v: Value, gradient: Value, count: Value, constants: Value) -> None:
        rule = _Rule(code, step, slots, numbers, (w, m, v), constants)

        def vector(index: Value) -> Sequence[Value]:
            here = code.times(index, LANES)
            rule.take(here, code.load(gradient, here))
            return []

        code.loop(count, vector)

    return VectorFunction(f"{name}_step", "FFFFIF", write)


def backward_function(name: str, step: Step, slots: int, numbers: int) -> VectorFunction:
    """One example's update of a panel, and the panel's part of the previous layer's dz, in one pass over the panel.

    (w, slot_1, slot_2, count, x, dz, sums, scratch, vectors, constants): for every row i below `count`, sums[i] = the
    sum of w[i, :] dz[:]; then w[i, :] takes the optimizer's step with the gradient x[i] dz[:]. dz stays in registers.
    sums is written in whole vectors; scratch holds LANES of them.
    """

    def write(
        code: Code, w: Value, m: Value, v: Value, count: Value, x: Value, dz: Value, sums: Value, scratch: Value,
        vectors: Value, constants: Value,
    ) -> None:  # fmt: skip
        rule = _Rule(code, step, slots, numbers, (w, m, v), constants)
        for width in code.cases(vectors, (1, 2)):
            dz_vectors = [code.load(dz, n * LANES) for n in range(width)]

            def block(index: Value, width: int = width, dz_vectors: Sequence[Value] = dz_vectors) -> Sequence[Value]:
                first = code.times(index, LANES)

                def row(number: Value) -> Sequence[Value]:
                    here = code.builder.add(first, number)
                    factor, partial = code.load_splat(x, here), code.constant(0.0)
                    for n in range(width):
                        start = code.builder.add(code.times(here, width * LANES), code.whole(n * LANES))
                        before, _ = rule.take(start, code.mul(factor, dz_vectors[n]))
                        partial = code.fma(before, dz_vectors[n], partial)
                    code.store(partial, scratch, code.times(number, LANES))
                    return []

                code.loop(code.lesser(code.builder.sub(count, first), code.whole(LANES)), row)
                code.store(_sums_of_rows(code, [code.load(scratch, n * LANES) for n in range(LANES)]), sums, first)
                return []

            code.loop(code.builder.sdiv(code.builder.add(count, code.whole(LANES - 1)), code.whole(LANES)), block)

    return VectorFunction(f"{name}_backward", "FFFIFFFFIF", write)


def forward_function(name: str, step: Step, slots: int, numbers: int) -> VectorFunction:
    """One example's update of a panel of the first layer, and the next example's product, in one pass over the panel.

    (w, slot_1, slot_2, rows, count, x, dz, next_x, z, vectors, constants): for each of the `count` numbers i in `rows`,
    w[i, :] takes the optimizer's step with the gradient x[i] dz[:]; then z[:] += next_x[i] w[i, :], from zero. dz and z
    stay in registers.
    """

    def write(
        code: Code, w: Value, m: Value, v: Value, rows: Value, count: Value, x: Value, dz: Value, next_x: Value,
        z: Value, vectors: Value, constants: Value,
    ) -> None:  # fmt: skip
        rule = _Rule(code, step, slots, numbers, (w, m, v), constants)
        for width in code.cases(vectors, (1, 2)):
            dz_vectors = [code.load(dz, n * LANES) for n in range(width)]

            def row(
                index: Value, *totals: Value, width: int = width, dz_vectors: Sequence[Value] = dz_vectors
            ) -> Sequence[Value]:
                number = code.builder.sext(code.builder.load(code.at(rows, index)), I64)
                factor, next_factor = code.load_splat(x, number), code.load_splat(next_x, number)
                new = []
                for n in range(width):
                    start = code.builder.add(code.times(number, width * LANES), code.whole(n * LANES))
                    _, after = rule.take(start, code.mul(factor, dz_vectors[n]))
                    new.append(code.fma(next_factor, after, totals[n]))
                return new

            for n, total in enumerate(code.loop(count, row, *[code.constant(0.0)] * width)):
                code.store(total, z, n * LANES)

    return VectorFunction(f"{name}_forward", "FFFNIFFFFIF", write)
