"""A frame's cost on device and host, by PyTorch's profiler and its operation counter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from vots_hqtrack import ops
from vots_hqtrack.bench.gpu.card import synchronize

NUM_LISTED = 12
"""Kernels that are listed by name."""

_MILLI = 1000


@dataclass(frozen=True, slots=True)
class FrameCost:
    """What one frame costs, on average.

    Attributes:
        wall_ms: Time that passed, under the profiler.
        busy_ms: Time in which the device computed or copied; on the CPU, all operations' own time.
        num_kernels: Kernels that were launched; on the CPU, operations.
        num_copies: Copies and fills on the device.
        num_syncs: Times that the host waited for the device; None on the CPU.
        kernels: The longest: name, milliseconds a frame, and number a frame.
    """

    wall_ms: float
    busy_ms: float
    num_kernels: float
    num_copies: float
    num_syncs: float | None
    kernels: list[tuple[str, float, float]]


def profile_frames(step: Callable[[], object], count: int, device: torch.device) -> FrameCost:
    """Profile frames.

    Args:
        step: Tracks the next frame.
        count: Number of frames.
        device: Where the work is done.
    """
    on_gpu = device.type == "cuda"
    synchronize(device)
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as found:
        started = time.perf_counter()
        for _ in range(count):
            step()
        synchronize(device)
        wall = time.perf_counter() - started
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    spans, own, syncs, copies = [], dict[str, list[float]](), 0, 0
    for event in found.events():
        if event.device_type != wanted:
            syncs += "Synchronize" in event.name
            continue
        if on_gpu and event.name.startswith(("Memcpy", "Memset")):
            copies += 1
        spent = event.time_range.elapsed_us() if on_gpu else event.self_cpu_time_total
        own.setdefault(event.name, []).append(spent)
        spans.append((event.time_range.start, event.time_range.end))
    busy = union_length(spans) if on_gpu else sum(map(sum, own.values()))
    longest = sorted(own.items(), key=lambda item: -sum(item[1]))[:NUM_LISTED]
    return FrameCost(
        wall_ms=wall * _MILLI / count,
        busy_ms=busy / _MILLI / count,
        num_kernels=(len(spans) - copies) / count,
        num_copies=copies / count,
        num_syncs=syncs / count if on_gpu else None,
        kernels=[
            (name[:80], sum(times) / _MILLI / count, len(times) / count) for name, times in longest
        ],
    )


def union_length(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the line that spans cover, however they overlap.

    Example:
        >>> union_length([(0, 2), (5, 6), (1, 3)])
        4.0
    """
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def count_operations(step: Callable[[], object]) -> float:
    """Return the floating point operations of a frame: products, convolutions, attention.

    The heavy operations run in PyTorch's version, because the counter does not see Triton's.
    """
    with ops.use_backend("torch"), FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())
