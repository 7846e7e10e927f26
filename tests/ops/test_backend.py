"""The version of the heavy operations: chosen once, and an error when it cannot be had."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from pretend_cuda import pretend_cuda
from torch import Tensor

from vots_hqtrack import ops
from vots_hqtrack.errors import OpsError
from vots_hqtrack.ops import attention_table
from vots_hqtrack.ops.attention import global_attention_reference
from vots_hqtrack.ops.attention_table import AttentionTiming, FastestVersion, update_timings
from vots_hqtrack.ops.window import local_attention_reference


@pytest.fixture(autouse=True)
def _not_chosen_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "_backend", None)
    monkeypatch.setattr(ops, "_fastest_attention", ())


def pretend(patch: pytest.MonkeyPatch, *, installed: bool, has_gpu: bool, wanted: str = "") -> None:
    patch.setattr(importlib.util, "find_spec", lambda name: name if installed else None)
    patch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    patch.setattr(torch.cuda, "get_device_name", lambda: "a card")
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


def test_attention_on_cuda_is_the_version_that_the_table_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Triton's kernel cannot take what is computed on the CPU, so it would fail here."""
    calls: list[str] = []
    for name, attend in ops.TORCH_ATTENTIONS.items():

        def record(*inputs: object, name: str = name, attend: ops.Attention = attend) -> Tensor:
            calls.append(name)
            return attend(*inputs)  # type: ignore[arg-type]

        monkeypatch.setitem(ops.TORCH_ATTENTIONS, name, record)  # type: ignore[arg-type]
    monkeypatch.setattr(ops, "_backend", "triton")
    query, keys, values = attention_inputs()
    wanted = global_attention_reference(query, keys, values)
    with pretend_cuda() as device, torch.no_grad():
        inputs = query.to(device), [x.to(device) for x in keys], [x.to(device) for x in values]
        for name in ops.TORCH_ATTENTIONS:
            row = FastestVersion(torch.float32, 4, 6, 100, name)
            monkeypatch.setattr(ops, "_fastest_attention", (row,))
            torch.testing.assert_close(ops.global_attention(*inputs).cpu(), wanted)
    assert calls == list(ops.TORCH_ATTENTIONS)
    ops.global_attention(query, keys, values)
    assert len(calls) == len(ops.TORCH_ATTENTIONS)  # with gradients, the reference
    with torch.no_grad():
        ops.global_attention(query, keys, values)
    assert calls[-1] == "blocks"  # on the CPU, whatever the table says


def test_the_table_of_the_card_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing = AttentionTiming("a card", "float16", 4, 6, 100, "2.11", {"fused": 1.0, "triton": 0.5})
    update_timings(tmp_path / "table.json", timing)
    monkeypatch.setattr(attention_table.read_timings, "__defaults__", (tmp_path / "table.json",))
    pretend(monkeypatch, installed=True, has_gpu=True)
    ops.resolve_backend()
    assert ops._fastest_attention == (FastestVersion(torch.float16, 4, 6, 100, "triton"),)
    with ops.use_backend("torch"):
        assert ops._fastest_attention == ()
    assert len(ops._fastest_attention) == 1


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_the_choice_can_be_compiled(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it was made, a frame's graph has no break at it, on whichever device."""
    monkeypatch.setattr(ops, "_backend", backend)
    row = FastestVersion(torch.float32, 4, 6, 100, "fused")
    monkeypatch.setattr(ops, "_fastest_attention", (row,))

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
