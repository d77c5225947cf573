"""What several test files use: the bundled MNIST, a small learnable data set, and a way to run a command."""

from __future__ import annotations

import importlib
import os

# One BLAS thread, here and in every command that a test runs: several wait for one another in busy loops, so a test
# would take ten times as long when something else runs at the same time. Must come before NumPy is imported.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import gpunet
from gpunet import engines
from gpunet.engines import choice
from gpunet.layers import HIDDEN_ACTIVATIONS, Network
from gpunet.optimizers import RULES


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs on all cores if pytest-xdist is installed; named tests, and those on a GPU, do not."""
    if hasattr(config, "workerinput") or "PYTEST_XDIST_WORKER" in os.environ:
        return  # a worker, or a test that runs pytest, which must not start workers
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    on_gpu = re.search(r"(?<!not )\bgpu\b", config.option.markexpr)
    decided = not config.pluginmanager.hasplugin("xdist") or config.option.numprocesses is not None
    if decided or named or on_gpu or config.option.usepdb or config.option.collectonly or cores() == 1:
        return
    config.option.numprocesses = cores()
    config.option.dist = "worksteal"


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def first_on_the_path(folder: str, path: str) -> str:
    """PYTHONPATH with a folder in front of everything else."""
    return os.pathsep.join([folder, *(part for part in path.split(os.pathsep) if part not in ("", folder))])


# Every process that a test starts, or the program in it, finds the gpunet that is under test, from any folder.
os.environ["PYTHONPATH"] = first_on_the_path(str(Path(gpunet.__file__).parents[1]), os.environ.get("PYTHONPATH", ""))

Command = Callable[..., "subprocess.CompletedProcess[str]"]


# Folders and files whose tests need a compiler, a browser or commands: minutes. `make fast` leaves them out.
SLOW = {"bench", "commands", "docs", "emulator", "kernels", "page"}
SLOW_FILES = {
    "test_campaign_threads.py",
    "test_compiled.py",
    "test_compiler.py",
    "test_cores.py",
    "test_cuda_device.py",
    "test_digits.py",
    "test_dropout.py",
    "test_forward.py",
    "test_host_path.py",
    "test_interruptions.py",
    "test_lecture.py",
    "test_many_on_gpus.py",
    "test_no_bias.py",
    "test_persistent.py",
    "test_regularization.py",
    "test_shares.py",
    "test_sklearn.py",
    "test_sklearn_jobs.py",
    "test_strokes.py",
    "test_tiled.py",
    "test_weighted.py",
}
# Folders whose tests train, or run commands that do.
TRAINING = {"commands", "docs", "engines", "model", "page"}


def is_slow(path: Path) -> bool:
    return path.parent.name in SLOW or path.name in SLOW_FILES


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files with only slow tests are not even imported if these are left out."""
    return True if "not slow" in config.option.markexpr and is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_slow(item.path) or "command" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def _quiet_compiler(request: pytest.FixtureRequest) -> None:
    """For tests that train and look at stderr: the compiled engine's message at first use has already been printed."""
    if request.node.path.parent.name in TRAINING:
        request.getfixturevalue("compiled_loops")


@pytest.fixture(scope="session")
def compiled_loops() -> None:
    if engines.numba_problem() is None:
        from gpunet.engines.cpu.engine import compile_loops

        for optimizer in RULES:
            compile_loops(
                Network((1, *[1 for _ in HIDDEN_ACTIVATIONS], 1), (*HIDDEN_ACTIVATIONS, "softmax")), optimizer
            )


def hidden(found: Callable[[int], str | None]) -> Callable[[int], str | None]:
    """A reason why CUDA cannot be used, even if it can."""
    return lambda index=0: found(index) or "the GPU is left to the tests marked gpu"


@pytest.fixture(autouse=True)
def _plain_tests_are_the_same_everywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that is not marked gpu does not find one: it may compare bits with the CPU's, or look at all of stderr."""
    if "gpu" not in request.keywords:
        monkeypatch.setattr(choice, "cuda_problem", hidden(choice.cuda_problem))


@pytest.fixture(autouse=True)
def _ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: a background job ignores it, and so does this process after an interrupted command."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="session")
def mnist() -> gpunet.Dataset:
    return gpunet.load_mnist()


@pytest.fixture(scope="session")
def digit_model(mnist: gpunet.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved network for MNIST that is right about 97 times in 100, trained in seconds."""
    model = gpunet.Sequential([gpunet.Dense(100, "relu", input_dim=784), gpunet.Dense(10, "softmax")], seed=0)
    model.compile(gpunet.Adam(0.003), "sparse_categorical_crossentropy", device="cpu")
    model.fit(*mnist.train, batch_size=250, epochs=5, verbose=0)
    path = tmp_path_factory.mktemp("model") / "digits.safetensors"
    model.save(path)
    return path


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """60 examples of 3 classes, 8 inputs, easy to tell apart: images float32, labels int32."""
    rng = np.random.default_rng(7)
    labels = np.arange(60, dtype=np.int32) % 3
    centres = rng.normal(size=(3, 8)) * 2
    return (centres[labels] + rng.normal(size=(60, 8)) * 0.3).astype(np.float32), labels


@pytest.fixture
def small_npz(tmp_path: Path, blobs: tuple[np.ndarray, np.ndarray]) -> Path:
    """The blobs as a data set in Keras' layout."""
    x, y = blobs
    path = tmp_path / "blobs.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x[:12], y_test=y[:12])
    return path


@pytest.fixture
def command(tmp_path: Path, request: pytest.FixtureRequest) -> Command:
    """Run `python -m MODULE ARGUMENTS` in an empty folder, as a user would; the output is text."""

    def run(module: str, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=tmp_path,
            env=command_environment(on_gpu="gpu" in request.keywords),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Like `command`, but in this process, in a tenth of the time: for what does not depend on a separate process."""

    def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        try:
            status = importlib.import_module("gpunet.__main__" if module == "gpunet" else module).main(
                [*map(str, arguments)]
            )
        except SystemExit as end:
            status = end.code
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    return run


def command_environment(on_gpu: bool = False) -> dict[str, str]:
    """The environment for a command. on_gpu: for tests marked gpu; the others' commands see none."""
    return {**os.environ, **({} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""})}
