"""State of an interactive session: one video in work, with its project and what is kept of it."""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vots_hqtrack.encoder.frames import EncodedFrame
from vots_hqtrack.errors import InputError
from vots_hqtrack.masks import split_label_map
from vots_hqtrack.result import FrameResult
from vots_hqtrack.session.project import FrameRecord, ObjectInfo, Project
from vots_hqtrack.session.video import Video, fps_of, named_frame
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import (
    MAX_OBJECTS,
    FrameArray,
    LabelArray,
    ObjectId,
    Size,
    check_frame,
    label_dtype,
)
from vots_hqtrack.video.reader import NamedFrame

_ENCODED_FRAMES = 4
_UNDO_STEPS = 50


class FrameMasks(NamedTuple):
    """Masks of one frame, in the order that SAM 2's methods return.

    Attributes:
        frame_idx: Index of the frame.
        obj_ids: All objects of the session, ascending.
        masks: ``(N, H, W)`` bool, in the order of ``obj_ids``.
    """

    frame_idx: int
    obj_ids: list[int]
    masks: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Edit:
    """A frame before an edit; no record where nothing was known, and the object that it added."""

    frame_index: int
    label_map: LabelArray
    record: FrameRecord | None
    added: ObjectId | None


class SessionState:
    """One video in work, made by :meth:`InteractivePredictor.init_state`.

    It is a context manager. Threads may share it: each method of the predictor, and each step of a
    run, holds its lock.

    Attributes:
        video: The frames.
        project: Project folder with the results.
        lock: Held while something changes.
    """

    def __init__(self, video: Video, project: Project, keep: object = None) -> None:
        self.video = video
        self.project = project
        self.lock = threading.RLock()
        self._video_lock = threading.Lock()
        self._encode_lock = threading.Lock()
        self._keep = keep
        self._encoded: OrderedDict[int, EncodedFrame] = OrderedDict()
        self._encoder: HQTracker | None = None
        self._preview_lock = threading.Lock()
        self._preview: tuple[HQTracker, int, EncodedFrame] | None = None
        self._edits: deque[_Edit] = deque(maxlen=_UNDO_STEPS)
        self.is_closed = False

    def __enter__(self) -> SessionState:
        """Return the state."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Release the project; a run ends before its next frame."""
        with self.lock:
            self.is_closed = True
            with self._encode_lock, self._preview_lock:
                self._encoded.clear()
                self._preview = None
            self.project.close()
            if isinstance(self._keep, tempfile.TemporaryDirectory):
                self._keep.cleanup()

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return self.project.video.num_frames

    @property
    def size(self) -> Size:
        """Size of a frame."""
        return self.project.video.size

    @property
    def fps(self) -> float:
        """Frames per second."""
        return fps_of(self.video)

    @property
    def object_ids(self) -> tuple[ObjectId, ...]:
        """All objects, ascending."""
        return tuple(sorted(self.project.objects))

    @property
    def records(self) -> Mapping[int, FrameRecord]:
        """Scores and prompts by frame, of the frames that have any.

        A run adds frames: whoever goes through them beside one takes a ``dict`` of them first.
        """
        return self.project.records

    @property
    def can_undo(self) -> bool:
        """Whether there is an edit to undo."""
        return bool(self._edits)

    def label_map(self, frame_idx: int) -> LabelArray:
        """``(H, W)`` object ids of a frame, 0 = background and where nothing is known."""
        label_map = self.project.read_label_map(self.check_index(frame_idx))
        ids = list(self.object_ids)
        known = np.zeros(MAX_OBJECTS + 1, label_dtype(max(ids, default=0)))
        known[ids] = ids
        return known[label_map]

    def masks(self, frame_idx: int) -> FrameMasks:
        """Return the masks of a frame; all False for objects that are not known there."""
        found = split_label_map(self.label_map(frame_idx), self.object_ids)
        masks = np.stack(list(found.values())) if found else np.zeros((0, *self.size), np.bool_)
        return FrameMasks(frame_idx, [int(number) for number in found], masks)

    def scores(self, object_id: ObjectId) -> dict[int, float]:
        """Scores of an object by frame, where it was given or tracked; 0 where it is not seen."""
        return {
            index: record.objects[object_id].score
            for index, record in sorted(dict(self.records).items())
            if object_id in record.objects
        }

    def given_frames(self, object_id: ObjectId | None = None) -> list[int]:
        """Return the frames with given masks, of one object or of any, ascending.

        Frames where the object was given as not seen do not count.
        """
        return sorted(
            index
            for index, record in dict(self.records).items()
            if any(
                found.is_given and found.score > 0 and object_id in (None, number)
                for number, found in record.objects.items()
            )
        )

    def doubtful_frames(self, score: float) -> list[int]:
        """Return the frames on which an object has a lower score, or is not seen, ascending."""
        return sorted(
            index
            for index, record in dict(self.records).items()
            if any(found.score < score and not found.is_given for found in record.objects.values())
        )

    def is_given(self, object_id: ObjectId, frame_idx: int) -> bool:
        """Whether the user gave an object's mask on a frame."""
        record = self.records.get(frame_idx)
        return record is not None and object_id in record.given

    def correction_runs(self, frame_idx: int) -> list[tuple[int, int]]:
        """Plan the runs of :meth:`InteractivePredictor.propagate_correction`.

        Returns:
            First and last frame of each run.

        Raises:
            InputError: Nothing is given on the frame, or it does not exist.
        """
        given = sorted(index for index, record in dict(self.records).items() if record.given)
        if self.check_index(frame_idx) not in given:
            raise InputError(f"nothing is given on frame {frame_idx}: correct it first")
        before = max((index for index in given if index < frame_idx), default=0)
        after = min((index for index in given if index > frame_idx), default=self.num_frames - 1)
        runs = [(frame_idx, after), (frame_idx, before)]
        runs += [(index, frame_idx) for index in (before, after) if index in given]
        return [(first, last) for first, last in runs if first != last] or runs[:1]

    def check_open(self) -> None:
        """Refuse to work on a closed state: its project may be open elsewhere.

        Raises:
            InputError: The state is closed.
        """
        if self.is_closed:
            raise InputError("this session is closed: call init_state again")

    def check_index(self, frame_idx: int) -> int:
        """Return the index of a frame.

        Raises:
            InputError: The video has no such frame, or the state is closed.
        """
        self.check_open()
        if not 0 <= frame_idx < self.num_frames:
            raise InputError(f"frames are 0 to {self.num_frames - 1}, got {frame_idx}")
        return int(frame_idx)

    def describe(
        self, object_id: ObjectId, *, name: str | None = None, is_visible: bool | None = None
    ) -> None:
        """Change an object's name, or whether it is drawn.

        Raises:
            InputError: The object does not exist, or the state is closed.
        """
        with self.lock:
            self.check_open()
            info = self.project.objects.get(object_id)
            if info is None:
                raise InputError(f"object {object_id} is not known")
            self.project.objects[object_id] = ObjectInfo(
                info.name if name is None else name.strip() or info.name,
                info.is_visible if is_visible is None else is_visible,
            )
            self.project.save()

    def frame(self, frame_idx: int) -> FrameArray:
        """Read a frame: ``(H, W, 3)`` uint8 RGB.

        Raises:
            InputError: It cannot be read.
            ShapeError: Its size differs from the first frame's.
        """
        encoded, preview = self._encoded.get(self.check_index(frame_idx)), self._preview
        if encoded is None and preview is not None and preview[1] == frame_idx:
            encoded = preview[2]
        return self.named_frame(frame_idx).frame if encoded is None else encoded.frame

    def named_frame(self, frame_idx: int) -> NamedFrame:
        """Read a frame with its name and time; errors as :meth:`frame`."""
        with self._video_lock:
            found = named_frame(self.video, self.check_index(frame_idx))
        check_frame(found.frame, expected=self.size)
        return found

    def result(self, frame_idx: int) -> FrameResult:
        """Return the masks and scores of a frame, of the objects that are known there."""
        with self.lock:
            objects = self.records.get(frame_idx, FrameRecord()).objects
            masks = split_label_map(self.label_map(frame_idx), sorted(objects))
        scores = {number: objects[number].score for number in masks}
        return FrameResult(frame_idx, masks, scores, {i: objects[i].source for i in masks})

    def encode(
        self, tracker: HQTracker, frame_idx: int, *, for_clicks: bool = False
    ) -> EncodedFrame:
        """Encode a frame, or return it from the few that are kept.

        Threads that want the same frame encode it once: the later ones wait. Frames of one tracker
        are kept at a time, as no other one can read them.

        Args:
            tracker: The tracker.
            frame_idx: Index of the frame.
            for_clicks: Compute what clicks on the frame need, too.
        """
        with self._encode_lock:
            self.check_index(frame_idx)
            if self._encoder is not tracker:
                self._encoded.clear()
                self._encoder = tracker
            encoded = self._encoded.get(frame_idx)
            if encoded is None:
                encoded = tracker.encode(self.frame(frame_idx))
                self._encoded[frame_idx] = encoded
                if len(self._encoded) > _ENCODED_FRAMES:
                    self._encoded.popitem(last=False)
            if for_clicks:
                tracker.precompute(encoded)
            self._encoded.move_to_end(frame_idx)
        return encoded

    def encode_preview(self, tracker: HQTracker, frame_idx: int) -> EncodedFrame | None:
        """Encode a frame at half the resolution, or return it where it was the last one.

        It waits for no frame that another thread encodes.

        Args:
            tracker: The tracker.
            frame_idx: Index of the frame.

        Returns:
            None where the frame is encoded, or where it would save no time.
        """
        with self._preview_lock:
            if self.is_encoded(self.check_index(frame_idx)) and self._encoder is tracker:
                return None
            if self._preview is None or self._preview[:2] != (tracker, frame_idx):
                encoded = tracker.encode_preview(self.frame(frame_idx))
                if encoded is None:
                    return None
                self._preview = tracker, frame_idx, encoded
            return self._preview[2]

    def has_preview(self, frame_idx: int) -> bool:
        """Whether :meth:`encode_preview` would return a frame at once."""
        return self._preview is not None and self._preview[1] == frame_idx

    def is_encoded(self, frame_idx: int) -> bool:
        """Whether a click on a frame need not wait for the encoder."""
        encoded = self._encoded.get(frame_idx)
        return encoded is not None and encoded.prompted is not None

    def note_edit(self, frame_idx: int, *, added: ObjectId | None = None) -> None:
        """Keep a frame as it is, for :meth:`undo`; ``added`` is new by the edit."""
        label_map, record = self.label_map(frame_idx), self.records.get(frame_idx)
        self._edits.append(_Edit(frame_idx, label_map, record, added))

    def undo(self) -> int | None:
        """Take the newest edit back; returns its frame, or None where there is none."""
        if not self._edits:
            return None
        edit = self._edits.pop()
        if edit.record is None:
            self.project.delete_frame(edit.frame_index)
        else:
            self.project.write_frame(edit.frame_index, edit.label_map, edit.record)
        # An object that was tracked meanwhile stays known.
        if edit.added is not None and not any(
            edit.added in record.objects for record in self.records.values()
        ):
            self.project.objects.pop(edit.added, None)
            self.project.save()
        return edit.frame_index

    def forget_edits(self) -> None:
        """Make earlier edits final."""
        self._edits.clear()
