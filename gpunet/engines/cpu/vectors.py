"""The compiled engine's innermost loops, as LLVM vector code, and what its threads need to meet.

Numba turns plain loops into vector code where it can prove that arrays do not overlap. In the loops that decide the
engine's speed it cannot, and sums that should stay in registers go through memory; so these are written out with
vectors. LLVM maps them onto whatever the processor has.

Each is compiled on its own, at its first use, as a C function (`address`), and called by its address: compiled into
every loop that needs it, it would be optimized again each time, and the first start would take minutes.

Matrices are kept in panels: two vectors of columns at a time (the last panel one, if that is enough), each panel
(rows, its width) row-major. A panel's rows follow one another in memory, so passes over a matrix are sequential, and
two vectors of a panel's row stay in registers while a loop runs down the panel. Addresses are an array and an offset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

Value = Any  # an llvmlite value; llvmlite has no type hints


def _shape_of_tiles(features: Mapping[str, bool]) -> tuple[int, int]:
    """(floats in a vector, rows of a tile): two vectors a row, and the tile's sums just fit into the registers."""
    if features.get("avx512f"):
        return 16, 14
    if features.get("avx"):
        return 8, 6
    return 4, 14 if features.get("neon") else 6


def _features() -> Mapping[str, bool]:
    """What the processor that Numba compiles for has."""
    if config.CPU_FEATURES is None:
        return dict(llvmlite.binding.get_host_cpu_features())
    return {name.lstrip("+-"): name.startswith("+") for name in config.CPU_FEATURES.split(",")}


LANES, TILE_ROWS = _shape_of_tiles(_features())
UNROLL = 4  # steps of a product between two tests for its end

FLOAT, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, LANES)
INTEGERS = ir.VectorType(I32, LANES)


Step = Callable[..., Sequence[Value]]


