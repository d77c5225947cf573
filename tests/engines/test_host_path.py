"""The host's side of a GPU, end to end: CudaDevice, the diagnosis and models with a stand-in for CuPy (tests/standin).

The kernels run on the emulator; everything else is what runs on a machine with a GPU.
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet
import standin
from gpunet import DeviceError, engines
from gpunet.engines.cuda import device as devices
from gpunet.engines.cuda.device import CudaDevice
from gpunet.engines.cuda.diagnosis import Machine, cuda_problem, diagnose
from gpunet.engines.cuda.persistent import PersistentEngine
from gpunet.engines.cuda.tiled import TiledEngine
from gpunet.optimizers import Adam
from standin import Computer, Gpu, errors
from support.devices import open_device
from support.engine_cases import SMALL, assert_same_bits, problem

EMULATOR_KERNELS = Path(__file__).parents[1] / "emulator" / "kernels"
QUIET: Any = lambda line: None  # noqa: E731


@pytest.fixture(autouse=True)
def complaints(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Python's reports of errors that nobody can catch, "Exception ignored in": there must be none."""
    open_device("order-forward")  # skips, or fails, where the emulator cannot be had
    heard: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: heard.append(f"{what.object}: {what.exc_value}"))
    yield heard
    gc.collect()
    assert heard == []


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Computer:
    return standin.install(monkeypatch, tmp_path)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Computer:
    return standin.install(monkeypatch, tmp_path, Computer([Gpu("first"), Gpu("second")]))


def network(**where: Any) -> gpunet.Sequential:
    model = gpunet.Sequential([gpunet.Dense(6, "tanh", input_dim=8), gpunet.Dense(3, "softmax")], seed=0)
    model.compile(Adam(0.02), "sparse_categorical_crossentropy", **where)
    return model


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# ---- what is usable


def test_a_computer_with_everything_is_usable(computer: Computer) -> None:
    assert cuda_problem() is None
    assert engines.choose(SMALL, 100).reason.startswith("cuda, NVIDIA Stand-in, engine tiled")


def test_a_compiler_newer_than_the_driver_is_a_problem_before_anything_is_compiled(computer: Computer) -> None:
    computer.nvrtc, computer.driver = (13, 5), 12040
    problem = cuda_problem()
    assert problem is not None
    assert "CUDA 13.5" in problem
    assert "driver" in problem
    assert "12.4" in problem


@pytest.mark.parametrize("status", [errors.UNAVAILABLE, errors.OUT_OF_MEMORY])
def test_a_gpu_that_cannot_be_opened_is_replaced_by_the_cpu(computer: Computer, blobs, status: int) -> None:
    computer.gpus[0].open_error = status
    model = network()
    model.fit(*blobs, epochs=1, verbose=0)
    assert engines.DEVICE_OF[model._session.engine.name] == "cpu"
    assert "cannot be opened" in engines.choose(SMALL, 1).reason
    with pytest.raises(DeviceError, match=r"device cuda: .*cannot be opened"):
        network(device="cuda")


def test_the_doctor_reports_a_gpu_that_cannot_be_opened(computer: Computer, capsys) -> None:
    from gpunet import doctor

    computer.gpus[0].open_error = errors.UNAVAILABLE
    assert doctor.main([]) == 0
    out, err = capsys.readouterr()
    assert "NVIDIA Stand-in" in out
    assert "cannot be opened" in out
    assert err == ""


# ---- graphs


def increments(device: CudaDevice) -> tuple[Any, Any, Any]:
    """A module, its result array (1,), and arguments that leave 1.5 in it."""
    module = device.compile("exchange", {"BUFFERS": 2})
    result, packets = device.zeros(1, np.float32), device.zeros(2, np.uint64)
    return module, result, [device.upload(np.ones(1, np.float32)), result, packets, np.int32(1)]


