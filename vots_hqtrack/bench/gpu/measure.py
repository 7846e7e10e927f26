"""Speed of the machine itself, and a frame's cost by PyTorch's profiler and operation counter."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from vots_hqtrack import ops
from vots_hqtrack.bench.machine import copy_rate, describe_hardware, matrix_throughput
from vots_hqtrack.devices import device_clock
from vots_hqtrack.versions import installed_versions

UPLOADED = (720, 1280, 3)
LAUNCHES = 1000
COPIED_BYTES_QUICK = 2**22
SQUARE_QUICK = 256
NUM_LISTED = 12
"""Kernels listed by name."""


def median_seconds(
    work: Callable[[], object], device: torch.device, *, repeats: int = 5, warm_up: int = 1
) -> float:
    """Time a piece of work until the device has finished it."""
    read, times = device_clock(device), []
    for _ in range(warm_up + repeats):
        started = read()
        work()
        times.append(read() - started)
    return statistics.median(times[warm_up:])


def measure_card(device: torch.device, *, is_quick: bool) -> dict[str, object]:
    """Measure a device.

    Args:
        device: Device to measure.
        is_quick: Toy sizes.

    Returns:
        Hardware, versions, and by name: ``matmul_*_tflops``, ``copy_tb_s`` (bytes read and
        written), ``launch_us`` (a kernel that does nothing, one after another), and milliseconds to
        upload a 720p frame from ordinary (``upload_ms``) and page-locked memory
        (``upload_pinned_ms``, GPUs only). Ready for JSON.
    """
    versions = installed_versions()
    versions |= {
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version()),
    }
    found: dict[str, object] = {**describe_hardware(device), "versions": versions}
    dtypes = [torch.bfloat16, torch.float32]
    if device.type == "cuda":
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability(device)))
        found["tf32"] = torch.backends.cuda.matmul.allow_tf32
        dtypes.append(torch.float16)
    for dtype in dtypes:
        rate = matrix_throughput(dtype, device, side=SQUARE_QUICK if is_quick else 0)
        found[f"matmul_{str(dtype).removeprefix('torch.')}_tflops"] = rate / 1000
    rate = copy_rate(device, num_bytes=COPIED_BYTES_QUICK if is_quick else 0)
    found["copy_tb_s"] = rate / 1000
    numbers = torch.zeros(8, device=device)

    def launch() -> None:
        for _ in range(LAUNCHES):
            numbers.add_(1)

    found["launch_us"] = median_seconds(launch, device) / LAUNCHES * 1e6
    frame = torch.zeros(UPLOADED, dtype=torch.uint8)
    found["upload_ms"] = 1000 * median_seconds(lambda: frame.to(device, copy=True), device)
    if device.type == "cuda":
        pinned = frame.pin_memory()
        found["upload_pinned_ms"] = 1000 * median_seconds(lambda: pinned.to(device), device)
    return found


def profile_frames(
    step: Callable[[], object], count: int, device: torch.device
) -> dict[str, object]:
    """Profile frames.

    Args:
        step: Tracks the next frame.
        count: Number of frames.
        device: Compute device.

    Returns:
        Means over the frames: ``wall_ms`` under the profiler, ``busy_ms`` of all kernels and copies
        on the device (on the CPU, of all operations), ``num_kernels``, ``num_copies`` (copies and
        memory fills), ``num_syncs`` (waits of the host; None on the CPU), and ``kernels``, the
        longest: name, milliseconds a frame, and number a frame.
    """
    on_gpu = device.type == "cuda"
    read = device_clock(device)
    read()  # waits for what was begun before
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as found:
        started = time.perf_counter()
        for _ in range(count):
            step()
        wall = read() - started
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    events = found.key_averages()
    spent = [
        (event, (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1000)
        for event in events
        if event.device_type == wanted
    ]
    spent.sort(key=lambda pair: -pair[1])
    copies = sum(e.count for e, _ in spent if on_gpu and e.key.startswith(("Memcpy", "Memset")))
    syncs = sum(e.count for e in events if e.device_type != wanted and "Synchronize" in e.key)
    return {
        "wall_ms": 1000 * wall / count,
        "busy_ms": sum(ms for _, ms in spent) / count,
        "num_kernels": (sum(event.count for event, _ in spent) - copies) / count,
        "num_copies": copies / count,
        "num_syncs": syncs / count if on_gpu else None,
        "kernels": [(e.key[:80], ms / count, e.count / count) for e, ms in spent[:NUM_LISTED]],
    }


def count_operations(step: Callable[[], object]) -> float:
    """Return the floating point operations of a frame: products, convolutions, attention.

    The heavy operations run in PyTorch's version, because the counter does not see Triton's.
    """
    with ops.use_backend("torch"), FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())