class _Code:
    """Writes vector instructions with a Numba builder. Offsets are in elements."""

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
        scalar, nothing = self.builder.load(self.at(pointer, offset)), ir.Constant(VECTOR, ir.Undefined)
        first = self.builder.insert_element(nothing, scalar, ir.Constant(I32, 0))
        return self.builder.shuffle_vector(first, nothing, ir.Constant(INTEGERS, [0] * LANES))

    def constant(self, value: float) -> Value:
        return ir.Constant(VECTOR, [value] * LANES)

    def call(self, name: str, *arguments: Value) -> Value:
        signature = ir.FunctionType(VECTOR, [VECTOR] * len(arguments))
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.{name}.v{LANES}f32")
        return self.builder.call(function, arguments)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a b + c, in one rounding where the processor can."""
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
        """The larger one; a if it is NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), b, a)

    def smaller(self, a: Value, b: Value) -> Value:
        """The smaller one; a if it is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), b, a)

    def loop(self, count: Value) -> Any:
        return cgutils.for_range(self.builder, count, intp=I64)

    def cases(self, value: Value, known: Sequence[int]) -> Iterator[int]:
        """Write code for each of the values that `value` may have; the body of the loop writes it."""
        end = self.builder.append_basic_block("end")
        switch = self.builder.switch(value, end)
        for case in known:
            block = self.builder.append_basic_block(f"case_{case}")
            switch.add_case(ir.Constant(I64, case), block)
            self.builder.position_at_end(block)
            yield case
            self.builder.branch(end)
        self.builder.position_at_end(end)

    def variable(self, value: Value) -> Value:
        """A vector that loops may change; LLVM keeps it in a register."""
        place = cgutils.alloca_once(self.builder, VECTOR)
        self.set(place, value)
        return place

    def get(self, variable: Value) -> Value:
        return self.builder.load(variable)

    def set(self, variable: Value, value: Value) -> None:
        self.builder.store(value, variable)


KINDS = {"F": types.CPointer(types.float32), "N": types.CPointer(types.int32), "I": types.int64}


class CFunction:
    """A function of pointers to floats (F), pointers to int32 (N) and int64 (I), compiled at first use."""

    def __init__(self, parameters: str, function: Callable[..., None]) -> None:
        self._function, self._signature = function, types.void(*[KINDS[letter] for letter in parameters])
        self._compiled: Any = None

    @property
    def address(self) -> int:
        self.compile()
        return int(self._compiled.address)

    def compile(self) -> bool:
        """Compile it, or load it from disk, unless that is done; False if it had to be compiled now."""
        if self._compiled is not None:
            return True
        try:
            self._compiled = numba.cfunc(self._signature, cache=True)(self._function)
        except RuntimeError:  # no folder for it that could be written to
            self._compiled = numba.cfunc(self._signature)(self._function)
        return bool(self._compiled.cache_hits)


def c_function(parameters: str) -> Callable[[Callable[..., None]], CFunction]:
    return lambda function: CFunction(parameters, function)


def vector_code(write: Callable[..., None]) -> Any:
    """A function for Numba from one that writes its instructions: write(code, *arguments)."""

    @intrinsic
    def written(typing, *kinds):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
            write(_Code(builder), *cgutils.unpack_tuple(builder, arguments[0], len(kinds)))
            return context.get_dummy_value()

        return types.void(types.StarArgTuple(kinds)), generate

    return written


# Products


def _write_product(
    code: _Code, by_rows: bool, sums: Value, a: Value, stride: Value, b: Value, steps: Value, rows: Value,
    vectors: Value, fresh: Value,
) -> None:  # fmt: skip
    for width in code.cases(vectors, (1, 2)):
        for height in code.cases(rows, range(1, (TILE_ROWS if width == 2 else max(TILE_ROWS, LANES)) + 1)):
            _write_product_of_size(code, by_rows, height, width, sums, a, stride, b, steps, fresh)


def _write_product_of_size(
    code: _Code, by_rows: bool, height: int, width: int, sums: Value, a: Value, stride: Value, b: Value, steps: Value,
    fresh: Value,
) -> None:  # fmt: skip
    tile = [(row, vector) for row in range(height) for vector in range(width)]
    offset = {(row, vector): (row * width + vector) * LANES for row, vector in tile}
    from_zero = code.builder.icmp_signed("!=", fresh, ir.Constant(I64, 0))
    total = {
        place: code.variable(code.builder.select(from_zero, code.constant(0.0), code.load(sums, offset[place])))
        for place in tile
    }
    row_starts = [code.at(a, code.times(ir.Constant(I64, row), stride)) for row in range(height)] if by_rows else []

    def step(k: Value, further: int) -> None:
        """k + further: what is known here costs no address of its own."""
        b_row = code.at(b, code.times(k, width * LANES))
        loaded = [code.load(b_row, (further * width + vector) * LANES) for vector in range(width)]
        a_column = None if by_rows else code.at(a, code.times(code.builder.add(k, ir.Constant(I64, further)), stride))
        for row in range(height):
            if by_rows:
                factor = code.load_splat(code.at(row_starts[row], k), further)
            else:
                factor = code.load_splat(a_column, row)
            for vector in range(width):
                place = total[row, vector]
                code.set(place, code.fma(factor, loaded[vector], code.get(place)))

    whole = code.builder.sdiv(steps, ir.Constant(I64, UNROLL))
    with code.loop(whole) as loop:
        k = code.times(loop.index, UNROLL)
        for further in range(UNROLL):
            step(k, further)
    with cgutils.for_range_slice(code.builder, code.times(whole, UNROLL), steps, ir.Constant(I64, 1), I64) as (k, _):
        step(k, 0)
    for place in tile:
        code.store(code.get(total[place]), sums, offset[place])


_rows_product = vector_code(lambda code, *arguments: _write_product(code, True, *arguments))
_columns_product = vector_code(lambda code, *arguments: _write_product(code, False, *arguments))


@c_function("FFIFIIII")
def product_of_rows(sums, a, stride, b, steps, rows, vectors, fresh):
    """sums[r, :] += sum over k of a[r, k] b[k, :], from zero if `fresh`.

    sums and b have rows of 1 or 2 vectors, one after the other; a's rows are `stride` apart.
    There may be TILE_ROWS rows, or for one vector LANES if that is more.
    """
    _rows_product(sums, a, stride, b, steps, rows, vectors, fresh)


@c_function("FFIFIIII")
def product_of_columns(sums, a, stride, b, steps, rows, vectors, fresh):
    """As `product_of_rows`, for a that is kept transposed: its ks are `stride` apart, its rows next to one another."""
    _columns_product(sums, a, stride, b, steps, rows, vectors, fresh)


# The optimizers: (code, constants, gradient, weights, *slots) -> new (weights, *slots), a vector of each. What the
# constants are says `constants` of the optimizer's class.


def _adam(code: _Code, constants: Sequence[Value], g: Value, w: Value, m: Value, v: Value) -> Sequence[Value]:
    beta_1, rest_1, beta_2, rest_2, minus_alpha, epsilon = constants
    m = code.fma(beta_1, m, code.mul(rest_1, g))
    v = code.fma(beta_2, v, code.mul(rest_2, code.mul(g, g)))
    return code.fma(minus_alpha, code.div(m, code.add(code.call("sqrt", v), epsilon)), w), m, v


def _momentum(code: _Code, constants: Sequence[Value], g: Value, w: Value, velocity: Value) -> Sequence[Value]:
    minus_rate, momentum = constants
    velocity = code.fma(momentum, velocity, code.mul(minus_rate, g))
    return code.add(w, velocity), velocity


def _sgd(code: _Code, constants: Sequence[Value], g: Value, w: Value) -> Sequence[Value]:
    return (code.fma(constants[0], g, w),)


# Numbers of slots and of constants.
SHAPES = {_adam: (2, 6), _momentum: (1, 2), _sgd: (0, 1)}
MOST_CONSTANTS = 8


def _write_step(
    code: _Code, step: Step, w: Value, m: Value, v: Value, gradient: Value, count: Value, constants: Value
) -> None:
    slots, numbers = SHAPES[step]
    arrays, splats = [w, m, v][: 1 + slots], [code.load_splat(constants, n) for n in range(numbers)]
    with code.loop(count) as loop:
        here = code.times(loop.index, LANES)
        new = step(code, splats, code.load(gradient, here), *[code.load(array, here) for array in arrays])
        for array, value in zip(arrays, new, strict=True):
            code.store(value, array, here)


_adam_step = vector_code(lambda code, *arguments: _write_step(code, _adam, *arguments))
_momentum_step = vector_code(lambda code, *arguments: _write_step(code, _momentum, *arguments))
_sgd_step = vector_code(lambda code, *arguments: _write_step(code, _sgd, *arguments))


@c_function("FFFFIF")
def adam_step(w, m, v, gradient, count, constants):
    """An optimizer's step on `count` vectors. The slots that an optimizer has not are not looked at."""
    _adam_step(w, m, v, gradient, count, constants)