def test_a_graph_keeps_the_arrays_that_it_uses(computer: Computer) -> None:
    device = CudaDevice(QUIET, folder=EMULATOR_KERNELS)

    def captured() -> tuple[Any, Any]:
        module, result, arguments = increments(device)
        return result, device.capture(lambda: module.launch("exchange", (1,), (32,), arguments))

    result, graph = captured()  # only the graph refers to the other arrays now
    gc.collect()
    for _ in range(3):
        device.upload(np.full(1, 7, np.float32))  # takes the memory of what was freed
    graph.launch()
    assert device.download(result)[0] == 1.5


def test_a_graph_keeps_what_it_copies_and_clears(computer: Computer) -> None:
    device = CudaDevice(QUIET)
    target = device.zeros(2, np.float32)

    def work() -> None:
        source = device.empty(2, np.float32)  # only the graph refers to it
        device.copy(source, target)
        device.zeros(2, np.float32)

    graph = device.capture(work)
    others = [device.upload(np.full(2, 7, np.float32)) for _ in range(3)]
    graph.launch()
    assert [device.download(array).tolist() for array in others] == [[7, 7]] * 3
    assert device.download(target).tolist() != [7, 7]


# ---- threads, devices, processes


def in_threads(*work: Any) -> None:
    failures: list[BaseException] = []

    def guarded(one: Any) -> None:
        try:
            one()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_models_in_several_threads_train_to_the_right_bits(computer: Computer, blobs) -> None:
    def trained() -> list[np.ndarray]:
        model = network(device="cuda", engine="tiled")
        model.fit(*blobs, batch_size=2, epochs=2, verbose=0)
        return model.get_weights()

    expected, results = trained(), []
    in_threads(*[lambda: results.append(trained())] * 4)
    assert len(results) == 4
    assert all(same(expected, result) for result in results)


def test_another_thread_waits_until_a_capture_is_whole(computer: Computer) -> None:
    device = CudaDevice(QUIET, folder=EMULATOR_KERNELS)
    module, result, arguments = increments(device)
    other = device.zeros(1, np.float32)
    inside, done = threading.Event(), threading.Event()

    def disturb() -> None:
        inside.wait()
        device.copy(result, other)
        device.synchronize()
        done.set()

    def work() -> None:
        inside.set()
        assert not done.wait(0.05)  # not before the capture has ended
        module.launch("exchange", (1,), (32,), arguments)

    thread = threading.Thread(target=disturb)
    thread.start()
    graph = device.capture(work)
    thread.join()
    assert done.is_set()
    graph.launch()
    assert device.download(result)[0] == 1.5
    assert device.download(other)[0] == 0


def test_every_operation_runs_on_its_own_device_whatever_is_current(two_gpus: Computer) -> None:
    import cupy

    device = CudaDevice(QUIET, folder=EMULATOR_KERNELS)
    with cupy.cuda.Device(1):
        module, result, arguments = increments(device)
        graph = device.capture(lambda: module.launch("exchange", (1,), (32,), arguments))
        graph.launch()
        module.launch("exchange", (1,), (32,), arguments, cooperative=True)
        device.copy(result, device.empty(1, np.float32))
        assert device.download(result)[0] == 1.5
        assert cupy.cuda.Device().id == 1
    device.adopt(cupy.asarray(np.ones((2, 3), np.float32)))
    device.synchronize()


def test_a_model_on_the_second_gpu_trains_there_in_any_thread(two_gpus: Computer, blobs) -> None:
    expected = network(device="cuda")
    expected.fit(*blobs, epochs=1, verbose=0)
    used = two_gpus.gpus[1].used
    model = network(device="cuda:1")
    in_threads(lambda: model.fit(*blobs, epochs=1, verbose=0))
    assert two_gpus.gpus[1].used > used == 0
    assert same(model.get_weights(), expected.get_weights())
    assert "second" in model._session.choice.reason


def test_commands_and_loaded_models_take_the_second_gpu(two_gpus: Computer, small_npz, tmp_path, capsys) -> None:
    from gpunet import train

    options = ["--data", str(small_npz), "--batch-size", "9", "--epochs", "1", "--hidden", "5"]
    path = tmp_path / "model.npz"
    assert train.main([*options, "--device", "cuda:1", "--save", str(path)]) == 0
    assert "cuda, second, engine" in capsys.readouterr().out
    loaded = gpunet.load(path, device="cuda:1")
    loaded.predict(np.zeros((1, 8), np.float32))
    assert "second" in loaded._session.choice.reason
    with pytest.raises(SystemExit):
        train.main([*options, "--device", "cuda:x"])
    assert "--device: expected one of auto, cuda, cuda:1 and so on, cpu; got 'cuda:x'" in capsys.readouterr().err


