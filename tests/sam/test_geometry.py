"""Position of the frame in SAM's input, against the package's own transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vots_hqtrack.sam.geometry import SamGeometry, masks_in_frame, scale_points
from vots_hqtrack.sam.models import Sam, build_sam
from vots_hqtrack.types import Size


@pytest.fixture(scope="module")
def sam() -> Sam:
    return build_sam("vit_tiny")


def _geometry(height: int, width: int) -> SamGeometry:
    scale = 1024 / max(height, width)
    input_size = Size(int(height * scale + 0.5), int(width * scale + 0.5))
    return SamGeometry(Size(height, width), input_size, side=1024, mask_side=256)


@pytest.mark.parametrize(
    "size", [(480, 854), (1024, 1024), (1023, 700), (33, 65), (1, 1), (2, 900), (700, 3)]
)
def test_masks_equal_the_packages_own(sam: Sam, size: tuple[int, int]) -> None:
    """To the last pixel, but for ties: rounding decides where the package's logit is 0 (seen once).

    The logits are of size 1, so 1e-6 is the rounding of a few sums in float32.
    """
    geometry = _geometry(*size)
    logits = torch.randn(2, 256, 256, generator=torch.Generator().manual_seed(3))
    own = sam.postprocess_masks(logits[:, None], geometry.input_size, geometry.frame_size)
    masks = masks_in_frame(logits, geometry)
    assert masks.dtype == torch.bool
    differs = masks != (own[:, 0] > 0)
    assert not (differs & (own[:, 0].abs() > 1e-6)).any()
    assert differs.sum() <= 2


def test_masks_need_only_the_pixels_that_the_frame_covers() -> None:
    geometry = _geometry(480, 854)
    rows, columns = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    discs = [100 - (rows - y) ** 2 - (columns - x) ** 2 for y, x in ((3, 5), (70, 90), (143, 250))]
    logits = torch.stack([*discs, discs[0].new_full((256, 256), -1)]).float()
    whole = masks_in_frame(logits, geometry)
    assert torch.equal(masks_in_frame(logits[:, :145], geometry), whole)
    assert whole.flatten(1).any(1).tolist() == [True, True, True, False]
    assert whole[0, 0, 0]
    assert whole[2, -1].any()


@pytest.mark.parametrize("size", [(480, 854), (33, 65), (1024, 1024), (700, 3)])
def test_a_window_of_the_masks_equals_that_of_the_whole(size: tuple[int, int]) -> None:
    geometry = _geometry(*size)
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(2, 256, 256, generator=generator)
    logits[1, 40:] = -1
    logits[1, :, 9:] = -1
    whole = masks_in_frame(logits, geometry)
    for top, bottom, left, right in ((0, 1, 0, 1), (0.2, 0.4, 0.1, 0.3), (0.9, 1, 0, 1)):
        rows, columns = (
            slice(int(first * (side - 1)), max(int(last * side), int(first * (side - 1)) + 1))
            for first, last, side in ((top, bottom, size[0]), (left, right, size[1]))
        )
        read = geometry.mask_window((rows, columns))
        known = torch.full_like(logits, -1)
        known[:, read[0], read[1]] = logits[:, read[0], read[1]]
        wanted = torch.zeros_like(whole)
        wanted[:, rows, columns] = whole[:, rows, columns]
        assert torch.equal(masks_in_frame(known, geometry, (rows, columns)), wanted)


def test_no_logits_give_no_masks() -> None:
    assert masks_in_frame(torch.zeros(0, 256, 256), _geometry(6, 8)).shape == (0, 6, 8)


@settings(max_examples=30)
@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0, 1), st.floats(0, 1))
def test_points_equal_the_packages_own(height: int, width: int, right: float, down: float) -> None:
    from segment_anything_hq.utils.transforms import ResizeLongestSide

    geometry = _geometry(height, width)
    point = np.array([[np.float32(right * width), np.float32(down * height)]])
    own = ResizeLongestSide(1024).apply_coords(point, (height, width)).astype(np.float32)
    scaled = scale_points(torch.from_numpy(point), geometry)
    assert scaled.dtype == torch.float32
    assert torch.equal(scaled, torch.from_numpy(own))


def test_covered_pixels_include_those_covered_in_part() -> None:
    geometry = SamGeometry(Size(481, 854), Size(577, 1024), side=1024, mask_side=256)
    assert geometry.mask_stride == 4
    assert geometry.covered == Size(145, 256)
