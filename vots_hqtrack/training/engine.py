"""Accelerate in a run: devices, processes, precision; and requests to stop."""

from __future__ import annotations

import contextlib
import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from vots_hqtrack.devices import pick_dtype

PROCESS_TIMEOUT = timedelta(hours=6)
"""Processes wait that long for one another: one may fill the feature cache meanwhile."""
PRECISIONS = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}


def start_accelerator(precision: str) -> Accelerator:
    """Join the other processes, if a launcher started several, and pick the device.

    Args:
        precision: Option ``train.precision``.

    Raises:
        ConfigError: The device does not compute in that format.
    """
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PROCESS_TIMEOUT)
    dtype = pick_dtype(precision, state.device)
    if state.num_processes > 1:
        # About depth-wise kernels: with one input channel two strides are the same layout.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    # Accelerate keeps the precision of a process's first run; each run has its own.
    AcceleratorState._reset_state()
    return Accelerator(cpu=state.device.type == "cpu", mixed_precision=PRECISIONS[dtype])


def compute_dtype(accelerator: Accelerator) -> torch.dtype:
    """Return the dtype of matrix multiplications and convolutions."""
    return next(dtype for dtype, name in PRECISIONS.items() if name == accelerator.mixed_precision)


@contextlib.contextmanager
def fast_kernels(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Let a GPU round to TF32 the float32 matmuls that mixed precision leaves.

    Where all was asked to be float32, nothing is rounded. cuDNN does not search for the fastest
    kernels: with large batches that takes minutes, which a run by the clock does not have.
    PyTorch's settings are as before afterwards.

    Args:
        device: Device of the training.
        dtype: Dtype of matrix multiplications and convolutions.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before = (torch.get_float32_matmul_precision(), cudnn.allow_tf32)
    is_exact = dtype == torch.float32
    try:
        torch.set_float32_matmul_precision("highest" if is_exact else "high")
        cudnn.allow_tf32 = not is_exact
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]


@dataclass
class StopRequest:
    """Request to stop a run.

    Attributes:
        signal_number: SIGINT or SIGTERM, or None before there is one.
    """

    signal_number: int | None = None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Record SIGINT and SIGTERM instead of dying of them, in the main thread.

    A second signal of a kind acts as usual.
    """
    request = StopRequest()
    former: dict[int, Any] = {}

    def record(number: int, _: FrameType | None) -> None:
        request.signal_number = number
        signal.signal(number, former[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        former[number] = signal.signal(number, record)
    try:
        yield request
    finally:
        for name, handler in former.items():
            signal.signal(name, handler)


def agree_to_stop(accelerator: Accelerator, stop: StopRequest) -> bool:
    """Return whether a signal came to any of the processes.

    Args:
        accelerator: Accelerate's; each process must call this after the same step.
        stop: Requests to this process.
    """
    if accelerator.num_processes == 1:
        return stop.signal_number is not None
    # A signal reaches the processes at different steps; they must leave in the same one.
    if stop.signal_number is not None:
        accelerator.set_trigger()
    return bool(accelerator.check_trigger())
