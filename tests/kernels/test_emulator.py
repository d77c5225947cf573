"""The emulator runs kernels as a GPU would, and catches what broken kernels do wrong.

The kernels in kernels/ are sound. Those in broken_kernels/ take an argument `broken`: with 0 each must pass,
with anything else its fault must be reported.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import emulator
from emulator import (
    AddressError,
    BarrierError,
    BuildError,
    DeadlockError,
    EmulatedDevice,
    EmulatorError,
    RaceError,
    TimeLimitError,
    WarpError,
)
from gpunet.engines.cuda.sources import define_options, read_source

pytestmark = pytest.mark.skipif(
    emulator.missing() is not None and os.environ.get("CI", "").lower() in ("", "0", "false"),
    reason=emulator.missing() or "present",
)

HERE = Path(__file__).parents[1] / "emulator"
KERNELS = HERE / "kernels"
BROKEN = HERE / "broken_kernels"
ORDERS = ["forward", "reverse", 0, 1, 2]
SANITIZERS = [None, "race", "address"]

int32, float32 = np.int32, np.float32


def broken(flag):
    return np.int32(flag)


def run(device, module, kernel, grid, block, arguments, **options):
    device.compile(module).launch(kernel, grid, block, arguments, **options)


def ramp(n):
    return np.arange(n, dtype=np.float32)


class TestSoundKernels:
    @pytest.mark.parametrize("sanitizer", SANITIZERS)
    @pytest.mark.parametrize(("batch", "inputs", "units"), [(1, 1, 1), (33, 17, 31), (32, 50, 65)])
    def test_dense_matches_float64_in_every_order(self, batch, inputs, units, sanitizer):
        rng = np.random.default_rng(0)
        x, weights, bias = (
            rng.normal(size=size).astype(np.float32) for size in ((batch, inputs), (inputs, units), units)
        )
        truth = 1 / (1 + np.exp(-(x.astype(np.float64) @ weights + bias)))
        results = []
        for order in ORDERS:
            device = EmulatedDevice(order, sanitizer, folder=KERNELS)
            y = device.empty((batch, units), np.float32)
            arrays = [device.upload(array) for array in (x, weights, bias)]
            sizes = (int32(batch), int32(inputs), int32(units))
            run(device, "dense", "dense", (-(-units // 32), -(-batch // 32)), (256,), (*arrays, y, *sizes))
            results.append(device.download(y))
        assert np.abs(results[0] - truth).max() < 1e-6
        assert all(np.array_equal(result, results[0]) for result in results)

    @pytest.mark.parametrize("sanitizer", SANITIZERS)
    @pytest.mark.parametrize(("rows", "depth", "columns"), [(1, 1, 4), (9, 17, 36), (16, 33, 32)])
    def test_float4_matmul_with_dynamic_shared_memory(self, rows, depth, columns, sanitizer):
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(rows, depth)).astype(np.float32), rng.normal(size=(depth, columns)).astype(np.float32)
        for order in ORDERS:
            device = EmulatedDevice(order, sanitizer, folder=KERNELS)
            c = device.empty((rows, columns), np.float32)
            grid = (-(-columns // 32), -(-rows // 8))
            sizes = (int32(rows), int32(depth), int32(columns))
            arguments = (device.upload(a), device.upload(b), c, *sizes)
            run(device, "matmul4", "matmul4", grid, (8, 8), arguments, shared_bytes=(8 + 32) * 16 * 4)
            assert np.abs(device.download(c) - a.astype(np.float64) @ b).max() < 1e-5

    @staticmethod
    def exchange(order, sanitizer, blocks, threads, steps, buffers, timeout=20.0):
        device = EmulatedDevice(order, sanitizer, multiprocessors=blocks, folder=KERNELS, timeout=timeout)
        values = ramp(blocks)
        out, packets = device.empty(blocks, np.float32), device.zeros((2, blocks), np.uint64)
        module = device.compile("exchange", {"BUFFERS": buffers})
        arguments = (device.upload(values), out, packets, int32(steps))
        module.launch("exchange", (blocks,), (threads,), arguments, cooperative=True)
        for _ in range(steps):
            values = 0.5 * values + values.mean(dtype=np.float64)
        return device.download(out), values

    @pytest.mark.parametrize("sanitizer", SANITIZERS)
    @pytest.mark.parametrize("order", ORDERS)
    def test_coresident_blocks_exchange_packets(self, order, sanitizer):
        got, truth = self.exchange(order, sanitizer, blocks=5, threads=64, steps=10, buffers=2)
        np.testing.assert_allclose(got, truth, rtol=1e-5)

    def test_a_whole_gpu_of_coresident_blocks(self):
        got, truth = self.exchange(3, None, blocks=132, threads=256, steps=3, buffers=2)
        np.testing.assert_allclose(got, truth, rtol=1e-5)

    def test_seeded_schedules_find_a_packet_overwritten_before_it_was_read(self):
        overrun = 0
        for seed in range(6):
            try:
                self.exchange(seed, None, blocks=4, threads=32, steps=20, buffers=1, timeout=0.1)
            except DeadlockError:
                overrun += 1
        assert overrun >= 4


class TestBuiltIns:
    @pytest.fixture(params=SANITIZERS)
    def launch(self, request):
        device = EmulatedDevice("forward", request.param, folder=KERNELS)

        def launch(kernel, grid, block, *arguments, **options):
            arguments = [device.upload(a) if isinstance(a, np.ndarray) else a for a in arguments]
            run(device, "built_ins", kernel, grid, block, arguments, **options)
            return [device.download(a) for a in arguments if isinstance(a, emulator.EmulatedArray)]

        return launch

    def test_indices(self, launch):
        (out,) = launch("indices", (2, 3, 2), (4, 2, 5), np.zeros(12 * 40, np.int32))
        expected = 1000 * np.arange(12)[:, None] + np.arange(40)
        assert np.array_equal(out.reshape(12, 40), expected)

    def test_shuffles(self, launch):
        (out,) = launch("shuffles", (1,), (64,), np.zeros((64, 12), np.int32))
        t = np.arange(64)
        lane, warp = t % 32, t // 32 * 32
        every_third = sum(1 << bit for bit in range(0, 32, 3))
        down = np.where(lane % 16 + 3 < 16, t + 3, t)
        expected = [
            warp + 5,
            t // 8 * 8 + (lane + 1) % 8,
            np.where(lane >= 3, t - 3, t),
            down,
            t ^ 7,
            np.where((lane ^ 8) < lane // 8 * 8 + 8, t ^ 8, t),
            np.full(64, every_third, np.uint32).view(np.int32),
            t >= 32,
            t < 32,
            np.where(lane < 10, warp + np.minimum(lane + 1, 9), -1),
            3 * (warp + 2),
            np.full(64, -1),
        ]
        for column, values in enumerate(expected):
            assert np.array_equal(out[:, column], values), column

    def test_block_votes(self, launch):
        (out,) = launch("votes", (1,), (50,), np.zeros((50, 3), np.int32))
        assert np.array_equal(out, np.tile([17, 1, 0], (50, 1)))

    def test_atomics(self, launch):
        i, u = np.array([0, 0, 0, 0, -1], np.int32), np.zeros(4, np.uint32)
        i, u, u64, f = launch("atomics", (1,), (40,), i, u, np.zeros(2, np.uint64), np.zeros(1, np.float32))
        assert i.tolist() == [780, 39, 0, 255, -256]
        assert u.tolist() == [80, 0, 42, 40]
        assert u64.tolist() == [40 << 33, 39]
        assert f.tolist() == [20.0]

    def test_numbers(self, launch):
        f, i = launch("numbers", (1,), (1,), np.zeros(13, np.float32), np.zeros(18, np.int32))
        assert f.tolist() == [7, 1, 0, 0.5, 0.5, 2, 0.5, 4, 2, 1, 1, 1, 0]
        assert i.tolist()[:17] == [8, 4, 31, 0x3F800000, 4, 2, -2, 2**31 - 1, -(2**31), 2, 12, 16, 4, 3, 1, 900, 32]
        assert i[17] == 0x66113300

    def test_shared_arrays_of_inline_functions_templates_and_members(self, launch):
        _, out = launch("shared_places", (1,), (64,), ramp(64), np.zeros(64, np.float32))
        assert np.array_equal(out, 2 * np.roll(ramp(64), -1))

    def test_scalar_arguments_of_every_kind(self, launch):
        scalars = (np.bool_(True), int32(-2), np.uint32(3), float32(0.5), np.float64(0.25), np.uint64(7))
        (out,) = launch("scalars", (1,), (1,), np.zeros(6, np.float32), *scalars)
        assert out.tolist() == [1, -2, 3, 0.5, 0.25, 7]


class TestBarriers:
    def launch(self, kernel, flag, order="forward", sanitizer=None, extra=(), blocks=1):
        device = EmulatedDevice(order, sanitizer, folder=BROKEN)
        out = device.empty(64, np.float32)
        given = (device.upload(ramp(64)),) if kernel in ("reverse", "rotate", "swap_in_warp") else ()
        run(device, "barriers", kernel, (blocks,), (64,), (*given, out, *extra, broken(flag)), shared_bytes=256)
        return device.download(out)

    @pytest.mark.parametrize("order", ORDERS)
    def test_a_missing_syncthreads_gives_nan_from_poisoned_shared_memory(self, order):
        assert np.array_equal(self.launch("reverse", 0, order), ramp(64)[::-1])
        assert np.isnan(self.launch("reverse", 1, order)).any()

    def test_a_missing_second_barrier_gives_results_that_depend_on_the_order(self):
        intact = [self.launch("rotate", 0, order, extra=[int32(3)]) for order in ORDERS]
        assert all(np.array_equal(out, np.roll(ramp(64), -3)) for out in intact)
        faulty = [self.launch("rotate", 1, order, extra=[int32(3)]) for order in ORDERS]
        assert not all(np.array_equal(out, faulty[0]) for out in faulty)

    @pytest.mark.parametrize("order", ORDERS)
    def test_a_missing_syncwarp_gives_nan(self, order):
        assert np.array_equal(self.launch("swap_in_warp", 0, order), (np.arange(64) ^ 1))
        assert np.isnan(self.launch("swap_in_warp", 1, order)).any()

    @pytest.mark.parametrize(("kernel", "extra"), [("reverse", []), ("rotate", [int32(3)]), ("swap_in_warp", [])])
    def test_the_race_detector_names_both_accesses(self, kernel, extra):
        self.launch(kernel, 0, sanitizer="race", extra=extra)
        access = r"by thread \(\d+,0,0\) of block \(0,0,0\) at barriers.cu:\d+"
        with pytest.raises(RaceError, match=f"shared memory, byte .* {access}, then .* {access}"):
            self.launch(kernel, 1, sanitizer="race", extra=extra)

    @pytest.mark.parametrize("dynamic", [0, 1], ids=["static", "dynamic"])
    def test_unwritten_shared_memory_is_nan_in_every_block(self, dynamic):
        assert not np.isnan(self.launch("read_unwritten", 0, extra=[int32(dynamic)])).any()
        out = self.launch("read_unwritten", 1, extra=[int32(dynamic)], blocks=3)
        assert np.flatnonzero(np.isnan(out)).tolist() == [5]

    @pytest.mark.parametrize("sanitizer", SANITIZERS)
    def test_a_barrier_that_returned_threads_miss(self, sanitizer):
        self.launch("early_return", 0, sanitizer=sanitizer)
        said = r"threads 0-39 waiting at __syncthreads \(barriers.cu:\d+\); threads 40-63 returned"
        with pytest.raises(BarrierError, match=said):
            self.launch("early_return", 1, sanitizer=sanitizer)

    def test_different_barriers(self):
        assert (self.launch("divergent", 0) == 1).all()
        with pytest.raises(BarrierError, match="different barriers"):
            self.launch("divergent", 1)

    def test_a_shuffle_with_absent_lanes(self):
        assert np.array_equal(self.launch("absent_lanes", 0), np.arange(64) ^ 1)
        with pytest.raises(WarpError, match=r"threads 0-19 waiting at __shfl_xor_sync \(barriers.cu:\d+\)"):
            self.launch("absent_lanes", 1)

    def test_a_shuffle_from_a_lane_outside_the_mask(self):
        self.launch("outside_the_mask", 0)
        with pytest.raises(WarpError, match="lane 0 reads from lane 20, which is not in the mask"):
            self.launch("outside_the_mask", 1)

    def test_different_warp_operations(self):
        self.launch("different_operations", 0)
        with pytest.raises(WarpError, match=r"__shfl_down_sync.*__shfl_xor_sync|__shfl_xor_sync.*__shfl_down_sync"):
            self.launch("different_operations", 1)


class TestRaces:
    def launch(self, kernel, flag, arrays, grid=1, block=32, order="forward", sanitizer="race", cooperative=False):
        device = EmulatedDevice(order, sanitizer, folder=BROKEN)
        arrays = [device.upload(array) for array in arrays]
        run(device, "races", kernel, (grid,), (block,), (*arrays, broken(flag)), cooperative=cooperative)
        return [device.download(array) for array in arrays]

    def test_an_update_that_is_not_atomic_is_right_in_every_order_but_a_race(self):
        arrays = [ramp(32), np.zeros(1, np.float32)]
        for order in ORDERS:
            assert self.launch("add_up", 1, arrays, order=order, sanitizer=None)[1] == 496
            assert self.launch("add_up", 0, arrays, order=order)[1] == 496
            with pytest.raises(
                RaceError, match=r"\(argument 2, element 0\): write by thread .* at races.cu:7, then read"
            ):
                self.launch("add_up", 1, arrays, order=order)

    def test_two_blocks_that_write_to_one_place(self):
        self.launch("same_place", 0, [np.zeros(3, np.int32)], grid=3)
        with pytest.raises(RaceError, match=r"block \(0,0,0\) at races.cu:\d+, then write by .* block \(1,0,0\)"):
            self.launch("same_place", 1, [np.zeros(3, np.int32)], grid=3)

    def test_neighbouring_bytes_are_different_places(self):
        self.launch("neighbours_bytes", 0, [np.zeros(32, np.uint8)])
        with pytest.raises(RaceError):
            self.launch("neighbours_bytes", 1, [np.zeros(32, np.uint8)])

    @pytest.mark.parametrize("order", ORDERS)
    def test_data_announced_by_a_flag(self, order):
        arrays = [np.zeros(32, np.float32), np.zeros(1, np.int32), np.zeros(32, np.float32)]
        out = self.launch("announce", 0, arrays, grid=2, order=order, cooperative=True)[2]
        assert np.array_equal(out, ramp(32))
        with pytest.raises(RaceError, match=r"block \(0,0,0\).*block \(1,0,0\)|block \(1,0,0\).*block \(0,0,0\)"):
            self.launch("announce", 1, arrays, grid=2, order=order, cooperative=True)

    @pytest.mark.parametrize("order", ORDERS)
    def test_data_handed_from_warp_to_warp(self, order):
        (out,) = self.launch("warp_to_warp", 0, [np.zeros(32, np.float32)], block=64, order=order)
        assert np.array_equal(out, ramp(32))
        with pytest.raises(RaceError, match="static shared memory, byte"):
            self.launch("warp_to_warp", 1, [np.zeros(32, np.float32)], block=64, order=order)

    @pytest.mark.parametrize("order", ORDERS)
    def test_the_last_block_adds_up_only_after_a_fence(self, order):
        arrays = [ramp(128), np.zeros(4, np.float32), np.zeros(1, np.uint32), np.zeros(1, np.float32)]
        assert self.launch("last_block_adds", 0, arrays, grid=4, order=order)[3] == 128 * 127 / 2
        with pytest.raises(RaceError, match="argument 2"):
            self.launch("last_block_adds", 1, arrays, grid=4, order=order)


class TestBounds:
    def launch(self, kernel, *arguments, sanitizer="address", block=64, shared_bytes=256):
        device = EmulatedDevice("forward", sanitizer, folder=BROKEN)
        arguments = [device.upload(a) if isinstance(a, np.ndarray) else a for a in arguments]
        run(device, "bounds", kernel, (1,), (block,), arguments, shared_bytes=shared_bytes)
        return [device.download(a) for a in arguments if isinstance(a, emulator.EmulatedArray)]

    @pytest.mark.parametrize(("kernel", "argument"), [("read_global", 1), ("write_global", 2)])
    @pytest.mark.parametrize(("shift", "where"), [(1, "after the end of"), (-1, "before")])
    def test_global_memory(self, kernel, argument, shift, where):
        arguments = (ramp(50), np.zeros(50, np.float32), int32(50))
        assert np.array_equal(self.launch(kernel, *arguments, int32(0))[1], ramp(50))
        verb = kernel.split("_")[0]
        said = rf"{verb} of 4 bytes.* at bounds.cu:\d+, thread .* bytes {where} argument {argument}"
        with pytest.raises(AddressError, match=said):
            self.launch(kernel, *arguments, int32(shift))

    def test_a_bad_index_in_a_permutation(self):
        order = np.arange(50, dtype=np.int32)[::-1].copy()
        out = np.zeros(50, np.float32)
        assert np.array_equal(self.launch("gather", ramp(50), order, out, int32(50))[2], ramp(50)[::-1])
        order[7] = 50
        with pytest.raises(AddressError, match=r"bounds.cu:\d+, thread \(7,0,0\).*argument 1"):
            self.launch("gather", ramp(50), order, out, int32(50))

    def test_a_slice_ends_where_it_ends(self):
        device = EmulatedDevice("forward", "address", folder=BROKEN)
        order, out = device.upload(np.arange(100, dtype=np.int32)), device.zeros(100, np.float32)
        module, source = device.compile("bounds"), device.upload(ramp(100))
        module.launch("gather", (1,), (64,), (source, order[10:20], out[30:40], int32(10)))
        assert np.flatnonzero(device.download(out)).tolist() == list(range(30, 40))
        with pytest.raises(AddressError, match="after the end of argument 2"):
            module.launch("gather", (1,), (64,), (source, order[10:20], out[30:41], int32(11)))

    @pytest.mark.parametrize("kernel", ["static_shared", "dynamic_shared", "local_array"])
    @pytest.mark.parametrize("shift", [1, -1])
    def test_shared_memory_and_local_arrays(self, kernel, shift):
        self.launch(kernel, np.zeros(64, np.float32), int32(0))
        with pytest.raises(AddressError, match=r"bounds.cu:\d+, thread"):
            self.launch(kernel, np.zeros(64, np.float32), int32(shift))

    @pytest.mark.parametrize("sanitizer", SANITIZERS)
    def test_a_misaligned_vector_access(self, sanitizer):
        arguments = (ramp(260), np.zeros(64, np.float32))
        assert self.launch("vector_load", *arguments, int32(4), sanitizer=sanitizer)[1][0] == 22
        with pytest.raises(AddressError, match=r"misaligned address.*bounds.cu:\d+, thread \(0,0,0\)"):
            self.launch("vector_load", *arguments, int32(1), sanitizer=sanitizer)

    @pytest.mark.parametrize("sanitizer", SANITIZERS)
    def test_a_wild_address_does_not_end_python(self, sanitizer):
        self.launch("far_away", np.zeros(64, np.float32), int32(0), sanitizer=sanitizer)
        with pytest.raises(AddressError, match=r"bounds.cu:\d+"):
            self.launch("far_away", np.zeros(64, np.float32), int32(1), sanitizer=sanitizer)

    @pytest.mark.parametrize("sanitizer", SANITIZERS)
    def test_division_by_zero(self, sanitizer):
        numbers = np.arange(1, 65, dtype=np.int32)
        self.launch("divide", numbers, np.zeros(64, np.int32), sanitizer=sanitizer)
        with pytest.raises(EmulatorError, match=r"division by zero.*bounds.cu:\d+"):
            self.launch("divide", numbers - 10, np.zeros(64, np.int32), sanitizer=sanitizer)

    def test_without_the_sanitizer_a_stray_write_shows_when_the_array_is_downloaded(self):
        with pytest.raises(AddressError, match="wrote after the array"):
            self.launch("write_global", ramp(50), np.zeros(50, np.float32), int32(50), int32(3), sanitizer=None)


class TestEndlessKernels:
    def launch(self, kernel, flag, order="forward", sanitizer=None, blocks=1, timeout=0.3):
        device = EmulatedDevice(order, sanitizer, folder=BROKEN, timeout=timeout)
        state = device.zeros(1, np.int32)
        run(device, "waiting", kernel, (blocks,), (64,), (state, broken(flag)), cooperative=blocks > 1)
        return device.download(state)[0]

    @pytest.mark.parametrize("sanitizer", SANITIZERS)
    @pytest.mark.parametrize("order", ["forward", "reverse", 0])
    def test_blocks_that_wait_for_one_another(self, order, sanitizer):
        assert self.launch("pass_token", 0, order, sanitizer, blocks=4) == 4
        said = (
            r"blocks 0-3: thread 0 spinning at SPIN_PAUSE \(waiting.cu:7\); "
            r"threads 1-63 waiting at __syncthreads \(waiting.cu:10\)"
        )
        with pytest.raises(DeadlockError, match=said):
            self.launch("pass_token", 1, order, sanitizer, blocks=4)

    @pytest.mark.parametrize("sanitizer", SANITIZERS)
    def test_a_loop_without_a_scheduling_point(self, sanitizer):
        device = EmulatedDevice(sanitizer=sanitizer, folder=BROKEN, timeout=0.3)
        counter = device.zeros(1, np.int32)
        run(device, "waiting", "endless", (1,), (1,), (counter, broken(0)))
        with pytest.raises(TimeLimitError, match=r"0.3 s.*waiting.cu:\d+, thread \(0,0,0\)|0.3 s"):
            run(device, "waiting", "endless", (1,), (1,), (counter, broken(1)))

    def test_the_device_still_works_after_an_error(self):
        device = EmulatedDevice("forward", folder=BROKEN, timeout=0.2)
        token = device.zeros(1, np.int32)
        for _ in range(3):
            with pytest.raises(DeadlockError):
                run(device, "waiting", "pass_token", (2,), (64,), (token, broken(1)), cooperative=True)
            run(device, "waiting", "pass_token", (2,), (64,), (token, broken(0)), cooperative=True)
            assert device.download(token)[0] == 2
            token = device.zeros(1, np.int32)

    @pytest.mark.parametrize("sanitizer", SANITIZERS)
    def test_a_failed_assertion(self, sanitizer):
        device = EmulatedDevice(sanitizer=sanitizer, folder=BROKEN)
        arguments = (device.upload(ramp(4) - 1), int32(4))
        with pytest.raises(EmulatorError, match=r"assertion failed at waiting.cu:\d+: .* thread \(0,0,0\)"):
            run(device, "waiting", "claim", (1,), (4,), arguments)


def without_line(text, number):
    """The text with one line made empty."""
    lines = text.splitlines()
    lines[number] = ""
    return "\n".join(lines)


class TestDeletedBarriers:
    @pytest.mark.parametrize("kernel", ["dense", "matmul4", "exchange"])
    def test_the_race_detector_misses_none(self, kernel, tmp_path):
        text = (KERNELS / f"{kernel}.cu").read_text()
        barriers = [i for i, line in enumerate(text.splitlines()) if "__syncthreads();" in line]
        assert len(barriers) == 2
        for number in barriers:
            (tmp_path / f"{kernel}.cu").write_text(without_line(text, number))
            with pytest.raises(RaceError):
                self.launch(kernel, EmulatedDevice("forward", "race", folder=tmp_path))

    @staticmethod
    def launch(kernel, device):
        x, out = device.upload(ramp(1600)), device.empty(1600, np.float32)
        sizes = (int32(40), int32(40), int32(40))
        if kernel == "dense":
            run(device, kernel, kernel, (2, 2), (256,), (x, x, x, out, *sizes))
        elif kernel == "matmul4":
            run(device, kernel, kernel, (2, 5), (8, 8), (x, x, out, *sizes), shared_bytes=2560)
        else:
            module = device.compile(kernel, {"BUFFERS": 2})
            packets = device.zeros(6, np.uint64)
            module.launch(kernel, (3,), (64,), (x, out, packets, int32(4)), cooperative=True)


class TestLaunches:
    @pytest.fixture
    def module(self):
        return EmulatedDevice(folder=BROKEN).compile("bounds")

    @pytest.fixture
    def arrays(self):
        device = EmulatedDevice()
        return device.upload(ramp(64)), device.zeros(64, np.float32)

    def test_wrong_arguments_are_refused(self, module, arrays):
        x, y = arrays
        shape = ("read_global", (1,), (64,))
        with pytest.raises(TypeError, match="expected 4 arguments, got 3"):
            module.launch(*shape, (x, y, int32(64)))
        with pytest.raises(TypeError, match=r"argument 3: expected numpy.int32, got int \(neither"):
            module.launch(*shape, (x, y, 64, int32(0)))
        with pytest.raises(TypeError, match=r"argument 3: expected numpy.int32, got numpy.float32"):
            module.launch(*shape, (x, y, float32(64), int32(0)))
        with pytest.raises(TypeError, match="argument 1: expected an array of float32, got an array of int32"):
            module.launch(*shape, (EmulatedDevice().zeros(64, np.int32), y, int32(64), int32(0)))
        with pytest.raises(TypeError, match="argument 2: expected an array of float32, got ndarray"):
            module.launch(*shape, (x, np.zeros(64, np.float32), int32(64), int32(0)))
        with pytest.raises(ValueError, match=r"bounds.cu has no kernel nothing; it has read_global, write_global"):
            module.launch("nothing", (1,), (64,), ())

    @pytest.mark.parametrize(
        ("grid", "block", "options"),
        [
            ((1,), (1025,), {}),
            ((1,), (32, 33), {}),
            ((1,), (1, 1, 65), {}),
            ((0,), (32,), {}),
            ((1,), (0,), {}),
            ((), (32,), {}),
            ((1, 65536), (32,), {}),
            ((1, 1, 65536), (32,), {}),
            ((1, 1, 1, 1), (32,), {}),
            ((1,), (32,), {"shared_bytes": 48 * 1024 + 1}),
            ((5,), (32,), {"cooperative": True}),
        ],
    )
    def test_geometry_that_cuda_refuses(self, module, arrays, grid, block, options):
        with pytest.raises(ValueError, match="read_global"):
            module.launch("read_global", grid, block, (*arrays, int32(64), int32(0)), **options)

    def test_more_shared_memory_where_the_device_has_it(self):
        device = EmulatedDevice(folder=BROKEN, shared_bytes=100_000)
        out = device.empty(64, np.float32)
        run(device, "bounds", "dynamic_shared", (1,), (64,), (out, int32(0)), shared_bytes=100_000)
        assert (device.download(out) == 1).all()
        module = device.compile("bounds")
        assert module.resident_blocks("dynamic_shared", 256, 100_000) == 1
        assert module.resident_blocks("dynamic_shared", 256, 100_001) == 0

    def test_source_that_does_not_compile_names_file_and_line(self, tmp_path):
        (tmp_path / "twice.cuh").write_text("#pragma once\n\n")
        text = (
            '#include "twice.cuh"\n#include "twice.cuh"\nextern "C" __global__ void k(int* out) {\n    *out = x;\n}\n'
        )
        (tmp_path / "wrong.cu").write_text(text)
        with pytest.raises(BuildError, match=r"wrong.cu:4:\d+: error: .x. was not declared"):
            EmulatedDevice(folder=tmp_path).compile("wrong")

    def test_a_local_array_too_large_for_the_stack_is_refused(self, tmp_path):
        text = (
            'extern "C" __global__ void k(float* x) {\n'
            "    float a[20000];\n"
            "    for (int i = 0; i < 20000; ++i) a[i] = x[i];\n"
            "    for (int i = 1; i < 20000; ++i) x[i] = a[i * 7 % 20000];\n"
            "}\n"
        )
        (tmp_path / "large.cu").write_text(text)
        with pytest.raises(BuildError, match="frame size"):
            EmulatedDevice(folder=tmp_path).compile("large")

    def test_a_host_header_is_refused(self, tmp_path):
        (tmp_path / "host.cu").write_text('extern "C" __global__ void k(float* x) { *x = INFINITY; }\n')
        with pytest.raises(BuildError, match=r"host.cu:1"):
            EmulatedDevice(folder=tmp_path).compile("host")

    def test_capability_sets_the_architecture_that_kernels_see(self):
        device = EmulatedDevice(folder=KERNELS, capability=(5, 2))
        f, i = device.zeros(13, np.float32), device.zeros(18, np.int32)
        run(device, "built_ins", "numbers", (1,), (1,), (f, i))
        assert device.download(i)[15] == 520

    def test_captured_launches_run_when_the_graph_is_launched(self):
        device = EmulatedDevice(folder=BROKEN)
        x, total = device.upload(ramp(32)), device.zeros(1, np.float32)
        module = device.compile("races")
        graph = device.capture(lambda: module.launch("add_up", (1,), (32,), (x, total, broken(0))))
        assert device.download(total)[0] == 0
        graph.launch()
        graph.launch()
        assert device.download(total)[0] == 2 * 496
        with pytest.raises(RuntimeError, match="download: not possible while launches are captured"):
            device.capture(lambda: device.download(x))
        assert device.download(total)[0] == 2 * 496

    def test_the_same_seed_gives_the_same_schedule(self):
        def rotated(seed):
            device = EmulatedDevice(seed, folder=BROKEN)
            out = device.empty(64, np.float32)
            run(device, "barriers", "rotate", (1,), (64,), (device.upload(ramp(64)), out, int32(3), broken(1)))
            return device.download(out)

        assert np.array_equal(rotated(7), rotated(7))
        assert not np.array_equal(rotated(7), rotated(8))


class TestArrays:
    def test_poison_alignment_and_copies(self):
        device = EmulatedDevice()
        assert np.isnan(device.download(device.empty((3, 5), np.float32))).all()
        assert (device.download(device.empty(7, np.int32)) == -1).all()
        for size in (1, 3, 1000):
            assert device.zeros(size, np.uint8).address % 256 == 0
        given = np.arange(12).reshape(3, 4).T
        array = device.upload(given)
        given[0] = 0
        assert array.shape == (4, 3)
        assert array.dtype == given.dtype
        assert np.array_equal(device.download(array), np.arange(12).reshape(3, 4).T)

    def test_slices_are_views(self):
        device = EmulatedDevice()
        array = device.upload(ramp(12).reshape(6, 2))
        view = array[2:4]
        assert view.shape == (2, 2)
        assert view.address == array.address + 16
        view.elements[...] = 0
        assert device.download(array)[2:4].sum() == 0

    def test_the_host_cannot_read_a_device_array_by_accident(self):
        array = EmulatedDevice().zeros(3, np.float32)
        with pytest.raises(TypeError, match="download"):
            np.asarray(array)
        with pytest.raises(TypeError, match="slice"):
            array[0]


class TestBuilds:
    def test_a_missing_compiler_is_reported(self, monkeypatch):
        assert emulator.missing() is None
        monkeypatch.setenv("PATH", "")
        assert emulator.missing() == "the emulator needs g++, which is not installed"

    def test_two_processes_may_build_at_the_same_time(self, tmp_path):
        code = (
            "import emulator, numpy\n"
            f"device = emulator.EmulatedDevice(folder={str(BROKEN)!r})\n"
            "numbers = device.zeros(6, numpy.float32)\n"
            "device.compile('waiting').launch('claim', (1,), (1,), (numbers, numpy.int32(1)))\n"
        )
        path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "GPUNET_EMULATOR_CACHE": str(tmp_path / "cache")}
        processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
        assert [process.wait() for process in processes] == [0, 0]
        assert len(list((tmp_path / "cache").iterdir())) == 2  # a runtime and a library, nothing left over

    def test_a_changed_header_is_noticed(self, tmp_path):
        (tmp_path / "k.cu").write_text('#include "v.cuh"\nextern "C" __global__ void k(int* out) { *out = VALUE; }\n')
        for value in (3, 4):
            (tmp_path / "v.cuh").write_text(f"#define VALUE {value}\n")
            device = EmulatedDevice(folder=tmp_path)
            out = device.zeros(1, np.int32)
            run(device, "k", "k", (1,), (1,), (out,))
            assert device.download(out)[0] == value

    def test_defines_reach_the_kernel(self, tmp_path):
        (tmp_path / "k.cu").write_text('extern "C" __global__ void k(TYPE* out) { *out = A + B; }\n')
        device = EmulatedDevice(folder=tmp_path)
        out = device.zeros(1, np.float32)
        run_with = device.compile("k", {"TYPE": "float", "A": 2, "B": 0.5})
        run_with.launch("k", (1,), (1,), (out,))
        assert device.download(out)[0] == 2.5

    @pytest.mark.parametrize("architecture", ["sm_52", "sm_90", "sm_120"])
    @pytest.mark.parametrize("source", ["dense", "matmul4", "exchange", "built_ins"])
    def test_nvrtc_accepts_the_same_text(self, source, architecture):
        nvrtc = pytest.importorskip("cupy_backends.cuda.libs.nvrtc")
        program = nvrtc.createProgram(read_source(source, KERNELS), f"{source}.cu", [], [])
        nvrtc.compileProgram(program, [f"--gpu-architecture={architecture}", "--std=c++17", "-DBUFFERS=2"])


class TestSources:
    def test_headers_are_inlined_once_each(self, tmp_path):
        (tmp_path / "a.cuh").write_text("#pragma once\nA\n")
        (tmp_path / "b.cuh").write_text('#include "a.cuh"\nB\n')
        (tmp_path / "k.cu").write_text('#include "b.cuh"\n#include "a.cuh"\nK\n')
        lines = read_source("k", tmp_path).splitlines()
        assert [line for line in lines if line in ("A", "B", "K")] == ["A", "B", "K"]
        before_k = lines[: lines.index("K")]
        assert before_k[-1] == '#line 3 "k.cu"'
        assert lines[lines.index("B") - 1] == '#line 2 "b.cuh"'

    def test_missing_files_are_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no kernel source nothing.cu in .*"):
            read_source("nothing", tmp_path)
        (tmp_path / "k.cu").write_text('#include "gone.cuh"\n')
        with pytest.raises(FileNotFoundError, match=r"gone.cuh \(included by k.cu\) in "):
            read_source("k", tmp_path)

    def test_defines_are_options_in_the_order_of_their_names(self):
        assert define_options({"B": 1e-8, "A": True, "C": "float"}) == ["-DA=1", "-DB=1e-08", "-DC=float"]
        with pytest.raises(ValueError, match="define A: expected a finite number, got nan"):
            define_options({"A": float("nan")})


def test_the_example_in_the_readme_runs(tmp_path, monkeypatch):
    readme = (HERE / "README.md").read_text()
    code = readme.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"tests"', repr(str(HERE.parent))), {})
