"""A program that misuses `gpunet train` in child processes: `campaign.py WHAT COUNT`, in a folder with `blobs.npz`.

It prints one JSON object per trial. The children are forks, which start in a moment, where Python takes half a second.
This is a separate process, because forking needs one without threads.

Moments are counted in calls of functions, Python's and C's, not in seconds: so a seed gives the same moments on a slow
machine as on a fast one. Half of them are those calls that write a file, which take a small part of the time.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpunet import files, train

EPOCHS = 4
WORDS = ["--data", "blobs.npz", "--batch-size", "9", "--hidden", "16", "--schedule", "constant", "--quiet"]
WORDS += ["--device", "cpu", "--engine", "reference", "--epochs", str(EPOCHS)]  # it starts in a moment
RESUMED = ["--quiet", "--device", "cpu", "--engine", "reference"]
FILE_CALLS = {"open", "flock", "chmod", "write", "flush", "fsync", "replace", "close", "unlink"}
TARGETS = {"save": ["--save", "m.npz"], "checkpoint": ["--checkpoint", "c.safetensors"]}


def nothing() -> None: ...


def start(
    words: list[str], name: str, before: Callable[[], None] = nothing, after: Callable[[], None] = nothing
) -> int:
    """Train in a child, with its output in NAME.out and NAME.err; its process id."""
    child = os.fork()
    if child:
        return child
    for number, suffix in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    before()
    try:
        status = train.main(words)
    finally:
        sys.setprofile(None)
        sys.stdout.flush()
        sys.stderr.flush()
    after()
    os._exit(status)


def end(child: int, name: str) -> dict[str, Any]:
    """How a child ended."""
    _, status = os.waitpid(child, 0)
    texts = {suffix: Path(f"{name}.{suffix}").read_text() for suffix in ("out", "err")}
    return {"status": os.waitstatus_to_exitcode(status), **texts}


def counting(act: Callable[[int, int, Any], None]) -> None:
    """Call act(calls, writing, frame) at every call of a function: how many there were, and how many that write a file,
    or 0 if this one does not.
    """
    calls = writing = 0

    def profile(frame: Any, event: str, function: Any) -> None:
        nonlocal calls, writing
        if event in ("call", "c_call"):
            calls += 1
            writes = event == "c_call" and function.__name__ in FILE_CALLS and is_in_write_bytes(frame)
            writing += writes
            act(calls, writing if writes else 0, frame)

    sys.setprofile(profile)


def is_in_write_bytes(frame: Any) -> bool:
    while frame is not None and frame.f_code is not files.write_bytes.__code__:
        frame = frame.f_back
    return frame is not None


def counted(words: list[str]) -> tuple[int, int]:
    """How many calls a training makes, and how many of them write a file."""
    most = [0, 0]

    def watch(calls: int, writing: int, _: object) -> None:
        most[:] = calls, max(most[1], writing)

    def before() -> None:
        counting(watch)

    def after() -> None:
        Path("counts.json").write_text(json.dumps(most))

    end(start(words, "child", before, after), "child")
    calls, writing = json.loads(Path("counts.json").read_text())
    os.unlink("counts.json")
    return calls, writing


def strike(what: str, target: str, count: int) -> None:
    """Kill, or signal, trainings that save or have a checkpoint; keep what is in the file after each as TRIAL.suffix.

    A killed training that has a checkpoint is resumed by the next one; in the end one is left alone.
    """
    rng = random.Random(f"{what} {target}")
    words, path = [*WORDS, *TARGETS[target]], Path(TARGETS[target][1])
    most_calls, most_writing = counted(words)
    path.unlink()
    order = rng.sample(range(1, 1 + most_writing), most_writing)
    for trial in range(count + 1):
        moment = (0, order[trial // 2 % len(order)]) if trial % 2 else (rng.randrange(1, most_calls), 0)
        number = signal.SIGKILL if what == "kill" else rng.choice([signal.SIGINT, signal.SIGTERM])
        resumed = target == "checkpoint" and what == "kill" and path.exists()

        def hit(calls: int, writing: int, _: object, moment: tuple[int, int] = moment, number: int = number) -> None:
            if moment in ((calls, 0), (0, writing)):
                os.kill(os.getpid(), number)

        before = (lambda hit=hit: counting(hit)) if trial < count else nothing
        child = start(["--resume", str(path), *RESUMED] if resumed else words, "child", before)
        result = {"trial": trial, "signal": int(number), **end(child, "child")}
        result["file"] = path.exists()
        result["hidden"] = len(list(Path().glob(".gpunet-*")))
        print(json.dumps(result), flush=True)
        if path.exists():
            Path(f"{trial}{path.suffix}").write_bytes(path.read_bytes())
            if (what == "signal" and target == "checkpoint") or result["status"] == 0:
                path.unlink()


def fight(how: str, count: int) -> None:
    """Two trainings at a time that compete for one checkpoint, both new or both resumed."""
    rng = random.Random(how)
    path = Path("c.safetensors")
    end(start([*WORDS, "--checkpoint", "begun.safetensors"], "child", lambda: counting(interrupt_in_the_end)), "child")
    for trial in range(count):
        path.unlink(missing_ok=True)
        Path("metrics").unlink(missing_ok=True)
        words = [*WORDS, "--checkpoint", str(path)]
        if how == "resume":
            path.write_bytes(Path("begun.safetensors").read_bytes())
            words = ["--resume", str(path), *RESUMED, "--metrics", "metrics"]
        delay = rng.uniform(0, 0.02)
        one = start(words, "one")
        other = start(words, "other", lambda delay=delay: time.sleep(delay))
        results = [end(one, "one"), end(other, "other")]
        metrics = Path("metrics").read_text().splitlines() if how == "resume" else []
        epochs = [record["epoch"] for record in map(json.loads, metrics) if "epoch" in record]
        print(json.dumps({"results": results, "epochs": epochs}), flush=True)
        os.replace(path, f"{trial}{path.suffix}")


def interrupt_in_the_end(calls: int, writing: int, frame: Any) -> None:
    """At the first update of the second epoch, so that the rest is still to come."""
    model = frame.f_locals.get("model")
    if frame.f_code.co_name == "_counted" and getattr(model, "epochs_trained", 0) == 1:
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    what, count = sys.argv[1], int(sys.argv[2])
    if what in ("new", "resume"):
        fight(what, count)
    else:
        strike(*what.split("-"), count)
