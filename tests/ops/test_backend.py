"""Which version of the heavy operations runs: chosen once, and told when it cannot be had."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch

from vots_hqtrack import ops
from vots_hqtrack.errors import OpsError
from vots_hqtrack.ops.window import local_attention_reference


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    ops.resolve_backend.cache_clear()
    yield
    ops.resolve_backend.cache_clear()


def pretend(patch: pytest.MonkeyPatch, *, installed: bool, has_gpu: bool, wanted: str = "") -> None:
    patch.setattr(importlib.util, "find_spec", lambda name: name if installed else None)
    patch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    patch.setenv(ops.VARIABLE, wanted)


@pytest.mark.parametrize(
    ("installed", "has_gpu", "wanted", "chosen"),
    [
        (True, True, "", "triton"),
        (True, True, "auto", "triton"),
        (True, True, "torch", "torch"),
        (True, False, "", "torch"),
        (True, False, "triton", "triton"),
        (False, True, "", "torch"),
    ],
)
def test_choice(
    installed: bool, has_gpu: bool, wanted: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, installed=installed, has_gpu=has_gpu, wanted=wanted)
    assert ops.resolve_backend() == chosen


def test_chosen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, installed=True, has_gpu=True)
    assert ops.resolve_backend() == "triton"
    monkeypatch.setenv(ops.VARIABLE, "torch")
    assert ops.resolve_backend() == "triton"


def test_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, installed=False, has_gpu=True, wanted="triton")
    with pytest.raises(OpsError, match="wants the package triton, which is not installed"):
        ops.resolve_backend()
    pretend(monkeypatch, installed=True, has_gpu=True, wanted="cuda")
    with pytest.raises(OpsError, match="must be auto, torch or triton, got 'cuda'"):
        ops.resolve_backend()


def test_tensors_on_the_cpu_stay_with_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, installed=True, has_gpu=True, wanted="triton")
    inputs = [torch.randn(1, 3, 4, c) for c in (4, 4, 6, 9)]
    with torch.no_grad():
        found = ops.local_attention(*inputs, radius=1, scale=0.5)
    torch.testing.assert_close(found, local_attention_reference(*inputs, radius=1, scale=0.5))
