"""Results as Markdown: what `batch_speed.py` prints, and what the README shows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from harness.workload import LECTURE_SECONDS

Result = dict[str, Any]


def whole(result: Result) -> str:
    """All parts of a result, and the machine."""
    parts = [machine(result["machine"])]
    if result.get("speed"):
        parts += ["### Speed", speed(result)]
        if any(record["batch_size"] in LECTURE_SECONDS for record in result["speed"]):
            parts.append(lecture(result))
    if result.get("same_updates"):
        parts += ["### Same time, same updates", same_updates(result)]
    if result.get("batch_accuracy"):
        parts += ["### Too large a batch", batch_accuracy(result["batch_accuracy"])]
    if result.get("why"):
        parts += ["### Why", why(result["why"])]
    return "\n\n".join(parts) + "\n"


def machine(facts: dict[str, str]) -> str:
    others = [f"{name} {value}" for name, value in facts.items() if name != "device"]
    return f"{facts['device']}: {', '.join(others)}."


def headline(result: Result) -> str:
    """The README's number: an epoch at batch size 1, with the fastest engine and with other frameworks."""
    records = sorted((r for r in result["speed"] if r["batch_size"] == 1), key=lambda record: record["epoch_seconds"])
    ours = next(record for record in records if record["name"].startswith("gpunet"))
    others = [r for r in records if not r["name"].startswith("gpunet")]
    theirs = "; ".join(f"{r['name'].split(',')[0]} {r['epoch_seconds']:,.1f}" for r in others)
    facts = result["machine"]
    return (
        f"**{ours['epoch_seconds']:.1f} s** per epoch of 50,000 updates at batch size 1, or "
        f"{ours['us_per_update']:,.0f} us per update ({facts['device']}). Others on the same machine, in seconds: "
        f"{theirs}. The lecture's Keras took {LECTURE_SECONDS[1]:.0f} s on a GTX 980.\n\n"
        f"Measured on {facts['date'].split()[0]} with the `{ours['name'].removeprefix('gpunet ')}` engine and "
        "projected from fewer updates. Versions, ranges and all batch sizes: [docs/lecture.md](docs/lecture.md)."
    )


def speed(result: Result) -> str:
    """A row for each engine, peer and batch size; * marks epochs projected from fewer updates."""
    rows = []
    first = {record["name"]: record for record in reversed(result["speed"]) if record["batch_size"] == 1}
    for record in sorted(result["speed"], key=lambda record: record["batch_size"]):
        low, high = record["us_per_update_range"]
        base = first.get(record["name"])
        first_run = record.get("first_run_seconds")  # older results lack it
        rows.append(
            [
                f"{record['batch_size']:,}",
                record["name"],
                f"{record['us_per_update']:,.1f}{' ~' if record.get('unsteady') else ''}",
                f"{low:,.1f} to {high:,.1f}",
                f"{record['epoch_seconds']:,.3f}{'*' if record['projected'] else ''}",
                f"{record['examples_per_second']:,.0f}",
                f"{base['epoch_seconds'] / record['epoch_seconds']:,.1f}" if base else "",
                "" if first_run is None else f"{first_run:,.2f}",
            ]
        )
    head = ["batch size", "engine or framework", "us per update", "range", "s per epoch", "examples/s", "times batch 1"]
    return "\n\n".join([_table([*head, "first run, s"], rows), *_speed_notes(result)])


def _speed_notes(result: Result) -> list[str]:
    passes = sum(not entry["again"] for entry in result.get("passes", ()))
    over = "passes, each in fresh processes" if passes > 1 else "repeats"
    notes = [
        "An epoch has 50,000 examples. * projected from fewer updates. "
        f"Medians; the range is over the {f'{passes} ' if passes > 1 else ''}{over}."
    ]
    if any(record.get("unsteady") for record in result["speed"]):
        notes.append("~ The passes differ by more than a fifth, even after more of them, or there was only one.")
    if passes:
        notes.append(
            "First run: the time to make the network and its first 20 updates (5 at batch size 10,000), including "
            "compilation; at the first batch size, also the start of the library."
        )
    return notes + sorted(_unavailable(result))