@c_function("FFFFIF")
def momentum_step(w, m, v, gradient, count, constants):
    """See `adam_step`."""
    _momentum_step(w, m, v, gradient, count, constants)


@c_function("FFFFIF")
def sgd_step(w, m, v, gradient, count, constants):
    """See `adam_step`."""
    _sgd_step(w, m, v, gradient, count, constants)


# One example's update of a panel, in one pass over it, fused with the product that can be had on the way


def _write_pass(
    code: _Code, step: Step, backward: bool, w: Value, m: Value, v: Value, rows: Value, count: Value, x: Value,
    dz: Value, other: Value, z: Value, vectors: Value, constants: Value,
) -> None:  # fmt: skip
    slots, numbers = SHAPES[step]
    arrays, splats = [w, m, v][: 1 + slots], [code.load_splat(constants, n) for n in range(numbers)]
    for width in code.cases(vectors, (1, 2)):
        dz_vectors = [code.load(dz, n * LANES) for n in range(width)]
        sums = [] if backward else [code.variable(code.load(z, n * LANES)) for n in range(width)]
        with code.loop(count) as loop:
            row = code.builder.sext(code.builder.load(code.at(rows, loop.index)), I64)
            start, factor = code.times(row, width * LANES), code.load_splat(x, row)
            partial = code.load(other, code.times(row, LANES)) if backward else None
            next_factor = None if backward else code.load_splat(other, row)
            for n in range(width):
                here = code.builder.add(start, ir.Constant(I64, n * LANES))
                old = [code.load(array, here) for array in arrays]
                if backward:
                    partial = code.fma(old[0], dz_vectors[n], partial)
                new = step(code, splats, code.mul(factor, dz_vectors[n]), *old)
                for array, value in zip(arrays, new, strict=True):
                    code.store(value, array, here)
                if not backward:
                    code.set(sums[n], code.fma(next_factor, new[0], code.get(sums[n])))
            if backward:
                code.store(partial, other, code.times(row, LANES))
        for n, total in enumerate(sums):
            code.store(code.get(total), z, n * LANES)


