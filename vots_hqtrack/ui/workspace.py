"""State that all tabs of the page share: the predictor, the open session, and the run in work."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2

from vots_hqtrack.errors import HQTrackError, InputError
from vots_hqtrack.masks import split_label_map
from vots_hqtrack.session import InteractivePredictor, SessionState
from vots_hqtrack.session.export import export
from vots_hqtrack.types import MaskArray, ObjectId
from vots_hqtrack.ui.job import Job
from vots_hqtrack.video.overlay import draw_overlay

PROJECT_SUFFIX = ".hqtrack"
PREVIEW_TINT = 0.5
"""Strength of a preview's tint, as a fraction of that of masks."""
UPLOADS_FOLDER = "hqtrack-uploads"
_JPEG_QUALITY = 88


class Preview(NamedTuple):
    """A mask that is shown until the mask of the edit in work is there."""

    frame_index: int
    object_id: ObjectId
    mask: MaskArray


class Workspace:
    """One video at a time, for any number of tabs.

    Args:
        predictor: The predictor.
        folder: Folder for uploads, and for projects without a folder of their own.

    Attributes:
        state: The open session; None before a video is opened.
        job: The newest run.
        revision: Number that grows with each change that a tab must show.
    """

    def __init__(self, predictor: InteractivePredictor, folder: Path) -> None:
        self.predictor, self.folder = predictor, folder
        self.state: SessionState | None = None
        self.job: Job | None = None
        self.revision = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition()
        self._num_edits = 0
        self._previews: dict[int, Preview] = {}  # by the thread of the edit
        self._encodes_ahead = threading.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether a run is in work."""
        return self.job is not None and self.job.is_running

    def open(self, source: Path, project: Path | None = None) -> SessionState:
        """Open a video and its project, and close what was open.

        Args:
            source: Folder of frames or video file.
            project: Project folder; None takes one in the workspace's folder, named after the
                video.

        Raises:
            InputError: The video or the project cannot be opened; what was open stays so.
        """
        name = re.sub(r"[^\w.-]+", "-", source.expanduser().resolve().name) or "video"
        folder = project or self.folder / f"{name}{PROJECT_SUFFIX}"
        with self._lock:
            if self.state is not None and self.state.project.folder.resolve() == folder.resolve():
                self.close()
            opened = self.predictor.init_state(source.expanduser(), folder)
            self.close()
            self.state = opened
            self.note_change()
            return opened

    def close(self) -> None:
        """End the run and close the session; images wait for no edit any more."""
        with self._changed:
            self._num_edits = 0
            self._changed.notify_all()
        if self.job is not None:
            self.job.cancel()
            self.job.wait()
            self.job = None
        if self.state is not None:
            self.state.close()
            self.state = None

    def opened(self) -> SessionState:
        """Return the open session.

        Raises:
            InputError: There is none.
        """
        if self.state is None:
            raise InputError("no video is open")
        return self.state

    def note_change(self) -> None:
        """Let all tabs show the session again."""
        with self._changed:
            self.revision += 1
            self._changed.notify_all()

    def begin_edit(self) -> int:
        """Announce an edit, which :meth:`edit` makes; returns the revision that will show it."""
        with self._changed:
            self._num_edits += 1
            return self.revision + 1

    def edit(self, change: Callable[[], object]) -> None:
        """Make an edit that was announced, and let all tabs show it."""
        try:
            change()
        finally:
            with self._changed:
                self._previews.pop(threading.get_ident(), None)
                self._num_edits = max(self._num_edits - 1, 0)
                self.revision += 1
                self._changed.notify_all()

    def show_preview(self, frame: int, object_id: ObjectId, mask: MaskArray) -> None:
        """Show a mask in all tabs, until the edit that this thread makes has its own."""
        self._previews[threading.get_ident()] = Preview(frame, object_id, mask)
        self.note_change()

    def has_preview(self, frame: int) -> bool:
        """Whether an edit in work shows a preview on a frame."""
        return any(found.frame_index == frame for found in list(self._previews.values()))

    def answers_soon(self, frame: int) -> bool:
        """Whether an edit that begins now has its mask, or a preview of it, before long."""
        state = self.state
        if state is None or self.is_busy or self._num_edits:
            return False
        return state.is_encoded(frame) or self.predictor.gives_previews(state)

    def wait_for_edit(self, revision: int) -> None:
        """Wait until a revision is there, or no edit that could bring it is in work."""
        with self._changed:
            self._changed.wait_for(lambda: self.revision >= revision or not self._num_edits)

    def encode_ahead(self, frame: int) -> bool:
        """Encode a frame before the first click on it: first what a preview needs, then all of it.

        Returns:
            False where there is more to do, or another frame is being encoded so: ask again, if it
            is still wanted.
        """
        state = self.state
        if state is None or self.is_busy or state.is_encoded(frame):
            return True
        if not self._encodes_ahead.acquire(blocking=False):
            return False
        try:
            is_preview = self.predictor.gives_previews(state) and not state.has_preview(frame)
            self.predictor.encode_ahead(state, frame, is_preview=is_preview)
        except (HQTrackError, OSError):
            return True  # a click on the frame will say it
        else:
            return not is_preview
        finally:
            self._encodes_ahead.release()

    def track(self, kind: str, frame: int) -> Job:
        """Start a run in the background.

        Args:
            kind: ``forward``, ``backward``, ``both``, ``here``, or ``around``, which tracks
                again what the given masks of the frame change.
            frame: Frame that the tab shows.

        Raises:
            InputError: A run is in work, or nothing is given.
        """
        state = self.opened()
        with self._lock:
            if self.is_busy:
                raise InputError("a run is in work: cancel it, or wait for its end")
            if not state.given_frames():
                raise InputError("give an object first: click it, or drag a box around it")
            run = partial(self.predictor.propagate_in_video, state, frame)
            forward, backward = run, partial(run, reverse=True)
            after, before = state.num_frames - frame, frame + 1
            if kind == "here":
                given = [i for i in state.given_frames() if i != frame] or [frame]
                total = 1 + min(abs(i - frame) for i in given)
                self.job = Job(kind, [partial(self.predictor.propagate_to, state, frame)], total)
            elif kind == "around":
                total = sum(1 + abs(stop - start) for start, stop in state.correction_runs(frame))
                correct = partial(self.predictor.propagate_correction, state, frame)
                self.job = Job(kind, [correct], total)
            elif kind == "both":
                self.job = Job(kind, [forward, backward], after + before)
            elif kind == "backward":
                self.job = Job(kind, [backward], before)
            else:
                self.job = Job(kind, [forward], after)
            return self.job

    def upload_path(self, name: str) -> Path:
        """Return a new path for an uploaded file; nothing there is replaced.

        Args:
            name: The file's name in the browser, which may hold anything.
        """
        folder = self.folder / UPLOADS_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        wanted = Path(re.sub(r"[^\w.-]+", "-", name).strip(".-") or "video")
        for number in itertools.count(1):
            suffix = "" if number == 1 else f"-{number}"
            path = folder / f"{wanted.stem}{suffix}{wanted.suffix}"
            if not path.exists():
                break
        return path

    def image(self, frame: int, alpha: float) -> bytes:
        """Draw a frame with the masks of its visible objects, and with previews, as JPEG.

        Args:
            frame: Index of the frame.
            alpha: Strength of the tint, 0 to 1.
        """
        state = self.opened()
        picture = state.frame(frame)
        objects = list(state.project.objects.items())  # an edit may add one meanwhile
        shown = [number for number, info in objects if info.is_visible]
        hidden = {number for number, info in objects if not info.is_visible}
        label_map, rough = state.label_map(frame), {}
        for index, number, mask in list(self._previews.values()):
            if index == frame and number not in hidden:
                label_map[mask | (label_map == number)] = 0
                rough[number] = mask
        drawn = draw_overlay(picture, split_label_map(label_map, shown), alpha=alpha)
        drawn = draw_overlay(drawn, rough, alpha=PREVIEW_TINT * alpha)
        _, data = cv2.imencode(
            ".jpg",
            cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY],
        )
        return data.tobytes()

    def export(self, name: str) -> Path:
        """Write the masks of all known frames in a format of `EXPORTS` into the project folder."""
        return export(self.opened(), name)
