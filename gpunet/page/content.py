"""What the page shows of a model: its numbers, test images with its mistakes first, and where it comes from."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet import digits
from gpunet._version import __version__
from gpunet.data import Examples
from gpunet.errors import ArgumentError
from gpunet.model import Sequential
from gpunet.page.formulas import FORMULAS
from gpunet.plots import image_shape

MOST_BYTES = 16_000_000  # of weights: a file of 21 MB, which can still be mailed and opened on a phone
MISTAKES, RIGHT = 24, 16  # test images on the page


@dataclass(frozen=True)
class Source:
    """What the page says about its own origin."""

    model: str  # the name of the file
    data: str  # what to call the data set
    is_mnist: bool
    command: str


def packed(weights: Sequence[NDArray[np.floating]], bits: int) -> tuple[bytes, list[NDArray[np.float32]]]:
    """The weights as consecutive 16- or 32-bit numbers, lowest byte first; and the values that these stand for.

    Raises ArgumentError if there are too many for a page, or if they are too large for 16 bits.
    """
    parameters, most = sum(array.size for array in weights), 8 * MOST_BYTES // bits
    if parameters > most:
        raise ArgumentError(
            f"a network with {parameters:,} parameters is too large for a page; expected at most {most:,}"
            + ("" if bits == 16 else f" with --float32, or {2 * most:,} without")
        )
    with np.errstate(over="ignore"):  # too large for 16 bits becomes infinite, and is refused as such
        numbers = [np.asarray(array, np.dtype(f"<f{bits // 8}")) for array in weights]
    if not all(np.isfinite(array).all() for array in numbers):
        raise ArgumentError("the network has weights above 65,504, too large for 16 bits; --float32 keeps them")
    return b"".join(array.tobytes() for array in numbers), [array.astype(np.float32) for array in numbers]


def image_size(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(height, width) of grey images of this shape; None if these are not grey images."""
    drawn = image_shape(shape)
    return (drawn[0], drawn[1]) if drawn is not None and len(drawn) == 2 else None


def is_drawable(model: Sequential, size: tuple[int, int], images: NDArray[Any]) -> bool:
    """Whether the model can take a drawn digit: 28 x 28 levels from 0 to 1."""
    if size != (digits.SIDE, digits.SIDE):
        return False
    return bool(images.dtype == np.uint8 or model.scale is None or model.scale.from_0_to_1)


def describe(
    model: Sequential,
    test: Examples,
    probabilities: NDArray[np.floating],
    labels: Sequence[str],
    source: Source,
    bits: int,
    accuracies: tuple[float, float],
) -> dict[str, Any]:
    """What the page's scripts read, ready for JSON.

    probabilities: (examples, classes) of all test images, with the page's weights.
    labels:        a name for every class.
    accuracies:    on the test images, in 0..1: of the model, and with the page's weights.
    """
    network, size = model.network, image_size(test.images.shape[1:])
    assert size is not None
    in_bytes = test.images.dtype == np.uint8
    low, high = (0.0, 1.0) if in_bytes else (float(test.images.min()), float(test.images.max()))
    drawable = is_drawable(model, size, test.images)
    return {
        "widths": network.widths,
        "activations": network.activations,
        "bits": bits,
        "formulas": {name: FORMULAS[name] for name in network.activations},
        "labels": list(labels),
        "image": {"height": size[0], "width": size[1], "bits": 8 if in_bytes else 32, "low": low, "high": high},
        "drawable": drawable,
        "digits": drawable and source.is_mnist,
        "subtitle": f"{source.model}: {network}, {' '.join(network.activations)}; "
        f"{100 * accuracies[1]:.2f} % of {len(test.labels):,} test images right",
        "facts": _facts(model, test, source, bits, accuracies),
        "examples": _examples(test, probabilities),
    }


def _facts(
    model: Sequential, test: Examples, source: Source, bits: int, accuracies: tuple[float, float]
) -> list[tuple[str, str, str]]:
    """(term, text, class of the style sheet) of the network and this page."""
    network = model.network
    here = f", {100 * accuracies[1]:.2f} % with the page's 16-bit weights" if bits == 16 else ""
    trained = f"{model.epochs_trained} epoch{'' if model.epochs_trained == 1 else 's'}, seed {model.seed}"
    if model.optimizer is not None:
        rate = f"{model.optimizer.learning_rate:.3g}"
        trained += f"; {type(model.optimizer).__name__}, with a learning rate of {rate} at the end"
    return [
        ("Network", f"{network}, {' '.join(network.activations)}; {network.parameters:,} parameters", ""),
        (
            "Test accuracy",
            f"{100 * accuracies[0]:.2f} %{here}, of the {len(test.labels):,} test images of {source.data}",
            "",
        ),
        ("Trained", trained, ""),
        ("Weights here", "16 bits each, rounded" if bits == 16 else "32 bits each, all that there are", ""),
        ("Made by", source.command, "command"),
        ("with", f"gpunet {__version__}; the page loads nothing and sends nothing", ""),
    ]


def _examples(test: Examples, probabilities: NDArray[np.floating]) -> dict[str, Any]:
    """The mistakes about which the network is most certain, then images of all classes that it gets right."""
    chosen = _chosen(test.labels, probabilities)
    guesses = probabilities[chosen].argmax(axis=1)
    images = test.images[chosen]
    numbers = images if images.dtype == np.uint8 else images.astype("<f4")
    mistakes = int((guesses != test.labels[chosen]).sum())
    wrong = int((probabilities.argmax(axis=1) != test.labels).sum())
    first = "no mistakes among them" if not wrong else f"the {mistakes} most confident of {wrong:,} mistakes first"
    return {
        "images": base64.b64encode(numbers.tobytes()).decode("ascii"),
        "truths": test.labels[chosen].tolist(),
        "guesses": guesses.tolist(),
        "shares": [float(share) for share in probabilities[chosen].max(axis=1)],
        "hint": f"{len(chosen)} of {len(test.labels):,}, {first}. A click shows one to the network.",
    }


def _chosen(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> NDArray[np.intp]:
    guesses, certainty = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(guesses != labels)
    wrong = wrong[np.argsort(-certainty[wrong], kind="stable")][:MISTAKES]
    right = np.flatnonzero(guesses == labels)
    # Classes in turn: each image's rank among those of its class comes first, its class second.
    rank = np.zeros(len(right), int)
    for label in np.unique(labels[right]):
        own = labels[right] == label
        rank[own] = np.arange(own.sum())
    return np.concatenate([wrong, right[np.lexsort((labels[right], rank))][:RIGHT]])
