"""Dropout in the compiled engine: its random numbers (gpunet/engines/dropout.py) as LLVM vector code."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from gpunet.engines import dropout
from gpunet.engines.cpu.vectors import I32, I64, INTEGERS, LANES, VECTOR, Code, Value, VectorFunction

WIDE_INTEGERS = ir.VectorType(I64, LANES)
BOOLEANS = ir.VectorType(ir.IntType(1), LANES)


def _product_halves(code: Code, word: Value, factor: int) -> tuple[Value, Value]:
    """The upper and the lower 32 bits of each word times a factor."""
    product = code.builder.mul(code.builder.zext(word, WIDE_INTEGERS), ir.Constant(WIDE_INTEGERS, [factor] * LANES))
    upper = code.builder.lshr(product, ir.Constant(WIDE_INTEGERS, [32] * LANES))
    return code.builder.trunc(upper, INTEGERS), code.builder.trunc(product, INTEGERS)


def _philox(code: Code, counter: Sequence[Value], key: Sequence[Value]) -> Sequence[Value]:
    """Four random words for the counter in each lane."""
    builder = code.builder
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(dropout.ROUNDS):
        upper_0, lower_0 = _product_halves(code, c0, dropout.FACTORS[0])
        upper_1, lower_1 = _product_halves(code, c2, dropout.FACTORS[1])
        c0, c2 = builder.xor(builder.xor(upper_1, c1), k0), builder.xor(builder.xor(upper_0, c3), k1)
        c1, c3 = lower_1, lower_0
        k0, k1 = (
            builder.add(k, ir.Constant(INTEGERS, [step] * LANES))
            for k, step in zip((k0, k1), dropout.KEY_STEPS, strict=True)
        )
    return c0, c1, c2, c3


def _drop(
    code: Code, factors: Value, rows: Value, unit: Value, position: Value, layer: Value, key: Value, numbers: Value
) -> None:
    builder = code.builder

    def number(pointer: Value, place: int) -> Value:
        return code.splat(builder.load(code.at(pointer, place)))

    def word_of(whole: Value) -> Value:
        return code.splat(builder.trunc(whole, I32))

    key_words = number(key, 0), number(key, 1)
    threshold, scale = number(numbers, 0), builder.bitcast(number(numbers, 1), VECTOR)
    fours = builder.add(
        word_of(builder.sdiv(unit, code.whole(4))), ir.Constant(INTEGERS, [lane // 4 for lane in range(LANES)])
    )

    def row(index: Value) -> Sequence[Value]:
        counter = fours, word_of(builder.add(position, index)), word_of(layer), ir.Constant(INTEGERS, [0] * LANES)
        words = _philox(code, counter, key_words)
        word = words[0]
        for place in (1, 2, 3):
            lanes = ir.Constant(BOOLEANS, [int(lane % 4 == place) for lane in range(LANES)])
            word = builder.select(lanes, words[place], word)
        dropped = builder.icmp_unsigned("<", word, threshold)
        code.store(builder.select(dropped, code.constant(0.0), scale), factors, code.times(index, LANES))
        return []

    code.loop(rows, row)


# factors[r, :] = 0 or the scale, for examples from `position` of the epoch on and LANES units from `unit` on, a
# multiple of LANES: (factors, rows, unit, position, layer, key, numbers), the last two being rows of dropout.table.
DROP = VectorFunction("drop", "FIIIINN", _drop)