_adam_backward = vector_code(lambda code, *arguments: _write_pass(code, _adam, True, *arguments))
_momentum_backward = vector_code(lambda code, *arguments: _write_pass(code, _momentum, True, *arguments))
_sgd_backward = vector_code(lambda code, *arguments: _write_pass(code, _sgd, True, *arguments))
_adam_forward = vector_code(lambda code, *arguments: _write_pass(code, _adam, False, *arguments))
_momentum_forward = vector_code(lambda code, *arguments: _write_pass(code, _momentum, False, *arguments))
_sgd_forward = vector_code(lambda code, *arguments: _write_pass(code, _sgd, False, *arguments))


@c_function("FFFNIFFFFIF")
def adam_backward(w, m, v, rows, count, x, dz, partials, z, vectors, constants):
    """For the panel's rows i in `rows`: partials[i, :] += w[i, :] dz[:], LANES sums a row; then w[i, :], with the
    gradient x[i] dz[:], takes the optimizer's step. dz stays in registers; z is not looked at.
    """
    _adam_backward(w, m, v, rows, count, x, dz, partials, z, vectors, constants)


@c_function("FFFNIFFFFIF")
def momentum_backward(w, m, v, rows, count, x, dz, partials, z, vectors, constants):
    """See `adam_backward`."""
    _momentum_backward(w, m, v, rows, count, x, dz, partials, z, vectors, constants)


@c_function("FFFNIFFFFIF")
def sgd_backward(w, m, v, rows, count, x, dz, partials, z, vectors, constants):
    """See `adam_backward`."""
    _sgd_backward(w, m, v, rows, count, x, dz, partials, z, vectors, constants)


@c_function("FFFNIFFFFIF")
def adam_forward(w, m, v, rows, count, x, dz, next_x, z, vectors, constants):
    """For the panel's rows i in `rows`: w[i, :], with the gradient x[i] dz[:], takes the optimizer's step; then
    z[:] += next_x[i] w[i, :]. dz and z stay in registers.
    """
    _adam_forward(w, m, v, rows, count, x, dz, next_x, z, vectors, constants)


@c_function("FFFNIFFFFIF")
def momentum_forward(w, m, v, rows, count, x, dz, next_x, z, vectors, constants):
    """See `adam_forward`."""
    _momentum_forward(w, m, v, rows, count, x, dz, next_x, z, vectors, constants)


@c_function("FFFNIFFFFIF")
def sgd_forward(w, m, v, rows, count, x, dz, next_x, z, vectors, constants):
    """See `adam_forward`."""
    _sgd_forward(w, m, v, rows, count, x, dz, next_x, z, vectors, constants)


OPTIMIZERS = {  # (step, backward, forward) of each
    "adam": (adam_step, adam_backward, adam_forward),
    "momentum": (momentum_step, momentum_backward, momentum_forward),
    "sgd": (sgd_step, sgd_backward, sgd_forward),
}


# Activations


def _exp_parts(code: _Code, x: Value) -> tuple[Value, Value, Value]:
    """(e^r - 1, p, q) with e^x = e^r p q, |r| <= ln 2 / 2 and powers of two p and q; NaN is in the first.

    The coefficients are the Cephes library's (Moshier, expf). The power of two comes in halves, so that results below
    the smallest normal number are right as well.
    """
    builder = code.builder
    x = code.smaller(code.larger(x, code.constant(-104.0)), code.constant(89.0))
    n = code.call("rint", code.mul(x, code.constant(1.44269504088896341)))
    r = code.fma(n, code.constant(-0.693359375), x)
    r = code.fma(n, code.constant(2.12194440e-4), r)
    series = code.constant(1.9875691500e-4)
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        series = code.fma(series, r, code.constant(coefficient))
    exponent = builder.fptosi(builder.select(builder.fcmp_ordered("ord", x, x), n, code.constant(0.0)), INTEGERS)
    half = builder.ashr(exponent, ir.Constant(INTEGERS, [1] * LANES))
    powers = []
    for part in (half, builder.sub(exponent, half)):
        bits = builder.shl(builder.add(part, ir.Constant(INTEGERS, [127] * LANES)), ir.Constant(INTEGERS, [23] * LANES))
        powers.append(builder.bitcast(bits, VECTOR))
    return code.fma(series, code.mul(r, r), r), powers[0], powers[1]


