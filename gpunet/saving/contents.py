"""What a model file holds, by name.

Arrays  `0.weight` (units, inputs), `0.bias` (units,), `2.weight`, ... float32: names and orientation as in
        torch.nn.Sequential(Linear, activation, Linear, ...). With the optimizer's state also the same names with the
        prefix `optimizer.m.` and so on, for each of the optimizer's slots. A layer without biases has no `bias`. With
        a Normalization, its `normalization.mean` and `normalization.variance` (inputs,).
Text    everything else as JSON (see `_describe`), with a `sha256` of the JSON and the arrays: it detects a damaged
        file, not a forged one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet import class_names, losses, normalization, optimizers
from gpunet._version import __version__
from gpunet.arrays import as_optimizer_state, as_weights
from gpunet.checks import require_count, whole_number
from gpunet.data import Origin
from gpunet.engines.base import OptimizerState
from gpunet.errors import ArgumentError, ModelFileError
from gpunet.layers import MOST_UNITS, Layer, Network, network_of
from gpunet.normalization import Normalization
from gpunet.optimizers import Optimizer
from gpunet.saving import formats
from gpunet.saving.formats import Arrays, Raw
from gpunet.scale import Scale

FORMAT = 2  # rises when an older gpunet would misread the file
PLAIN = 1  # format of a file without what format 2 added: layers without biases, Normalization, L2, Dropout
BEST = "best."  # before the names of the best epoch's weights
PREPARED = ("normalization.mean", "normalization.variance")


@dataclass
class Saved:
    """A model as stored in a file.

    loss, optimizer: None if it was not compiled.
    optimizer_state: None if it was saved without.
    training:        for a checkpoint of `gpunet train`, what it needs to resume; else None.
    scale:           of the examples it was trained on; None if unknown, as in a file of an older gpunet.
    data:            for a model of `gpunet train`, the data set it was trained on; else None.
    class_names:     of its classes; None if the labels were numbers.
    normalization:   of its inputs; None if there is none.
    best_weights:    for a checkpoint of `gpunet train --keep best`, those of the best epoch so far; else None.
    """

    network: Network
    weights: list[NDArray[np.floating]]
    seed: int
    epochs_trained: int
    loss: str | None = None
    optimizer: Optimizer | None = None
    optimizer_state: OptimizerState | None = None
    training: dict[str, Any] | None = None
    scale: Scale | None = None
    data: Origin | None = None
    class_names: tuple[str, ...] | None = None
    normalization: Normalization | None = None
    best_weights: list[NDArray[np.floating]] | None = None


def write(path: str | os.PathLike[str], saved: Saved) -> None:
    """Raises ArgumentError for an unknown suffix, and for what could not be read back: weights that are not finite, or
    an optimizer with unusable settings. Raises OutputError if the file cannot be written.
    """
    network = saved.network
    arrays = _named(network, as_weights(saved.weights, network.own_shapes))
    if saved.normalization is not None:
        mean, variance = saved.normalization.mean, saved.normalization.variance
        if mean is None or variance is None:
            raise ArgumentError("Normalization: its means and variances are not known yet; call adapt(x) before saving")
        arrays |= dict(zip(PREPARED, (mean, variance), strict=True))
    if saved.optimizer is not None:
        saved.optimizer.check()
    if saved.optimizer is not None and saved.optimizer_state is not None:
        state = as_optimizer_state(saved.optimizer_state, saved.optimizer, saved.network)
        for slot, values in state.slots.items():
            arrays |= _named(network, values, f"optimizer.{slot}.")
    if saved.best_weights is not None:
        arrays |= _named(network, as_weights(saved.best_weights, network.own_shapes), BEST)
    formats.write(path, Raw(_seal(_describe(saved), arrays), arrays))


def read(path: str | os.PathLike[str]) -> Saved:
    """Raises ModelFileError, one line that names the file, if it holds no model that this gpunet can read."""
    return _read_model(path, formats.read(path, lambda text: _sizes(path, text)))


class Weights(NamedTuple):
    """What a file holds for a network described by layers; the last three as in Saved, None if unknown."""

    network: Network
    arrays: list[NDArray[np.floating]]
    scale: Scale | None = None
    class_names: tuple[str, ...] | None = None
    normalization: Normalization | None = None


def read_weights(path: str | os.PathLike[str], layers: Iterable[Layer], inputs: int | None) -> Weights:
    """The network that the layers describe, and the file's weights for it.

    Also takes what PyTorch's `safetensors.torch.save_file(network.state_dict(), path)` writes, which has no text.
    inputs: number of inputs, or None to take the file's.
    Raises ModelFileError if the file cannot be read, or belongs to another network.
    """
    layers = list(layers)

    def sizes(text: str | None) -> dict[str, int]:
        if text is not None:
            return _sizes(path, text)
        return _elements(network_of(layers, inputs or MOST_UNITS), ())

    raw = formats.read(path, sizes)
    saved = None if raw.text is None else _read_model(path, raw)
    if inputs is None:
        first = raw.arrays.get("0.weight")
        inputs = int(first.shape[1]) if first is not None and first.ndim == 2 else 1
    network = network_of(layers, inputs)
    if saved is None:
        return Weights(network, _take_arrays(path, raw.arrays, network, ())[""])
    if saved.network.shape != network.shape:
        raise ModelFileError(
            f"{path}: holds {_words(saved.network)}, but the model is {_words(network)}; use gpunet.load instead"
        )
    if saved.normalization is not None and normalization.of(layers) is None:
        raise ModelFileError(
            f"{path}: holds a network behind a Normalization, and the model has none; add one, or use gpunet.load"
        )
    return Weights(network, saved.weights, saved.scale, saved.class_names, saved.normalization)


def _sizes(path: str | os.PathLike[str], text: str | None) -> dict[str, int]:
    """The arrays of the described model, with their numbers of elements."""
    description = _read_text(path, text)
    with _described(path):
        network, optimizer = _network(description), description["optimizer"]
        sizes = _elements(network, () if optimizer is None else _optimizer(dict(optimizer)).slots)
        if description.get("best"):
            sizes |= {f"{BEST}{name}": count for name, count in _elements(network, ()).items()}
        return sizes | (dict.fromkeys(PREPARED, network.inputs) if description.get("normalized") else {})


def _network(description: dict[str, Any]) -> Network:
    later = (tuple(description.get(name, ())) for name in ("biases", "l2", "dropout"))
    return Network(tuple(description["widths"]), tuple(description["activations"]), *later)


def _elements(network: Network, slots: Sequence[str]) -> dict[str, int]:
    prefixes = ("", *(f"optimizer.{slot}." for slot in slots))
    counts = [math.prod(shape) for shape in network.own_shapes]
    return {name: count for prefix in prefixes for name, count in zip(_names(network, prefix), counts, strict=True)}


def _words(network: Network) -> str:
    without = [str(1 + layer) for layer, has in enumerate(network.biases) if not has]
    biases = f", no bias in layer {', '.join(without)}" if without else ""
    return f"{network} with {', '.join(network.activations)}{biases}"


def _read_model(path: str | os.PathLike[str], raw: Raw) -> Saved:
    description = _read_text(path, raw.text)
    if description.pop("sha256", None) != _digest(description, raw.arrays):
        raise ModelFileError(f"{path}: damaged: the content does not match its checksum")
    with _described(path):
        return _understand(path, description, raw.arrays)


@contextlib.contextmanager
def _described(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn every fault of a description into one ModelFileError."""
    try:
        yield
    except ModelFileError:
        raise
    except (ArgumentError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: the model's description is wrong: {error}") from error


def _read_text(path: str | os.PathLike[str], text: str | None) -> dict[str, Any]:
    """The JSON description, in a format known to this gpunet."""
    if text is None:
        raise ModelFileError(f"{path}: not written by gpunet; use model.load_weights for weights from PyTorch")
    try:
        description = dict(json.loads(text))
        number = whole_number(description["format"])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: damaged: the model's description cannot be read") from error
    if number is None or number < 1:
        raise ModelFileError(f"{path}: damaged: format {description['format']!r}")
    if number > FORMAT:
        raise ModelFileError(
            f"{path}: written by a newer gpunet ({description.get('version')}) in format {number}; this one reads "
            f"formats up to {FORMAT}: pip install --upgrade gpunet"
        )
    return description


def _describe(saved: Saved) -> dict[str, Any]:
    """The JSON text's content; `_understand` is the inverse."""
    optimizer = saved.optimizer
    state = saved.optimizer_state
    later: dict[str, Any] = {}  # not in files of an older gpunet
    if not all(saved.network.biases):
        later["biases"] = saved.network.biases
    if saved.network.l2:
        later["l2"] = saved.network.l2
    if saved.network.dropout:
        later["dropout"] = saved.network.dropout
    if saved.normalization is not None:
        later["normalized"] = True
    if saved.best_weights is not None:
        later["best"] = True
    plain = not later
    if saved.class_names is not None:
        later["class_names"] = saved.class_names
    return {
        "format": PLAIN if plain else FORMAT,
        "version": __version__,
        **later,
        "widths": saved.network.widths,
        "activations": saved.network.activations,
        "seed": saved.seed,
        "epochs_trained": saved.epochs_trained,
        "loss": saved.loss,
        "optimizer": optimizer and {"name": optimizers.name_of(optimizer), **asdict(optimizer)},
        "updates": None if state is None else state.updates,
        "training": saved.training,
        "scale": saved.scale and asdict(saved.scale),
        "data": saved.data and {name: value for name, value in asdict(saved.data).items() if value or name == "path"},
    }


def _understand(path: str | os.PathLike[str], text: dict[str, Any], arrays: Arrays) -> Saved:
    network = _network(text)
    optimizer = None if text["optimizer"] is None else _optimizer(dict(text["optimizer"]))
    updates = text["updates"]
    if updates is not None and optimizer is None:
        raise ArgumentError("the state of an optimizer, but no optimizer")
    slots = optimizer.slots if optimizer and updates is not None else ()
    prepared = {name: arrays.pop(name) for name in PREPARED if name in arrays and text.get("normalized")}
    parts = _take_arrays(path, arrays, network, slots, best=bool(text.get("best")))
    state = None
    if updates is not None and optimizer is not None:
        state = as_optimizer_state(OptimizerState(updates, {s: parts[s] for s in slots}), optimizer, network)
    training = None if text["training"] is None else dict(text["training"])
    loss = None if text["loss"] is None else losses.get(text["loss"])
    if (loss is None) != (optimizer is None):
        raise ArgumentError("a loss without an optimizer, or the reverse")
    seed, epochs = (require_count(name, text[name]) for name in ("seed", "epochs_trained"))
    scale = None if text.get("scale") is None else Scale(**text["scale"])
    data = None if text.get("data") is None else Origin(**text["data"])
    names = None if text.get("class_names") is None else tuple(text["class_names"])
    if names is not None:
        class_names.checked("class_names", names, network.classes)
    own = None
    if text.get("normalized"):
        own = Normalization(**{name.partition(".")[2]: prepared[name] for name in PREPARED})
        if own.inputs != network.inputs:
            raise ArgumentError(f"a normalization of {own.inputs} inputs for {network.inputs}")
    best = parts.get(BEST)
    return Saved(network, parts[""], seed, epochs, loss, optimizer, state, training, scale, data, names, own, best)


def _optimizer(values: dict[str, Any]) -> Optimizer:
    return optimizers.OPTIMIZERS[values.pop("name")](**values)


def _take_arrays(
    path: str | os.PathLike[str], arrays: Arrays, network: Network, slots: Sequence[str], best: bool = False
) -> dict[str, list[NDArray[np.floating]]]:
    """The weights under "", each slot's arrays, and those under BEST, in the engines' orientation; no others."""
    last = (BEST,) if best else ()
    prefixes = ("", *(f"optimizer.{s}." for s in slots), *last)
    expected = {prefix: list(_names(network, prefix)) for prefix in prefixes}
    names = [name for part in expected.values() for name in part]
    if missing := [name for name in names if name not in arrays]:
        raise ModelFileError(
            f"{path}: no array {missing[0]!r}; expected {', '.join(names[:2])} and so on, "
            f"found {', '.join(sorted(arrays)[:4]) or 'none'}{' and so on' if len(arrays) > 4 else ''}"
        )
    if extra := sorted(arrays.keys() - set(names)):
        raise ModelFileError(f"{path}: unexpected array {extra[0]!r}, which does not belong to {_words(network)}")
    taken = {}
    for slot, part in zip(("", *slots, *last), expected.values(), strict=True):
        # Contiguous copies of the transposes, not views of memory that the file's reader may have mapped.
        values = [np.array(arrays[name].T, order="C") for name in part]
        try:
            taken[slot] = as_weights(values, network.own_shapes, infinite=slot in slots)
        except ArgumentError as error:
            raise ModelFileError(f"{path}: {error}") from error
    return taken


def _names(network: Network, prefix: str = "") -> Iterable[str]:
    for layer, bias in enumerate(network.biases):
        yield f"{prefix}{2 * layer}.weight"
        if bias:
            yield f"{prefix}{2 * layer}.bias"


def _named(network: Network, weights: Sequence[NDArray[np.floating]], prefix: str = "") -> Arrays:
    """Weights and biases by their names in a file, in PyTorch's orientation."""
    names = _names(network, prefix)
    return {name: np.ascontiguousarray(array.T, np.float32) for name, array in zip(names, weights, strict=True)}


def _seal(description: dict[str, Any], arrays: Arrays) -> str:
    """The description as JSON, with the checksum."""
    return json.dumps({**description, "sha256": _digest(description, arrays)}, separators=(",", ":"))


def _digest(description: dict[str, Any], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
