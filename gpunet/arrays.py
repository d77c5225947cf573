"""Checks users' arrays and converts them to the form that engines take. Nothing is changed in place.

Examples and targets on a GPU (CuPy arrays, PyTorch tensors, anything with DLPack or __cuda_array_interface__) become
CuPy arrays without a copy. They stay there if engines can use them unchanged, and are checked on the host, chunk by
chunk; others are copied to the host. CuPy computes nothing: it would compile kernels of its own, each for a second or
more. The code below only slices, reshapes and downloads its arrays.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpunet import class_names, containers, losses
from gpunet.checks import require_positive_integer, whole_number
from gpunet.engines.base import OptimizerState, on_host
from gpunet.errors import ArgumentError, DeviceError, first_line, shown
from gpunet.layers import Network
from gpunet.optimizers import Optimizer
from gpunet.scale import BYTES, Scale

DLPACK_CUDA = (2, 13)  # DLPack's device types for CUDA memory, ordinary and managed
NUMPYS_WAYS = ("__array__", "__array_interface__", "__array_struct__", "__buffer__", "__len__")
CHUNK = 2**20  # numbers checked at a time where a check needs memory
SUM_TOLERANCE = 1e-3  # how far the sum of a row of target probabilities may be from 1


def to_categorical(labels: ArrayLike, num_classes: int | None = None) -> NDArray[np.float32]:
    """One-hot targets (n, num_classes) float32 from whole-number labels (n,), as Keras' function of that name."""
    classes = _whole_numbers("labels", on_host(_as_array("labels", labels)))
    if classes.size == 0 or classes.min() < 0:
        raise ArgumentError("labels: expected whole numbers from 0 on, at least one")
    count = int(classes.max()) + 1 if num_classes is None else require_positive_integer("num_classes", num_classes)
    if classes.max() >= count:
        raise ArgumentError(
            f"labels: {classes.max()} is out of range for num_classes={count}; expected 0 to {count - 1}"
        )
    one_hot = np.zeros((len(classes), count), np.float32)
    one_hot[np.arange(len(classes)), classes] = 1
    return one_hot


def as_images(name: str, x: ArrayLike, inputs: int | None) -> tuple[NDArray[Any], Scale]:
    """Examples as (n, inputs), uint8 unchanged and everything else as float32; and their scale.

    inputs: of the network, or None to accept any number. Images (n, height, width) are flattened.
    Raises ArgumentError, naming the argument, for a wrong shape or type and for NaN or infinite values.
    """
    array = _as_array(name, x)
    with _memory_reported(name):
        return _checked_images(name, array, inputs)


def _checked_images(name: str, array: NDArray[Any], inputs: int | None) -> tuple[NDArray[Any], Scale]:
    expected = f"(examples, {inputs})" if inputs else "(examples, inputs)"
    if array.dtype.kind not in "buif":
        what = shown(array.item()) if array.ndim == 0 else f"data type {array.dtype}"
        raise ArgumentError(f"{name}: expected numbers of shape {expected}, got {what}")
    if array.ndim >= 1 and len(array) == 0:
        raise ArgumentError(f"{name}: no examples: got shape {array.shape}; expected {expected}")
    width = math.prod(array.shape[1:])
    single = inputs is not None and width != inputs and math.prod(array.shape) == inputs
    hint = f"; for a single example pass {name}[None]" if single and name == "x" else ""
    if array.ndim < 2 or 0 in array.shape:
        raise ArgumentError(f"{name}: expected shape {expected}, got {array.shape}{hint}")
    if inputs is not None and width != inputs:
        raise ArgumentError(f"{name}: expected shape {expected}, got {array.shape}: {width} numbers per example{hint}")
    array = _as_it_is_or_on_host(array, np.uint8, np.float32).reshape(len(array), width)
    if array.dtype == np.uint8:
        return _with_type(array, np.uint8), BYTES
    array = _with_type(array, np.float32)
    low, high = _range(array)
    if not (math.isfinite(low) and math.isfinite(high)):
        row = _first_row(array, lambda rows: ~np.isfinite(rows).all(axis=1))
        raise ArgumentError(f"{name}: example {row} has NaN or infinite values, or values too large for float32")
    return array, Scale(False, low, high)


