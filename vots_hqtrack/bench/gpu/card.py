"""The machine's own numbers: what products, copies, launches and uploads take at best."""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from collections.abc import Callable

import torch

from vots_hqtrack.bench.machine import describe_hardware, matrix_throughput
from vots_hqtrack.types import Size

UPLOADED = Size(720, 1280)
LAUNCHES = 1000
COPIED_BYTES = 2**31
COPIED_BYTES_QUICK = 2**22
SQUARE_QUICK = 256

_REPEATS = 5
_PACKAGES = ("torch", "triton", "torchvision", "timm", "numpy", "cv2", "transformers")


def measure_card(device: torch.device, *, is_quick: bool) -> dict[str, object]:
    """Measure a device.

    Args:
        device: Which.
        is_quick: Toy sizes.

    Returns:
        Hardware, versions, and by name: ``matmul_*_tflops``, ``copy_tb_s`` (bytes read and
        written), ``launch_us`` (a kernel that does nothing, one after another), and milliseconds to
        upload a 720p frame from ordinary (``upload_ms``) and page-locked memory
        (``upload_pinned_ms``, GPUs only). Ready for JSON.
    """
    found: dict[str, object] = {**describe_hardware(device), "versions": _versions()}
    side = SQUARE_QUICK if is_quick else 0
    formats = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    if device.type == "cuda":
        found["capability"] = ".".join(map(str, torch.cuda.get_device_capability(device)))
        found["tf32"] = torch.backends.cuda.matmul.allow_tf32
        formats["float16"] = torch.float16
    for name, dtype in formats.items():
        found[f"matmul_{name}_tflops"] = matrix_throughput(dtype, device, side=side) / 1000
    size = COPIED_BYTES_QUICK if is_quick else COPIED_BYTES
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["copy_tb_s"] = 2 * size / _seconds(lambda: target.copy_(source), device) / 1e12
    found["launch_us"] = _launch_seconds(device) * 1e6
    frame = torch.zeros(*UPLOADED, 3, dtype=torch.uint8)
    found["upload_ms"] = 1000 * _seconds(lambda: frame.to(device, copy=True), device)
    if device.type == "cuda":
        pinned = frame.pin_memory()
        found["upload_pinned_ms"] = 1000 * _seconds(lambda: pinned.to(device), device)
    return found


def synchronize(device: torch.device) -> None:
    """Wait until a device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _launch_seconds(device: torch.device) -> float:
    numbers = torch.zeros(8, device=device)

    def launch() -> None:
        for _ in range(LAUNCHES):
            numbers.add_(1)

    return _seconds(launch, device) / LAUNCHES


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time a piece of work, done included: the median of five, after one to warm up."""
    times = []
    for _ in range(_REPEATS + 1):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = str(importlib.import_module(name).__version__)
        except ImportError:
            found[name] = None
    found["cuda"] = torch.version.cuda
    found["cudnn"] = str(torch.backends.cudnn.version())
    return found
