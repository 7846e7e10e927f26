"""The version of the heavy operations: chosen once, and an error when it cannot be had."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor

from vots_hqtrack import ops
from vots_hqtrack.errors import OpsError
from vots_hqtrack.ops import attention
from vots_hqtrack.ops.attention import AttentionSizes, global_attention_reference
from vots_hqtrack.ops.window import local_attention_reference


@pytest.fixture(autouse=True)
def _not_chosen_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_backend", None)


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
    with ops.use_backend("torch"):
        assert ops.resolve_backend() == "torch"
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


def attention_inputs() -> tuple[Tensor, list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(0)
    query, *keys = (torch.randn(2, 5, 4, generator=generator) for _ in range(3))
    return query, keys, [torch.randn(2, 5, 6, generator=generator) for _ in range(2)]


@pytest.mark.parametrize(
    ("sizes", "is_faster"),
    [
        (None, False),
        (AttentionSizes(4, 6, 0, 100), True),  # 2 x 5 queries times 10 keys are 100 scores
        (AttentionSizes(4, 6, 100, 200), True),
        (AttentionSizes(4, 6, 0, 99), False),
        (AttentionSizes(4, 6, 101, 200), False),
        (AttentionSizes(4, 5, 0, 100), False),
        (AttentionSizes(6, 6, 0, 100), False),
    ],
)
def test_attention_is_chosen_by_size(
    sizes: AttentionSizes | None, is_faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "FASTER_IN_TORCH", () if sizes is None else (sizes,))
    assert attention.is_faster_in_torch(*attention_inputs()) == is_faster


def test_sizes_in_the_table_never_reach_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's kernel cannot take tensors of the CPU, so it would fail here."""
    monkeypatch.setattr(ops, "_takes_triton", lambda _: True)
    monkeypatch.setattr(attention, "FASTER_IN_TORCH", (AttentionSizes(4, 6, 0, 100),))
    inputs = attention_inputs()
    with torch.no_grad():
        found = ops.global_attention(*inputs)
    torch.testing.assert_close(found, global_attention_reference(*inputs))


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_the_choice_can_be_compiled(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it was made, a frame's graph has no break at it, on whichever device."""
    monkeypatch.setattr(ops, "_backend", backend)

    def attend(
        query: Tensor, keys: list[Tensor], values: list[Tensor]
    ) -> tuple[Tensor, Tensor, str]:
        windows = [x.unflatten(1, (1, 5)) for x in (query, keys[0], values[0])]
        bias = torch.zeros(2, 1, 5, 9)
        local = ops.local_attention(*windows, bias, radius=1, scale=0.5)
        return ops.global_attention(query, keys, values), local, ops.resolve_backend()

    inputs = attention_inputs()
    with torch.no_grad():
        *found, chosen = torch.compile(attend, backend="eager", fullgraph=True)(*inputs)
        *wanted, _ = attend(*inputs)
    assert chosen == backend
    torch.testing.assert_close(found, wanted)