def test_a_missing_gpu_is_one_clear_line(two_gpus: Computer) -> None:
    with pytest.raises(DeviceError, match=r"device cuda:2: .*2 NVIDIA GPUs, cuda:0 to cuda:1"):
        network(device="cuda:2")
    for name in ("cuda:", "cuda:-1", "cuda:one", "gpu:1", "cpu:0"):
        with pytest.raises(gpunet.ArgumentError, match="device: expected one of"):
            network(device=name)


def child(model: gpunet.Sequential, blobs: Any, answers: Any) -> None:
    """In a process that was forked from one that trains on a GPU."""
    told: list[str] = []
    try:
        network(device="cuda")
    except DeviceError as error:
        told.append(str(error))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        told.append(engines.choose(SMALL, 100).reason)
        weights = model.get_weights()
        model.fit(*blobs, epochs=1, verbose=0)
    answers.put((told, weights, engines.DEVICE_OF[model._session.engine.name]))


def test_a_forked_process_is_told_to_be_spawned_and_computes_on_the_cpu(computer: Computer, blobs) -> None:
    model = network()
    model.fit(*blobs, epochs=1, verbose=0)
    assert engines.DEVICE_OF[model._session.engine.name] == "cuda"
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=child, args=(model, blobs, answers))
    process.start()
    told, weights, device = answers.get(timeout=120)
    process.join()
    assert all("spawn" in line for line in told)
    assert told[1].startswith("cpu")
    assert same(weights, model.get_weights())
    assert device == "cpu"
    model.fit(*blobs, epochs=1, verbose=0)
    assert engines.DEVICE_OF[model._session.engine.name] == "cuda"


def forked(device: CudaDevice, answers: Any) -> None:
    try:
        device.synchronize()
    except DeviceError as error:
        answers.put(str(error))


def test_a_process_that_was_forked_while_a_thread_used_the_gpu_does_not_wait_for_it(computer: Computer) -> None:
    device, context = CudaDevice(QUIET), multiprocessing.get_context("fork")
    inside, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=device.capture, args=(lambda: (inside.set(), done.wait(60)),))
    thread.start()
    inside.wait()
    answers = context.Queue()
    process = context.Process(target=forked, args=(device, answers))
    process.start()
    try:
        assert "spawn" in answers.get(timeout=20)
    finally:
        process.kill()
        done.set()
        thread.join()
        process.join()


# ---- errors


@pytest.mark.parametrize("engine", ["tiled", "persistent"])
def test_a_sticky_error_costs_the_epoch_and_the_gpu_but_not_the_model(computer: Computer, engine: str, blobs) -> None:
    class Breaks(gpunet.Callback):
        def on_epoch_begin(self, epoch: int, logs=None) -> None:
            if epoch == 2:
                self.kept = self.model.get_weights()
                computer.gpus[0].break_down()

    breaks, model = Breaks(), network()
    batch_size = {"tiled": 40, "persistent": 2}[engine]
    with pytest.raises(DeviceError, match=r"cudaErrorIllegalAddress.*restart") as caught:
        model.fit(*blobs, batch_size=batch_size, epochs=3, verbose=0, callbacks=[breaks])
    assert "\n" not in str(caught.value)
    assert same(model.get_weights(), breaks.kept)
    assert model.epochs_trained == 2
    model.fit(*blobs, epochs=1, verbose=0)
    assert engines.DEVICE_OF[model._session.engine.name] == "cpu"
    assert "cudaErrorIllegalAddress" in engines.choose(SMALL, 100).reason
    with pytest.raises(DeviceError, match=r"device cuda: .*cudaErrorIllegalAddress"):
        network(device="cuda")


