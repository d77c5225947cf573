"""`python bench/gpu_report.py`: everything that a GPU can tell, in under nine minutes.

Doctor, the GPU tests, the time of each kernel against its bound and of the persistent engine's phases, the lecture's
experiment with every peer (one that is not installed gets a line), and compute-sanitizer where it is. Writes
bench/results/<gpu>-report.json and .md after every part, so that nothing finished is lost if a later part fails. Needs
no network.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from batch_speed import UNFINISHED
from gpunet import commandline, engines
from gpunet.errors import ArgumentError
from harness import machine, tables
from harness.files import RESULTS, write_json, write_text
from harness.run_peers import PEERS

PROGRAM = "gpu_report.py"
ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
SECONDS = 530  # for everything
SPEED_SECONDS = 245  # for the part "batch speed", in which it repeats what it has time for
# What batch speed checks as well.
PEER_TESTS = "tests/bench/test_bench.py::test_engines_and_peers_do_the_same_work_or_say_why_not"
TAIL = 3000  # characters of a part's output that are kept


class Part(NamedTuple):
    """A command; `read` takes what it found out of its output, in addition to the output's end."""

    name: str
    command: list[str]
    seconds: float
    read: Callable[[str], dict[str, Any]] = lambda output: {}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 if every part succeeded, else 1."""
    return commandline.run(PROGRAM, _gpu_report, argv)


def _gpu_report(argv: Sequence[str] | None) -> int:
    parser = commandline.Parser(prog=PROGRAM, description="Everything that a GPU can tell, in under nine minutes.")
    parser.add_argument("--out", default=str(RESULTS), metavar="FOLDER", help="for the files (bench/results)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for everything ({SECONDS})")
    options = parser.parse_args(argv)
    options.out = str(Path(options.out).resolve())
    if not Path(options.out).is_dir():
        raise ArgumentError(f"--out: {options.out}: not a folder")
    engines.check_device("cuda", "auto")
    facts = machine.describe(on_gpu=True)
    stem = Path(options.out) / f"{machine.file_name(facts)}-report"
    report: dict[str, Any] = {"machine": facts, "parts": []}
    until = time.monotonic() + options.seconds
    for part in parts(Path(options.out), facts):
        print(f"{part.name} ...", flush=True)
        record = run_part(part, until - time.monotonic())
        print(f"{part.name}: {record['outcome']}, {record['seconds']:.0f} s", flush=True)
        report["parts"].append(record)
        write_json(Path(f"{stem}.json"), report)
        write_text(Path(f"{stem}.md"), markdown(report))
    print(f"written: {stem}.json, {stem}.md")
    return commandline.DONE if all(part["outcome"] == "passed" for part in report["parts"]) else commandline.FAILED


def parts(out: Path, facts: dict[str, str]) -> list[Part]:
    """In their order. out: the folder for the result files."""
    python, stem, began = sys.executable, out / machine.file_name(facts), time.time()
    tests = [python, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    parts_of_their_own = [f"--deselect={name}" for name in ("tests/kernels/test_sanitizer.py", PEER_TESTS)]
    speed = [python, str(BENCH / "batch_speed.py"), "--device", "cuda", "--out", str(out)]
    speed += ["--peers", ",".join(PEERS), "--seconds", str(SPEED_SECONDS)]

    def batch_speed(output: str) -> dict[str, Any]:
        """This run's result, whole or as far as it came; an earlier run's is left alone."""
        for file in (Path(f"{stem}.json"), Path(f"{stem}{UNFINISHED}")):
            if file.exists() and file.stat().st_mtime >= began:
                return {"batch_speed": json.loads(file.read_text())}
        return {}

    def kernels(output: str) -> dict[str, Any]:
        return {"kernel_times": json.loads(output.strip().splitlines()[-1])}

    def resident(output: str) -> dict[str, Any]:
        """The records that came, which are all of them if the part had the time."""
        return {"persistent_times": [json.loads(line) for line in output.splitlines() if line.startswith("{")]}

    return [
        Part("doctor", [python, "-m", "gpunet.doctor"], 60),
        Part("GPU tests", [*tests, *parts_of_their_own], 200),
        Part("kernel times", [python, str(BENCH / "kernel_times.py")], 60, kernels),
        Part("resident times", [python, str(BENCH / "persistent_times.py")], 80, resident),
        Part("batch speed", speed, 270, batch_speed),
        Part("compute-sanitizer", [*tests, "tests/kernels/test_sanitizer.py"], 270),
    ]


def run_part(part: Part, seconds_left: float) -> dict[str, Any]:
    """{"name", "outcome", "seconds", "output", ...}; the outcome is "passed", "failed" or why there is none."""
    limit = min(part.seconds, seconds_left)
    record: dict[str, Any] = {"name": part.name, "seconds": 0.0, "output": ""}
    if limit < 5:
        return {**record, "outcome": "not run: no time left"}
    started = time.monotonic()
    with subprocess.Popen(
        part.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
            outcome = "passed" if process.returncode == 0 else "failed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and whatever it started
            output, _ = process.communicate()
            outcome = f"stopped after {limit:.0f} s"
    record |= {"outcome": outcome, "seconds": time.monotonic() - started, "output": output[-TAIL:]}
    try:
        record |= part.read(output)
    except (OSError, ValueError, IndexError) as error:
        record["unread"] = str(error)
    return record


def markdown(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"# {report['machine']['device']}", tables.machine(report["machine"])]
    for part in report["parts"]:
        lines.append(f"## {part['name']}: {part['outcome']}, {part['seconds']:.0f} s")
        if part["outcome"] != "passed":
            lines.append(f"```\n{part['output'].strip()}\n```")
        if "kernel_times" in part:
            lines.append(tables.kernel_times(part["kernel_times"]))
        elif part.get("persistent_times"):
            lines.append(tables.persistent_times(part["persistent_times"]))
        elif "batch_speed" in part:
            lines.append(tables.whole(part["batch_speed"]))
        elif part["outcome"] == "passed":
            lines.append(f"```\n{part['output'].strip()}\n```")
    return "\n\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
