"""CVAT's tracking function, with the types of CVAT's own SDK."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from two_discs import draw_video

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.integrations.cvat import CvatTracker, to_mask, to_points
from vots_hqtrack.types import Size

auto_annotation = pytest.importorskip("cvat_sdk.auto_annotation")
masks = pytest.importorskip("cvat_sdk.masks")


class Context(auto_annotation.TrackingFunctionShapeContext):
    """Context that CVAT's agent gives."""

    def __init__(self, kind: str) -> None:
        self.original_shape_type = kind

    original_shape_type = ""


def follow(tracker, kind: str) -> list[float]:
    """Track a disc as a shape; returns the IoU with the true shape on each frame."""
    video = draw_video(3)
    function, context = CvatTracker(tracker), Context(kind)
    assert kind in function.spec.supported_shape_types
    images = [
        function.preprocess_image(context, Image.fromarray(frame).convert("RGBA"))
        for frame, _ in video
    ]
    assert np.array_equal(images[0], video[0][0])
    size, scores = Size(*images[0].shape[:2]), []
    shapes = [to_points(masks[1], kind) for _, masks in video]
    first = auto_annotation.TrackableShape(type=kind, points=shapes[0])
    state = function.init_tracking_state(context, images[0], first)
    for image, points in zip(images[1:], shapes[1:], strict=True):
        found = function.track(context, image, state)
        assert isinstance(found, auto_annotation.TrackableShape)
        assert found.type == kind
        pair = [to_mask(kind, shape, size) for shape in (found.points, points)]
        scores.append(float((pair[0] & pair[1]).sum() / (pair[0] | pair[1]).sum()))
    return scores


@pytest.mark.weights
@pytest.mark.parametrize("kind", ["mask", "polygon"])
def test_a_shape_is_found_on_the_next_frames(quick_tracker, kind):
    assert min(follow(quick_tracker, kind)) > 0.6


@pytest.mark.weights
def test_rectangles_need_a_refiner(quick_tracker):
    from vots_hqtrack.tracker import HQTracker

    assert CvatTracker(quick_tracker).spec.supported_shape_types == {"mask", "polygon"}
    tracker = HQTracker.from_preset("lite", device="cpu", settings=["frame.long_edge=256"])
    assert min(follow(tracker, "rectangle")) > 0.6


def test_an_object_that_is_not_seen_has_no_shape():
    empty = np.zeros((5, 6), bool)
    assert [to_points(empty, kind) for kind in ("mask", "polygon", "rectangle")] == [None] * 3


@settings(max_examples=50)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0.05, 1))
def test_masks_are_points_as_the_sdk_writes_and_reads_them(height, width, seed, density):
    mask = np.random.default_rng(seed).random((height, width)) < density
    mask[0, 0] = True
    points = to_points(mask, "mask")
    assert points == masks.encode_mask(mask)
    assert np.array_equal(masks.decode_mask(points, image_width=width, image_height=height), mask)
    assert np.array_equal(to_mask("mask", [float(p) for p in points], Size(height, width)), mask)
    corners = to_points(mask, "polygon")
    assert len(corners) >= 6
    assert to_mask("polygon", corners, Size(height, width)).any() or mask.sum() < 9


def test_a_polygon_outlines_the_largest_part():
    mask = np.zeros((30, 40), bool)
    mask[2:5, 2:5] = True
    mask[8:28, 10:35] = True
    points = to_points(mask, "polygon")
    assert len(points) <= 16
    found = to_mask("polygon", points, Size(30, 40))
    mask[2:5, 2:5] = False
    assert (found & mask).sum() / (found | mask).sum() > 0.9


@pytest.mark.parametrize(
    ("kind", "points"),
    [("ellipse", [1, 2, 3, 4]), ("polygon", [1, 2, 3]), ("mask", [1, 2]), ("rectangle", [1] * 5)],
)
def test_exception_shapes_of_another_kind(kind, points):
    with pytest.raises(InputError, match="wanted a mask, polygon, rectangle of CVAT"):
        to_mask(kind, points, Size(5, 5))


def test_without_the_sdk_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cvat_sdk.auto_annotation", None)
    with pytest.raises(ConfigError, match=r"needs the extra cvat: pip install"):
        CvatTracker(None)
