"""What a model's file remembers of the data that it was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import ArgumentError
from gpunet.data import Origin, fingerprint

SHA = "0" * 64


@pytest.mark.parametrize(
    "values",
    [
        (3, (8,), 3, SHA),
        (None, (0,), 3, SHA),
        (None, ("a",), 3, SHA),
        (None, (8,), 0, SHA),
        (None, (8,), 3, "ab"),
        (None, (8,), 3, None),
    ],
)
def test_an_impossible_origin_is_refused(values: Any) -> None:
    Origin("a.npz", (8, 6), 3, SHA)
    with pytest.raises(ArgumentError, match=r"^data: expected path, shape, classes and fingerprint, got Origin"):
        Origin(*values)


def test_the_fingerprint_depends_on_the_examples(blobs) -> None:
    x, y = blobs

    def dataset(x: Any, y: Any) -> gpunet.Dataset:
        part = gpunet.Examples(x, y)
        return gpunet.Dataset(part, part, part)

    plain = fingerprint(dataset(x, y))
    assert fingerprint(dataset(np.asfortranarray(x), y.copy())) == plain
    assert fingerprint(dataset(x[::-1], y)) != plain
    assert fingerprint(dataset(x, y[::-1])) != plain
    assert fingerprint(dataset(x.reshape(60, 2, 4), y)) != plain
