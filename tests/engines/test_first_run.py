"""What a GPU's first run compiles: when, how much at a time, what it reports and keeps, and what happens to that.

With the stand-in for CuPy; the last tests use NVRTC itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gpunet
import standin
from gpunet import code_cache, threads
from gpunet.engines.cuda import compiler, device
from gpunet.engines.cuda.device import CudaDevice
from gpunet.engines.cuda.diagnosis import cuda_problem
from gpunet.engines.cuda.sources import read_source
from gpunet.errors import DeviceError
from standin import Computer, Gpu
from support.devices import open_device

LINEAR = ("dense_forward_vector", {"ACTIVATION": "linear", "INPUT_BYTES": 0})
SEVERAL = [("dense_forward_vector", {"ACTIVATION": name, "INPUT_BYTES": 0}) for name in ("linear", "relu", "sigmoid")]
SAID = "compiling kernels, first run only\n"


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Computer:
    open_device("order-forward")
    return standin.install(monkeypatch, tmp_path)


def compiled(computer: Computer) -> list[str]:
    return [event for event in computer.history if event.startswith("compiled")]


def in_a_new_process(computer: Computer, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    standin.install(monkeypatch, cache, computer)
    assert cuda_problem() is None  # compiles and launches a kernel of its own
    computer.history.clear()


def train(engine: str, blobs: Any) -> None:
    model = gpunet.Sequential([gpunet.Dense(6, "tanh", input_dim=8), gpunet.Dense(3, "softmax")], seed=0)
    model.compile("adam", "sparse_categorical_crossentropy", device="cuda", engine=engine)
    model.fit(*blobs, batch_size=9, epochs=2, verbose=0, validation_split=0.2)


@pytest.mark.parametrize("engine", ["tiled", "persistent"])
def test_a_training_with_validation_is_compiled_before_the_first_launch_and_once(
    computer: Computer, engine: str, blobs, monkeypatch, tmp_path, capsys
) -> None:
    in_a_new_process(computer, monkeypatch, tmp_path)
    train(engine, blobs)
    first_launch = next(n for n, event in enumerate(computer.history) if event.startswith("launched"))
    loads = {event.replace("compiled", "loaded") for event in compiled(computer)}
    assert not any(event.startswith("compiled") for event in computer.history[first_launch:])
    assert loads == {event for event in computer.history if event.startswith("loaded")}
    assert capsys.readouterr().err == SAID

    in_a_new_process(computer, monkeypatch, tmp_path)
    train(engine, blobs)
    assert compiled(computer) == []
    assert capsys.readouterr().err == ""


def test_everything_is_compiled_before_anything_is_loaded(computer: Computer, blobs, monkeypatch, tmp_path) -> None:
    in_a_new_process(computer, monkeypatch, tmp_path)
    train("tiled", blobs)
    kinds = [event.split()[0] for event in computer.history]
    assert kinds.index("loaded") == kinds.count("compiled") > 3


def test_the_diagnosis_kernel_is_cached_too(computer: Computer, monkeypatch, tmp_path) -> None:
    for _ in range(2):
        standin.install(monkeypatch, tmp_path, computer)
        assert cuda_problem() is None
    assert compiled(computer) == ["compiled try_out.cu"]


def test_as_many_are_compiled_at_a_time_as_there_are_cores(computer: Computer, monkeypatch) -> None:
    second_begun, lock, begun = threading.Event(), threading.Lock(), []

    def wait_for_a_second() -> None:
        with lock:
            begun.append(1)
            if len(begun) == 2:
                second_begun.set()
        assert second_begun.wait(30)

    monkeypatch.setattr(threads, "count", lambda: 2)
    gpu = CudaDevice(lambda line: None)
    computer.while_compiling = wait_for_a_second
    gpu.compile_all([*SEVERAL, *SEVERAL])
    assert computer.most_at_once == 2
    assert len(begun) == 3
    gpu.compile(*LINEAR)
    assert len(begun) == 3


def test_another_thread_may_use_the_gpu_while_kernels_are_compiled(computer: Computer) -> None:
    gpu, free = CudaDevice(lambda line: None), []

    def use() -> None:  # in a thread of the compiler's
        free.append(gpu.boundary.lock.acquire(timeout=5))
        gpu.boundary.lock.release()

    computer.while_compiling = use
    gpu.compile(*LINEAR)
    assert free == [True]


def test_kernels_that_another_thread_compiles_are_not_compiled_twice(monkeypatch, tmp_path) -> None:
    open_device("order-forward")
    computer = standin.install(monkeypatch, tmp_path, Computer([Gpu("first"), Gpu("second")]))
    one, other = (CudaDevice(lambda line: None, index=index) for index in (0, 1))
    begun, done = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        done.wait(0.2)

    computer.while_compiling = wait
    thread = threading.Thread(target=one.compile, args=LINEAR)
    thread.start()
    assert begun.wait(30)
    other.compile(*LINEAR)
    thread.join()
    assert len(compiled(computer)) == 1


def test_after_an_interruption_nothing_more_is_started(computer: Computer, monkeypatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threads, "count", lambda: 1)
    gpu = CudaDevice(lambda line: None)
    computer.while_compiling = interrupted
    with pytest.raises(KeyboardInterrupt):
        gpu.compile_all(SEVERAL)
    assert len(compiled(computer)) < len(SEVERAL)
    computer.while_compiling = lambda: None
    gpu.compile_all(SEVERAL)


def test_a_refused_kernel_leaves_no_trace(computer: Computer, tmp_path) -> None:
    (tmp_path / "wrong.cu").write_text("no kernel\n")
    with pytest.raises(DeviceError, match="CUDA's compiler refuses a kernel"):
        CudaDevice(lambda line: None, tmp_path).compile_all([("wrong", {})])
    assert not list(tmp_path.glob("*.cubin"))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-9],
    "flipped": lambda content: content[:99] + bytes([content[99] ^ 1]) + content[100:],
    "foreign": lambda content: b"x" * 999,
}


@pytest.mark.parametrize("damage", [*DAMAGES, "a folder", "another user's"])
def test_damaged_code_is_compiled_again(computer: Computer, damage: str, tmp_path, monkeypatch) -> None:
    CudaDevice(lambda line: None).compile(*LINEAR)
    (file,) = tmp_path.glob("*.cubin")
    content = file.read_bytes()
    if damage == "a folder":
        file.unlink()
        file.mkdir()
    elif damage == "another user's":
        foreign, users = file.stat().st_ino, code_cache._is_the_users
        monkeypatch.setattr(code_cache, "_is_the_users", lambda status: status.st_ino != foreign and users(status))
    else:
        file.write_bytes(DAMAGES[damage](content))
    computer.history.clear()
    said: list[str] = []
    CudaDevice(said.append).compile(*LINEAR)
    assert len(compiled(computer)) == len(said) == 1
    if damage != "a folder":
        assert file.read_bytes() == content


def test_a_cubin_belongs_to_its_source_options_architecture_and_compiler(computer: Computer, monkeypatch) -> None:
    def compilations(**change: Any) -> int:
        computer.history.clear()
        CudaDevice(lambda line: None).compile(*LINEAR)
        return len(compiled(computer))

    assert (compilations(), compilations()) == (1, 0)
    computer.gpus[0].capability = (8, 6)
    assert (compilations(), compilations()) == (1, 0)
    computer.nvrtc = (12, 8)
    assert (compilations(), compilations()) == (1, 0)
    monkeypatch.setattr(compiler, "_wheels", lambda: ["another build"])
    assert (compilations(), compilations()) == (1, 0)
    monkeypatch.setattr(device, "read_source", lambda *where: read_source(*where) + "// changed\n")
    assert (compilations(), compilations()) == (1, 0)


def test_without_a_cache_it_says_that_every_run_compiles(computer: Computer, monkeypatch, blobs) -> None:
    monkeypatch.setattr(compiler, "cache_folder", lambda: None)
    said: list[str] = []
    for run in (1, 2):
        CudaDevice(said.append).compile(*LINEAR)
        assert len(compiled(computer)) == len(said) == run
    assert said[0] == "compiling kernels, each time, as they cannot be kept: name a folder in XDG_CACHE_HOME"


def test_a_full_disk_only_prevents_caching(computer: Computer, monkeypatch, tmp_path) -> None:
    def full(*where: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    CudaDevice(lambda line: None).compile(*LINEAR)
    assert not list(tmp_path.iterdir())


def test_a_gpu_is_opened_once_by_however_many_threads(computer: Computer, monkeypatch) -> None:
    begun, second_begun, opened = [], threading.Event(), []

    def slowly(announce: Any, index: int, first: Any) -> Any:
        begun.append(index)
        if len(begun) == 2:
            second_begun.set()
        second_begun.wait(0.2)
        return object()

    monkeypatch.setattr(device, "CudaDevice", slowly)
    several = [threading.Thread(target=lambda: opened.append(device.open_gpu(0))) for _ in range(2)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert begun == [0]
    assert opened[0] is opened[1]


def test_code_from_several_threads_is_the_code_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [compiler.program(name, read_source(name), defines, 90) for name, defines in SEVERAL]
    results = []
    for number in (1, 3):
        monkeypatch.setattr(threads, "count", lambda number=number: number)
        monkeypatch.setattr(compiler, "cache_folder", lambda number=number: tmp_path / str(number))
        results.append(compiler.machine_code(programs, lambda line: None))
    assert results[0] == results[1]
    assert all(code.startswith(b"\x7fELF") for code in results[0])