def _exp(code: _Code, x: Value) -> Value:
    """e^x to about one unit in the last place; 0 below -104, infinity above 88.8."""
    rest, p, q = _exp_parts(code, x)
    return code.mul(code.mul(code.add(rest, code.constant(1.0)), p), q)


def _expm1(code: _Code, x: Value) -> Value:
    """e^x - 1, without cancellation, for x <= 0."""
    rest, p, q = _exp_parts(code, x)
    power = code.mul(p, q)
    return code.fma(power, rest, code.sub(power, code.constant(1.0)))


def _log1p_of_small(code: _Code, x: Value) -> Value:
    """log(1 + x) for x in [0, 1]: 2 artanh(s), s = x / (2 + x) <= 1/3, by its series."""
    s = code.div(x, code.add(x, code.constant(2.0)))
    square = code.mul(s, s)
    series = code.constant(1 / 15)
    for power in (13, 11, 9, 7, 5, 3):
        series = code.fma(series, square, code.constant(1 / power))
    return code.mul(code.constant(2.0), code.fma(code.mul(series, square), s, s))


def _sigmoid(code: _Code, z: Value) -> Value:
    one = code.constant(1.0)
    return code.div(one, code.add(one, _exp(code, code.builder.fneg(z))))


def _tanh(code: _Code, z: Value) -> Value:
    """-e / (e + 2) with e = e^-2|z| - 1, with the sign of z."""
    e = _expm1(code, code.mul(code.constant(-2.0), code.call("fabs", z)))
    size = code.div(code.builder.fneg(e), code.add(e, code.constant(2.0)))
    return code.call("copysign", size, z)


def _relu(code: _Code, z: Value) -> Value:
    return code.larger(z, code.constant(0.0))


def _softplus(code: _Code, z: Value) -> Value:
    """log(1 + e^z), by the power of the negative side alone, so that nothing overflows."""
    power = _exp(code, code.builder.fneg(code.call("fabs", z)))
    return code.add(code.larger(z, code.constant(0.0)), _log1p_of_small(code, power))


def _softsign(code: _Code, z: Value) -> Value:
    return code.div(z, code.add(code.constant(1.0), code.call("fabs", z)))


def _hard_sigmoid(code: _Code, z: Value) -> Value:
    sloped = code.fma(z, code.constant(0.2), code.constant(0.5))
    return code.smaller(code.larger(sloped, code.constant(0.0)), code.constant(1.0))


def _write_rows(
    code: _Code, function: Callable[[_Code, Value], Value], y: Value, stride: Value, z: Value, rows: Value,
    vectors: Value,
) -> None:  # fmt: skip
    with code.loop(rows) as row:
        target, source = code.at(y, code.times(row.index, stride)), code.times(code.times(row.index, vectors), LANES)
        with code.loop(vectors) as vector:
            here = code.times(vector.index, LANES)
            code.store(function(code, code.load(code.at(z, source), here)), target, here)


_linear_rows = vector_code(lambda code, *arguments: _write_rows(code, lambda _, z: z, *arguments))
_sigmoid_rows = vector_code(lambda code, *arguments: _write_rows(code, _sigmoid, *arguments))
_tanh_rows = vector_code(lambda code, *arguments: _write_rows(code, _tanh, *arguments))
_relu_rows = vector_code(lambda code, *arguments: _write_rows(code, _relu, *arguments))
_softplus_rows = vector_code(lambda code, *arguments: _write_rows(code, _softplus, *arguments))
_softsign_rows = vector_code(lambda code, *arguments: _write_rows(code, _softsign, *arguments))
_hard_sigmoid_rows = vector_code(lambda code, *arguments: _write_rows(code, _hard_sigmoid, *arguments))
_exp_rows = vector_code(lambda code, *arguments: _write_rows(code, _exp, *arguments))


