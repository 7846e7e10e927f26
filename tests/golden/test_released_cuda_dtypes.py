"""The released weights in 16 bits under CUDA's dtype rules, at the bars of the test on a GPU."""

from __future__ import annotations

import pytest
import torch
from pretend_cuda import pretend_cuda
from test_released_sizes import SMALL, check, follow

from vots_hqtrack.ops import VARIABLE, resolve_backend


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_logits_stay_near_those_of_float32(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "torch")  # Triton's kernels want the real device
    resolve_backend.cache_clear()
    with pretend_cuda():
        # Not "cuda": that name is the real device's in the cache of models.
        found = follow(SMALL[0], dtype, "cuda:0")
    resolve_backend.cache_clear()
    check(found, SMALL[0], dtype)
