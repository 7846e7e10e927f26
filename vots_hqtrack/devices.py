"""Compute device and dtype, chosen once."""

from __future__ import annotations

import dataclasses
import reprlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.processor import is_bfloat16_faster

_Table = TypeVar("_Table")
BatchType = TypeVar("BatchType", bound="TensorBatch")
FIRST_WITH_BFLOAT16 = (8, 0)
"""CUDA compute capability from which on GPUs multiply bfloat16 (Ampere)."""


def pick_device(name: str) -> torch.device:
    """Turn a device name into a usable device.

    Args:
        name: ``auto`` takes CUDA where there is one and the CPU elsewhere; else a name that PyTorch
            knows.

    Raises:
        ConfigError: PyTorch does not know the name, or has no such device here.
    """
    if not isinstance(name, (str, torch.device)):
        raise ConfigError(f"wanted the name of a device, got {type(name).__name__}")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.ones(1, device=device).add(1).cpu()  # also fails on devices without values
    except Exception as error:  # backends that are not installed raise errors of any kind
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        shown = reprlib.repr(str(name))
        raise ConfigError(f"cannot compute on the device {shown}: {reason}") from error
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn the option ``runtime.dtype`` into a dtype.

    Args:
        name: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: Compute device.

    Raises:
        ConfigError: The device does not support the dtype.
    """
    if name == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    if name == "float16" and device.type == "cpu":
        raise ConfigError("runtime.dtype=float16 needs a GPU; on the CPU use bfloat16 or float32")
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return dtypes[name]


def lower_precision(device: torch.device) -> torch.autocast:
    """Return a context that computes in the dtype that ``auto`` gives: bfloat16 or float32.

    Args:
        device: Compute device.
    """
    dtype = pick_dtype("auto", device)
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype != torch.float32)


def host_can_read(tensor: Tensor) -> bool:
    """Return whether the host may decide by a tensor's values.

    Elsewhere than on the CPU it would wait for the device, and a graph, recorded or compiled, runs
    without the host.
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def device_table(make: Callable[..., _Table]) -> Callable[..., _Table]:
    """Keep a function's results: tables of a few sizes, on a device that is an argument.

    A compiled graph takes them as constants, and a recorded one copies nothing from the host.
    """
    cached = lru_cache(maxsize=64)(make)

    @wraps(make)
    def read(*sizes: Any) -> _Table:  # noqa: ANN401 - as the function's own
        with torch.inference_mode(mode=False):
            return cached(*sizes)

    read.cache_clear = cached.cache_clear  # type: ignore[attr-defined] # as lru_cache has it
    # The mark of torch.compiler.assume_constant_result, which imports the compiler: two seconds.
    read._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return read


def upload(pixels: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """Copy pixels to a device; to a GPU through page-locked memory, without waiting.

    The page-locked buffers are PyTorch's, which lends one again when the copy from it has ended: a
    video needs two or three, whatever its length.

    Args:
        pixels: uint8; the caller may write to them afterwards.
        device: Target device.
    """
    buffer = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    buffer.numpy()[...] = pixels
    return buffer.to(device, non_blocking=True)


def device_clock(device: torch.device) -> Callable[[], float]:
    """Return a clock in seconds that waits until the device has done its work."""
    if device.type != "cuda":
        return time.perf_counter

    def read() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return read


def _has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 natively, and faster than float32."""
    if device.type == "cuda":
        # PyTorch's own check also returns True where bfloat16 is emulated.
        return torch.cuda.get_device_capability(device) >= FIRST_WITH_BFLOAT16
    return device.type == "cpu" and is_bfloat16_faster()


class TensorBatch(ABC):
    """A batch of tensors that travels between processes and devices; subclasses are dataclasses."""

    __slots__ = ()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items."""

    def to(self: BatchType, device: torch.device) -> BatchType:
        """Return the batch on a device; from page-locked memory, nobody waits for the copy."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self: BatchType) -> BatchType:
        """Return the batch in page-locked memory, from which a GPU copies by itself."""
        return self.map(lambda tensor: tensor.pin_memory())

    def map(self: BatchType, change: Callable[[Tensor], Tensor]) -> BatchType:
        """Return the batch with all tensors changed."""
        changed: BatchType = _map_tensors(self, change)
        return changed


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:  # noqa: ANN401 - any field
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_map_tensors(each, change) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        values = {item.name: _map_tensors(getattr(value, item.name), change) for item in fields}
        return dataclasses.replace(value, **values)
    return value
