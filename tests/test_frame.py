"""Geometry: sizes, labels down, logits up; pixel centres lie at i + 0.5."""

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from hypothesis import given, settings
from hypothesis import strategies as st
from pretend_cuda import pretend_cuda

from vots_hqtrack.frame import (
    PIXEL_MEAN,
    frame_to_image,
    labels_to_network,
    logits_to_frame,
    plan_aligned_frame,
    plan_frame,
    warn_of_tiny,
)
from vots_hqtrack.types import ObjectId, Size

CPU = torch.device("cpu")
sides = st.integers(1, 2500)


@pytest.mark.parametrize(
    ("frame", "content", "padded"),
    [
        ((480, 854), (576, 1024), (576, 1024)),
        ((720, 1280), (576, 1024), (576, 1024)),
        ((360, 640), (576, 1024), (576, 1024)),
        ((854, 480), (1024, 576), (1024, 576)),
        ((300, 300), (1024, 1024), (1024, 1024)),
        ((97, 129), (770, 1024), (800, 1024)),
        ((1, 2000), (1, 1024), (32, 1024)),
    ],
)
def test_sizes(frame: tuple[int, int], content: tuple[int, int], padded: tuple[int, int]) -> None:
    geometry = plan_frame(Size(*frame))
    assert geometry.input_size == content
    assert geometry.padded_size == padded
    assert geometry.network_size == (padded[0] // 2, padded[1] // 2)
    assert geometry.logits_size == (padded[0] // 8, padded[1] // 8)


@given(sides, sides)
def test_any_size_fits(height: int, width: int) -> None:
    geometry = plan_frame(Size(height, width))
    assert max(geometry.input_size) == 1024
    for content, padded in zip(geometry.input_size, geometry.padded_size, strict=True):
        assert padded % 32 == 0
        assert 1 <= content <= padded < content + 32


def test_image_is_normalised_and_padded_with_zeros() -> None:
    frame = np.broadcast_to(np.array([124, 116, 104], np.uint8), (97, 129, 3))
    image = frame_to_image(np.ascontiguousarray(frame), plan_frame(Size(97, 129)), CPU)
    assert image.shape == (1, 3, 800, 1024)
    assert image.dtype == torch.float32
    assert not image[:, :, 770:].any()
    assert image[0, 0, 400, 500] == pytest.approx((124 - PIXEL_MEAN[0]) / 58.395, rel=1e-4)


def test_convention_labels_take_the_pixel_under_the_centre() -> None:
    """A frame of 2 x 4 pixels: each covers 128 x 128 pixels of the 256 x 512 network image."""
    labels = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    network = labels_to_network(labels, plan_frame(Size(2, 4)))
    expected = labels.repeat_interleave(128, 0).repeat_interleave(128, 1)
    assert torch.equal(network, expected)


def test_padding_is_background() -> None:
    geometry = plan_frame(Size(97, 129))
    network = labels_to_network(torch.ones(97, 129, dtype=torch.uint8), geometry)
    assert network.shape == (400, 512)
    assert network[:385].all()
    assert not network[385:].any()


@pytest.mark.parametrize("frame", [(480, 854), (854, 480), (300, 300), (72, 128)])
def test_logits_match_interpolate_without_padding(frame: tuple[int, int]) -> None:
    geometry = plan_frame(Size(*frame))
    torch.manual_seed(0)
    logits = torch.randn(3, *geometry.logits_size)
    # In double precision: in float32 interpolate itself is off by up to 6e-5, from its positions.
    exact = F.interpolate(logits[None].double(), frame, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(logits_to_frame(logits, geometry), exact.float(), atol=2e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 300), st.integers(20, 300), st.data())
def test_box_survives_the_way_down_and_up(height: int, width: int, data: st.DataObject) -> None:
    """A rectangle that goes down as labels and up as logits comes back where it was."""
    geometry = plan_frame(Size(height, width))
    top = data.draw(st.integers(0, height - 10))
    left = data.draw(st.integers(0, width - 10))
    labels = torch.zeros(height, width)
    labels[top : top + 10, left : left + 10] = 1
    network = labels_to_network(labels, geometry)
    logits = F.avg_pool2d(network[None], 4)
    found = logits_to_frame(logits, geometry)[0]
    assert found.shape == (height, width)
    centre = torch.tensor([top + 5.0, left + 5.0])
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    mass = found.sum()
    mean = torch.stack([(found.sum(1) * rows).sum(), (found.sum(0) * columns).sum()]) / mass
    assert (mean - centre).abs().max() < 0.5


@pytest.mark.parametrize(
    ("frame", "network"),
    [
        ((240, 320), (481, 641)),
        ((480, 854), (481, 849)),
        ((720, 1280), (577, 1041)),
        ((1080, 1920), (577, 1041)),
        ((2160, 3840), (577, 1041)),
        ((1920, 1080), (1041, 577)),
        ((360, 640), (481, 849)),
        ((576, 1024), (577, 1025)),
        ((600, 600), (593, 593)),
        ((472, 600), (481, 609)),
        ((504, 888), (497, 881)),
        ((300, 2000), (161, 1041)),
        ((100, 5000), (17, 1041)),
        ((1, 1), (481, 481)),
    ],
)
def test_aligned_sizes_are_the_released_ones(
    frame: tuple[int, int], network: tuple[int, int]
) -> None:
    geometry = plan_aligned_frame(Size(*frame))
    assert geometry.network_size == geometry.padded_size == geometry.input_size == network
    assert geometry.is_aligned


@given(sides, sides, st.sampled_from([0, 240, 480]))
def test_any_size_can_be_aligned(height: int, width: int, min_short_edge: int) -> None:
    geometry = plan_aligned_frame(Size(height, width), min_short_edge=min_short_edge)
    assert all(side % 16 == 1 and 1 <= side <= 1041 for side in geometry.network_size)
    assert geometry.logits_size == tuple((side + 3) // 4 for side in geometry.network_size)


@given(st.integers(0, 65), st.integers(0, 65))
def test_aligned_frame_keeps_its_own_size(rows: int, columns: int) -> None:
    size = Size(16 * rows + 1, 16 * columns + 1)
    assert plan_aligned_frame(size, min_short_edge=0).network_size == size


def test_aligned_image_is_normalised_in_double_precision() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (33, 49, 3), np.uint8)
    image = frame_to_image(frame, plan_aligned_frame(Size(33, 49), min_short_edge=0), CPU)
    value = (int(frame[3, 5, 2]) / 255 - 0.406) / 0.225
    assert image.shape == (1, 3, 33, 49)
    assert image.dtype == torch.float32
    assert image[0, 2, 3, 5].item() == np.float32(value)


def test_aligned_image_is_resized_by_cubic_interpolation() -> None:
    """A ramp stays a ramp, and an edge overshoots as only a cubic filter does."""
    geometry = plan_aligned_frame(Size(240, 320))
    frame = np.zeros((240, 320, 3), np.uint8)
    frame[:, 160:] = 200
    image = frame_to_image(frame, geometry, CPU)
    assert image.shape == (1, 3, 481, 641)
    red = image[0, 0, 240] * 0.229 + 0.485
    assert red.max() > 201 / 255
    assert red[[0, -1]].tolist() == pytest.approx([0, 200 / 255], abs=1e-6)


def test_convention_aligned_labels_take_the_pixel_at_the_scaled_index() -> None:
    labels = torch.arange(240 * 320).view(240, 320) % 251
    network = labels_to_network(labels.to(torch.uint8), plan_aligned_frame(Size(240, 320)))
    rows = (torch.arange(481) * (240 / 481)).long()
    columns = (torch.arange(641) * (320 / 641)).long()
    assert network.dtype == torch.uint8
    assert torch.equal(network.long(), labels[rows][:, columns])


def test_convention_aligned_logits_meet_at_the_corners() -> None:
    """A ramp over the logits is a ramp over the pixels, from corner pixel to corner pixel."""
    geometry = plan_aligned_frame(Size(240, 320))
    rows, columns = geometry.logits_size
    ramp = torch.linspace(0, 1, rows)[:, None] + 10 * torch.linspace(0, 1, columns)
    found = logits_to_frame(ramp[None], geometry)[0]
    expected = torch.linspace(0, 1, 240)[:, None] + 10 * torch.linspace(0, 1, 320)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("device", ["pretended", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("is_aligned", [False, True])
def test_image_made_on_a_gpu_is_the_same(device: str, *, is_aligned: bool) -> None:
    frame = np.random.default_rng(8).integers(0, 256, (60, 80, 3), np.uint8)
    frame.setflags(write=False)  # as video files give them
    geometry = plan_aligned_frame(Size(60, 80)) if is_aligned else plan_frame(Size(60, 80))
    wanted = frame_to_image(frame, geometry, CPU)
    if device == "cuda":
        found = frame_to_image(frame, geometry, torch.device("cuda")).cpu()
    else:
        with pretend_cuda() as place:
            found = frame_to_image(frame, geometry, place).cpu()
    # One level of 255 where OpenCV rounds to the other side.
    limit = 1.01 / (255 * 0.224) if is_aligned else 0
    assert (found - wanted).abs().max() <= limit
    assert (found != wanted).float().mean() <= (0.01 if is_aligned else 0)


def test_many_tiny_objects_have_three_lines_and_one_for_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    geometry = plan_frame(Size(1080, 1920))
    with caplog.at_level(logging.WARNING):
        warn_of_tiny({ObjectId(number): number for number in range(1, 4)}, geometry)
        assert len(caplog.records) == 3
        caplog.clear()
        warn_of_tiny({ObjectId(number): 60 - number for number in range(5, 45)}, geometry)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[0] for line in lines[:3]] == [f"object {n} is tiny" for n in (5, 6, 7)]
    (rest,) = lines[3:]
    assert rest.startswith(
        "tiny objects beside these: 37, down to 16 pixels of the frame (object 44)"
    )
