"""CVAT's tracking function: the tracker behind the annotation tool (extra ``cvat``).

``cvat-cli`` loads this module by name and calls :func:`create`; see docs/cvat.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.extras import missing_extra
from vots_hqtrack.memory import TrackState
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId, Size, check_frame
from vots_hqtrack.video.label_maps import mask_box
from vots_hqtrack.vot.region_text import (
    encode_region,
    fill_polygon,
    fill_rectangle,
    place_runs,
)

if TYPE_CHECKING:
    from cvat_sdk.auto_annotation import TrackableShape, TrackingFunctionSpec
    from PIL.Image import Image

SHAPES = ("mask", "polygon", "rectangle")
_OBJECT = ObjectId(1)
_TOLERANCE = 1.0
"""Pixels by which a polygon may leave the outline of its mask, so that it has few corners."""


@dataclass(slots=True)
class ShapeState:
    """State of one shape that CVAT tracks.

    Attributes:
        kind: Kind of the shape, which every frame gets.
        video: State of the video with this one object.
    """

    kind: str
    video: TrackState


class CvatTracker:
    """A ``TrackingFunction`` of CVAT's SDK: masks, polygons and rectangles, each tracked alone.

    Args:
        tracker: The tracker; one without a refiner, which makes masks of rectangles, takes none.

    Raises:
        ConfigError: The extra ``cvat`` is not installed.
    """

    def __init__(self, tracker: HQTracker) -> None:
        try:
            from cvat_sdk.auto_annotation import TrackableShape, TrackingFunctionSpec
        except ImportError as error:
            raise missing_extra("CVAT's tracking function", "cvat", error) from error
        self._tracker = tracker
        self._make_shape = TrackableShape
        kinds = SHAPES if tracker.config.refiner.enabled else SHAPES[:-1]
        self._spec = TrackingFunctionSpec(supported_shape_types=frozenset(kinds))

    @property
    def spec(self) -> TrackingFunctionSpec:
        """Shapes that can be tracked."""
        return self._spec

    def preprocess_image(self, context: object, image: Image) -> FrameArray:
        """Turn an image into a frame, uint8 ``(H, W, 3)`` RGB."""
        del context
        return np.array(image.convert("RGB"), dtype=np.uint8)

    def init_tracking_state(
        self, context: object, pp_image: FrameArray, shape: TrackableShape
    ) -> ShapeState:
        """Start to track a shape on a frame.

        Raises:
            InputError: The shape has no pixel, or is of another kind.
        """
        del context
        mask = self._to_mask(pp_image, shape.type, shape.points)
        return ShapeState(shape.type, self._tracker.initialize(pp_image, {_OBJECT: mask}))

    def track(
        self, context: object, pp_image: FrameArray, state: ShapeState
    ) -> TrackableShape | None:
        """Find the shape on the next frame; None where the object is not seen."""
        del context
        mask = self._tracker.track(pp_image, state.video).masks[_OBJECT]
        points = to_points(mask, state.kind)
        return None if points is None else self._make_shape(type=state.kind, points=points)

    def _to_mask(self, frame: FrameArray, kind: str, points: Sequence[float]) -> MaskArray:
        if kind != "rectangle":
            return to_mask(kind, points, check_frame(frame))
        x0, y0, x1, y1 = points
        return self._tracker.mask_from_box(frame, (x0, y0, x1 - x0, y1 - y0))


def create(preset: str = "lite", device: str = "auto", weights: str | None = None) -> CvatTracker:
    """Make the tracking function, as ``cvat-cli`` does with its ``-p`` options.

    Args:
        preset: Name of a preset.
        device: Compute device.
        weights: File of VMOS weights in place of the preset's.

    Raises:
        ConfigError: An option is unknown, or the extra ``cvat`` is not installed.
        WeightsError: Weights are missing or do not fit.
    """
    path = None if weights is None else Path(weights)
    return CvatTracker(HQTracker.from_preset(preset, device=device, weights=path))


def to_mask(kind: str, points: Sequence[float], size: Size) -> MaskArray:
    """Fill a shape of CVAT: bool ``(H, W)``.

    Args:
        kind: One of `SHAPES`.
        points: Run lengths in row order, then ``left, top, right, bottom`` of their box, inclusive;
            or corners ``x, y, x, y, ...``; or ``left, top, right, bottom`` in pixel edges.
        size: Size of the frame.

    Raises:
        InputError: The kind is another one, or the points do not fit it.
    """
    if kind == "polygon" and len(points) >= 6 and len(points) % 2 == 0:
        return fill_polygon(np.reshape(points, (-1, 2)), size)
    if kind == "rectangle" and len(points) == 4:
        x0, y0, x1, y1 = points
        return fill_rectangle((x0, y0, x1 - x0, y1 - y0), size)
    if kind == "mask" and len(points) >= 5:
        *runs, left, top, right, bottom = (int(value) for value in points)
        box = Size(bottom - top + 1, right - left + 1)
        return place_runs((left, top), box, runs, size)
    raise InputError(f"wanted a {', '.join(SHAPES)} of CVAT, got {len(points)} points of a {kind}")


def to_points(mask: MaskArray, kind: str) -> list[float] | None:
    """Describe a mask as a shape of CVAT; None if it is empty.

    A polygon outlines the largest part of the mask, without its holes.

    Args:
        mask: Bool ``(H, W)``.
        kind: One of `SHAPES`.
    """
    if (box := mask_box(mask)) is None:
        return None
    left, top, width, height = box
    if kind == "rectangle":
        return [left, top, left + width, top + height]
    if kind == "mask":
        runs = encode_region(mask)[1:].split(",")[4:]
        return [*map(int, runs), left, top, left + width - 1, top + height - 1]
    # Doubled, so that the outline of a pixel is a square around it, and not a point.
    doubled: FrameArray = np.kron(mask, np.ones((2, 2), np.bool_)).astype(np.uint8)
    outlines, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    largest = max(outlines, key=cv2.contourArea)
    smooth = cv2.approxPolyDP(largest, 2 * _TOLERANCE, closed=True)
    corners = (smooth if len(smooth) >= 3 else largest).reshape(-1, 2)
    return [float(value) for value in ((corners + 0.5) / 2).ravel()]
