"""Runs a sweep from its options to its result, or reports on one."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, TextIO

from gpunet import commandline, data, files, known_data, plots, threads
from gpunet.callbacks.metrics_file import STANDARD_OUTPUT
from gpunet.data import Dataset
from gpunet.errors import ArgumentError, OutputError
from gpunet.final_model import FinalModel
from gpunet.interruption import Interruption
from gpunet.sweep import plot, reading, report, result
from gpunet.sweep.outcome import Outcome, best_of
from gpunet.sweep.plan import Plan
from gpunet.sweep.progress import Progress
from gpunet.sweep.space import OPTIONS, Space, command_of
from gpunet.sweep.storage import Storage
from gpunet.sweep.study import Study
from gpunet.sweep.worker import Bench, Worker

PROGRAM = "gpunet sweep"


class Known(NamedTuple):
    """What is known about a study.

    path, target: of its data, as given to `--data` and `--target`, if they were given.
    test:         test result of its best trial's networks, if they were tested.
    """

    space: Space
    path: str | None
    target: str | None
    outcomes: list[Outcome]
    test: dict[str, Any] | None

    @classmethod
    def to(cls, study: Study, outcomes: list[Outcome], test: dict[str, Any] | None = None) -> Known:
        return cls(study.plan.space, study.plan.path, study.plan.target, outcomes, test)

    @property
    def data(self) -> str:
        """The options for the data, for the end of a command line."""
        given = ("--data", self.path), ("--target", self.target)
        return "".join(f" {flag} {shlex.quote(value)}" for flag, value in given if value is not None)


def sweep(options: argparse.Namespace, space: Space, records: TextIO) -> int:
    """Train the remaining trials, test the best, and write the requested files; returns the exit status.

    records: where `--metrics -` goes.
    """
    if options.threads is not None:
        threads.limit(options.threads)
    dataset = known_data.to_train_on(PROGRAM, options.data, options.target)
    bench = Bench(dataset, options.device, options.engine)
    space.check(lambda configuration: bench.model(configuration, options.seed))
    plan = _plan(options, space, dataset)
    interruption = Interruption()
    with contextlib.closing(Storage(options.storage, options.takeover, interruption.heed)) as storage:
        study = Study(storage, options.study or plan.name, plan, options.trials)
        with contextlib.closing(study), contextlib.closing(Progress(space, study.trials, options.quiet)) as progress:
            worker = Worker(study, bench, options.prune, progress, interruption.heed)
            before = study.outcomes()
            if not options.quiet:
                _introduce(study, bench, before)
            progress.begin(before)
            try:
                with interruption.catching():
                    worker.run()
                    progress.close()
                    return _finish(options, study, worker, dataset, records)
            except KeyboardInterrupt:
                commandline.ignore_interrupts()
                progress.close()
                _say_interrupted(options, study, interruption.at_once, records)
                return interruption.exit_status


def show(options: argparse.Namespace, space: Space, records: TextIO) -> int:
    """Show what is known about a study, and write the requested files; returns the exit status."""
    heed = Interruption().heed
    with contextlib.closing(Storage(options.storage, options.takeover, heed, create=False)) as storage:
        name = options.study or _name(options, space, storage)
        known = storage.patiently(lambda: _read(storage, name))
        print(f"study   {name} in {storage.name}: {report.count(known.outcomes)}")
        _print(known)
        return _write(options, known, records)


def _read(storage: Storage, name: str) -> Known:
    study, description = reading.load(storage, name)
    given = {option.name: description["options"].get(option.flag) for option in OPTIONS}
    space = Space({option: words.split() for option, words in given.items() if words})
    outcomes = reading.outcomes(study, space)
    best = best_of(outcomes)
    test = reading.test_result(study, best.number) if best else None
    return Known(space, description["path"], description.get("target"), outcomes, test)


def _plan(options: argparse.Namespace, space: Space, dataset: Dataset) -> Plan:
    seeds = range(options.seed, options.seed + (options.seeds or 1))
    return Plan(
        space, tuple(seeds), options.trials is not None, data.fingerprint(dataset), options.data, options.target
    )


def _name(options: argparse.Namespace, space: Space, storage: Storage) -> str:
    """The name of the study to report: the one in the options, or the only one."""
    if space.choices or options.seeds or options.trials:
        return _plan(options, space, known_data.to_train_on(PROGRAM, options.data, options.target)).name
    names = storage.patiently(lambda: reading.names(storage))
    if len(names) != 1:
        there = ", ".join(names) or "none"
        raise ArgumentError(f"--report: expected --study NAME; of the studies in {storage.name}: {there}")
    return names[0]


def _introduce(study: Study, bench: Bench, before: Sequence[Outcome]) -> None:
    """Print what will run, on what, and where results are kept."""
    plan = study.plan
    varied = "; ".join(f"{name} {plan.space.choices[name]}" for name in plan.space.varied)
    kind = f"{study.trials:,} trials, searched" if plan.search else f"{study.trials:,} trials, every combination"
    seeds = f", {len(plan.seeds)} seeds each" if len(plan.seeds) > 1 else ""
    sizes = ", ".join(
        f"{len(part.labels):,} {name}"
        for part, name in zip(bench.dataset, ("training", "validation", "test examples"), strict=True)
    )
    print(f"device  {bench.choice(plan.space).reason}")
    print(f"data    {plan.path or data.MNIST}: {sizes}")
    print(f"sweep   {kind}{seeds}: {varied.replace('_', ' ') or 'seeds alone'}")
    ended = sum(outcome.state.is_end for outcome in before)
    print(f"study   {study.name} in {study.storage.name}: {ended:,} done", flush=True)


def _finish(options: argparse.Namespace, study: Study, worker: Worker, dataset: Dataset, records: TextIO) -> int:
    outcomes = study.outcomes()
    best = best_of(outcomes)
    if best is None:
        _print(Known.to(study, outcomes))
        first = f"trial {outcomes[0].number}: {report.line(study.plan.space, outcomes[0])}"
        raise OutputError(f"no trial came to its end; {first}")
    known = Known.to(study, outcomes, result.tested(study, worker, best, dataset.test))
    if options.quiet:
        assert known.test is not None
        print(result.sentence(known.test), flush=True)
    else:
        _print(known)
    failures = _save(options, worker, best, dataset)
    return _write(options, known, records, failures)


def _print(known: Known) -> None:
    print("\n".join(report.table(known.space, known.outcomes)))
    best = best_of(known.outcomes)
    if best is None:
        return
    print(f"best    trial {best.number} by validation accuracy: {known.space.text(best.configuration)}")
    print(f"again   {command_of(best.configuration, best.best_seed)}{known.data}")
    if known.test is not None:
        print(result.sentence(known.test), flush=True)


def _save(options: argparse.Namespace, worker: Worker, best: Outcome, dataset: Dataset) -> list[OutputError]:
    """Save the network of the best seed by validation."""
    if options.save is None:
        return []
    final = FinalModel(worker.networks(best)[best.best_seed], options.save, dataset, options.data)
    final.save()
    if not options.quiet and (line := final.invitation()):
        print(line, flush=True)
    return final.failures


def _write(options: argparse.Namespace, known: Known, records: TextIO, failures: Sequence[OutputError] = ()) -> int:
    """Write --plot and --metrics; returns the exit status. A failure is one line; the other file is still written."""
    found = list(failures)
    if options.plot is not None and best_of(known.outcomes) is None:
        print(f"{PROGRAM}: --plot: no trial is complete, so {options.plot} is not written", file=sys.stderr)
    elif options.plot is not None:
        try:
            plots.write(plot.figure(known.space, known.outcomes), options.plot)
        except OutputError as error:
            found.append(OutputError(f"--plot: {error}"))
    if options.metrics is not None:
        try:
            _write_records(options.metrics, report.records(known.outcomes, known.test), records)
        except OutputError as error:
            found.append(error)
    for failure in found:
        print(f"{PROGRAM}: {failure}", file=sys.stderr)
    return commandline.FAILED if found else commandline.DONE


def _write_records(path: str, lines: Sequence[str], stream: TextIO) -> None:
    text = "".join(f"{line}\n" for line in lines)
    if path == STANDARD_OUTPUT:
        print(text, end="", file=stream, flush=True)
        return
    with contextlib.closing(files.LineFile("--metrics", path)) as file:
        file.write(text)


def _say_interrupted(options: argparse.Namespace, study: Study, at_once: bool, records: TextIO) -> None:
    """Show what is done, unless there is no time for it; it is in the study anyway."""
    if at_once:
        print("interrupted at once; what was done is in the study", flush=True)
        return
    with contextlib.suppress(OutputError):
        outcomes = study.outcomes()
        known = Known.to(study, outcomes)
        if best_of(outcomes) is not None and not options.quiet:
            _print(known)
        done = sum(outcome.state.is_end for outcome in outcomes)
        print(f"interrupted with {done:,} of {study.trials:,} trials done; the same line goes on", flush=True)
        _write(options, known, records)
