"""`python bench/gpu_report.py`: everything that needs a GPU, the most important first.

Three groups of parts, each in under nine minutes: *proof* (doctor, both engines to 98 %, runs that repeat bit by bit,
the GPU tests), *times* (kernels, the persistent engine's phases, the lecture's experiment beside other frameworks) and
*sanitizer* (compute-sanitizer's four tools, which share the time that is left). `--groups` selects some of them;
results of other parts from earlier runs stay in the report. Output is appended to bench/results/<gpu>-report.log as it
comes, and .json and .md are rewritten before and after every part, so that a run that is cut off loses nothing. Needs
no network.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import kernel_times
from gpunet import commandline, engines
from gpunet.errors import ArgumentError
from harness import machine, records, sanitizer, tables
from harness.files import RESULTS, UNFINISHED, write_json, write_text
from harness.processes import PEERS

PROGRAM = "gpu_report.py"
ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
GROUPS = ("proof", "times", "sanitizer")
GROUP_SECONDS = 530  # the most that a group takes
SPEED_SECONDS = 320  # for the part "batch speed", which makes as many passes as fit
# Tests that batch speed covers, and tests that are parts of their own.
PEER_TESTS = "tests/bench/test_bench.py::test_engines_and_peers_do_the_same_work_or_say_why_not"
ELSEWHERE = ("tests/kernels/test_sanitizer.py", PEER_TESTS)
REPEATS = "repeat_bit_by_bit or both_copies"  # names of tests
LEAST_ACCURACY = 98.0
LEAST_SECONDS = 5  # with less time left, a part is not started
TAIL = 3000  # characters of a part's output that are kept in the report

Found = dict[str, Any]


class Part(NamedTuple):
    """A command and its time limit; without `seconds`, it shares the time that is left with the parts after it.

    command: None if it cannot run here; `read` then says why.
    read:    extracts results from its output; {"problem": why} makes the part fail.
    """

    group: str
    name: str
    command: list[str] | None
    seconds: float | None
    read: Callable[[str], Found] = lambda output: {}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 if every part succeeded, else 1."""
    return commandline.run(PROGRAM, _gpu_report, argv)


def _gpu_report(argv: Sequence[str] | None) -> int:
    parser = commandline.Parser(prog=PROGRAM, description="Run everything that needs a GPU.")
    parser.add_argument(
        "--out", default=str(RESULTS), metavar="FOLDER", help="write the files to FOLDER (bench/results)"
    )
    parser.add_argument(
        "--groups", type=_groups, default=GROUPS, metavar="NAMES", help=f"some of {','.join(GROUPS)} (all)"
    )
    parser.add_argument("--seconds", type=float, help=f"time limit ({GROUP_SECONDS} per group)")
    options = parser.parse_args(argv)
    options.out = str(Path(options.out).resolve())
    if not Path(options.out).is_dir():
        raise ArgumentError(f"--out: {options.out}: not a folder")
    engines.check_device("cuda", "auto")
    facts = machine.describe(on_gpu=True)
    chosen = [part for part in parts(Path(options.out), facts) if part.group in options.groups]
    report = Report(Path(options.out) / f"{machine.file_name(facts)}-report", facts)
    passed = run_parts(chosen, report, options.seconds or GROUP_SECONDS * len(options.groups))
    print(f"written: {report.stem}.json, .md, .log")
    return commandline.DONE if passed else commandline.FAILED


def run_parts(chosen: Sequence[Part], report: Report, seconds: float) -> bool:
    """Run the parts one after another, each within its limit; returns whether all passed."""
    until = time.monotonic() + seconds
    outcomes = []
    for number, part in enumerate(chosen):
        left = until - time.monotonic()
        limit = left / (len(chosen) - number) if part.seconds is None else min(part.seconds, left)
        print(f"{part.name} ...", flush=True)
        report.put({"name": part.name, "outcome": "running, or cut off", "seconds": 0.0, "output": ""})
        record = run_part(part, limit, report.log)
        report.put(record)
        print(f"{part.name}: {record['outcome']}, {record['seconds']:.0f} s", flush=True)
        outcomes.append(record["outcome"])
    return set(outcomes) == {"passed"}


class Report:
    """The report's files: <stem>.json and .md with a record of each part, and .log with all output."""

    def __init__(self, stem: Path, facts: dict[str, str]) -> None:
        self.stem, self.log = stem, Path(f"{stem}.log")
        self._json = Path(f"{stem}.json")
        self._report: dict[str, Any] = {"machine": facts, "parts": self._earlier()}

    def _earlier(self) -> list[Found]:
        """The parts of an earlier run; none if its file is damaged."""
        try:
            found = json.loads(self._json.read_text())["parts"]
            return [part for part in found if isinstance(part["name"], str)]
        except (OSError, ValueError, LookupError, TypeError):
            return []

    def put(self, record: Found) -> None:
        """Add a part's record, or replace an earlier one, and write the files."""
        record = {**record, "date": self._report["machine"].get("date", "")}
        kept = self._report["parts"]
        names = [part["name"] for part in kept]
        if record["name"] in names:
            kept[names.index(record["name"])] = record
        else:
            kept.append(record)
        write_json(self._json, self._report)
        write_text(Path(f"{self.stem}.md"), markdown(self._report))


