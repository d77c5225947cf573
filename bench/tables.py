"""Results as Markdown: what `batch_speed.py` prints, and what the README shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from workload import LECTURE_SECONDS

Result = dict[str, Any]


def whole(result: Result) -> str:
    """Every part that a result has, with its machine."""
    parts = [machine(result["machine"])]
    if result.get("speed"):
        parts += ["### Speed", speed(result)]
        if any(record["batch_size"] in LECTURE_SECONDS for record in result["speed"]):
            parts.append(lecture(result))
    if result.get("same_updates"):
        parts += ["### Same time, same updates", same_updates(result["same_updates"])]
    if result.get("batch_accuracy"):
        parts += ["### Too large a batch", batch_accuracy(result["batch_accuracy"])]
    if result.get("why"):
        parts += ["### Why", why(result["why"])]
    return "\n\n".join(parts) + "\n"


def machine(facts: dict[str, str]) -> str:
    others = [f"{name} {value}" for name, value in facts.items() if name != "device"]
    return f"{facts['device']}: {', '.join(others)}."


def speed(result: Result) -> str:
    """A row for each engine, peer and batch size; * marks epochs that are projected from fewer updates."""
    rows = []
    first = {record["name"]: record for record in reversed(result["speed"]) if record["batch_size"] == 1}
    for record in sorted(result["speed"], key=lambda record: record["batch_size"]):
        low, high = record["us_per_update_range"]
        base = first.get(record["name"])
        rows.append(
            [
                f"{record['batch_size']:,}",
                record["name"],
                f"{record['us_per_update']:,.1f}",
                f"{low:,.1f} to {high:,.1f}",
                f"{record['epoch_seconds']:,.3f}{'*' if record['projected'] else ''}",
                f"{record['examples_per_second']:,.0f}",
                f"{base['epoch_seconds'] / record['epoch_seconds']:,.1f}" if base else "",
            ]
        )
    head = ["batch size", "engine or peer", "us per update", "range", "s per epoch", "examples/s", "times batch 1"]
    notes = ["s per epoch: of 50,000 examples; * projected from fewer updates. Medians; the range is over the repeats."]
    notes += [f"{name}: {reason}." for name, reason in sorted(_unavailable(result))]
    return "\n\n".join([_table(head, rows), *notes])


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


def same_updates(records: Sequence[Result]) -> str:
    rows = [
        [
            f"{record['batch_size']}",
            f"{record['updates']:,}",
            f"{record['epochs']:g}",
            f"{record['seconds']:,.2f}",
            f"{record['train_loss']:.4f}",
            f"{100 * record['test_accuracy']:.2f} %",
            f"{record['loss_spread']:.3f}",
        ]
        for record in records
    ]
    return _table(
        ["batch size", "updates", "epochs", "seconds", "training loss", "test accuracy", "spread of the last losses"],
        rows,
    )


def batch_accuracy(records: Sequence[Result]) -> str:
    rows = [
        [
            f"{record['batch_size']:,}",
            f"{record['epochs']}",
            f"{record['updates']:,}",
            f"{record['seconds']:,.2f}",
            f"{record['train_loss']:.4f}",
            f"{100 * record['test_accuracy']:.2f} %",
        ]
        for record in records
    ]
    return _table(["batch size", "epochs", "updates", "seconds", "training loss", "test accuracy"], rows)


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
        f"The same arithmetic, in {record['ratio']:,.1f} times less time: as one product, each weight is loaded once."
    )
    return "\n\n".join([_table(head, rows), ratio])


def kernel_times(times: Result) -> str:
    """Every launch of an update, by batch size, with its bound from the measured rates."""
    copy, product = times["copy_bytes_per_second"], times["product_operations_per_second"]
    rates = f"Measured here: a copy moves {copy / 1e9:,.0f} GB/s"
    rates += (
        f", cuBLAS computes {product / 1e12:,.1f} TFLOP/s in float32." if product else "; no cuBLAS to compare with."
    )
    rows = [
        [
            f"{record['batch_size']:,}",
            record["kernel"],
            record["layer"],
            f"{record['us']:,.2f}",
            f"{record['bound_us']:,.2f}",
            f"{record['times_bound']:,.1f}",
        ]
        for record in times["kernels"]
    ]
    return "\n\n".join([rates, _table(["batch size", "kernel", "layer", "us", "bound, us", "times bound"], rows)])


def _unavailable(result: Result) -> set[tuple[str, str]]:
    return {(record["name"], record["unavailable"]) for record in result.get("unavailable", ())}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
