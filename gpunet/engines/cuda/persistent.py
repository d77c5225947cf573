"""The persistent CUDA engine: an epoch in one launch, weights and optimizer state on the chip. See docs/persistent.md.

For small batches and networks with hidden layers that fit (persistent_plan.py says why one does not). The kernel is
kernels/persistent_epoch.cu. Predictions and evaluations use the tiled engine's kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gpunet.engines.base import Progress
from gpunet.engines.cuda.device import Array, Device, Kernels, Module
from gpunet.engines.cuda.engine import CudaEngine, EpochData
from gpunet.engines.cuda.persistent_plan import ATTEMPTS, DoesNotFitError, Plan, make_plan
from gpunet.engines.cuda.shares import part_of
from gpunet.engines.dropout import NO_KEY, Key
from gpunet.engines.weighted import Weighted
from gpunet.errors import DeviceError
from gpunet.layers import Network
from gpunet.optimizers import Optimizer

KERNEL = "persistent_epoch"
PATIENCE = 1 << 20  # polls of a packet, each about 0.5 us or more, before a launch gives up


class PersistentEngine(CudaEngine):
    """See Engine. device: where to run; multiprocessors: how many of its, if not all; patience: polls before waiting
    ends with an error; adjust: changes the plan, for measurements.

    Raises DeviceError when an epoch's batch size leaves no space for the network.
    """

    name: ClassVar[str] = "persistent"

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        weights: Sequence[NDArray[np.floating]],
        device: Device,
        multiprocessors: int | None = None,
        patience: int = PATIENCE,
        adjust: Callable[[Plan], Plan] = lambda plan: plan,
    ) -> None:
        self._hardware = part_of(device, multiprocessors or device.multiprocessors)
        self._patience, self._adjust = patience, adjust
        super().__init__(network, optimizer, weights, device)

    def _make_epoch(self, data: EpochData) -> _Epoch:
        plan = functools.partial(self._plan, data.images, data.labels, min(data.batch_size, data.examples))
        state = self._all_weights, self._all_slots
        return _Epoch(self.device, plan, data, state, self._patience, self.network.twice_l2)

    def _plan(self, images: Array, labels: Array, batch: int, attempt: int) -> Plan:
        """Raises DoesNotFitError."""
        input_bytes, classes_as_targets = images.dtype == np.uint8, labels.dtype == np.int32
        weighted = isinstance(labels, Weighted)
        return self._adjust(
            make_plan(
                self.network,
                self.optimizer.rule,
                batch,
                input_bytes,
                classes_as_targets,
                self._hardware,
                attempt,
                weighted,
            )
        )


class _Epoch:
    """The launches of epochs over the same examples with the same batch size.

    make_plan: from the number of an attempt, from 0; raises DoesNotFitError.
    """

    def __init__(
        self,
        device: Device,
        make_plan: Callable[[int], Plan],
        data: EpochData,
        state: tuple[Array, Array],
        patience: int,
        twice_l2: Sequence[float],
    ) -> None:
        self._device, self._make_plan, self.data = device, make_plan, data
        self._state, self.patience = state, patience
        self._penalties = [device.upload(np.array(twice_l2, np.float32))] if twice_l2 else []
        try:
            self.plan = make_plan(0)
        except DoesNotFitError as reason:
            raise DeviceError(f"engine persistent: {reason}; use engine='auto' or 'tiled'") from None

    def kernels(self) -> Kernels:
        """The first attempt's kernel; another is seldom needed, and takes as long to compile as everything else."""
        return [(KERNEL, self.plan.defines)]

    def make_ready(self) -> None:
        device, state = self._device, self._state
        self._module = self._compiled()
        # Blocks that are done must not overwrite what others may still read.
        self._new_state = [device.empty(array.shape, np.float32) for array in state]
        for array, new in zip(state, self._new_state, strict=True):
            device.copy(array, new)  # for the padding after rows: the kernel only writes actual numbers
        self._packets, self._no_packets = (device.zeros(self.plan.packets, np.uint64) for _ in range(2))
        self._status = device.zeros(4, np.int32)
        streamed = self.plan.blocks * self.plan.streamed_floats
        self._streamed = [device.zeros(streamed, np.float32)] if streamed else []
        self._try_out()

    def _compiled(self) -> Module:
        """The kernel of the first plan for which the compiler finds enough registers, or else of the last that fits."""
        module = _loaded(self._device, self.plan)
        for attempt in range(1, ATTEMPTS):
            if module.local_bytes(KERNEL) == 0:
                break
            try:
                self.plan = self._make_plan(attempt)
            except DoesNotFitError:
                break
            module = _loaded(self._device, self.plan)
        return module

    def load(self, order: NDArray[np.int32], optimizer: Optimizer, updates_before: int, key: Key = NO_KEY) -> None:
        """Give the device the data of a new epoch."""
        self.data.load(order, optimizer, updates_before, key)

    def _try_out(self) -> None:
        """Make an update and discard it: a driver only refuses a launch when it is asked for one.

        Raises DeviceError.
        """
        self._device.write(self.data.order, np.zeros(self.data.examples, np.int32))
        self._device.write(self.data.constants, np.zeros((1, self.data.constants.shape[1]), np.float32))
        self._launch(0, 1)

    def run(self, progress: Progress) -> None:
        """Make all updates of the epoch, one launch after another."""
        for first in range(0, self.data.updates, self.plan.launch_updates):
            last = min(first + self.plan.launch_updates, self.data.updates)
            self._launch(first, last)
            for new, state in zip(self._new_state, self._state, strict=True):
                self._device.copy(new, state)
            progress(last)

    def _launch(self, first: int, last: int) -> None:
        """Make updates first to last - 1, store them in the new state, and wait."""
        data, device = self.data, self._device
        device.copy(self._no_packets, self._packets)
        device.write(self._status, np.zeros(4, np.int32))
        numbers = (data.batch_size, data.examples, first, last)
        drops = [] if data.drops is None else [data.drops]
        arguments = [
            data.images, *_arrays(data.labels), data.order, *map(np.int32, numbers), *self._state, *self._new_state,
            data.constants, *self._penalties, *drops, *self._streamed, self._packets, self._status,
            np.int32(self.patience), data.losses, data.correct,
        ]  # fmt: skip
        plan = self.plan
        try:
            self._module.launch(KERNEL, (plan.blocks,), (plan.threads,), arguments, plan.shared_bytes, cooperative=True)
        except DeviceError as error:
            if device.lost:
                raise
            raise DeviceError(f"engine persistent: {error}; use engine='auto' or 'tiled'") from error
        failed, block, exchange, update = device.download(self._status).tolist()
        if failed:
            raise DeviceError(
                f"engine persistent: block {block} timed out waiting for {plan.exchange_name(exchange)} of update "
                f"{update + 1}; nothing of this epoch is kept; use engine='tiled'"
            )


def _arrays(labels: Array) -> tuple[Array, ...]:
    """The targets, and their weights if there are any."""
    return (labels.targets, labels.weights) if isinstance(labels, Weighted) else (labels,)


def _loaded(device: Device, plan: Plan) -> Module:
    """The plan's kernel. Raises DeviceError unless the device can hold all blocks at once."""
    module = device.compile(KERNEL, plan.defines)
    if plan.shared_bytes > device.shared_bytes:
        raise DeviceError(
            f"engine persistent: a block needs {plan.shared_bytes} bytes of shared memory, has {device.shared_bytes}"
        )
    resident = module.resident_blocks(KERNEL, plan.threads, plan.shared_bytes)
    if plan.blocks > resident * device.multiprocessors:
        raise DeviceError(
            f"engine persistent: {plan.blocks} blocks must run at once, but the GPU holds "
            f"{resident * device.multiprocessors}; use engine='tiled'"
        )
    return module