def lecture(result: Result) -> str:
    """The lecture's two figures beside every engine's."""
    rows = [
        [
            f"{record['batch_size']}",
            f"{LECTURE_SECONDS[record['batch_size']]:.0f}",
            record["name"],
            f"{record['epoch_seconds']:,.3f}{'*' if record['projected'] else ''}",
            f"{record['times_faster_than_lecture']:,.1f}",
        ]
        for record in sorted(result["speed"], key=lambda record: record["batch_size"])
        if record["batch_size"] in LECTURE_SECONDS
    ]
    return _table(["batch size", "lecture, GTX 980, s", "here", "s per epoch", "times faster"], rows)


def same_updates(result: Result) -> str:
    """A row for each batch size, and how the time per update compares with the speed part."""
    rows = [
        [
            f"{records[0]['batch_size']}",
            _engine(records[0]),
            f"{records[0]['updates']:,}",
            f"{records[0]['epochs']:g}",
            _over_seeds(records, "seconds", ",.2f"),
            *_learnt(records),
            _over_seeds(records, "loss_spread", ".3f"),
        ]
        for records in _by_batch_size(result["same_updates"])
    ]
    head = ["batch size", "engine", "updates", "epochs", "seconds", "training loss", "test accuracy"]
    notes = [
        f"{name}, batch size {batch_size}: {here:,.1f} us per update here, {there:,.1f} in the speed part."
        for name, batch_size, here, there in update_times(result)
    ]
    return "\n\n".join(
        [_table([*head, "spread of the last losses"], rows), *_seeds_note(result["same_updates"]), *notes]
    )


def update_times(result: Result) -> list[tuple[str, int, float, float]]:
    """(engine, batch size, us per update in the part on equal updates, and in the speed part), where there are both.

    Not if several seeds were trained at once: an update then takes a different time than alone.
    """
    times = {(record["name"], record["batch_size"]): record["us_per_update"] for record in result.get("speed", ())}
    found = []
    for records in _by_batch_size(result["same_updates"]):
        key = records[0]["name"], records[0]["batch_size"]
        if key in times and len(records) == 1:
            found.append((*key, 1e6 * records[0]["seconds"] / records[0]["updates"], times[key]))
    return found


def batch_accuracy(records: Sequence[Result]) -> str:
    rows = [
        [
            f"{group[0]['batch_size']:,}",
            _engine(group[0]),
            f"{group[0]['epochs']}",
            f"{group[0]['updates']:,}",
            _over_seeds(group, "seconds", ",.2f"),
            *_learnt(group),
        ]
        for group in _by_batch_size(records)
    ]
    head = ["batch size", "engine", "epochs", "updates", "seconds", "training loss", "test accuracy"]
    return "\n\n".join([_table(head, rows), *_seeds_note(records)])


def _by_batch_size(records: Sequence[Result]) -> list[list[Result]]:
    """The records of each batch size, one per seed."""
    sizes = dict.fromkeys(record["batch_size"] for record in records)
    return [[record for record in records if record["batch_size"] == size] for size in sizes]


def _engine(record: Result) -> str:
    return record["name"].removeprefix("gpunet ")


def _learnt(records: Sequence[Result]) -> list[str]:
    """Loss over the training set, which older results lack in one part, and accuracy on the test set."""
    loss = _over_seeds(records, "train_loss", ".4f") if "train_loss" in records[0] else ""
    return [loss, _over_seeds(records, "test_accuracy", ".2f", 100) + " %"]


def _over_seeds(records: Sequence[Result], name: str, form: str, factor: float = 1) -> str:
    """The mean, and the standard deviation if there are several and they differ."""
    values = [factor * record[name] for record in records]
    middle = f"{statistics.fmean(values):{form}}"
    return middle if len(set(values)) == 1 else f"{middle} ± {statistics.stdev(values):{form}}"


