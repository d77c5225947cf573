"""Session: where a model's weights and its optimizer's state are, in the model itself or in an engine.

An engine is created when something has to be computed, and replaced when another one is needed. It may be lost with its
GPU; the model then continues from its own copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpunet import engines, seeds
from gpunet.engines import Choice, Engine, OptimizerState
from gpunet.engines.base import FORWARD_ROWS
from gpunet.errors import DeviceError, warn
from gpunet.layers import Network
from gpunet.optimizers import SGD, Optimizer

Upload = Callable[[Engine, NDArray[Any]], Any]  # an array where an engine wants it
Prepared = TypeVar("Prepared")


def as_engine_uploads(engine: Engine, array: NDArray[Any]) -> Any:
    return engine.upload(array)


class Session:
    """The weights and the optimizer's state of one model, and the engine that computes with them.

    network: None until there are weights.
    kept_weights, kept_state: the model's own copies, as of the last complete epoch or as they were set. Up to date
             while there is no engine, and all that is left if an engine is lost. kept_state is None before any
             training.
    A copy or a pickle has weights and state instead of the engine that holds them, and chooses its own engine.
    """

    def __init__(self) -> None:
        self.device, self.engine_name = "auto", "auto"  # as they were asked for
        self.network: Network | None = None
        self.kept_weights: list[NDArray[np.floating]] = []
        self.kept_state: OptimizerState | None = None
        self.choice: Choice | None = None
        self.engine: Engine | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__ | {"choice": None, "engine": None}
        if self.engine is not None:
            state |= {"kept_weights": self.weights, "kept_state": self.optimizer_state}
        return state

    def start(self, network: Network, weights: list[NDArray[np.floating]]) -> None:
        self.kept_weights = weights
        self.network = network

    def build(self, network: Network, seed: int, names: Sequence[tuple[str, str]]) -> None:
        """Give the model its first weights, if it has none. names: as in `seeds.start`."""
        if self.network is None:
            self.start(network, seeds.start(network, seed, names))  # memory may run out on the way to `start`

    def restart(self, device: str, engine_name: str) -> None:
        """Keep the weights; forget the optimizer's state, and choose an engine anew."""
        self.kept_weights, self.engine = self.weights, None
        self.choice = self.kept_state = None
        self.device, self.engine_name = device, engine_name

    @property
    def weights(self) -> list[NDArray[np.floating]]:
        """Weights (inputs, units) and bias (units,), layer after layer."""
        held: list[NDArray[np.floating]] = self._held("weights", self.kept_weights)
        return held

    @weights.setter
    def weights(self, weights: list[NDArray[np.floating]]) -> None:
        self.kept_weights = weights
        if (engine := self._present_engine()) is not None:
            engine.weights = weights

    @property
    def optimizer_state(self) -> OptimizerState | None:
        """None if nothing was trained yet."""
        held: OptimizerState | None = self._held("optimizer_state", self.kept_state)
        return held

    @optimizer_state.setter
    def optimizer_state(self, state: OptimizerState) -> None:
        if (engine := self._present_engine()) is not None:
            engine.optimizer_state = state
        else:
            self.kept_state = state

    def _held(self, what: str, kept: Any) -> Any:
        """From the engine if there is one, else what is kept."""
        engine = self._present_engine()
        if engine is not None:
            try:
                return getattr(engine, what)
            except DeviceError:
                if engine.lost is None:
                    raise
                self._present_engine()
        return kept

    # Engines

    def engine_to_train(
        self,
        choice: Choice,
        optimizer: Optimizer,
        arrays: Sequence[NDArray[Any]],
        batch_size: int,
        upload: Upload = as_engine_uploads,
    ) -> tuple[Engine, list[Any]]:
        """The engine of a choice, ready to train, and the arrays uploaded to it.

        arrays: images and labels to train on, then those to evaluate, if any.
        """

        def prepare(engine: Engine) -> list[Any]:
            images, labels, *validation = uploaded = [upload(engine, array) for array in arrays]
            evaluated = (validation[0], validation[1]) if validation else None
            engine.prepare(images, labels, len(arrays[0]), batch_size, evaluated)
            return uploaded

        return self._engine_with(choice, optimizer, prepare)

    def engine_to_compute(
        self, optimizer: Optimizer | None, arrays: Sequence[NDArray[Any]], *, may_move: bool
    ) -> tuple[Engine, list[Any]]:
        """The engine that trains, if there is one (moving to another would be wasted), and the uploaded arrays.

        may_move: whether another engine may take over; not during `fit`, whose engine holds the weights that it trains.
        """

        def prepare(engine: Engine) -> list[Any]:
            return [engine.upload(array) for array in arrays]

        assert self.network is not None
        self._present_engine()
        if self.choice is None:  # nothing was trained
            self.choice = engines.choose(self.network, FORWARD_ROWS, self.device, self.engine_name)
        return self._engine_with(self.choice, optimizer, prepare, may_move)

    def leave_engine(self) -> None:
        """Discard a lost engine. Weights are kept at the end of every epoch; the optimizer starts again."""
        self.engine = self.choice = self.kept_state = None

    def _engine_with(
        self,
        choice: Choice,
        optimizer: Optimizer | None,
        prepare: Callable[[Engine], Prepared],
        may_move: bool = True,
    ) -> tuple[Engine, Prepared]:
        """The engine of a choice, and what it prepared.

        If a GPU refuses an engine that was not asked for by name (it may lack memory), the next best one takes over,
        with a warning.
        """
        assert self.network is not None
        while True:
            try:
                engine = self._use(choice, optimizer)
                return engine, prepare(engine)
            except DeviceError as error:
                if not may_move:
                    raise
                other = engines.instead_of(choice, self.network, self.device, self.engine_name)
                if self.engine is not None:
                    self.engine.release()
                if other is None:
                    raise
                line = f"device {engines.DEVICE_OF[other.engine]}, engine {other.engine}: {error}"
            # Out of the handler, so that nothing of the failed attempt holds memory any more.
            warn(line)
            choice = other

    def _use(self, choice: Choice, optimizer: Optimizer | None) -> Engine:
        """The engine, created at first use; weights and optimizer state move if it differs from the one before."""
        if self.engine is not None and not self._serves(choice):
            self.kept_weights, self.kept_state = self.weights, self.optimizer_state
            self.engine = None  # frees its memory before the next one takes some
        if self.engine is None:
            assert self.network is not None
            self.engine = choice.make(self.network, optimizer or SGD(), self.kept_weights)
            if self.kept_state is not None:
                self.engine.optimizer_state = self.kept_state
        self.choice = choice
        return self.engine

    def _serves(self, choice: Choice) -> bool:
        """Whether the present engine is the chosen one, in the chosen place."""
        assert self.engine is not None
        return self.engine.name == choice.engine and (self.choice is None or self.choice.share == choice.share)

    def _present_engine(self) -> Engine | None:
        """The engine, if there is one; a lost engine is discarded, with a warning."""
        if self.engine is not None and (why := self.engine.lost):
            warn(f"{why}: the model continues from the weights of its last whole epoch")
            self.leave_engine()
        return self.engine
