"""Arrays from elsewhere: lists, pandas, PyTorch on the CPU, and arrays that are already on the GPU."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import Adam, ArgumentError, Dense, DeviceError, Sequential, to_categorical
from gpunet.engines import choice
from support.devices import open_device
from support.gpu_arrays import GpuArray

INTEGER, ONE_HOT = "sparse_categorical_crossentropy", "categorical_crossentropy"


def trained(x: Any, y: Any, loss: str = INTEGER, **arguments: Any) -> Sequential:
    model = Sequential([Dense(6, "tanh"), Dense(3, "softmax")], seed=0)
    model.compile(Adam(0.02), loss, **arguments)
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, validation_split=0.25)
    return model


def same_results(model: Sequential, x: Any, y: Any, plain: Sequential, plain_x: Any, plain_y: Any) -> bool:
    pairs = [*zip(model.get_weights(), plain.get_weights(), strict=True), (model.predict(x), plain.predict(plain_x))]
    return all(np.array_equal(a, b) for a, b in pairs) and model.evaluate(x, y) == plain.evaluate(plain_x, plain_y)


def test_lists(blobs) -> None:
    x, y = blobs
    assert same_results(trained(x.tolist(), y.tolist()), x.tolist(), y.tolist(), trained(x, y), x, y)


def test_pandas_frames_and_series(blobs) -> None:
    pandas = pytest.importorskip("pandas", reason="tests pandas frames; pip install pandas")
    x, y = blobs
    frame, series = pandas.DataFrame(x, index=range(100, 160)), pandas.Series(y, index=range(60, 0, -1))
    assert same_results(trained(frame, series), frame, series, trained(x, y), x, y)
    frame["name"] = "a"
    with pytest.raises(ArgumentError, match=r"x: column 'name' has data type .*; expected numbers: drop"):
        trained(frame, series)


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="tests PyTorch's tensors; pip install torch")


def test_pytorch_tensors_on_the_cpu(blobs, torch: Any) -> None:
    x, y = blobs
    tensor, labels = torch.tensor(x, requires_grad=True), torch.tensor(y, dtype=torch.int64)
    assert same_results(trained(tensor, labels), tensor, labels, trained(x, y), x, y)
    images = torch.tensor(np.abs(x * 9).astype(np.uint8)).reshape(60, 1, 2, 4)
    assert same_results(trained(images, labels), images, labels, *(trained(images.numpy(), y), images.numpy(), y))
    model = trained(x, y)
    model.set_weights([torch.tensor(w, requires_grad=True) for w in model.get_weights()])
    np.testing.assert_array_equal(to_categorical(labels), to_categorical(y))


def test_tensors_that_numpy_has_no_type_for_are_one_clear_line(blobs, torch: Any) -> None:
    x, y = blobs
    for tensor in (torch.tensor(x).bfloat16(), torch.tensor(x).to_sparse(), torch.tensor(x).to("meta")):
        with pytest.raises(ArgumentError, match="x: cannot be converted to an array: ") as caught:
            trained(tensor, y)
        assert "\n" not in str(caught.value)


# On the GPU. The emulated device and the stand-in for CuPy's arrays show which path they take; what CuPy and PyTorch
# themselves do is left to the tests marked gpu.


@pytest.fixture
def with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    device = open_device("order-forward")
    monkeypatch.setattr(choice, "cuda_problem", lambda index: None)
    monkeypatch.setattr(choice, "cuda_device", lambda index: device)


@pytest.fixture(autouse=True)
def cupy_stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "gpu" not in request.keywords:
        if "torch" in request.fixturenames:
            request.getfixturevalue("torch")  # whose import may look for CuPy, and must not find the stand-in
        cupy = SimpleNamespace(
            ndarray=GpuArray,
            from_dlpack=lambda array: array.gpu_array,
        )
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        # Findings about this machine are cached, and tests on a GPU must not find the stand-in.
        monkeypatch.setattr(choice, "cuda_problem", lambda index: "CuPy is a stand-in")
        GpuArray.downloaded.clear()


@pytest.mark.usefixtures("with_a_gpu")
@pytest.mark.parametrize("images", ["bytes", "floats", "doubles", "transposed", "columns"])
@pytest.mark.parametrize("loss", [INTEGER, ONE_HOT])
def test_arrays_on_the_gpu_stay_there(blobs, images: str, loss: str) -> None:
    x, y = blobs
    x = {
        "bytes": np.abs(x * 9).astype(np.uint8).reshape(60, 2, 4),
        "floats": x,
        "doubles": x.astype(np.float64),
        "transposed": np.asfortranarray(x),
        "columns": x[:, :7],  # which the device pads to 8
    }[images]
    targets = y.astype(np.int64) if loss == INTEGER else to_categorical(y)
    plain = trained(x, targets, loss, engine="tiled")
    gpu_x, gpu_y = GpuArray(x), GpuArray(targets)
    model = trained(gpu_x, gpu_y, loss, engine="tiled")
    assert same_results(model, gpu_x, gpu_y, plain, x, targets)
    assert isinstance(model.predict(gpu_x), np.ndarray)


@pytest.mark.usefixtures("with_a_gpu")
def test_arrays_that_need_no_conversion_are_copied_on_the_gpu_and_checked_in_pieces(blobs, monkeypatch) -> None:
    monkeypatch.setattr("gpunet.arrays.CHUNK", 80)
    x, y = blobs
    for images, checked in ((np.abs(x * 9).astype(np.uint8), 0), (x, x.size)):
        GpuArray.downloaded.clear()
        trained(GpuArray(images), GpuArray(y), engine="tiled")
        assert sum(GpuArray.downloaded) == checked + len(y)
        assert max(GpuArray.downloaded) <= 80


class OverDlpack:
    """An array on the GPU that has only DLPack."""

    def __init__(self, elements: Any) -> None:
        self.gpu_array = GpuArray(elements)

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("the host must not read it")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


@pytest.mark.usefixtures("with_a_gpu")
def test_dlpack_is_enough(blobs) -> None:
    x, y = blobs
    model, plain = trained(OverDlpack(x), OverDlpack(y), engine="tiled"), trained(x, y, engine="tiled")
    assert same_results(model, OverDlpack(x), OverDlpack(y), plain, x, y)


def test_lack_of_gpu_memory_is_reported_as_such(blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = blobs
    error = type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})

    def refuse(*_: Any, **__: Any) -> None:
        raise error("out of memory allocating 1 bytes")

    monkeypatch.setattr(GpuArray, "get", refuse)
    with pytest.raises(DeviceError, match=r"x: not enough GPU memory to check it .out of memory allocating 1 bytes"):
        trained(GpuArray(x), y)


def test_dlpack_on_the_cpu_is_enough(blobs) -> None:
    x, y = blobs
    over = [SimpleNamespace(__dlpack__=a.__dlpack__, __dlpack_device__=a.__dlpack_device__) for a in (x, y)]
    assert same_results(trained(*over), *over, trained(x, y), x, y)


class Odd:
    """Has a data type that its library cannot export, like some of PyTorch's tensors."""

    @property
    def __cuda_array_interface__(self) -> Any:
        raise KeyError("odd")


