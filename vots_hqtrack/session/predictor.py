"""Interactive session: prompts on any frame, tracking in both directions, corrections.

On top of :class:`HQTracker`, with the method names that SAM 2's users write. A frame with a given
mask is a reference entry of the memory in every later run. Results are in a project folder.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import ConfigError, InputError, ShapeError
from vots_hqtrack.refiner import Box, Click, ObjectPrompt
from vots_hqtrack.session.project import (
    FrameRecord,
    GivenPrompt,
    ObjectInfo,
    ObjectRecord,
    Project,
    VideoFacts,
)
from vots_hqtrack.session.references import MAX_REFERENCES, signature_of
from vots_hqtrack.session.run import Run
from vots_hqtrack.session.state import FrameMasks, SessionState
from vots_hqtrack.session.video import Video, open_video
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import PROMPT_IDS, MaskArray, ObjectId, check_frame, is_prompt_id


class InteractivePredictor:
    """Tracks with prompts on any frame, in both directions.

    It holds weights only; a video's data is in the :class:`SessionState`.

    Args:
        tracker: The tracker; its preset has no latency budget.
        max_references: Frames with given masks that a run reads, at most. With more of them it
            takes the newest, the nearest, and those that differ the most; 1 or more.

    Raises:
        ConfigError: The preset has a latency budget, or ``max_references`` is below 1.

    Example:
        >>> predictor = InteractivePredictor.from_preset("lite")  # doctest: +SKIP
        >>> with predictor.init_state("frames", "project") as state:  # doctest: +SKIP
        ...     predictor.add_new_points_or_box(state, 0, 1, points=[[210, 350]], labels=[1])
        ...     for frame_idx, obj_ids, masks in predictor.propagate_in_video(state): ...
    """

    def __init__(self, tracker: HQTracker, *, max_references: int = MAX_REFERENCES) -> None:
        if tracker.config.runtime.frame_budget:
            raise ConfigError(
                "a session needs a preset without a latency budget, got runtime.frame_budget="
                f"{tracker.config.runtime.frame_budget:g}"
            )
        if max_references < 1:
            raise ConfigError(f"max_references must be at least 1, got {max_references}")
        self.tracker = tracker
        self.max_references = max_references

    @classmethod
    def from_preset(
        cls,
        name: str = "lite",
        *,
        device: str = "auto",
        weights: Path | None = None,
        settings: Iterable[str] = (),
    ) -> InteractivePredictor:
        """Build a predictor; arguments and errors as :meth:`HQTracker.from_preset`."""
        tracker = HQTracker.from_preset(name, device=device, weights=weights, settings=settings)
        return cls(tracker)

    def init_state(
        self, video: str | Path | Video, project: str | Path | None = None
    ) -> SessionState:
        """Open a video, and its project if there is one.

        Args:
            video: Folder of frames or video file, or frames at random access.
            project: Project folder: a new one, or one to go on with. None keeps the results in a
                temporary folder until the state is closed.

        Raises:
            InputError: The video cannot be read or is empty, or the folder cannot be used.
        """
        location = str(video) if isinstance(video, str | Path) else type(video).__name__
        frames = open_video(video) if isinstance(video, str | Path) else video
        if not len(frames):
            raise InputError(f"the video {location} has no frame")
        facts = VideoFacts(location, len(frames), check_frame(frames[0]))
        if project is not None:
            return SessionState(frames, Project(Path(project), facts))
        temporary = tempfile.TemporaryDirectory(prefix="hqtrack-")
        return SessionState(frames, Project(Path(temporary.name), facts), temporary)

    def add_new_points_or_box(
        self,
        state: SessionState,
        frame_idx: int,
        obj_id: int,
        points: Sequence[Sequence[float]] | npt.NDArray[np.floating] | None = None,
        labels: Sequence[int] | npt.NDArray[np.integer] | None = None,
        *,
        clear_old_points: bool = True,
        box: Sequence[float] | npt.NDArray[np.floating] | None = None,
        preview: Callable[[MaskArray], None] | None = None,
    ) -> FrameMasks:
        """Give an object's mask on a frame by clicks, a box, or both.

        Clicks correct the mask that the object has on the frame, given or tracked; a box replaces
        it.

        Args:
            state: The session.
            frame_idx: The frame, from 0.
            obj_id: The object, 1..1000 without 255; a new one is added.
            points: ``(K, 2)`` clicks ``(x, y)`` in frame pixels.
            labels: ``(K,)``, 1 inside the object and 0 outside of it.
            clear_old_points: Forget earlier clicks on this frame; False adds to them.
            box: ``(x0, y0, x1, y1)`` in frame pixels, edges.
            preview: Called with a similar ``(H, W)`` bool mask that is known sooner, if there is
                one and the frame is not encoded yet; nothing of it is kept.

        Returns:
            The frame's masks.

        Raises:
            ConfigError: The preset has no refiner.
            InputError: The frame does not exist, the prompts are not of this form or outside of the
                frame, or nothing was found.
        """
        clicks, frame_box = _read_clicks(points, labels), _read_box(box)
        if not clicks and frame_box is None:
            raise InputError("wanted points or a box, got neither")
        if frame_box is not None and not clear_old_points:
            raise InputError("a box replaces the mask: it cannot be added to old points")
        with state.lock:
            index, object_id = state.check_index(frame_idx), _check_object_id(obj_id)
            record = state.records.get(index, FrameRecord()).objects.get(object_id)
            known = record.prompt if record is not None else None
            old: tuple[Click, ...] = ()
            if known is not None and not clear_old_points:
                old, frame_box = known.clicks, known.box
            so_far = state.label_map(index) == object_id
            is_replaced = box is not None or not so_far.any()
            wanted = ObjectPrompt(old, frame_box, None if is_replaced else so_far)
            found = self._segment(state, index, wanted, clicks, preview)
            is_drawn = not is_replaced and known is not None and known.is_drawn
            given = GivenPrompt(old + clicks, frame_box, is_drawn)
            self._give(state, index, object_id, found, given)
            return state.masks(index)

    def gives_previews(self, state: SessionState) -> bool:
        """Whether frames that are not encoded yet get a preview by a click or box."""
        return self.tracker.plan_preview(state.size) is not None

    def encode_ahead(
        self, state: SessionState, frame_idx: int, *, is_preview: bool = False
    ) -> None:
        """Encode a frame, so that the first click on it need not wait for that.

        Another thread may call it; edits and runs go on meanwhile.

        Args:
            state: The session.
            frame_idx: The frame, from 0.
            is_preview: Encode only what a preview of the first click needs.

        Raises:
            InputError: The frame does not exist, or cannot be read.
        """
        if is_preview:
            state.encode_preview(self.tracker, frame_idx)
        else:
            state.encode(self.tracker, frame_idx, for_clicks=True)

    def add_new_mask(
        self, state: SessionState, frame_idx: int, obj_id: int, mask: MaskArray
    ) -> FrameMasks:
        """Give an object's mask on a frame; it wins over all others there.

        Args:
            state: The session.
            frame_idx: The frame, from 0.
            obj_id: The object, 1..1000 without 255; a new one is added.
            mask: ``(H, W)`` bool; all False says that a known object is not seen there.

        Returns:
            The frame's masks.

        Raises:
            InputError: The frame does not exist, or the mask of a new object is empty.
            ShapeError: The mask is of another shape or dtype.
        """
        with state.lock:
            index, object_id = state.check_index(frame_idx), _check_object_id(obj_id)
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
                got = getattr(mask, "dtype", type(mask).__name__)
                raise ShapeError(f"a mask must be a bool array of the size {state.size}, got {got}")
            if mask.shape != tuple(state.size):
                raise ShapeError(f"a mask must have the frame size {state.size}, got {mask.shape}")
            if not mask.any() and object_id not in state.object_ids:
                raise InputError(f"the first mask of object {object_id} is empty")
            self._give(state, index, object_id, mask, GivenPrompt(is_drawn=True))
            return state.masks(index)

    def paint(
        self,
        state: SessionState,
        frame_idx: int,
        obj_id: int,
        points: Sequence[Sequence[float]],
        radius: float,
        *,
        erase: bool = False,
    ) -> FrameMasks:
        """Paint on an object's mask, or erase from it, with a round brush.

        Args:
            state: The session.
            frame_idx: The frame, from 0.
            obj_id: The object, 1..1000 without 255; a new one is added.
            points: ``(K, 2)`` way of the brush, ``(x, y)`` in frame pixels.
            radius: Radius of the brush in pixels.
            erase: Take pixels from the mask.

        Raises:
            InputError: The frame does not exist, or the points or the radius are none.
        """
        way = _read_numbers(points, "points")
        if way.ndim != 2 or way.shape[1] != 2 or not len(way):
            raise InputError(f"the way of a brush must be (K, 2), got {way.shape}")
        if not 0 < radius < math.inf:
            raise InputError(f"the radius of a brush must be above 0, got {radius}")
        with state.lock:
            index, object_id = state.check_index(frame_idx), _check_object_id(obj_id)
            painted = np.zeros(state.size, np.uint8)
            # A pixel's centre is half a pixel from its edge.
            places = np.rint(np.clip(way, -1e6, 1e6) - 0.5).astype(np.int32)
            for start, end in zip(places, [*places[1:], places[-1]], strict=True):
                cv2.line(painted, start.tolist(), end.tolist(), 1, max(round(2 * radius), 1))
            mask = state.label_map(index) == object_id
            mask = mask & (painted == 0) if erase else mask | (painted == 1)
            return self.add_new_mask(state, index, object_id, mask)

    def propagate_in_video(
        self,
        state: SessionState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        *,
        reverse: bool = False,
    ) -> Generator[FrameMasks, None, None]:
        """Track all objects that have a given mask on any frame.

        Each frame is on disk when it is yielded. The generator may be closed at any time. Frames
        that were given or tracked before count at the start frame only: a run goes on from its
        masks, and predicts them where there are none.

        Args:
            state: The session.
            start_frame_idx: Frame to begin with, which is yielded first; by default the first frame
                with a given mask, the last one for ``reverse``.
            max_frame_num_to_track: Frames after it, at most; None goes to the end.
            reverse: Track towards the first frame.

        Yields:
            The frame's masks in the project, after the rule of runs that meet.

        Raises:
            InputError: Nothing is given, or the frame does not exist.
        """
        given = state.given_frames()
        if not given:
            raise InputError("nothing to track: give a mask, points or a box on any frame first")
        if max_frame_num_to_track is not None and max_frame_num_to_track < 0:
            raise InputError(
                f"max_frame_num_to_track must be 0 or more, got {max_frame_num_to_track}"
            )
        start = given[-1 if reverse else 0] if start_frame_idx is None else start_frame_idx
        return self._propagate(
            state, state.check_index(start), max_frame_num_to_track, -1 if reverse else 1
        )

    def propagate_to(
        self, state: SessionState, frame_idx: int
    ) -> Generator[FrameMasks, None, None]:
        """Track to a frame from the nearest one with a given mask; else as propagate_in_video."""
        given = [index for index in state.given_frames() if index != state.check_index(frame_idx)]
        start = min(given, key=lambda index: abs(index - frame_idx), default=None)
        length = 0 if start is None else abs(frame_idx - start)
        reverse = start is not None and frame_idx < start
        return self.propagate_in_video(state, start, length, reverse=reverse)

    def propagate_correction(
        self, state: SessionState, frame_idx: int
    ) -> Generator[FrameMasks, None, None]:
        """Track again what a given mask changes: up to the given masks before and after it.

        From the frame in both directions, and from those given frames towards it, so that all masks
        between them come from runs that know the correction; else as propagate_in_video.

        Raises:
            InputError: Nothing is given on the frame, or it does not exist.
        """
        runs = state.correction_runs(frame_idx)
        return (
            found
            for start, stop in runs
            for found in self.propagate_in_video(
                state, start, abs(stop - start), reverse=stop < start
            )
        )

    def clear_all_prompts_in_frame(
        self, state: SessionState, frame_idx: int, obj_id: int
    ) -> FrameMasks:
        """Take an object's prompts on a frame back; it has no mask there until it is tracked.

        Raises:
            InputError: The frame does not exist, or the object does not exist.
        """
        with state.lock:
            index, object_id = state.check_index(frame_idx), _known_object(state, obj_id)
            record = state.records.get(index)
            if record is not None and object_id in record.given:
                state.note_edit(index)
                _drop_object(state, index, object_id)
            return state.masks(index)

    def remove_object(self, state: SessionState, obj_id: int) -> tuple[ObjectId, ...]:
        """Remove an object from all frames; returns those that are left.

        Raises:
            InputError: The object does not exist, or the state is closed.
        """
        with state.lock:
            state.check_open()
            object_id = _known_object(state, obj_id)
            # The frames first: where this is interrupted, the object can be removed again.
            for index in [i for i, record in state.records.items() if object_id in record.objects]:
                _drop_object(state, index, object_id)
            del state.project.objects[object_id]
            state.project.save()
            state.forget_edits()
            return state.object_ids

    def reset_state(self, state: SessionState) -> None:
        """Remove all prompts, masks and objects.

        Raises:
            InputError: The state is closed.
        """
        with state.lock:
            state.check_open()
            for index in list(state.records):
                state.project.delete_frame(index)
            state.project.objects.clear()
            state.project.save()
            state.forget_edits()

    def undo(self, state: SessionState) -> int | None:
        """Take the newest edit of a frame back; returns its frame, or None where there is none.

        The last 50 edits since the session was opened, or an object was removed, can be undone.
        What was tracked since stays on other frames.

        Raises:
            InputError: The state is closed.
        """
        with state.lock:
            state.check_open()
            return state.undo()

    def _segment(
        self,
        state: SessionState,
        index: int,
        prompt: ObjectPrompt,
        clicks: tuple[Click, ...],
        preview: Callable[[MaskArray], None] | None,
    ) -> MaskArray:
        """Segment what a prompt and further clicks name on a frame, and a preview before."""
        rough = None if preview is None else state.encode_preview(self.tracker, index)
        if preview is not None and rough is not None:
            found = _decode(self.tracker, rough, prompt, clicks)
            if found.any():
                preview(found)
        encoded = state.encode(self.tracker, index, for_clicks=True)
        found = _decode(self.tracker, encoded, prompt, clicks)
        if not found.any():
            raise InputError(f"the refiner found no object there on frame {index}")
        return found

    def _give(
        self,
        state: SessionState,
        index: int,
        object_id: ObjectId,
        mask: MaskArray,
        prompt: GivenPrompt,
    ) -> None:
        """Put a given mask over all others of its frame."""
        is_new = object_id not in state.object_ids
        state.note_edit(index, added=object_id if is_new else None)
        if is_new:
            state.project.objects[object_id] = ObjectInfo(f"object {object_id}")
            state.project.save()
        label_map = state.label_map(index)
        label_map[label_map == object_id] = 0
        label_map[mask] = object_id
        record = state.records.get(index, FrameRecord())
        objects = {**record.objects, object_id: ObjectRecord(1.0, "given", index, prompt=prompt)}
        seen = set(np.flatnonzero(np.bincount(label_map.ravel())).tolist())
        objects = {  # the mask may have covered others wholly, and be empty itself
            number: found if number in seen else replace(found, score=0.0)
            for number, found in objects.items()
        }
        edit = 1 + max((found.edit for found in state.records.values()), default=0)
        given = [number for number, found in objects.items() if found.is_given]
        signature = signature_of(state.frame(index), np.isin(label_map, given))
        state.project.write_frame(index, label_map, FrameRecord(objects, edit, signature))

    def _propagate(
        self, state: SessionState, start: int, limit: int | None, step: int
    ) -> Generator[FrameMasks, None, None]:
        last = state.num_frames - 1 if step > 0 else 0
        length = abs(last - start) if limit is None else min(limit, abs(last - start))
        with state.lock:
            state.check_index(start)
            run = Run(
                self.tracker,
                state,
                start,
                step,
                max_references=self.max_references,
                length=length,
            )
        yield state.masks(start) if run.is_known else run.track(start)
        for offset in range(1, length + 1):
            if state.is_closed:
                return
            yield run.track(start + step * offset)


def _decode(
    tracker: HQTracker, encoded: EncodedFrame, prompt: ObjectPrompt, clicks: tuple[Click, ...]
) -> MaskArray:
    """Segment what a prompt and further clicks name.

    Each click corrects the mask near it; without a mask they say together what is meant.
    """
    old, mask = prompt.clicks, prompt.mask
    if mask is None:
        return tracker.segment(encoded, ObjectPrompt(old + clicks, prompt.box))
    for count in range(1, len(clicks) + 1):
        mask = tracker.segment(encoded, ObjectPrompt(old + clicks[:count], prompt.box, mask))
    return mask


def _read_clicks(
    points: Sequence[Sequence[float]] | npt.NDArray[np.floating] | None,
    labels: Sequence[int] | npt.NDArray[np.integer] | None,
) -> tuple[Click, ...]:
    """Check clicks and their labels, which come together."""
    if (points is None) != (labels is None):
        raise InputError("points and labels come together, one label a point")
    if points is None or labels is None:
        return ()
    places = _read_numbers(points, "points")
    kinds = _read_numbers(labels, "labels")
    if places.size == kinds.size == 0:
        return ()
    if places.ndim != 2 or places.shape[1] != 2 or kinds.shape != places.shape[:1]:
        raise InputError(
            f"points must be (K, 2) with K labels, got {places.shape} and {kinds.shape}"
        )
    if not np.isin(kinds, (0, 1)).all():
        raise InputError(f"labels are 1 inside the object or 0 outside, got {kinds.tolist()}")
    return tuple(
        Click(x, y, bool(kind)) for (x, y), kind in zip(places.tolist(), kinds, strict=True)
    )


def _read_box(box: Sequence[float] | npt.NDArray[np.floating] | None) -> Box | None:
    """Check a box ``(x0, y0, x1, y1)``, and return it as the refiner has it."""
    if box is None:
        return None
    corners = _read_numbers(box, "a box")
    if corners.size != 4:
        raise InputError(f"a box is x0, y0, x1, y1, got {corners.size} numbers")
    x0, y0, x1, y1 = corners.ravel().tolist()
    if not (x0 < x1 and y0 < y1):
        raise InputError(f"a box has x0 < x1 and y0 < y1, got {x0:g}, {y0:g}, {x1:g}, {y1:g}")
    return x0, y0, x1 - x0, y1 - y0


def _read_numbers(values: object, what: str) -> npt.NDArray[np.float64]:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise InputError(f"{what} must be finite numbers")
    return numbers


def _check_object_id(obj_id: int) -> ObjectId:
    number = obj_id if isinstance(obj_id, int | np.integer) else math.nan
    if not is_prompt_id(number):
        raise InputError(f"object ids must be whole numbers from {PROMPT_IDS}, got {obj_id!r}")
    return ObjectId(int(number))


def _known_object(state: SessionState, obj_id: int) -> ObjectId:
    if obj_id not in state.object_ids:
        known = [int(number) for number in state.object_ids]
        raise InputError(f"object {obj_id} is not known; known are {known}")
    return ObjectId(int(obj_id))


def _drop_object(state: SessionState, index: int, object_id: ObjectId) -> None:
    """Remove an object from one frame."""
    record, label_map = state.records[index], state.label_map(index)
    label_map[label_map == object_id] = 0
    objects = {number: found for number, found in record.objects.items() if number != object_id}
    if not objects:
        state.project.delete_frame(index)
        return
    kept = FrameRecord(objects, record.edit, record.signature)
    state.project.write_frame(index, label_map, kept if kept.given else FrameRecord(objects))
