"""The persistent engine's plan: how a network is distributed over the blocks, and what is stored where.

It depends only on network, batch size and device. It counts shared memory exactly as kernels/persistent_block.cuh does
(which refuses to run if the two differ), and registers by an allowance that the compiler has to confirm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gpunet.engines.cuda.configuration import (
    ACTIVATION_NAMES,
    Configuration,
    Defines,
    Hardware,
    ceil_div,
    in_order,
    padded,
)
from gpunet.engines.cuda.persistent_cycles import persistent_cycles
from gpunet.layers import Network
from gpunet.optimizers import RULES

THREADS = (256, 128, 512)  # per block, in the order in which they are tried; multiples of 128, or ptxas caps registers
THREADS_OF_TWO = 128  # per block, where two are on a multiprocessor
NARROW = 128  # for networks no wider than this, this number of threads is tried first
REGISTERS = 65536  # per multiprocessor
MOST_REGISTERS = 255  # per thread
SYSTEM_BYTES = 1024  # of a multiprocessor's shared memory, which the system may keep for itself
# Registers that a thread needs besides the numbers that it keeps, at batch size 1 and above. The first allowance with
# which nothing spills is used.
WORKING_REGISTERS = {1: (58, 84, 110), 2: (96, 112, 132)}
WORKING_REGISTERS_BEFORE_7 = {1: (58, 84, 110), 2: (116, 132, 150)}  # compute capability
DROPOUT_REGISTERS = 10  # more, for the words of its random numbers
ATTEMPTS = 3
MOST_NUMBERS = 512  # per thread, because its code is unrolled over all of them
MOST_NUMBERS_BEFORE_7 = 640  # those in global memory among them
STAGED_WORDS = 12  # of the next batch's inputs, in a thread's registers on their way to shared memory
CLASSES_OF_LANES = 32  # up to this many classes take one lane each (kernels/persistent_output.cuh)
LAUNCH_EXAMPLES = 20_000  # per launch: 50 to 100 ms, which a display and Ctrl-C can wait for
# Widths, optimizer, batch, bytes as input, classes as targets.
REPORTED = (
    ((784, 500, 500, 10), "adam", 1, True, True),
    ((784, 500, 500, 10), "adam", 10, True, True),
    ((784, 500, 500, 10), "adam", 16, True, True),
    ((784, 500, 500, 10), "adam", 32, True, True),
    ((784, 500, 10), "adam", 1, True, True),
    ((784, 300, 10), "adam", 1, True, True),
    ((784, 128, 64, 10), "adam", 10, True, True),
    ((784, 300, 100, 10), "momentum", 16, True, True),
    ((20, 64, 64, 64, 5), "adam", 1, False, True),
    ((4, 64, 64, 2), "sgd", 32, False, False),
)
REPORTED_WITH_EVERYTHING = REPORTED[1]  # again, with weights of examples, a penalty and dropout


class DoesNotFitError(ValueError):
    """Says why the persistent engine cannot train a network."""


@dataclass(frozen=True)
class Slice:
    """A block's slice of a weight matrix, as in kernels/slice.cuh. columns: per thread."""

    rows: int
    columns: int

    @property
    def numbers(self) -> int:
        """Numbers per thread in each array."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Plan:
    """How a network is trained by `blocks` blocks of `threads` threads.

    in_shared: for each of `slices`, how many of its arrays (weights, slots) are in shared memory, starting with the
    last.
    staged:    whether the next batch's inputs are loaded into shared memory ahead of time.
    weighted:  whether examples have weights.
    twice:     whether weights between hidden layers are in two blocks (kernels/persistent_block.cuh), or in one.
    resident:  blocks on each multiprocessor.
    streamed:  for the incoming weights of each hidden layer, how many of their arrays are in global memory, starting
    with the last; empty if none are. They are read and written in every update.
    extra:     more compile-time parameters, for measurements and tests (kernels/phases.cuh).
    """

    network: Network
    optimizer: str
    batch: int
    input_bytes: bool
    classes_as_targets: bool
    blocks: int
    threads: int
    in_shared: tuple[int, ...]
    staged: bool
    weighted: bool = False
    twice: bool = True
    resident: int = 1
    streamed: tuple[int, ...] = ()
    extra: tuple[tuple[str, int], ...] = ()

    @property
    def hidden(self) -> int:
        """The number of hidden layers."""
        return self.network.layers - 1

    def owned(self, layer: int) -> int:
        """The most neurons of a hidden layer that a block has."""
        return ceil_div(self.network.widths[layer], self.blocks)

    @property
    def most_owned(self) -> int:
        """The most neurons that a block has of any hidden layer."""
        return max(self.owned(layer) for layer in range(1, self.hidden + 1))

    def columns(self, layer: int) -> int:
        """The most columns of a layer that a thread has. Columns are neurons, and the 1 whose weight is the bias."""
        return ceil_div(self.network.widths[layer] + 1, self.threads)

    @property
    def arrays(self) -> int:
        return 1 + len(RULES[self.optimizer].slots)

    @property
    def slices(self) -> list[Slice]:
        """Incoming weights of every hidden layer; the output layer; if twice, outgoing weights of all but the last."""
        incoming = [Slice(self.owned(layer), self.columns(layer - 1)) for layer in range(1, self.hidden + 1)]
        output = Slice(self.network.classes, self.columns(self.hidden))
        return [*incoming, output, *(self._outgoing if self.twice else ())]

    @property
    def products(self) -> list[Slice]:
        """Slices that an example is multiplied by, forward and backward; those stored once are listed twice."""
        return [*self.slices, *(() if self.twice else self.slices[1 : self.hidden])]

    @property
    def _outgoing(self) -> list[Slice]:
        return [Slice(self.owned(layer), self.columns(layer + 1)) for layer in range(1, self.hidden)]

    @property
    def kept_numbers(self) -> int:
        """Numbers in a thread's registers."""
        pairs = zip(self.slices, self.in_shared, strict=True)
        return sum(one.numbers * (self.arrays - in_shared) for one, in_shared in pairs) - self.streamed_numbers

    @property
    def streamed_numbers(self) -> int:
        """Numbers of a thread in global memory."""
        return sum(one.numbers * many for one, many in zip(self.slices, self.streamed, strict=False))

    @property
    def streamed_floats(self) -> int:
        """Floats of global memory per block."""
        return self.streamed_numbers * self.threads

    @property
    def streamed_bytes(self) -> int:
        """Bytes that an update reads and writes in global memory."""
        total = 0
        for layer, many in enumerate(self.streamed, start=1):
            weights = many == self.arrays  # are read once more going forward, and where there is no copy going back
            reads = weights * (2 if layer > 1 and not self.twice else 1)
            total += 4 * (2 * many + reads) * (self.network.widths[layer - 1] + 1) * self.network.widths[layer]
        return total

    @property
    def shared_floats(self) -> int:
        """Floats of shared memory per block; every part begins at a multiple of 16 bytes."""
        pairs = zip(self.slices, self.in_shared, strict=True)
        slices = [one.numbers * self.threads * in_shared for one, in_shared in pairs]
        parts = [*slices, *self._layer_parts(), *self._output_parts(), self._sums, *self._staging(), 1]
        return sum(map(padded, parts))

    @property
    def shared_bytes(self) -> int:
        return 4 * self.shared_floats

    @property
    def exchanges(self) -> int:
        """How often blocks wait for one another per update."""
        if self.hidden == 1:
            return 1
        return 2 * self.hidden - (2 if self.twice else 1)

    @property
    def reductions(self) -> int:
        """Exchanges in which blocks add gradients (kernels/parts.cuh)."""
        return 0 if self.twice else self.hidden - 1

    @property
    def packets(self) -> int:
        """Packets of 8 bytes; there are two buffers, except for the reductions."""
        row = self.batch * padded(max(self.network.widths[1:-1]))
        return (self.copies * (self.exchanges - self.reductions) * 2 + self.reductions * self.blocks) * row

    @property
    def copies(self) -> int:
        """Copies of every packet, published by otherwise idle lanes (kernels/exchange.cuh)."""
        if self.batch > 1:
            return 1
        return next((copies for most, copies in ((4, 8), (8, 4), (16, 2)) if self.most_owned <= most), 1)

    def exchange_name(self, exchange: int) -> str:
        """What an exchange transfers, for messages; numbered as in kernels/exchange.cuh."""
        if exchange < self.hidden:
            return f"the activations of hidden layer {exchange + 1}"
        return f"the gradients of hidden layer {exchange - self.hidden + (2 if self.twice else 1)}"

    @property
    def order_of_sums(self) -> tuple[int, ...]:
        """What determines the last bits of results: plans with the same value give the same bits."""
        return (self.threads,) if self.twice else (self.threads, self.blocks)

    @property
    def words(self) -> str:
        """What is stored where, for messages."""
        shared = sum(one.numbers * many for one, many in zip(self.slices, self.in_shared, strict=True))
        between = f", those between hidden layers {'twice' if self.twice else 'once'}" if self.hidden > 1 else ""
        streamed = ""
        if self.streamed_numbers:
            megabytes = self.streamed_bytes / 1e6
            streamed = f", {self.streamed_numbers} in global memory, {megabytes:.1f} MB of which pass per update"
        grid = (
            f"{self.blocks} blocks of {self.threads} threads{', two per multiprocessor' if self.resident == 2 else ''}"
        )
        return (
            f"{grid}; weights and moments on the chip{between}: a thread has {self.kept_numbers} numbers in registers, "
            f"{shared} in shared memory{streamed}"
        )

    @property
    def launch_updates(self) -> int:
        """The most updates in one launch."""
        return max(1, LAUNCH_EXAMPLES // self.batch)

    @property
    def defines(self) -> Defines:
        """The compile-time parameters of kernels/persistent_epoch.cu."""
        hidden, biases = self.network.activations[:-1], self.network.biases
        return {
            "WIDTHS": _list(self.network.widths),
            "ACTIVATIONS": _list(ACTIVATION_NAMES[name] for name in hidden),
            "OPTIMIZER": self.optimizer,
            "BATCH": self.batch,
            "INPUT_BYTES": int(self.input_bytes),
            "TARGETS_ARE_CLASSES": int(self.classes_as_targets),
            "BLOCKS": self.blocks,
            "THREADS": self.threads,
            "IN_SHARED": _list(self.in_shared),
            "STAGED": int(self.staged),
            "SHARED_FLOATS": self.shared_floats,
            "TWICE": int(self.twice),
            "RESIDENT_BLOCKS": self.resident,
            "IN_MEMORY": _list(self.streamed or (0,) * self.hidden),
            "MEMORY_FLOATS": self.streamed_floats,
            **({"WEIGHTED": 1} if self.weighted else {}),
            **({} if all(biases) else {"BIASES": _list(map(int, biases)), "BIAS": int(biases[0])}),
            **({"L2": 1} if self.network.l2 else {}),
            **self._dropout,
            **dict(self.extra),
        }

    @property
    def _dropout(self) -> Defines:
        """Which hidden layers have dropout, if any has."""
        if not self.network.dropout:
            return {}
        return {"DROPOUT": 1, "DROPPED": _list(int(rate > 0) for rate in self.network.dropout[:-1])}

    def _layer_parts(self) -> Iterator[int]:
        """For every hidden layer: activations; gradients, if weights are stored twice (not in the first layer); the
        block's own activations twice; its own gradients.
        """
        for layer in range(1, self.hidden + 1):
            columns = self.batch * self.columns(layer) * self.threads
            own = self.batch * _stride(self.owned(layer))
            yield from (columns, columns if self.twice and layer > 1 else 0, padded(own), padded(own), own)

    def _output_parts(self) -> Iterator[int]:
        """Logits of many classes; outcomes of few; gradients, for every warp if few classes and batch size 1."""
        classes = self.network.classes
        few = classes <= CLASSES_OF_LANES
        gradients = self.batch * _stride(classes)
        yield from (0 if few else gradients, 4 * self.batch if few else 0)
        yield padded(gradients) * (self.threads // 32 if few and self.batch == 1 else 1)

    @property
    def _sums(self) -> int:
        return 2 * (self.threads // 32) * self.batch * max(self.most_owned, self.network.classes)

    def _staging(self) -> Iterator[int]:
        """For two updates, inputs followed by the 1 and zeros, and targets with their weights."""
        row = padded(self.network.inputs + 1) + 4
        inputs = self.batch * row // (4 if self.input_bytes else 1)
        numbers = 1 if self.classes_as_targets else padded(self.network.classes)
        target = self.batch * _stride(numbers + self.weighted)
        yield 2 * padded(inputs) if self.staged else 0
        yield 2 * padded(target)


def make_plan(
    network: Network,
    optimizer: str,
    batch: int,
    input_bytes: bool,
    classes_as_targets: bool,
    hardware: Hardware,
    attempt: int = 0,
    weighted: bool = False,
) -> Plan:
    """The plan for a network with batches of up to `batch` examples. Raises DoesNotFitError if there is none.

    Weights between hidden layers are on the chip twice or once, whichever fits and is estimated to be faster.

    optimizer: the name of a rule. input_bytes: images are uint8. classes_as_targets: not probabilities.
    attempt:   how many plans before this one needed more registers than the compiler had; up to ATTEMPTS - 1.
    weighted:  examples have weights.
    """
    if network.layers < 2:
        raise DoesNotFitError("the network has no hidden layer to spread over the blocks")
    allowances = WORKING_REGISTERS_BEFORE_7 if _has_room_for_two(hardware) else WORKING_REGISTERS
    working = allowances[min(batch, 2)][attempt] + (DROPOUT_REGISTERS if network.dropout else 0)
    plans: list[Plan] = []
    reasons: list[DoesNotFitError] = []
    for twice in (True, False) if network.layers > 2 else (True,):
        for resident in (1, 2) if _has_room_for_two(hardware) else (1,):
            blocks = _blocks(network, resident * hardware.multiprocessors)
            tried = []
            for threads in _threads(network) if resident == 1 else (THREADS_OF_TWO,):
                bare = Plan(
                    network, optimizer, batch, input_bytes, classes_as_targets, blocks, threads, (), staged=False,
                    weighted=weighted, twice=twice, resident=resident,
                )  # fmt: skip
                try:
                    plans.append(_stage(_place(bare, hardware, working), hardware))
                    break
                except DoesNotFitError as reason:
                    tried.append(reason)
            reasons += tried[:1]
    if not plans:
        raise reasons[-1]
    return min(plans, key=persistent_cycles)


def configurations(hardware: Hardware) -> Iterator[Configuration]:
    """The kernel as it is compiled for some networks, if they fit on the hardware; for reports and tests."""
    rows = [*((row, False) for row in REPORTED), (REPORTED_WITH_EVERYTHING, True)]
    for (widths, optimizer, batch, input_bytes, classes_as_targets), everything in rows:
        l2 = (1e-4,) * (len(widths) - 1) if everything else ()
        dropout = (*(0.2,) * (len(widths) - 2), 0.0) if everything else ()
        network = Network(widths, ("sigmoid",) * (len(widths) - 2) + ("softmax",), l2=l2, dropout=dropout)
        try:
            plan = make_plan(network, optimizer, batch, input_bytes, classes_as_targets, hardware, weighted=everything)
        except DoesNotFitError:
            continue
        defines = in_order(plan.defines)
        yield Configuration("persistent_epoch", defines, plan.threads, plan.resident, shared_bytes=plan.shared_bytes)


def _has_room_for_two(hardware: Hardware) -> bool:
    """Whether two blocks on a multiprocessor have more shared memory than one may ask for: before capability 7.0."""
    return hardware.sm_shared_bytes > hardware.shared_bytes + SYSTEM_BYTES


def _shared_bytes(plan: Plan, hardware: Hardware) -> int:
    """That a block of the plan may have."""
    return min(hardware.shared_bytes, hardware.sm_shared_bytes // plan.resident)


def _blocks(network: Network, multiprocessors: int) -> int:
    """The fewest blocks that do not add neurons to the busiest one. Every block owns some of every hidden layer."""
    hidden = network.widths[1:-1]
    needed = [ceil_div(units, ceil_div(units, multiprocessors)) for units in hidden]
    return min(max(needed), *hidden)


def _threads(network: Network) -> Sequence[int]:
    if max(network.widths) <= NARROW:
        return sorted(THREADS)
    return THREADS


def _place(plan: Plan, hardware: Hardware, working: int) -> Plan:
    """Move arrays from registers to shared memory until the rest fits. Raises DoesNotFitError if it never does."""
    plan = replace(plan, in_shared=(0,) * len(plan.slices))
    slices = sum(one.numbers for one in plan.slices)
    most = MOST_NUMBERS_BEFORE_7 if _has_room_for_two(hardware) else MOST_NUMBERS
    if slices * plan.arrays > most:
        raise DoesNotFitError(
            f"a thread would have {slices * plan.arrays} weights and moments, {most} at most: "
            f"{plan.network} is too large for {hardware.multiprocessors} multiprocessors"
        )
    _require_shared(plan, hardware, "activations")
    allowed = min(MOST_REGISTERS, REGISTERS // (plan.threads * plan.resident)) - working
    most_shared = _shared_bytes(plan, hardware)
    for which in _moves(plan):
        if plan.kept_numbers <= allowed:
            break
        moved = replace(plan, in_shared=_one_more(plan.in_shared, which))
        if moved.shared_bytes <= most_shared:
            plan = moved
    if plan.batch == 1 and _has_room_for_two(hardware):  # with more examples, the compiler has too few registers
        plan = _stream(plan, allowed)
    if plan.kept_numbers > allowed:
        raise DoesNotFitError(
            f"{plan.network} with batches of {plan.batch} on {hardware.multiprocessors} multiprocessors: "
            f"a thread would keep {plan.kept_numbers} weights and moments in registers, {allowed} at most, with the "
            f"{most_shared // 1024} KB of shared memory full"
        )
    return plan


def _stream(plan: Plan, allowed: int) -> Plan:
    """Move arrays of incoming weights from registers to global memory until the rest fits, if it can.

    Slots of the last layers come first: their steps are made while blocks wait for one another. Weights come last.
    """
    layers = list(reversed(range(plan.hidden)))
    slots = [layer for layer in layers for _ in range(plan.arrays - 1)]
    for which in [*slots, *reversed(layers)]:
        if plan.kept_numbers <= allowed:
            break
        streamed = plan.streamed or (0,) * plan.hidden
        if streamed[which] + plan.in_shared[which] < plan.arrays:
            plan = replace(plan, streamed=_one_more(streamed, which))
    return plan


def _moves(plan: Plan) -> Iterator[int]:
    """Numbers of slices, in the order in which their arrays move to shared memory.

    The output layer comes first: its steps are made while blocks wait for one another. The first layer comes last:
    everything waits for its step.
    """
    last_first = [plan.hidden, *reversed(range(plan.hidden + 1, len(plan.slices))), *reversed(range(plan.hidden))]
    for which in last_first:
        for _ in range(plan.arrays):
            yield which


def _one_more(in_shared: tuple[int, ...], which: int) -> tuple[int, ...]:
    return tuple(count + (number == which) for number, count in enumerate(in_shared))


def _stage(plan: Plan, hardware: Hardware) -> Plan:
    words = plan.batch * padded(plan.network.inputs) // (4 if plan.input_bytes else 1)
    staged = replace(plan, staged=True)
    fits = staged.shared_bytes <= _shared_bytes(plan, hardware) and ceil_div(words, plan.threads) <= STAGED_WORDS
    return staged if fits else plan


def _require_shared(plan: Plan, hardware: Hardware, what: str) -> None:
    most = _shared_bytes(plan, hardware)
    if plan.shared_bytes > most:
        raise DoesNotFitError(
            f"batches of {plan.batch} need {ceil_div(plan.shared_bytes, 1024)} KB of shared memory for {what}, "
            f"a block has {most // 1024} KB"
        )


def _stride(numbers: int) -> int:
    """Floats from one example's numbers to the next example's, as in Rows of kernels/persistent_block.cuh."""
    return numbers if numbers <= 2 else padded(numbers)


def _list(values: Iterable[object]) -> str:
    return ",".join(str(value) for value in values)
