"""CudaDevice: its use of CuPy. Against a stand-in for CuPy where there is no GPU, and for real where there is one."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from gpunet.engines.cuda.device import CudaDevice
from gpunet.errors import DeviceError
from support.devices import ON_GPU, open_device


class FakeCupy(types.ModuleType):
    """The few names of CuPy that CudaDevice uses; what they do can be replaced by a test."""

    class OutOfMemoryError(Exception):
        pass

    class CompileException(Exception):  # noqa: N818 - CuPy's name
        pass

    class CUDADriverError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("cupy")
        self.__version__ = "14.0"
        self.launches: list[tuple] = []
        self.modules: list[types.SimpleNamespace] = []
        properties = {
            "name": b"NVIDIA Something",
            "major": 8,
            "minor": 6,
            "multiProcessorCount": 82,
            "sharedMemPerBlockOptin": 101376,
            "sharedMemPerBlock": 49152,
            "cooperativeLaunch": 1,
        }
        self.cuda = types.SimpleNamespace(
            Device=lambda: types.SimpleNamespace(id=0),
            Stream=lambda non_blocking: FakeStream(),
            runtime=types.SimpleNamespace(
                getDeviceProperties=lambda index: properties,
                memGetInfo=lambda: (100 * 2**20, 2000 * 2**20),
                CUDARuntimeError=self.CUDADriverError,
            ),
            memory=types.SimpleNamespace(OutOfMemoryError=self.OutOfMemoryError),
            compiler=types.SimpleNamespace(CompileException=self.CompileException),
            driver=types.SimpleNamespace(
                CUDADriverError=self.CUDADriverError,
                occupancyMaxActiveBlocksPerMultiprocessor=lambda pointer, threads, shared: 2,
            ),
        )

    def RawModule(self, **arguments) -> types.SimpleNamespace:  # noqa: N802 - CuPy's name
        module = types.SimpleNamespace(**arguments, get_function=lambda name: FakeKernel(self, module, name))
        self.modules.append(module)
        return module


class FakeStream:
    def __init__(self) -> None:
        self.captures: list[str] = []

    def begin_capture(self) -> None:
        self.captures.append("begin")

    def end_capture(self):
        self.captures.append("end")
        return types.SimpleNamespace(upload=lambda stream: None, launch=lambda stream: self.captures.append("launch"))

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        pass


class FakeKernel:
    def __init__(self, cupy: FakeCupy, module, name: str) -> None:
        self._cupy, self._module, self._name = cupy, module, name
        self.kernel = types.SimpleNamespace(ptr=1)
        self.num_regs = 32
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid, block, arguments, shared_mem) -> None:
        cooperative = getattr(self._module, "enable_cooperative_groups", False)
        self._cupy.launches.append(
            (self._name, grid, block, shared_mem, self.max_dynamic_shared_size_bytes, cooperative)
        )


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, tmp_path) -> FakeCupy:
    fake = FakeCupy()
    nvrtc = types.SimpleNamespace(getVersion=lambda: (12, 9))
    libs = types.SimpleNamespace(nvrtc=nvrtc)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    for name, module in (
        ("cupy_backends", types.SimpleNamespace()),
        ("cupy_backends.cuda", types.SimpleNamespace()),
        ("cupy_backends.cuda.libs", libs),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    return fake


def test_properties_are_read(cupy: FakeCupy) -> None:
    device = CudaDevice()
    assert (device.name, device.capability, device.multiprocessors) == ("NVIDIA Something", (8, 6), 82)
    assert device.shared_bytes == 101376


def test_first_compilation_is_announced_once_and_a_second_process_is_silent(cupy: FakeCupy) -> None:
    said: list[str] = []
    device = CudaDevice(said.append)
    for activation in ("relu", "sigmoid"):
        device.compile("dense_forward_vector", {"ACTIVATION": activation, "INPUT_BYTES": 0})
    assert said == ["compiling kernels, first run only"]
    another = CudaDevice(said.append)
    another.compile("dense_forward_vector", {"ACTIVATION": "relu", "INPUT_BYTES": 0})
    assert len(said) == 1
    another.compile("dense_forward_vector", {"ACTIVATION": "tanh", "INPUT_BYTES": 0})
    assert len(said) == 2


def test_source_and_parameters_reach_cupy(cupy: FakeCupy) -> None:
    CudaDevice(lambda line: None).compile("dense_forward_vector", {"ACTIVATION": "relu", "INPUT_BYTES": 0})
    assert cupy.modules[0].options == ("--std=c++17", "-DACTIVATION=relu", "-DINPUT_BYTES=0")
    assert '#include "' not in cupy.modules[0].code.split("extern")[0]


def test_missing_headers_and_an_old_driver_are_explained(cupy: FakeCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    device = CudaDevice(lambda line: None)

    def compile_with(error: Exception) -> None:
        def fail(name: str):
            raise error

        monkeypatch.setattr(
            cupy, "RawModule", lambda **arguments: types.SimpleNamespace(get_function=fail), raising=False
        )
        device.compile("dense_forward_vector", {"ACTIVATION": "relu", "INPUT_BYTES": 0})

    with pytest.raises(DeviceError, match=r"CUDA headers are missing \(vector_types.h\); install them with pip"):
        compile_with(cupy.CompileException('a.cu(1): error: cannot open source file "vector_types.h"'))
    with pytest.raises(cupy.CompileException, match="syntax"):
        compile_with(cupy.CompileException("syntax error"))
    with pytest.raises(DeviceError, match=r"the driver cannot load a kernel .*update the NVIDIA driver"):
        compile_with(cupy.CUDADriverError("CUDA_ERROR_NO_BINARY_FOR_GPU"))


def test_memory_that_is_not_there_is_told_in_megabytes(cupy: FakeCupy) -> None:
    def empty(shape, dtype):
        raise cupy.OutOfMemoryError

    cupy.empty = empty
    message = "not enough GPU memory: 4,096 MB more are needed, 100 MB of 2,000 MB are free; close other programs"
    with pytest.raises(DeviceError, match=message):
        CudaDevice().empty((1024, 2**20), np.float32)


def test_large_shared_memory_is_asked_for_and_cooperative_grids_must_fit(cupy: FakeCupy) -> None:
    module = CudaDevice(lambda line: None).compile("dense_forward_vector", {"ACTIVATION": "relu", "INPUT_BYTES": 0})
    module.launch("k", (1,), (32,), [], shared_bytes=60_000)
    module.launch("k", (164,), (32,), [], cooperative=True)
    assert cupy.launches == [
        ("k", (1,), (32,), 60_000, 60_000, False),
        ("k", (164,), (32,), 0, 48 * 1024, True),
    ]
    with pytest.raises(DeviceError, match="k: 165 blocks must run at once, but the GPU holds 164"):
        module.launch("k", (165,), (32,), [], cooperative=True)


def test_a_failing_capture_ends_and_tells_its_own_error(cupy: FakeCupy) -> None:
    device = CudaDevice()

    def fail() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        device.capture(fail)
    device.capture(lambda: None).launch()
    assert device._stream.captures == ["begin", "end", "begin", "end", "launch"]


def test_a_busy_gpu_is_explained(cupy: FakeCupy) -> None:
    def busy(non_blocking):
        raise cupy.CUDADriverError("cudaErrorDevicesUnavailable")

    cupy.cuda.Stream = busy
    with pytest.raises(DeviceError, match=r"the GPU cannot be used \(cudaErrorDevicesUnavailable\); see nvidia-smi"):
        CudaDevice()


def test_first_compilation_makes_the_cache_folder(cupy: FakeCupy, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "new" / "cache"))
    said: list[str] = []
    for _ in range(2):
        CudaDevice(said.append).compile("dense_forward_vector", {"ACTIVATION": "relu", "INPUT_BYTES": 0})
    assert len(said) == 1


@pytest.fixture
def real_gpu() -> CudaDevice:
    """A GPU that compiles the emulator's own kernels."""
    open_device("gpu")
    return CudaDevice(folder=Path(__file__).parents[1] / "emulator" / "kernels")


