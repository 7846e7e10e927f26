"""Masks for McByte, a tracker of detections in Roboflow's ``trackers`` (extra ``trackers``).

McByte joins the boxes of a detector into tracks. Where boxes alone leave it open which is which, it
asks for masks: one of each new track, and where these masks are on the next frame. Both come from
this package here, in place of SAM and Cutie; see docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vots_hqtrack.errors import ConfigError, ShapeError
from vots_hqtrack.extras import missing_extra
from vots_hqtrack.formats.stream import paint_masks, split_ids
from vots_hqtrack.masks import split_label_map
from vots_hqtrack.memory import TrackState
from vots_hqtrack.refiner import Box, ObjectPrompt
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import (
    MAX_OBJECTS,
    SLOTS_PER_GROUP,
    FrameArray,
    MaskArray,
    ObjectId,
    Size,
    check_frame,
    check_object_id,
)

if TYPE_CHECKING:
    from trackers.core.mcbyte.mask_manager import MaskManager
    from trackers.core.mcbyte.masks import MaskOutput, TrackletSnapshot


def mask_manager(tracker: HQTracker) -> MaskManager:
    """Make what ``McByteTracker`` takes as ``mask_manager``, for one video at a time.

    Args:
        tracker: The tracker; one without a refiner cannot make masks of boxes.

    Raises:
        ConfigError: The tracker has no refiner, or the extra ``trackers`` is not installed.

    Example:
        >>> from trackers import McByteTracker  # doctest: +SKIP
        >>> mcbyte = McByteTracker(mask_manager=mask_manager(tracker))  # doctest: +SKIP
        >>> tracked = mcbyte.update(detections, frame)  # doctest: +SKIP
    """
    try:
        from trackers.core.mcbyte.mask_manager import MaskManager
    except ImportError as error:
        raise missing_extra("McByte's masks", "trackers", error) from error
    return MaskManager(McByteMaskGenerator(tracker), McByteMaskPropagator(tracker))


class McByteMaskGenerator:
    """A ``MaskGenerator`` of McByte: masks of the boxes of new tracks, by the refiner.

    Args:
        tracker: A tracker with a refiner.

    Raises:
        ConfigError: The tracker has no refiner, or the extra ``trackers`` is not installed.
    """

    def __init__(self, tracker: HQTracker) -> None:
        if not tracker.config.refiner.enabled:
            name = tracker.config.preset
            raise ConfigError(f"masks of boxes need a preset with a refiner, got {name!r}")
        self._tracker = tracker
        self._make_output = _find_output_class()

    def generate(self, frame: FrameArray, tracklets: Sequence[TrackletSnapshot]) -> MaskOutput:
        """Segment the content of each track's box.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB.
            tracklets: Tracks with their boxes.

        Returns:
            Bool ``(N, H, W)``; a track in the box of which nothing is found has none.
        """
        size, encoded = check_frame(frame), self._tracker.encode(frame)
        masks: dict[int, MaskArray] = {}
        for tracklet in tracklets:
            box = _clip_box(tracklet.xyxy, size)
            mask = None if box is None else self._tracker.segment(encoded, ObjectPrompt(box=box))
            if mask is not None and mask.any():
                masks[tracklet.tracker_id] = mask
        return self._make_output(_stack(masks, size), _rows(masks))


class McByteMaskPropagator:
    """A ``MaskPropagator`` of McByte: the tracker finds the masks of all tracks on the next frame.

    The slot of a track that ended is not used again, and keeps its object. Once such slots
    outnumber the others by ten, or 1,000 are used, or a new track has the object of an ended one,
    the memory begins again with the masks of the last frame; tracks that are not seen there go on
    without a mask.

    Args:
        tracker: The tracker.

    Raises:
        ConfigError: The extra ``trackers`` is not installed.
    """

    def __init__(self, tracker: HQTracker) -> None:
        self._tracker = tracker
        self._make_output = _find_output_class()
        self._state: TrackState | None = None
        self._numbers: dict[int, ObjectId] = {}

    def reset(self) -> None:
        """Forget the video; the next masks begin a new one."""
        self._state, self._numbers = None, {}

    def initialize(self, frame: FrameArray, mask_output: MaskOutput) -> None:
        """Begin a video with the masks of some tracks on a frame."""
        self.reset()
        self.add_masks(frame, mask_output)

    def add_masks(self, frame: FrameArray, mask_output: MaskOutput) -> None:
        """Add tracks on the frame that was tracked last; of two masks the smaller lies above.

        A mask without a pixel of its own is left out: McByte goes on without one.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB.
            mask_output: Masks of tracks that have none yet.

        Raises:
            InputError: There are more than 1,000 masks at a time.
            ShapeError: The frame or a mask has another size than the video.
        """
        size = check_frame(frame)
        new = _masks_of(mask_output, size)
        if not new:
            return
        state, seen = self._state, self._seen_masks(frame)
        known = {
            track: seen.pop(number) for track, number in self._numbers.items() if number in seen
        }
        used = 0 if state is None else max(state.slots.object_ids)
        is_full = used + len(new) > min(2 * len(known | new) + SLOTS_PER_GROUP, MAX_OBJECTS)
        if state is None or is_full or _is_one_of(new.values(), seen.values()):
            numbers = {
                track: check_object_id(number) for number, track in enumerate(known | new, 1)
            }
            visible = _visible_masks(known | new, numbers, size)
            self._state = self._tracker.initialize(frame, visible) if visible else None
            self._numbers = {
                track: number for track, number in numbers.items() if number in visible
            }
            return
        added = {track: check_object_id(number) for number, track in enumerate(new, used + 1)}
        visible = _visible_masks(known | new, self._numbers | added, size)
        given = {int(number): visible[number] for number in added.values() if number in visible}
        if given:
            self._tracker.add_objects(frame, given, state)
        self._numbers |= {track: number for track, number in added.items() if number in given}

    def remove_masks(self, tracklet_ids: Sequence[int]) -> None:
        """Forget tracks that ended."""
        for track in tracklet_ids:
            self._numbers.pop(track, None)
        if not self._numbers:
            self.reset()

    def propagate(self, frame: FrameArray) -> MaskOutput | None:
        """Find the masks on the next frame; None before the first masks.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB.

        Returns:
            Bool ``(N, H, W)`` of all tracks, and their scores as confidences.
        """
        if self._state is None:
            return None
        result = self._tracker.track(frame, self._state)
        masks = {track: result.masks[number] for track, number in self._numbers.items()}
        scores = {track: result.scores[number] for track, number in self._numbers.items()}
        return self._make_output(_stack(masks, check_frame(frame)), _rows(masks), scores)

    def _seen_masks(self, frame: FrameArray) -> dict[ObjectId, MaskArray]:
        """Return the masks that are seen on a frame, tracking it if it is a later one."""
        if self._state is None:
            return {}
        if not self._state.has_seen(frame):  # McByte passed over a frame without new time
            self._tracker.track(frame, self._state)
        return split_label_map(self._state.label_map)


def _find_output_class() -> type[MaskOutput]:
    try:
        from trackers.core.mcbyte.masks import MaskOutput
    except ImportError as error:
        raise missing_extra("McByte's masks", "trackers", error) from error
    found: type[MaskOutput] = MaskOutput
    return found


def _clip_box(corners: Sequence[float], size: Size) -> Box | None:
    """Cut the corners ``left, top, right, bottom`` to the frame; None where nothing is left."""
    limits = (size.width, size.height) * 2
    x0, y0, x1, y1 = (
        min(max(float(edge), 0.0), float(limit))
        for edge, limit in zip(corners, limits, strict=True)
    )
    return (x0, y0, x1 - x0, y1 - y0) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


def _masks_of(output: MaskOutput, size: Size) -> dict[int, MaskArray]:
    """Return the masks by track."""
    masks = np.zeros((0, *size), np.bool_) if output.masks is None else output.masks
    if masks.shape[1:] != size:
        raise ShapeError(f"masks must be (N, H, W) of the frame size {size}, got {masks.shape}")
    rows = output.tracklet_mask_dict.items()
    return {track: masks[row].astype(np.bool_) for track, row in rows if row < len(masks)}


def _is_one_of(masks: Iterable[MaskArray], ended: Collection[MaskArray]) -> bool:
    """Check whether one of the masks shares more than half of the smaller with an ended track's."""
    return any(
        2 * np.count_nonzero(mask & other) > min(np.count_nonzero(mask), np.count_nonzero(other))
        for mask in masks
        for other in ended
    )


def _visible_masks(
    masks: dict[int, MaskArray], numbers: dict[int, ObjectId], size: Size
) -> dict[int, MaskArray]:
    """Give each pixel to the smallest mask; masks without a pixel are left out."""
    return split_ids(paint_masks({numbers[track]: masks[track] for track in masks}, size))


def _stack(masks: dict[int, MaskArray], size: Size) -> MaskArray:
    return np.stack(list(masks.values())) if masks else np.zeros((0, *size), np.bool_)


def _rows(masks: dict[int, MaskArray]) -> dict[int, int]:
    return {track: row for row, track in enumerate(masks)}
