"""CudaDevice: its use of CuPy. With a stand-in for CuPy (tests/standin), and on a GPU if there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import standin
from gpunet.engines.cuda.device import CudaDevice
from gpunet.errors import DeviceError
from standin import Computer, errors
from support.devices import ON_GPU, open_device

EMULATOR_KERNELS = Path(__file__).parents[1] / "emulator" / "kernels"
DEFINES = {"ACTIVATION": "relu", "INPUT_BYTES": 0}


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Computer:
    open_device("order-forward")
    return standin.install(monkeypatch, tmp_path)


def silent(line: str) -> None:
    pass


def test_properties_are_read(computer: Computer) -> None:
    device = CudaDevice()
    assert (device.name, device.capability, device.multiprocessors) == ("NVIDIA Stand-in", (9, 0), 4)
    assert device.shared_bytes == 99 * 1024
    assert device.cooperative


def test_first_compilation_is_announced_once_and_a_second_process_is_silent(computer: Computer) -> None:
    said: list[str] = []
    device = CudaDevice(said.append)
    for activation in ("relu", "sigmoid"):
        device.compile("dense_forward_vector", {"ACTIVATION": activation, "INPUT_BYTES": 0})
    assert said == ["compiling kernels, first run only"]
    another = CudaDevice(said.append)
    another.compile("dense_forward_vector", DEFINES)
    assert len(said) == 1
    another.compile("dense_forward_vector", {"ACTIVATION": "linear", "INPUT_BYTES": 0})
    assert len(said) == 2


def test_a_compiler_error_is_explained(computer: Computer, tmp_path: Path) -> None:
    (tmp_path / "wrong.cu").write_text("no kernel\n")
    with pytest.raises(DeviceError, match=r"^CUDA's compiler refuses a kernel \(.*wrong.cu.*; gpunet doctor says"):
        CudaDevice(silent, tmp_path).compile("wrong")


def test_missing_memory_is_reported_in_megabytes(computer: Computer) -> None:
    computer.gpus[0].memory = 2000 * 2**20
    device = CudaDevice()
    computer.gpus[0].used = 1900 * 2**20
    message = "not enough GPU memory: 4,096 MB more are needed, 100 MB of 2,000 MB are free; close other programs"
    with pytest.raises(DeviceError, match=message):
        device.empty((1024, 2**20), np.float32)


def test_large_shared_memory_is_requested_and_cooperative_grids_must_fit(computer: Computer) -> None:
    device = CudaDevice(silent, EMULATOR_KERNELS)
    module = device.compile("exchange", {"BUFFERS": 2})
    result, packets = device.zeros(4, np.float32), device.zeros(8, np.uint64)
    arguments = [device.upload(np.ones(4, np.float32)), result, packets, np.int32(1)]
    module.launch("exchange", (1,), (32,), arguments, shared_bytes=60_000)  # CUDA refuses more than was requested
    module.launch("exchange", (4,), (32,), arguments, cooperative=True)
    assert device.download(result).tolist() == [1.5] * 4
    with pytest.raises(DeviceError, match="exchange: 5 blocks must run at once, but the GPU holds 4"):
        module.launch("exchange", (5,), (32,), arguments, cooperative=True)


def test_a_failing_capture_ends_and_reports_its_own_error(computer: Computer) -> None:
    device = CudaDevice()

    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        device.capture(fail)
    with pytest.raises(DeviceError, match="not permitted when stream is capturing"):
        device.capture(device.synchronize)
    array = device.zeros(1, np.float32)
    device.capture(lambda: device.copy(array, array)).launch()
    assert device.download(array) == [0]


def test_a_busy_gpu_is_explained(computer: Computer) -> None:
    computer.gpus[0].open_error = errors.UNAVAILABLE
    with pytest.raises(DeviceError, match=r"cannot be opened \(cudaErrorDevicesUnavailable: .*; see nvidia-smi"):
        CudaDevice()


def test_a_gpu_that_cannot_be_opened_after_a_fork_says_what_to_do(computer: Computer) -> None:
    computer.gpus[0].open_error = errors.NOT_INITIALIZED
    with pytest.raises(DeviceError, match=r"cudaErrorInitializationError: .*'spawn'"):
        CudaDevice()


@pytest.fixture(params=["stand-in", ON_GPU])
def cuda(request: pytest.FixtureRequest) -> CudaDevice:
    """A device that compiles the emulator's own kernels."""
    if request.param == "gpu":
        open_device("gpu")
    else:
        request.getfixturevalue("computer")
    return CudaDevice(silent, EMULATOR_KERNELS)


def test_blocks_that_wait_for_one_another_run_together(cuda: CudaDevice) -> None:
    module = cuda.compile("exchange", {"BUFFERS": 2})
    blocks = cuda.multiprocessors
    assert module.resident_blocks("exchange", 256) >= 1
    values = np.arange(blocks, dtype=np.float32)
    result, packets = cuda.empty(blocks, np.float32), cuda.zeros(2 * blocks, np.uint64)
    arguments = [cuda.upload(values), result, packets, np.int32(10)]
    module.launch("exchange", (blocks,), (256,), arguments, cooperative=True)
    expected = values.astype(np.float64)
    for _ in range(10):
        expected = 0.5 * expected + expected.mean()
    np.testing.assert_allclose(cuda.download(result), expected, rtol=1e-5)
    too_many = module.resident_blocks("exchange", 256) * blocks + 1
    with pytest.raises(DeviceError, match="must run at once"):
        module.launch("exchange", (too_many,), (256,), arguments, cooperative=True)


def test_captured_work_runs_when_the_graph_is_launched(cuda: CudaDevice) -> None:
    module = cuda.compile("exchange", {"BUFFERS": 2})
    result, packets = cuda.zeros(1, np.float32), cuda.zeros(2, np.uint64)
    arguments = [cuda.upload(np.ones(1, np.float32)), result, packets, np.int32(1)]
    graph = cuda.capture(lambda: module.launch("exchange", (1,), (32,), arguments))
    assert cuda.download(result)[0] == 0
    graph.launch()
    assert cuda.download(result)[0] == 1.5


@pytest.mark.parametrize("kind", ["order-forward", ON_GPU])
def test_arrays_travel_and_slices_are_views(kind: str) -> None:
    device = open_device(kind)
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    array = device.upload(values)
    device.write(array[1:3], values[:1])
    np.testing.assert_array_equal(device.download(array), values[[0, 0, 2, 3]])
    assert not device.download(device.zeros((2, 3), np.int32)).any()
    assert device.empty(5, np.uint8).shape == (5,)
    device.synchronize()