def test_unusable_arrays_get_one_line_of_advice(blobs) -> None:
    x, y = blobs
    sparse = SimpleNamespace(toarray=lambda: x, nnz=3)
    model = trained(x, y)
    for wrong, message in (
        (Odd(), "x: cannot be converted to an array: 'odd'"),
        (sparse, r"x: is a sparse SimpleNamespace; expected a dense array: pass \.toarray\(\)"),
        (x[:0], r"x: no examples: got shape \(0, 8\)"),
        (x[0], r"got \(8,\); for a single example pass x\[None\]"),
        (x[0].reshape(2, 4), r"4 numbers per example; for a single example pass x\[None\]"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.predict(wrong)


def test_on_a_cpu_engine_they_are_copied_to_the_host(blobs) -> None:
    x, y = blobs
    model = trained(GpuArray(x), GpuArray(y), device="cpu")
    assert same_results(model, GpuArray(x), GpuArray(y), trained(x, y, device="cpu"), x, y)
    assert max(GpuArray.downloaded) > 1
    model.set_weights([GpuArray(w) for w in model.get_weights()])
    np.testing.assert_array_equal(to_categorical(GpuArray(y)), to_categorical(y))


@pytest.mark.usefixtures("with_a_gpu")
@pytest.mark.parametrize("fault", ["nan", "label", "fraction", "width", "target"])
def test_arrays_on_the_gpu_are_checked_like_others(blobs, fault: str) -> None:
    x, y = blobs
    model = trained(x, y, engine="tiled")
    one_hot = Sequential([Dense(3, "softmax")])
    one_hot.compile("adam", ONE_HOT)
    call, message = {
        "nan": (lambda: model.fit(GpuArray(np.where(x == x[3, 2], np.nan, x)), GpuArray(y)), "x: example 3 has NaN"),
        "label": (lambda: model.fit(GpuArray(x), GpuArray(y + 1)), "y: label 3 is out of range; expected 0 to 2"),
        "fraction": (lambda: model.fit(GpuArray(x), GpuArray(y + 0.5)), "y: expected whole-number labels"),
        "width": (lambda: model.fit(GpuArray(x[:, :5]), GpuArray(y)), r"x: expected shape \(examples, 8\), got"),
        "target": (
            lambda: one_hot.fit(GpuArray(x), GpuArray(2 * to_categorical(y))),
            r"y: target 0 is \[2\. 0\. 0\.\]; expected probabilities",
        ),
    }[fault]
    with pytest.raises(ArgumentError, match=message):
        call()


def test_gpu_arrays_without_cupy_are_one_clear_line(blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ArgumentError, match="x: is on a GPU, and CuPy is not installed; pip install cupy"):
        trained(GpuArray(blobs[0]), blobs[1])


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["cupy", "torch", "dlpack"])
@pytest.mark.parametrize("engine", ["tiled", "persistent", "reference"])
def test_arrays_on_a_real_gpu_are_taken(blobs, library: str, engine: str) -> None:
    open_device("gpu")
    x, y = blobs
    if library == "cupy":
        import cupy

        gpu_x, gpu_y = cupy.asarray(x), cupy.asarray(y)
    else:
        torch = pytest.importorskip("torch", reason="tests PyTorch's tensors; pip install torch")
        if not torch.cuda.is_available():
            pytest.skip("this PyTorch was built without CUDA")
        gpu_x, gpu_y = torch.tensor(x, device="cuda", requires_grad=True), torch.tensor(y, device="cuda")
        if library == "dlpack":
            gpu_x, gpu_y = (
                SimpleNamespace(__dlpack__=t.__dlpack__, __dlpack_device__=t.__dlpack_device__)
                for t in (gpu_x.detach(), gpu_y)
            )
    model, plain = trained(gpu_x, gpu_y, engine=engine), trained(x, y, engine=engine)
    assert same_results(model, gpu_x, gpu_y, plain, x, y)


@pytest.mark.gpu
def test_an_array_with_a_nan_on_a_real_gpu_is_refused(blobs) -> None:
    open_device("gpu")
    import cupy

    x, y = blobs
    with pytest.raises(ArgumentError, match="x: example 3 has NaN"):
        trained(cupy.asarray(np.where(x == x[3, 2], np.nan, x)), cupy.asarray(y))
    with pytest.raises(ArgumentError, match="y: label 3 is out of range"):
        trained(cupy.asarray(x), cupy.asarray(y + np.arange(60) // 59))
    assert isinstance(gpunet.to_categorical(cupy.asarray(y)), np.ndarray)