def parts(out: Path, facts: dict[str, str]) -> list[Part]:
    """All parts, in order. out: the folder for the result files."""
    python, stem, began = sys.executable, out / machine.file_name(facts), time.time()
    tests = [python, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    train = [python, "-m", "gpunet.train", "--device", "cuda", "--quiet", "--engine"]
    speed = [python, str(BENCH / "batch_speed.py"), "--device", "cuda", "--out", str(out)]
    speed += ["--peers", ",".join(PEERS), "--seconds", str(SPEED_SECONDS)]

    def batch_speed(output: str) -> Found:
        """This run's result, complete or not; never an earlier run's."""
        for file in (Path(f"{stem}.json"), Path(f"{stem}{UNFINISHED}")):
            if file.exists() and file.stat().st_mtime >= began:
                return {"batch_speed": json.loads(file.read_text())}
        return {}

    def kernels(output: str) -> Found:
        return {"kernel_times": kernel_times.collected(records.told(output))}

    def persistent(output: str) -> Found:
        return {"persistent_times": records.told(output)}

    return [
        Part("proof", "doctor", [python, "-m", "gpunet.doctor"], 30),
        Part("proof", "tiled to 98 %", [*train, "tiled"], 50, _accuracy),
        Part(
            "proof", "persistent to 98 %", [*train, "persistent", "--batch-size", "10", "--epochs", "10"], 50, _accuracy
        ),
        Part("proof", "repeats and copies", [*tests, "-k", REPEATS, "tests/engines"], 60),
        Part("proof", "GPU tests", [*tests, *(f"--deselect={name}" for name in ELSEWHERE)], 340),
        Part("times", "kernel times", [python, str(BENCH / "kernel_times.py")], 60, kernels),
        Part("times", "persistent times", [python, str(BENCH / "persistent_times.py")], 110, persistent),
        Part("times", "batch speed", speed, SPEED_SECONDS + 40, batch_speed),
        *(Part("sanitizer", tool, sanitizer.command(tool), None, _sanitized) for tool in sanitizer.TOOLS),
    ]


def _accuracy(output: str) -> Found:
    """The accuracy in the last line of gpunet.train --quiet."""
    found = re.search(r"^test accuracy ([\d.]+) %", output, re.MULTILINE)
    if found is None:
        return {"problem": "no test accuracy in its output"}
    accuracy = float(found[1])
    return {"test_accuracy": accuracy} | ({} if accuracy >= LEAST_ACCURACY else {"problem": f"{accuracy} %"})


def _sanitized(output: str) -> Found:
    if sanitizer.command(sanitizer.TOOLS[0]) is None:
        return {"problem": sanitizer.NOT_INSTALLED}
    return {} if re.search(r"\d+ passed", output) else {"problem": "no test passed"}


def run_part(part: Part, limit: float, log: Path) -> Found:
    """Run a part; returns {"name", "outcome", "seconds", "output", ...}.

    The outcome is "passed", "failed ..." or the reason why there is none. Output is appended to the log as it comes.
    """
    record: Found = {"name": part.name, "seconds": 0.0, "output": ""}
    if part.command is None:
        return {**record, "outcome": f"not run: {part.read('').get('problem')}"}
    if limit < LEAST_SECONDS:
        return {**record, "outcome": "not run: no time left"}
    started = time.monotonic()
    with log.open("a", encoding="utf-8") as lines:
        lines.write(f"\n=== {part.name}: {' '.join(part.command)}\n")
        begins = lines.tell()
    outcome = _run(part.command, limit, log)
    output = log.read_bytes()[begins:].decode(errors="replace")
    record |= {"outcome": outcome, "seconds": time.monotonic() - started, "output": output[-TAIL:]}
    try:
        record |= part.read(output)
    except Exception as error:  # truncated output can cause any error; the end of the output is kept
        record["unread"] = records.why(error)
    if record["outcome"] == "passed" and "problem" in record:
        record["outcome"] = f"failed: {record['problem']}"
    return record


def _run(command: list[str], limit: float, log: Path) -> str:
    """Run a command; returns the outcome. Processes that it started end with it, even after an interruption."""
    environment = {**os.environ, "GPUNET_REQUIRE_GPU": "1", "PYTHONUNBUFFERED": "1"}
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        ) as process,
    ):
        try:
            return "passed" if process.wait(limit) == 0 else "failed"
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def markdown(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"# {report['machine']['device']}", tables.machine(report["machine"])]
    for part in report["parts"]:
        lines.append(f"## {part['name']}: {part['outcome']}, {part['seconds']:.0f} s")
        shown = _tables(part)
        if part["outcome"] != "passed" or not shown:
            lines.append(f"```\n{part['output'].strip()}\n```")
        lines += shown
    return "\n\n".join(lines) + "\n"


def _tables(part: Found) -> list[str]:
    """Tables of what a part found; a result that lacks what its table needs is only in the .json file."""
    for name, table in (
        ("kernel_times", tables.kernel_times),
        ("persistent_times", tables.persistent_times),
        ("batch_speed", tables.whole),
    ):
        if part.get(name):
            try:
                return [table(part[name])]
            except (LookupError, TypeError, ValueError) as error:
                return [f"No table: {records.why(error)}"]
    return []


def _groups(text: str) -> tuple[str, ...]:
    names = text.split(",")
    for name in names:
        if name not in GROUPS:
            raise argparse.ArgumentTypeError(f"expected names of {', '.join(GROUPS)}; got {name!r}")
    return tuple(name for name in GROUPS if name in names)


if __name__ == "__main__":
    sys.exit(main())
