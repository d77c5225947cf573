"""What callbacks that monitor a quantity share: which direction is better, and by how much."""

from __future__ import annotations

from collections.abc import Iterable

from gpunet.callbacks.base import Callback, Logs
from gpunet.checks import require_number
from gpunet.errors import ArgumentError

MODES = ("auto", "min", "max")
DIRECTION = {"loss": "min", "accuracy": "max"}  # what "auto" means, with or without val_


class Monitor(Callback):
    """Monitors one of the values in the logs.

    monitor:   its name.  mode: "min" if smaller is better, "max" if larger is; "auto" knows loss and accuracy.
    min_delta: a smaller change does not count.
    """

    def __init__(self, monitor: str, mode: str, min_delta: float) -> None:
        owner = type(self).__name__
        if mode not in MODES:
            raise ArgumentError(f"{owner}: mode: expected one of {', '.join(MODES)}; got {mode!r}")
        if not isinstance(monitor, str):
            raise ArgumentError(
                f"{owner}: monitor: expected the name of a quantity such as 'val_loss'; got {monitor!r}"
            )
        direction = DIRECTION.get(monitor.removeprefix("val_")) if mode == "auto" else mode
        if direction is None and monitor in ("acc", "val_acc"):
            raise ArgumentError(f"{owner}: monitor: expected '{monitor}uracy', got {monitor!r}")
        if direction is None:
            raise ArgumentError(
                f"{owner}: mode='auto' does not know which way {monitor!r} is better; give mode='min' or mode='max'"
            )
        self.monitor, self.mode = monitor, mode
        self.min_delta = abs(require_number(f"{owner}: min_delta", min_delta))
        self._sign = -1 if direction == "min" else 1

    def on_train_begin(self, logs: Logs | None = None) -> None:
        require_validation(self, [self.monitor])

    def current(self, logs: Logs | None) -> float:
        """The quantity's value; ArgumentError if the logs lack it."""
        if logs is None or self.monitor not in logs:
            raise ArgumentError(
                f"{type(self).__name__}: monitor: no {self.monitor!r} in the logs; there are {', '.join(logs or ())}"
            )
        return logs[self.monitor]

    def is_improvement(self, value: float, reference: float | None) -> bool:
        """Whether the value is better than the reference by more than min_delta. None is worse than everything."""
        return reference is None or self._sign * value - self.min_delta > self._sign * reference


def require_validation(callback: Callback, names: Iterable[str]) -> None:
    """ArgumentError if one of these quantities needs validation data and there is none."""
    for name in names:
        if name.startswith("val_") and not callback.params["do_validation"]:
            raise ArgumentError(
                f"{type(callback).__name__}: {name!r} needs validation data; call fit with validation_data or "
                "validation_split"
            )