def test_freeing_objects_on_a_failed_gpu_prints_nothing(computer: Computer) -> None:
    device = CudaDevice(QUIET, folder=EMULATOR_KERNELS)
    module, result, arguments = increments(device)
    graph = device.capture(functools.partial(module.launch, "exchange", (1,), (32,), arguments))
    devices._opened[0] = device  # as long as the process lasts
    computer.gpus[0].break_down()
    with pytest.raises(DeviceError, match="cudaErrorIllegalAddress"):
        device.synchronize()
    device._modules.clear()
    del module, result, arguments, graph
    gc.collect()  # see `complaints`


def test_a_model_on_a_failed_gpu_says_so_and_can_be_saved(computer: Computer, blobs, tmp_path: Path) -> None:
    model = network(device="cuda")
    model.fit(*blobs, epochs=1, verbose=0)
    weights = model.get_weights()
    computer.gpus[0].break_down()
    with pytest.raises(DeviceError, match="cudaErrorIllegalAddress"):
        model.predict(blobs[0])
    with pytest.raises(DeviceError, match=r"device cuda: .*cudaErrorIllegalAddress"):
        model.fit(*blobs, epochs=1, verbose=0)
    with pytest.warns(UserWarning, match=r"cudaErrorIllegalAddress.*the model continues from the weights of its last"):
        assert same(model.get_weights(), weights)
    model.save(tmp_path / "kept.npz")
    assert same(gpunet.load(tmp_path / "kept.npz", device="cpu").get_weights(), weights)


def test_a_refused_request_is_not_blamed_on_the_driver_or_the_gpu(computer: Computer) -> None:
    device = CudaDevice(QUIET, folder=EMULATOR_KERNELS)
    module, _, arguments = increments(device)
    with pytest.raises(DeviceError, match=r"^the GPU refuses what it was asked for \(CUDA_ERROR_INVALID_VALUE"):
        module.launch("exchange", (1,), (32,), arguments, shared_bytes=10**6)
    assert device.lost is None


def test_a_gpu_that_writes_a_wrong_answer_is_not_usable(computer: Computer, monkeypatch) -> None:
    monkeypatch.setattr(CudaDevice, "download", lambda self, array: np.zeros(1, np.uint32))
    assert "what it wrote cannot be read" in str(cuda_problem())


def test_an_error_that_does_not_stay_leaves_the_gpu_usable(computer: Computer) -> None:
    device = CudaDevice(QUIET, folder=EMULATOR_KERNELS)
    computer.gpus[0].memory = 4096
    with pytest.raises(DeviceError, match="not enough GPU memory"):
        device.empty(10**6, np.float32)
    assert device.lost is None
    assert device.download(device.zeros(3, np.float32)).tolist() == [0, 0, 0]


def test_lack_of_memory_for_a_kernel_does_not_suggest_a_driver_update(computer: Computer) -> None:
    device = CudaDevice(QUIET, folder=EMULATOR_KERNELS)
    computer.gpus[0].load_error = errors.OUT_OF_MEMORY
    with pytest.raises(DeviceError, match="not enough GPU memory") as caught:
        device.compile("exchange", {"BUFFERS": 2})
    assert "update" not in str(caught.value)
    computer.gpus[0].load_error = errors.INVALID_IMAGE
    with pytest.raises(DeviceError, match="update the NVIDIA driver"):
        device.compile("exchange", {"BUFFERS": 2})


@pytest.mark.parametrize("status", [errors.NOT_SUPPORTED, errors.COOPERATIVE_TOO_LARGE])
def test_the_tiled_engine_trains_if_the_driver_refuses_a_cooperative_launch(computer, blobs, status: int) -> None:
    computer.gpus[0].refuse_cooperative = status
    model = network()
    with pytest.warns(UserWarning, match="device cuda, engine tiled: .*cooperative"):
        model.fit(*blobs, batch_size=7, epochs=1, verbose=0)
    assert model._session.engine.name == "tiled"
    with pytest.raises(DeviceError, match=r"engine persistent: .*cooperative"):
        network(engine="persistent").fit(*blobs, batch_size=7, epochs=1, verbose=0)