def _seeds_note(records: Sequence[Result]) -> list[str]:
    seeds = len({record.get("seed", 0) for record in records})
    if seeds == 1:
        return []
    return [
        f"Means over {seeds} seeds, with standard deviations. The seeds were trained at once (`fit_many`); "
        f"seconds are the total divided by {seeds}."
    ]


def why(record: Result) -> str:
    rows = [
        [name, f"{us:,.1f}", f"{record['operations'] / 1e6:,.1f}", f"{moved / 1e6:,.1f}"]
        for name, us, moved in (
            ("one at a time", record["one_at_a_time_us"], record["one_at_a_time_bytes"]),
            ("as one matrix product", record["at_once_us"], record["at_once_bytes"]),
        )
    ]
    head = [f"{record['examples']} examples, {record['layer']}", "us", "million operations", "MB loaded and stored"]
    ratio = (
        f"The same arithmetic takes {record['ratio']:,.1f} times less time as one product: each weight is loaded once."
    )
    return "\n\n".join([_table(head, rows), ratio])


def kernel_times(times: Result) -> str:
    """Every launch of an update, by batch size, with its bound from the measured rates; then whole updates.

    Incomplete if the measurement was stopped.
    """
    copy, product = times.get("copy_bytes_per_second"), times.get("product_operations_per_second")
    empty = times.get("empty_kernel_us")
    rates = f"Measured here: a copy moves {copy / 1e9:,.0f} GB/s" if copy else "No rate of a copy was measured"
    rates += f", cuBLAS computes {product / 1e12:,.1f} TFLOP/s in float32" if product else "; no cuBLAS to compare with"
    rates += f"; an empty kernel takes {empty:,.2f} us." if empty else "."
    rows = [
        [
            f"{record['batch_size']:,}",
            record["kernel"],
            record["layer"],
            f"{record['us']:,.2f}",
            "" if record["bound_us"] is None else f"{record['bound_us']:,.2f}",
            "" if record["bound_us"] is None else f"{record['times_bound']:,.1f}",
        ]
        for record in times["kernels"]
    ]
    launches = _table(["batch size", "kernel", "layer", "us", "DRAM bound, us", "times bound"], rows)
    updates = [
        [f"{record['batch_size']:,}", f"{record['launches']}", f"{record['us']:,.2f}", f"{_sum_us(times, record):,.2f}"]
        for record in times["updates"]
    ]
    whole_updates = _table(["batch size", "launches", "whole update, us", "sum of its launches, us"], updates)
    missing = [
        f"Batch size {record['batch_size']:,}: {record['unavailable']}" for record in times.get("unavailable", ())
    ]
    return "\n\n".join([rates, launches, whole_updates, *missing])


def persistent_times(records: Sequence[Result]) -> str:
    """The persistent engine's update as planned and changed, by batch size."""
    planned = {record["batch_size"]: record.get("us") for record in records if record["variant"] == "as planned"}
    rows = []
    for record in records:
        us, whole = record.get("us"), planned.get(record["batch_size"])
        shown = record.get("unavailable", "") if us is None else f"{us:,.2f}"
        difference = f"{us - whole:+,.2f}" if us is not None and whole is not None else ""
        rows.append([f"{record['batch_size']:,}", record["variant"], shown, difference])
    return _table(["batch size", "variant", "us per update", "difference"], rows)


def _sum_us(times: Result, update: Result) -> float:
    return sum(record["us"] for record in times["kernels"] if record["batch_size"] == update["batch_size"])


def _unavailable(result: Result) -> list[str]:
    """A line for each peer and reason, with the batch sizes if other sizes worked."""
    sizes: dict[tuple[str, str], set[int]] = {}
    for record in result.get("unavailable", ()):
        of_reason = sizes.setdefault((record["name"], record["unavailable"]), set())
        of_reason |= {record["batch_size"]} if "batch_size" in record else set()
    timed = {record["name"] for record in result["speed"]}
    lines = []
    for (name, reason), of_reason in sizes.items():
        where = f", batch size {', '.join(f'{size:,}' for size in sorted(of_reason))}" if name in timed else ""
        lines.append(f"{name}{where}: {reason.rstrip('.')}.")
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