@pytest.mark.gpu
def test_blocks_that_wait_for_one_another_run_together_on_the_gpu(real_gpu: CudaDevice) -> None:
    module = real_gpu.compile("exchange", {"BUFFERS": 2})
    blocks = real_gpu.multiprocessors
    assert module.resident_blocks("exchange", 256) >= 1
    values = np.arange(blocks, dtype=np.float32)
    result, packets = real_gpu.empty(blocks, np.float32), real_gpu.zeros(2 * blocks, np.uint64)
    arguments = [real_gpu.upload(values), result, packets, np.int32(10)]
    module.launch("exchange", (blocks,), (256,), arguments, cooperative=True)
    expected = values.astype(np.float64)
    for _ in range(10):
        expected = 0.5 * expected + expected.mean()
    np.testing.assert_allclose(real_gpu.download(result), expected, rtol=1e-5)
    too_many = module.resident_blocks("exchange", 256) * blocks + 1
    with pytest.raises(DeviceError, match="must run at once"):
        module.launch("exchange", (too_many,), (256,), arguments, cooperative=True)


@pytest.mark.gpu
def test_captured_work_runs_when_the_graph_is_launched(real_gpu: CudaDevice) -> None:
    module = real_gpu.compile("exchange", {"BUFFERS": 2})
    result, packets = real_gpu.zeros(1, np.float32), real_gpu.zeros(2, np.uint64)
    arguments = [real_gpu.upload(np.ones(1, np.float32)), result, packets, np.int32(1)]
    graph = real_gpu.capture(lambda: module.launch("exchange", (1,), (32,), arguments))
    assert real_gpu.download(result)[0] == 0
    graph.launch()
    assert real_gpu.download(result)[0] == 1.5


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
