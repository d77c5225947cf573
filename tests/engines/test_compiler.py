"""What the compiled engine compiles: when, what it reports, what it keeps, and what happens if that is damaged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import gpunet
from conftest import command_environment
from gpunet import code_cache, engines
from support.devices import refuse_or_skip

if reason := engines.numba_problem():
    refuse_or_skip("CI", reason, allow_module_level=True)
from gpunet.engines.cpu import compiler, vectors, workers
from gpunet.engines.cpu.formulas import ACTIVATIONS
from gpunet.engines.cpu.vectors import LANES

KEPT = "compiling for this processor, kept for the next run\n"
NOT_KEPT = "compiling for this processor, each time, as it cannot be kept: name a folder in NUMBA_CACHE_DIR\n"
new_engine = compiler._engine.__wrapped__


class Fresh:
    """The compiler as in a new process, with a folder for what it keeps."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch, self.folder = monkeypatch, folder / "gpunet" / "loops"
        monkeypatch.setattr(compiler.config, "CACHE_DIR", str(folder))
        self.start()

    def start(self) -> None:
        self.monkeypatch.setattr(compiler, "_addresses", {})
        self.monkeypatch.setattr(compiler, "_announced", False)
        engine = new_engine()  # LLVM knows a symbol once
        self.monkeypatch.setattr(compiler, "_engine", lambda: engine)

    def relu(self) -> list[float]:
        """relu of -1 and 2, by the compiled function."""
        import ctypes

        z, y = np.tile(np.array([-1, 2], np.float32), LANES // 2), np.full(LANES, 9, np.float32)
        kinds = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
        function = ctypes.CFUNCTYPE(None, *kinds)(compiler.address(ACTIVATIONS["relu"].rows))
        function(y.ctypes.data, LANES, z.ctypes.data, 1, 1)
        return y[:2].tolist()


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fresh:
    return Fresh(tmp_path, monkeypatch)


def test_compiling_is_announced_once_and_not_if_the_code_is_cached(fresh, capfd) -> None:
    assert fresh.relu() == [0, 2]
    compiler.compile_all([vectors.TRANSPOSE])
    assert capfd.readouterr().err == KEPT
    fresh.start()
    assert fresh.relu() == [0, 2]
    compiler.compile_all([vectors.TRANSPOSE])
    assert capfd.readouterr().err == ""


def test_compiling_is_announced_before_the_first_function(fresh, capfd, monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(compiler, "_machine_code", lambda code: said.append(capfd.readouterr().err) or b"")
    monkeypatch.setattr(compiler, "_loaded", lambda name, code: 1)
    compiler.compile_all([vectors.TRANSPOSE])
    assert said == [KEPT]


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", "a folder"])
def test_damaged_code_is_compiled_again(fresh, capfd, damage) -> None:
    assert fresh.relu() == [0, 2]
    (file,) = fresh.folder.glob("relu_rows-*.o")
    content = file.read_bytes()
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes({"empty": b"", "cut": content[:-9], "flipped": flipped, "foreign": b"x" * 999}[damage])
    capfd.readouterr()
    fresh.start()
    assert fresh.relu() == [0, 2]
    assert capfd.readouterr().err == KEPT
    if damage != "a folder":
        assert file.read_bytes() == content
    assert not list(fresh.folder.glob("*.part"))


def test_a_full_disk_only_prevents_caching(fresh, monkeypatch) -> None:
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(code_cache.files.os, "replace", full)
    assert fresh.relu() == [0, 2]
    assert not list(fresh.folder.iterdir())


def test_without_a_cache_it_says_that_every_run_compiles(fresh, capfd, tmp_path) -> None:
    for _ in range(2):
        fresh.start()
        compiler.config.CACHE_DIR = str(tmp_path / "file")
        (tmp_path / "file").write_text("")
        assert fresh.relu() == [0, 2]
        assert capfd.readouterr().err == NOT_KEPT


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX owners")
def test_code_from_another_user_is_not_run(fresh, capfd, monkeypatch) -> None:
    fresh.relu()
    capfd.readouterr()
    fresh.start()
    (file,) = fresh.folder.glob("relu_rows-*.o")
    foreign, users = file.stat().st_ino, code_cache._is_the_users
    monkeypatch.setattr(code_cache, "_is_the_users", lambda status: status.st_ino != foreign and users(status))
    assert fresh.relu() == [0, 2]
    assert capfd.readouterr().err == KEPT


def test_compiled_code_is_used_without_reading_the_disk(fresh, monkeypatch) -> None:
    assert fresh.relu() == [0, 2]
    monkeypatch.setattr(compiler, "cache_folder", lambda: pytest.fail("asked where machine code is kept"))
    assert fresh.relu() == [0, 2]


def test_another_version_compiles_and_the_same_one_installed_again_does_not(tmp_path) -> None:
    def install(name: str) -> Path:
        package = tmp_path / name / "gpunet"
        shutil.copytree(Path(gpunet.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
        return package

    def says(package: Path) -> str:
        program = "from gpunet.engines.cpu import compiler as c, vectors as v; c.compile_all([v.TRANSPOSE])"
        environment = {**os.environ, "PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
        arguments = [sys.executable, "-c", program]
        run = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
        return run.stderr

    assert says(install("one")) == KEPT
    other = install("other")
    assert says(other) == ""
    with open(other / "engines" / "cpu" / "formulas.py", "a") as source:
        source.write("# another version\n")
    assert says(other) == KEPT


def test_an_epoch_needs_only_the_loop_for_its_batch_size() -> None:
    """Two processes, as what is compiled stays for the whole process."""
    program = (
        "import numpy as np, sys; from gpunet.engines.cpu import compiler\n"
        "from gpunet.engines.cpu.engine import CompiledEngine; from gpunet.layers import Network\n"
        "from gpunet.optimizers import SGD\n"
        "network = Network((3, 4, 2), ('tanh', 'softmax'))\n"
        "engine = CompiledEngine(network, SGD(), [np.ones(s, np.float32) for s in network.weight_shapes])\n"
        "x, y, order = np.ones((4, 3), np.float32), np.zeros(4, np.int32), np.arange(4, dtype=np.int32)\n"
        "engine.train_epoch(x, y, order, int(sys.argv[1])); print(*sorted(compiler._addresses))\n"
    )
    loops = {}
    for batch_size in ("1", "2"):
        arguments = [sys.executable, "-c", program, batch_size]
        run = subprocess.run(arguments, env=command_environment(), capture_output=True, text=True, check=True)
        loops[batch_size] = {name for name in run.stdout.split() if name in ("in_batches", "one_by_one")}
        assert {"tanh_rows", "sgd_step"} <= set(run.stdout.split())
        assert not {"sigmoid_rows", "adam_step"} & set(run.stdout.split())
    assert loops == {"1": {"one_by_one"}, "2": {"in_batches"}}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_while_compiling_is_raised_after_the_current_function() -> None:
    done: list[str] = []

    def task(check) -> None:
        check()
        signal.raise_signal(signal.SIGINT)
        time.sleep(3 * workers.AIR_SECONDS)  # the interrupt reaches the main thread while this still works
        done.append("first")
        check()
        done.append("second")

    with pytest.raises(KeyboardInterrupt):
        workers.run_aside(task)
    assert done == ["first"]


def test_ctrl_c_right_after_the_start_of_the_compiling_thread_waits_for_it_too(monkeypatch) -> None:
    start, starts = workers._thread.start_new_thread, list[int]()
    done: list[str] = []

    def interrupted(*arguments: object) -> int:
        starts.append(start(*arguments))
        if len(starts) == 1:
            raise KeyboardInterrupt
        return starts[-1]

    def task(check) -> None:
        time.sleep(workers.AIR_SECONDS)  # longer than it takes to give up
        done.append("task")

    monkeypatch.setattr(workers._thread, "start_new_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workers.run_aside(task)
    assert done == ["task"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_while_compiling_ends_the_command_without_a_traceback(tmp_path, small_npz) -> None:
    environment = {**command_environment(), "NUMBA_CACHE_DIR": str(tmp_path)}
    options = ["--data", str(small_npz), "--epochs", "1", "--batch-size", "9", "--device", "cpu"]
    with subprocess.Popen(
        [sys.executable, "-m", "gpunet.train", *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as run:
        assert run.stderr is not None
        try:
            assert run.stderr.readline() == KEPT
            run.send_signal(signal.SIGINT)
            _, rest = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130
    assert "Traceback" not in rest


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_a_read_only_installation_and_home_work(tmp_path) -> None:
    """Here a file is where the user's folders would be."""
    home = tmp_path / "home"
    home.write_text("")
    environment = {**command_environment(), "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    environment.pop("NUMBA_CACHE_DIR", None)
    program = "from gpunet.engines.cpu import compiler as c, vectors as v; c.compile_all([v.TRANSPOSE])"
    arguments = [sys.executable, "-c", program]
    run = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stderr == NOT_KEPT
