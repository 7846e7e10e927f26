"""Layers of SAM's networks, and the reader that fills them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import nn

from vots_hqtrack.errors import WeightsError
from vots_hqtrack.sam.layers import ChannelNorm, SamWeights, gelu


@pytest.mark.parametrize("shape", [(2, 8, 3, 5), (1, 4, 1, 1), (1, 3, 5, 8)])
def test_gelu_does_not_depend_on_the_layout(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    for layout in (torch.contiguous_format, torch.channels_last):
        laid_out = x.clone(memory_format=layout)
        with torch.no_grad():
            found = gelu(laid_out)
        assert found is laid_out
        torch.testing.assert_close(found, F.gelu(x), atol=1e-6, rtol=1e-5)


def test_gelu_has_gradients() -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(gelu, x, fast_mode=True)


def test_channel_norm_by_hand() -> None:
    norm = ChannelNorm(2)
    nn.init.constant_(norm.bias, 3.0)
    found = norm(torch.tensor([1.0, 5.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4))
    torch.testing.assert_close(found[:, 0], torch.full((1, 3, 4), 2.0))
    torch.testing.assert_close(found[:, 1], torch.full((1, 3, 4), 4.0))


def tensors_of(layer: nn.Module, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value.half() for key, value in layer.state_dict().items()}


def test_weights_fill_layers_in_float32() -> None:
    source = nn.Linear(3, 4)
    weights = SamWeights(tensors_of(source, "a.b."), source="a file")
    layer = weights.part("a").load("b", nn.Linear(3, 4))
    assert torch.equal(layer.weight, source.weight.half().float())
    assert not layer.weight.requires_grad
    weights.require_all("Small")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"b.bias": None}, "missing: b.bias"),
        ({"b.bias": torch.zeros(5)}, r"unfit: b\.bias .*5"),
        ({"other": torch.zeros(1)}, "unexpected: other"),
    ],
)
def test_exception(changes: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = {**tensors_of(nn.Linear(3, 4), "b."), **changes}
    weights = SamWeights(
        {key: value for key, value in tensors.items() if value is not None}, source="a file"
    )
    weights.load("b", nn.Linear(3, 4))
    with pytest.raises(WeightsError, match=f"the weights a file do not fit Small; {message}"):
        weights.require_all("Small")


def test_random_weights_need_nothing() -> None:
    weights = SamWeights(None)
    layer = nn.Linear(3, 4)
    before = layer.weight.clone()
    assert torch.equal(weights.load("b", layer).weight, before)
    weights.require_all("Small")
