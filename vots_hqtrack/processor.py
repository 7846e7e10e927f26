"""Whether this machine's processor multiplies bfloat16 faster than float32: measured once, kept.

Processors that name instructions for bfloat16 are not always faster with them: on one Xeon with
``avx512_bf16`` frames took 1.5 times as long as in float32.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from vots_hqtrack.environment import downloads_from_environment
from vots_hqtrack.io import write_json

FILE_NAME = "processor.json"
"""File in the cache folder: the ratio by processor, PyTorch version and number of threads."""
ROUNDS = 4
HOPELESS = 4.0
"""Ratio at which one round is enough."""
REQUIRED_RATIO = 0.9
"""Fraction of float32's time that bfloat16 may take at most: less gain is not worth the digits."""


def names_bfloat16() -> bool:
    """Return whether the processor names instructions for products of bfloat16."""
    # Older PyTorch cannot tell; float32 is right everywhere.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def is_bfloat16_faster() -> bool:
    """Return whether bfloat16 pays on this processor; what does not name it is not measured."""
    return names_bfloat16() and bfloat16_ratio() <= REQUIRED_RATIO


@lru_cache(maxsize=8)
def bfloat16_ratio(threads: int = 0) -> float:
    """Return the time of products in bfloat16 as a fraction of that in float32.

    Read from the cache folder, or measured, which takes some 50 ms, and kept there if that folder
    can be written.

    Args:
        threads: CPU threads for which it counts; 0 are those of this process.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    name = capabilities.get("cpu_name", torch.backends.cpu.get_cpu_capability())
    key = f"{name}, PyTorch {torch.__version__}, threads {threads or torch.get_num_threads()}"
    path = downloads_from_environment().cache_path / FILE_NAME
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        known = None
    known = known if isinstance(known, dict) else {}
    kept = known.get(key)
    if isinstance(kept, float) and math.isfinite(kept) and kept > 0:
        return kept
    ratio = round(measure_ratio(), 3)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**known, key: ratio}, indent=2)
    except OSError:
        pass  # measured again by the next process
    return ratio


def measure_ratio(clock: Callable[[], float] = time.perf_counter) -> float:
    """Measure that fraction on a convolution and a matmul of a frame's sizes, in turn."""
    with torch.inference_mode():
        work = {dtype: _prepare(dtype) for dtype in (torch.float32, torch.bfloat16)}
        seconds = dict.fromkeys(work, math.inf)
        for _ in range(ROUNDS):
            for dtype, compute in work.items():
                began = clock()
                compute()
                # The fastest of all: what others do on the machine only ever adds.
                seconds[dtype] = min(seconds[dtype], clock() - began)
            if seconds[torch.bfloat16] > HOPELESS * seconds[torch.float32]:
                break  # imitated by way of float32
    return seconds[torch.bfloat16] / max(seconds[torch.float32], 1e-9)


def _prepare(dtype: torch.dtype) -> Callable[[], Tensor]:
    maps = torch.ones(1, 64, 36, 64, dtype=dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch.ones(64, 64, 3, 3, dtype=dtype)
    rows, columns = torch.ones(576, 256, dtype=dtype), torch.ones(256, 512, dtype=dtype)

    def compute() -> Tensor:
        F.conv2d(maps, kernel, padding=1)
        return rows @ columns

    compute()
    return compute
