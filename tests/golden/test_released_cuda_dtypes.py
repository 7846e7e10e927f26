"""The released weights in 16 bits under CUDA's dtype rules, at the bars of the test on a GPU."""

from __future__ import annotations

import pytest
import torch
from pretend_cuda import pretend_cuda
from test_released_sizes import SMALL, check, follow

from vots_hqtrack.ops import use_backend


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_logits_stay_near_those_of_float32(dtype: torch.dtype) -> None:
    # Triton's kernels want the real device.
    with use_backend("torch"), pretend_cuda():
        # Not "cuda": that name is the real device's in the cache of models.
        found = follow(SMALL[0], dtype, "cuda:0")
    check(found, SMALL[0], dtype)