def is_finite(array: NDArray[np.floating]) -> bool:
    """Whether all numbers are finite. Needs no memory."""
    return all(map(math.isfinite, _range(array)))


def _range(array: NDArray[np.floating]) -> tuple[float, float]:
    """The smallest and the largest number, NaN if there is one: finite if all are. Needs almost no memory."""
    with np.errstate(invalid="ignore"):
        ranges = [(piece.min(), piece.max()) for _, piece in _pieces(array)]
        lows, highs = np.array(ranges).T
        return float(lows.min()), float(highs.max())


def _pieces(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """An array's rows on the host, in chunks if they are on a GPU, each with the index of its first row."""
    rows = len(array) if isinstance(array, np.ndarray) else _chunk_rows(array)
    for first in range(0, len(array), rows):
        yield first, on_host(array[first : first + rows])


def _chunk_rows(array: NDArray[Any]) -> int:
    return max(1, CHUNK // math.prod(array.shape[1:]))


def _as_it_is_or_on_host(array: Any, *types: Any) -> Any:
    """A NumPy array; or a CuPy array, if it has one of the types and is contiguous, so that engines can use it."""
    if isinstance(array, np.ndarray) or (array.dtype in types and array.flags.c_contiguous):
        return array
    return on_host(array)


def _with_type(array: Any, dtype: Any) -> Any:
    """A contiguous array; numbers too large for the type become infinite."""
    if not isinstance(array, np.ndarray):
        return array  # see _as_it_is_or_on_host
    with np.errstate(over="ignore"):
        return array.astype(dtype, order="C", copy=False)


def _first_row(array: NDArray[Any], is_bad: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> int | None:
    """The first bad row, or None. Works in chunks, so that the check needs almost no memory."""
    rows = _chunk_rows(array)
    for first in range(0, len(array), rows):
        bad = is_bad(on_host(array[first : first + rows]))
        if bad.any():
            return first + int(bad.argmax())
    return None


def as_class_names(name: str, y: ArrayLike | None, classes: int) -> tuple[str, ...] | None:
    """The names in labels that are text, sorted; None for numbers.

    Raises ArgumentError, naming the argument, unless there is a name for each of the classes.
    """
    array = None if y is None else _as_array(name, y)
    if array is None or not class_names.are_names(array) or not array.size:
        return None
    names = class_names.distinct(name, on_host(array))
    if len(names) != classes:
        raise ArgumentError(
            f"{name}: has {len(names)} names ({class_names.listed(names)}), but the network has {classes} classes; "
            "expected as many, or all names in model.class_names before"
        )
    return names


def as_targets(
    name: str, y: ArrayLike | None, loss: str, classes: int, examples: int, names: Sequence[str] | None = None
) -> NDArray[Any]:
    """Targets as the loss expects them: (n,) int32 classes, or (n, classes) float32 probabilities.

    names: what labels that are text may be, in the order of the classes.
    Raises ArgumentError, naming the argument, for a wrong shape, number or range.
    """
    if y is None:
        raise ArgumentError(f"{name}: no targets; expected one for each of the {examples} examples")
    array = _as_array(name, y)
    if array.ndim == 0 or len(array) != examples:
        count = "a single value" if array.ndim == 0 else f"{len(array)} targets"
        raise ArgumentError(f"{name}: expected one target for each of the {examples} examples, got {count}")
    with _memory_reported(name):
        if loss == losses.INTEGER:
            return _integer_targets(name, array, classes, names)
        return _probability_targets(name, array, classes)


def _integer_targets(name: str, array: NDArray[Any], classes: int, names: Sequence[str] | None) -> NDArray[np.int32]:
    if class_names.are_names(array):
        if names is None:
            raise ArgumentError(
                f"{name}: names, but the model knows none: it was trained on numbers; set model.class_names"
            )
        return class_names.numbered(name, on_host(array), names)
    if array.ndim == 2 and array.shape[1] == classes and classes > 1:
        raise ArgumentError(
            f"{name}: the loss {losses.INTEGER!r} expects whole-number labels (examples,), got shape {array.shape}; "
            f"compile with loss={losses.ONE_HOT!r} for one-hot targets"
        )
    labels = _whole_numbers(name, on_host(array))
    smallest, largest = int(labels.min()), int(labels.max())
    if smallest < 0 or largest >= classes:
        wrong = smallest if smallest < 0 else largest
        raise ArgumentError(f"{name}: label {wrong} is out of range; expected 0 to {classes - 1}")
    return labels.astype(np.int32)


def _probability_targets(name: str, array: NDArray[Any], classes: int) -> NDArray[np.float32]:
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1 and classes > 1):
        raise ArgumentError(
            f"{name}: the loss {losses.ONE_HOT!r} expects one-hot targets (examples, {classes}), got shape "
            f"{array.shape}; compile with loss={losses.INTEGER!r} for numbers or names, or use to_categorical"
        )
    if array.shape[1:] != (classes,) or array.dtype.kind not in "buif":
        raise ArgumentError(
            f"{name}: expected numbers of shape (examples, {classes}), got {array.dtype} of shape {array.shape}"
        )
    targets: NDArray[np.float32] = _with_type(_as_it_is_or_on_host(array, np.float32), np.float32)
    row = _first_row(targets, _are_no_probabilities)
    if row is not None:
        raise ArgumentError(
            f"{name}: target {row} is {np.array2string(on_host(targets[row]), threshold=6, max_line_width=1000)}; "
            "expected probabilities that sum to 1, such as one-hot"
        )
    return targets


def _are_no_probabilities(rows: NDArray[np.floating]) -> NDArray[np.bool_]:
    """For each row, whether it is no probability distribution; rows with NaN are none."""
    bad: NDArray[np.bool_] = ~((rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) <= SUM_TOLERANCE))
    return bad


def _whole_numbers(name: str, array: NDArray[Any]) -> NDArray[np.integer]:
    """The labels as a vector of integers; a column (n, 1), and floats without fraction, are accepted as well."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "uif":
        raise ArgumentError(
            f"{name}: expected whole-number labels (examples,), got {array.dtype} of shape {array.shape}"
        )
    if array.dtype.kind == "f":
        if not ((np.floor(array) == array) & (np.abs(array) < 2**53)).all():  # NaN and infinity are unequal or large
            raise ArgumentError(f"{name}: expected whole-number labels, got fractions, NaN or numbers beyond 2^53")
        array = array.astype(np.int64)
    return array


def as_weights(
    weights: object, shapes: Sequence[tuple[int, ...]], infinite: bool = False
) -> list[NDArray[np.floating]]:
    """Copies of a list of weights as float32; ArgumentError unless they have these shapes and are finite.

    infinite: whether infinite values are allowed; a huge gradient makes Adam's v infinite, which is harmless.
    """
    if not isinstance(weights, Iterable):
        raise ArgumentError(f"weights: expected a list of arrays, got {shown(weights)}")
    arrays = [on_host(_as_array("weights", array)) for array in weights]
    if [array.shape for array in arrays] != list(shapes):
        raise ArgumentError(
            f"weights: expected arrays of shapes {list(shapes)}, got {[array.shape for array in arrays]}"
        )
    for position, array in enumerate(arrays):
        if array.dtype.kind not in "buif":
            raise ArgumentError(f"weights: array {position} has data type {array.dtype}; expected numbers")
        with np.errstate(over="ignore"):  # becomes infinite, and is refused below
            arrays[position] = array.astype(np.float32)
        if np.isnan(arrays[position].min()) or not (infinite or is_finite(arrays[position])):
            raise ArgumentError(f"weights: array {position} has NaN or infinite values; expected finite float32")
    return arrays


def all_arrays(network: Network, own: Sequence[NDArray[np.floating]]) -> list[NDArray[np.floating]]:
    """A network's arrays as engines have them, from those that it really has: zeros for the biases that are none."""
    remaining = iter(own)
    return [
        next(remaining) if present else np.zeros(shape, np.float32)
        for shape, present in zip(network.weight_shapes, network.present, strict=True)
    ]


def own_arrays(network: Network, arrays: Sequence[NDArray[np.floating]]) -> list[NDArray[np.floating]]:
    """The reverse of `all_arrays`."""
    return [array for array, present in zip(arrays, network.present, strict=True) if present]


def as_optimizer_state(state: object, optimizer: Optimizer, network: Network) -> OptimizerState:
    """A copy; ArgumentError unless it fits this optimizer and this network."""
    if not isinstance(state, OptimizerState) or tuple(state.slots) != tuple(optimizer.slots):
        slots = tuple(state.slots) if isinstance(state, OptimizerState) else state
        expected = tuple(optimizer.slots)
        raise ArgumentError(f"optimizer state: expected the slots {expected}, got {shown(slots)}")
    updates = whole_number(state.updates)
    if updates is None or updates < 0:
        came = shown(state.updates)
        raise ArgumentError(f"optimizer state: expected a whole number of updates from 0 on, got {came}")
    slots = {slot: as_weights(arrays, network.own_shapes, infinite=True) for slot, arrays in state.slots.items()}
    if any((array < 0).any() for array in slots.get("v", ())):
        raise ArgumentError("optimizer state: v has numbers below 0; expected means of squares")
    return OptimizerState(updates, slots)


def as_numbers(name: str, values: object) -> NDArray[Any]:
    """A NumPy array of numbers of any shape, not copied if possible; ArgumentError for anything else."""
    array = on_host(_as_array(name, values))
    if array.dtype.kind not in "buif":
        what = shown(array.item()) if array.ndim == 0 else f"data type {array.dtype}"
        raise ArgumentError(f"{name}: expected numbers, got {what}")
    return array


@contextlib.contextmanager
def _memory_reported(name: str) -> Iterator[None]:
    """Around checks, which need memory where the array is: lack of GPU memory is reported as such."""
    try:
        yield
    except MemoryError as error:
        if type(error).__module__.partition(".")[0] != "cupy":
            raise
        raise DeviceError(
            f"{name}: not enough GPU memory to check it ({first_line(error)}); pass it as a NumPy array"
        ) from error


def _as_array(name: str, values: Any) -> NDArray[Any]:
    """The values as a NumPy array, or as a CuPy array if they are on a GPU; not copied if possible."""
    if hasattr(values, "toarray") and hasattr(values, "nnz"):
        raise ArgumentError(f"{name}: is a sparse {type(values).__name__}; expected a dense array: pass .toarray()")
    try:
        values = containers.unpacked(name, values)
        if hasattr(values, "requires_grad") and hasattr(values, "detach"):  # a PyTorch tensor
            values = values.detach()
            if str(values.dtype) == "torch.bfloat16":
                raise TypeError("NumPy has no bfloat16; pass .float()")
        if _is_on_gpu(values):
            with _memory_reported(name):
                array: NDArray[Any] = _cupy_array(name, values)
                return array
        if hasattr(values, "__dlpack__") and not any(hasattr(values, way) for way in NUMPYS_WAYS):
            return np.from_dlpack(values)
        return np.asarray(values)
    except (ArgumentError, DeviceError):
        raise
    except (
        ValueError,
        TypeError,
        RuntimeError,
        BufferError,
        LookupError,
    ) as error:  # PyTorch's hasattr raises KeyError
        raise ArgumentError(f"{name}: cannot be converted to an array: {first_line(error)}") from error


def _is_on_gpu(values: Any) -> bool:
    if hasattr(values, "__dlpack_device__"):
        return int(values.__dlpack_device__()[0]) in DLPACK_CUDA
    return hasattr(values, "__cuda_array_interface__")


def _cupy_array(name: str, values: Any) -> Any:
    """A CuPy array over the values' memory. An engine refuses it if it is on another GPU than the one that computes.

    DLPack comes first because it makes CuPy's stream wait for the work of the library that made the values;
    __cuda_array_interface__ of PyTorch's tensors does not.
    """
    try:
        import cupy
    except ImportError as error:
        raise ArgumentError(f"{name}: is on a GPU, and CuPy is not installed; pip install cupy-cuda12x") from error
    array = values if isinstance(values, cupy.ndarray) else None
    if array is None and hasattr(values, "__dlpack__"):
        try:
            array = cupy.from_dlpack(values)
        except (ValueError, TypeError, RuntimeError, BufferError):  # such as bools, which not every version takes
            if not hasattr(values, "__cuda_array_interface__"):
                raise
    if array is None:
        array = cupy.asarray(values)
    return array