@c_function("FIFII")
def linear_rows(y, stride, z, rows, vectors):
    """y[r, :] = z[r, :]: z has rows of 1 or 2 vectors, one after the other; y's rows are `stride` apart."""
    _linear_rows(y, stride, z, rows, vectors)


@c_function("FIFII")
def sigmoid_rows(y, stride, z, rows, vectors):
    """y[r, :] = 1 / (1 + e^-z[r, :]); the rest as in `linear_rows`, here and below."""
    _sigmoid_rows(y, stride, z, rows, vectors)


@c_function("FIFII")
def tanh_rows(y, stride, z, rows, vectors):
    _tanh_rows(y, stride, z, rows, vectors)


@c_function("FIFII")
def relu_rows(y, stride, z, rows, vectors):
    _relu_rows(y, stride, z, rows, vectors)


@c_function("FIFII")
def softplus_rows(y, stride, z, rows, vectors):
    _softplus_rows(y, stride, z, rows, vectors)


@c_function("FIFII")
def softsign_rows(y, stride, z, rows, vectors):
    _softsign_rows(y, stride, z, rows, vectors)


@c_function("FIFII")
def hard_sigmoid_rows(y, stride, z, rows, vectors):
    _hard_sigmoid_rows(y, stride, z, rows, vectors)


@c_function("FIFII")
def exp_rows(y, stride, z, rows, vectors):
    _exp_rows(y, stride, z, rows, vectors)


# The activations' derivatives, from y


def _sigmoid_slope(code: _Code, y: Value) -> Value:
    return code.mul(y, code.sub(code.constant(1.0), y))


def _tanh_slope(code: _Code, y: Value) -> Value:
    return code.sub(code.constant(1.0), code.mul(y, y))


def _relu_slope(code: _Code, y: Value) -> Value:
    above = code.builder.fcmp_ordered(">", y, code.constant(0.0))
    return code.builder.select(above, code.constant(1.0), code.constant(0.0))


def _softplus_slope(code: _Code, y: Value) -> Value:
    return code.builder.fneg(_expm1(code, code.builder.fneg(y)))


def _softsign_slope(code: _Code, y: Value) -> Value:
    root = code.sub(code.constant(1.0), code.call("fabs", y))
    return code.mul(root, root)


def _hard_sigmoid_slope(code: _Code, y: Value) -> Value:
    above = code.builder.fcmp_ordered(">", y, code.constant(0.0))
    inside = code.builder.and_(above, code.builder.fcmp_ordered("<", y, code.constant(1.0)))
    return code.builder.select(inside, code.constant(0.2), code.constant(0.0))


def _write_slopes(
    code: _Code, slope: Callable[[_Code, Value], Value], dz: Value, dz_stride: Value, y: Value, y_stride: Value,
    rows: Value,
) -> None:  # fmt: skip
    with code.loop(rows) as row:
        here = code.times(row.index, dz_stride)
        factor = slope(code, code.load(code.at(y, code.times(row.index, y_stride))))
        code.store(code.mul(code.load(dz, here), factor), dz, here)


_linear_slopes = vector_code(lambda *_: None)
_sigmoid_slopes = vector_code(lambda code, *arguments: _write_slopes(code, _sigmoid_slope, *arguments))
_tanh_slopes = vector_code(lambda code, *arguments: _write_slopes(code, _tanh_slope, *arguments))
_relu_slopes = vector_code(lambda code, *arguments: _write_slopes(code, _relu_slope, *arguments))
_softplus_slopes = vector_code(lambda code, *arguments: _write_slopes(code, _softplus_slope, *arguments))
_softsign_slopes = vector_code(lambda code, *arguments: _write_slopes(code, _softsign_slope, *arguments))
_hard_sigmoid_slopes = vector_code(lambda code, *arguments: _write_slopes(code, _hard_sigmoid_slope, *arguments))


@c_function("FIFII")
def linear_slopes(dz, dz_stride, y, y_stride, rows):
    """dz[r, :] *= activation'(z), from y[r, :] = activation(z), for rows of one vector; here, 1."""
    _linear_slopes(dz, dz_stride, y, y_stride, rows)