def test_without_cooperative_launches_what_fits_runs_and_who_waits_too_long_gives_up(monkeypatch, tmp_path) -> None:
    """A GTX 980: nothing guarantees that all blocks run at once."""
    gpu = Gpu("GTX 980", capability=(5, 2), shared_bytes=48 * 1024, cooperative=False)
    standin.install(monkeypatch, tmp_path, Computer([gpu, Gpu("of today")]))
    images, labels, weights = problem(SMALL, 20, input_bytes=True)

    def trained(device: CudaDevice) -> PersistentEngine:
        engine = PersistentEngine(SMALL, Adam(0.01), weights, device, patience=500)
        engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(20, dtype=np.int32), 3)
        return engine

    old = CudaDevice(QUIET)
    assert not old.cooperative
    assert_same_bits(trained(old), trained(CudaDevice(QUIET, index=1)))
    gpu.busy = True
    with pytest.raises(DeviceError, match="timed out waiting for the activations of hidden layer 1 of update 1;"):
        trained(old)


# ---- what a launch costs, and whole engines


def test_a_launch_enters_no_stream_and_reads_no_attributes(computer: Computer) -> None:
    device = CudaDevice(QUIET, folder=EMULATOR_KERNELS)
    module, _, arguments = increments(device)
    module.launch("exchange", (1,), (32,), arguments)
    module.launch("exchange", (1,), (32,), arguments, shared_bytes=60_000)
    computer.calls.clear()
    for shared_bytes in (0, 60_000):
        module.launch("exchange", (1,), (32,), arguments, shared_bytes=shared_bytes)
    assert computer.calls == {"launch": 2}


@pytest.mark.parametrize("engine", [TiledEngine, PersistentEngine])
def test_engines_train_to_the_same_bits_as_on_the_emulated_device(computer: Computer, engine: Any) -> None:
    images, labels, weights = problem(SMALL, 150)
    order = np.random.default_rng(2).permutation(150).astype(np.int32)
    trained = []
    for device in (open_device("order-forward"), CudaDevice(QUIET)):
        trained.append(engine(SMALL, Adam(0.01), weights, device))
        uploaded = (trained[-1].upload(images), trained[-1].upload(labels))
        for _ in range(2):
            trained[-1].train_epoch(*uploaded, order, 6)
    assert_same_bits(*trained)
    np.testing.assert_array_equal(*(one.predict(one.upload(images)) for one in trained))


@pytest.mark.parametrize("columns", [3, 4])
def test_users_arrays_are_awaited_and_padded_without_a_cupy_kernel(computer: Computer, columns) -> None:
    """CuPy's assignment to a part of an array would be one, which it would compile for seconds."""
    import cupy

    values = np.arange(2 * columns, dtype=np.float32).reshape(2, columns)
    engine = TiledEngine(SMALL, Adam(), problem(SMALL, 1)[2], CudaDevice(QUIET))
    uploaded = engine.upload(cupy.asarray(values))
    np.testing.assert_array_equal(engine.device.download(uploaded), np.pad(values, ((0, 0), (0, 4 - columns))))


def test_arrays_are_used_by_the_gpu_that_they_are_on(two_gpus: Computer) -> None:
    import cupy

    values = np.arange(8, dtype=np.float32).reshape(2, 4)
    with cupy.cuda.Device(1):
        array = cupy.asarray(values)
    second = CudaDevice(QUIET, index=1)
    np.testing.assert_array_equal(second.download(second.adopt(array)), values)
    with pytest.raises(gpunet.ArgumentError, match=r"is on GPU 1, but GPU 0 computes; .* with device='cuda:1'"):
        CudaDevice(QUIET).adopt(array)


def test_a_host_array_may_change_once_it_was_written(computer: Computer) -> None:
    device, values = CudaDevice(QUIET), np.ones(4, np.float32)
    array = device.upload(values)
    values[:] = 2
    assert device.download(array).tolist() == [1, 1, 1, 1]


def test_the_diagnosis_itself_never_raises(computer: Computer) -> None:
    computer.gpus.clear()
    assert "no CUDA-capable device" in str(diagnose(Machine()).problem)
