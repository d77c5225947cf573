"""The formula of every activation, for people to read. The page and the table in docs/guide.md show them."""

from __future__ import annotations

FORMULAS = {
    "sigmoid": "1 / (1 + exp(-x))",
    "softplus": "log(1 + exp(x))",
    "softsign": "x / (1 + |x|)",
    "relu": "max(0, x)",
    "tanh": "(exp(x) - exp(-x)) / (exp(x) + exp(-x))",
    "hard_sigmoid": "0.2 x + 0.5, clipped to 0..1",
    "linear": "x",
    "softmax": "exp(x) / sum of exp over all classes",
}