@c_function("FIFII")
def sigmoid_slopes(dz, dz_stride, y, y_stride, rows):
    _sigmoid_slopes(dz, dz_stride, y, y_stride, rows)


@c_function("FIFII")
def tanh_slopes(dz, dz_stride, y, y_stride, rows):
    _tanh_slopes(dz, dz_stride, y, y_stride, rows)


@c_function("FIFII")
def relu_slopes(dz, dz_stride, y, y_stride, rows):
    _relu_slopes(dz, dz_stride, y, y_stride, rows)


@c_function("FIFII")
def softplus_slopes(dz, dz_stride, y, y_stride, rows):
    _softplus_slopes(dz, dz_stride, y, y_stride, rows)


@c_function("FIFII")
def softsign_slopes(dz, dz_stride, y, y_stride, rows):
    _softsign_slopes(dz, dz_stride, y, y_stride, rows)


@c_function("FIFII")
def hard_sigmoid_slopes(dz, dz_stride, y, y_stride, rows):
    _hard_sigmoid_slopes(dz, dz_stride, y, y_stride, rows)


ACTIVATIONS = {  # (rows, slopes) of each
    "linear": (linear_rows, linear_slopes),
    "sigmoid": (sigmoid_rows, sigmoid_slopes),
    "tanh": (tanh_rows, tanh_slopes),
    "relu": (relu_rows, relu_slopes),
    "softplus": (softplus_rows, softplus_slopes),
    "softsign": (softsign_rows, softsign_slopes),
    "hard_sigmoid": (hard_sigmoid_rows, hard_sigmoid_slopes),
}


# Transposing


def _write_transpose(code: _Code, target: Value, target_stride: Value, source: Value, source_stride: Value) -> None:
    """Interleaving the first half of the rows with the second, as often as it takes, leaves columns."""
    halves = [[half * LANES // 2 + n // 2 + n % 2 * LANES for n in range(LANES)] for half in (0, 1)]
    masks = [ir.Constant(INTEGERS, half) for half in halves]
    rows = [code.load(source, code.times(ir.Constant(I64, row), source_stride)) for row in range(LANES)]
    for _ in range(LANES.bit_length() - 1):
        pairs = zip(rows[: LANES // 2], rows[LANES // 2 :], strict=True)
        rows = [code.builder.shuffle_vector(one, other, mask) for one, other in pairs for mask in masks]
    for number, column in enumerate(rows):
        code.store(column, target, code.times(ir.Constant(I64, number), target_stride))


_transpose = vector_code(_write_transpose)


@c_function("FIFI")
def transpose(target, target_stride, source, source_stride):
    """target[c, r] = source[r, c], LANES of each."""
    _transpose(target, target_stride, source, source_stride)


# What the loops call themselves


@intrinsic
def at(typing, array, offset):
    """A pointer to array[offset], for an array or a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        start = arguments[0]
        if isinstance(array, types.Array):
            start = context.make_array(array)(context, builder, start).data
        return builder.gep(start, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.int64), generate


@intrinsic
def call(typing, address, *kinds):
    """Call the C function at an address; what it returns, if anything, is dropped."""
    given = [types.int64 if isinstance(kind, types.Integer) else kind for kind in kinds]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        values = cgutils.unpack_tuple(builder, arguments[1], len(given))
        kind = ir.FunctionType(ir.VoidType() if values else I32, [value.type for value in values])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(types.int64, types.StarArgTuple(given)), generate


@intrinsic
def atomic_add(typing, pointer, amount):
    """*pointer += amount, for an int64 that other threads change too."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        builder.atomic_rmw("add", *arguments, "seq_cst")
        return context.get_dummy_value()

    return types.void(pointer, types.int64), generate


@intrinsic
def atomic_get(typing, pointer):
    """*pointer as it is in memory now; what another thread wrote before it wrote this can be seen afterwards."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        return builder.load_atomic(arguments[0], "seq_cst", 8)

    return types.int64(pointer), generate


@intrinsic
def pause(typing):
    """A moment's rest in a loop that waits, where the processor has an instruction for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Value:
        if llvmlite.binding.get_process_triple().startswith("x86_64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate
