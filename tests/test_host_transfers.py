"""The host waits for the device as often per frame, however many objects there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pretend_cuda import PretendCuda, pretend_cuda
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vots_hqtrack.build import build_parts, make_tracker
from vots_hqtrack.presets import load_preset
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.types import FrameArray, MaskArray

SETTINGS = ["frame.long_edge=256", "runtime.dtype=float32", "tracking.absence_score=0"]
MAX_ITEMS = 3
SIZE = (96, 256)


class ReadNumbers(TorchDispatchMode):
    """Counts reads of single numbers (`item`, `int`, `bool`) from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += isinstance(args[0], PretendCuda)
        return func(*args, **(kwargs or {}))


class ReadTensors(TorchFunctionMode):
    """Counts copies of tensors from the device to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("tolist", "cpu", "numpy") and isinstance(args[0], PretendCuda):
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def squares(count: int) -> tuple[FrameArray, dict[int, MaskArray]]:
    rng = np.random.default_rng(0)
    frame = rng.integers(60, 90, (*SIZE, 3)).astype(np.uint8)
    masks = {}
    for number in range(count):
        top, left = 8 + 44 * (number // 7), 6 + 36 * (number % 7)
        masks[number + 1] = np.zeros(SIZE, np.bool_)
        masks[number + 1][top : top + 24, left : left + 24] = True
        frame[masks[number + 1]] = rng.integers(0, 255, 3)
    return frame, masks


@pytest.mark.weights
def test_transfers_do_not_grow_with_the_objects() -> None:
    config = apply_settings(load_preset("lite"), SETTINGS)
    tensors: dict[int, Counter[str]] = {}
    with pretend_cuda() as device:
        tracker = make_tracker(config, build_parts(config, device, None), device)
        for count in (1, 10, 13):
            frame, masks = squares(count)
            state = tracker.initialize(frame, masks)
            with ReadTensors() as copies, ReadNumbers() as numbers:
                result = tracker.track(frame, state)
            assert numbers.count <= MAX_ITEMS
            tensors[count] = copies.counts
            assert isinstance(state.slot_map, Tensor)
            assert sum(mask.any() for mask in result.masks.values()) == count
    assert all(counts == tensors[1] for counts in tensors.values())
    # Numbers of all objects at once; masks are copied when they are asked for, which was later.
    assert tensors[1]["tolist"] <= 3
