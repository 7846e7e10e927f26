"""The released VMOS at odd sizes, in each format and on each device: the same masks everywhere."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from released_clips import load_models
from torch import Tensor

from vots_hqtrack.encoder.internimage import InternImage
from vots_hqtrack.masks import one_hot_slots
from vots_hqtrack.precision import cast_to_low_precision
from vots_hqtrack.types import FrameFeatures, MemoryFrames, Size
from vots_hqtrack.vmos import VMOS

pytestmark = pytest.mark.usefixtures("fast_16_bit")
SMALL = [Size(97, 129), Size(17, 113), Size(129, 33)]
MIDDLE = Size(209, 305)
LARGE = [Size(481, 849), Size(1041, 577)]
"""Sizes of real videos: minutes each on a CPU that has to imitate bfloat16."""
ON_CPU = [*SMALL, MIDDLE, *(pytest.param(size, marks=pytest.mark.large) for size in LARGE)]
ROUNDED = {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.03}
"""Largest difference of a logit to float32 on the CPU; measured in bfloat16: 0.03."""
AGREEING = {torch.float32: 0.9995, torch.bfloat16: 0.985, torch.float16: 0.995}
"""Fraction of locations with the same label; the weights are random, so many are near a tie."""


def draw_images(size: Size) -> list[Tensor]:
    generator = torch.Generator().manual_seed(size.width)
    rough = torch.randn(2, 3, -(-size.height // 16), -(-size.width // 16), generator=generator)
    return list(F.interpolate(rough, size, mode="bicubic").split(1))


def draw_labels(size: Size) -> Tensor:
    labels = torch.zeros(1, *size, dtype=torch.uint8)
    labels[:, size.height // 4 :, : size.width // 3] = 1
    labels[:, : size.height // 2, size.width // 2 :] = 2
    return labels


@cache
def models(dtype: torch.dtype, device: str) -> tuple[InternImage, VMOS]:
    encoder, vmos = copy.deepcopy(load_models())
    for network in (encoder, vmos):
        cast_to_low_precision(network, dtype)
        network.to(device)
    return encoder, vmos


def follow(
    size: Size, dtype: torch.dtype, device: str, lay_out: Callable[[Tensor], Tensor] = Tensor.clone
) -> Tensor:
    """Logits ``(1, 11, h, w)`` of the second of two frames, the memory being read three times."""
    encoder, vmos = models(dtype, device)
    with torch.inference_mode():
        first, second = (encoder(lay_out(image).to(device)) for image in draw_images(size))
        embedding = vmos.encode_masks(lay_out(one_hot_slots(draw_labels(size))).to(device))
        output = vmos.propagate(first, embedding)
        entry = vmos.write_memory(0, output.proposals, embedding)
        assert all(layer.key.is_contiguous() for layer in entry.layers)
        output = vmos.propagate(relaid(second, lay_out), MemoryFrames([entry, entry, entry], entry))
        logits = vmos.decode(output)
    assert logits.dtype == torch.float32
    assert logits.shape == (1, 11, -(-size.height // 4), -(-size.width // 4))
    assert torch.isfinite(logits).all()
    return logits.cpu()


def relaid(features: FrameFeatures, lay_out: Callable[[Tensor], Tensor]) -> FrameFeatures:
    return FrameFeatures(*(lay_out(x) for x in (features.s4, features.s8, features.s16)))


@cache
def exact(size: Size) -> Tensor:
    return follow(size, torch.float32, "cpu")


def check(found: Tensor, size: Size, dtype: torch.dtype) -> None:
    assert (found - exact(size)).abs().max() < ROUNDED[dtype]
    agreeing = found.argmax(1) == exact(size).argmax(1)
    # At the smallest sizes a single location is more than the share that may differ.
    assert (~agreeing).sum() <= max(3, (1 - AGREEING[dtype]) * agreeing.numel())


@pytest.mark.parametrize("size", ON_CPU, ids=str)
def test_bfloat16_at_odd_sizes(size: Size) -> None:
    assert exact(size).std() > 0.1
    check(follow(size, torch.bfloat16, "cpu"), size, torch.bfloat16)


def rows_last(x: Tensor) -> Tensor:
    return x.transpose(2, 3).contiguous().transpose(2, 3)


def every_other(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=3)[..., ::2]


@pytest.mark.parametrize("lay_out", [rows_last, every_other])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_non_contiguous_input(lay_out: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    size = SMALL[1]
    assert not lay_out(torch.zeros(1, 3, *size)).is_contiguous()
    check(follow(size, dtype, "cpu", lay_out), size, dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("size", [*SMALL, MIDDLE, *LARGE], ids=str)
@pytest.mark.parametrize("dtype", ROUNDED)
def test_gpu(size: Size, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    check(follow(size, dtype, "cuda"), size, dtype)
