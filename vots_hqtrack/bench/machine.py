"""Matrix throughput, memory and description of the machine: the scale for measured times."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from vots_hqtrack.devices import device_clock

SQUARE = 2048
SQUARE_ON_GPU = 8192
"""Side of the square matrices of the timed product, large enough that size no longer matters."""

COPIED_BYTES = 2**28
COPIED_BYTES_ON_GPU = 2**31
"""Bytes of the timed copy, many times what caches hold."""

_REPEATS = 3


def matrix_throughput(
    dtype: torch.dtype,
    device: torch.device,
    *,
    side: int = 0,
    clock: Callable[[], float] | None = None,
) -> float:
    """Time a large square matrix product.

    Args:
        dtype: Type of the elements.
        device: Compute device.
        side: Side of the matrices; 0 takes one that is large enough for the device.
        clock: Returns seconds; by default wall-clock time, after the device has finished.

    Returns:
        GFLOP/s of the fastest of three; a multiplication and an addition count as two.
    """
    side = side or (SQUARE_ON_GPU if device.type == "cuda" else SQUARE)
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(side, side, generator=generator).to(device, dtype)
    return 2 * side**3 / _fastest(lambda: left @ left, clock or device_clock(device)) / 1e9


def copy_rate(
    device: torch.device, *, num_bytes: int = 0, clock: Callable[[], float] | None = None
) -> float:
    """Time a large copy within the device's memory.

    Args:
        device: Compute device.
        num_bytes: Size; 0 takes one that is large enough for the device.
        clock: As for `matrix_throughput`.

    Returns:
        GB/s of the fastest of three, bytes read and bytes written.
    """
    size = num_bytes or (COPIED_BYTES_ON_GPU if device.type == "cuda" else COPIED_BYTES)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    seconds = _fastest(lambda: target.copy_(source), clock or device_clock(device))
    return 2 * size / seconds / 1e9


def _fastest(work: Callable[[], object], read: Callable[[], float]) -> float:
    """Return the seconds of the fastest repetition."""
    times = []
    for _ in range(_REPEATS):
        started = read()
        work()
        times.append(read() - started)
    return min(times)


def describe_hardware(device: torch.device) -> dict[str, object]:
    """Describe the machine: processor, cores, threads, vector instructions, device."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    has_affinity = hasattr(os, "sched_getaffinity")
    return {
        "processor": _processor_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "formats": sorted(
            name for name, has in capabilities.items() if has and ("avx" in name or "amx" in name)
        ),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }


def reset_peak(device: torch.device) -> None:
    """Reset the peak of resident memory, where the system supports it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    if sys.platform == "linux":
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:  # not allowed in some containers: then the peak is that of the process
            return


def peak_memory(device: torch.device) -> dict[str, int]:
    """Return the peak bytes since `reset_peak`: resident, and allocated on a GPU."""
    found = {"resident": _peak_resident()}
    if device.type == "cuda":
        found["device"] = int(torch.cuda.max_memory_allocated(device))
    return found


def _peak_resident() -> int:
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    if sys.platform == "win32":
        return 0
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _processor_name() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
