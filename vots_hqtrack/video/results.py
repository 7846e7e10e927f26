"""Results of a tracked video: a label map for every frame, an overlay video, ``tracks.json``.

The last stage of ``hqtrack track``. Everything is on disk at once or within seconds, so that an
error or an interruption midway loses nothing of what was done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import HQTrackError, InputError, OutputError
from vots_hqtrack.io import atomic_path, to_json
from vots_hqtrack.result import FrameResult
from vots_hqtrack.saved_state import SavedState
from vots_hqtrack.summary import TrackSummary
from vots_hqtrack.types import MAX_OBJECTS, FrameArray, MaskArray, ObjectId, check_frame
from vots_hqtrack.video.cutout import Cutout, CutoutWriter
from vots_hqtrack.video.label_maps import mask_box, read_written_map, write_label_map
from vots_hqtrack.video.losses import Losses
from vots_hqtrack.video.overlay import OverlayWriter
from vots_hqtrack.video.result_folder import (
    CHECKPOINT_NAME,
    FORMAT_VERSION,
    JOURNAL_NAME,
    MASKS_FOLDER,
    OVERLAY_NAME,
    TRACKS_NAME,
    EarlierRun,
    Journal,
    remove_earlier,
)
from vots_hqtrack.video.sound import copy_sound

_logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_SAVES = 5.0
_SCORE_DIGITS = 4
_TIME_DIGITS = 6


class ResultWriter:
    """Writes the results of one video into a folder that its run has claimed.

    It is a context manager. At the end ``tracks.json`` gets its status: ``complete``, ``partial``
    where the source had lost or damaged frames, ``interrupted`` by a signal, or ``failed`` with the
    reason; until then the status is ``running``. Its summary lists the objects that were lost,
    absent or doubtful so far.

    Args:
        folder: Output folder.
        facts: Description of the run as a whole, ready for JSON.
        overlay_fps: Frames per second of the overlay video; None writes no video.
        cutout: Form of the objects without their background; None writes none.
        sound: Video file with the sound for the overlay; None gives it none.
        earlier: Results of an earlier run in the folder, which are removed.
        num_done: Number of the earlier run's frames that are kept, with their label maps.
        get_losses: Called for the losses of the source so far.

    Raises:
        OutputError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        facts: Mapping[str, object],
        *,
        overlay_fps: float | None,
        cutout: Cutout | None = None,
        sound: Path | None = None,
        earlier: EarlierRun | None = None,
        num_done: int = 0,
        get_losses: Callable[[], Losses] = Losses,
    ) -> None:
        """Make the folder ready."""
        self.folder = folder
        self.summary = TrackSummary()
        self._facts = dict(facts)
        self._get_losses = get_losses
        self._losses_before = earlier.losses if earlier and num_done else Losses()
        self._overlay_fps = overlay_fps
        self._overlay: OverlayWriter | None = None
        self._cutout = cutout
        self._cutouts: CutoutWriter | None = None
        self._sound = sound
        self._first_shown: float | None = None
        self._has_checkpoints = True
        self._frames = list(earlier.frames[:num_done]) if earlier else []
        self._lines = [to_json(frame) for frame in self._frames]
        for frame in self._frames:
            self.summary.add_record(frame)
        try:
            if earlier is not None:
                remove_earlier(folder, earlier, keep_frames=num_done)
            self._save("running")
            self._journal = Journal(folder / JOURNAL_NAME, self._frames)
            (folder / MASKS_FOLDER).mkdir(exist_ok=True)
        except OSError as error:
            raise _failure(folder, error) from error

    @property
    def losses(self) -> Losses:
        """Losses of the source, or those of the earlier run if there are none now."""
        return self._get_losses() or self._losses_before

    @property
    def num_frames(self) -> int:
        """Number of frames that are written."""
        return len(self._lines)

    def __enter__(self) -> ResultWriter:
        """Return the writer."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Finish the videos and ``tracks.json``."""
        lost: Exception | None = None
        for video in (self._overlay, self._cutouts):
            try:
                if video is not None:
                    video.__exit__(kind, error, traceback)
            except (HQTrackError, OSError) as broken:
                lost = lost or broken
        reason = error or lost
        if reason is None:
            self._add_sound()
        is_saved, ended = False, "partial" if self.losses else "complete"
        try:
            if reason is None:
                self._save(ended)
            elif isinstance(reason, KeyboardInterrupt):
                self._save("interrupted", reason=str(reason) or None)
            else:
                self._save("failed", reason=str(reason) or type(reason).__name__)
            is_saved = True
            if reason is None and self._checkpoint_path.exists():
                # Listed until it is gone, so that no kill makes it look like the user's.
                self._checkpoint_path.unlink()
                self._save(ended)
        except OSError as broken:
            lost = lost or broken
        finally:
            self._journal.close(remove=is_saved)
        if lost is not None and error is None:
            raise _failure(self.folder, lost) from lost

    def write(
        self,
        name: str,
        frame: FrameArray,
        result: FrameResult,
        *,
        seconds: float,
        shown_at: float | None = None,
    ) -> None:
        """Add a frame.

        Args:
            name: Name of the frame and its label map.
            frame: ``(H, W, 3)`` uint8 RGB.
            result: The tracker's result.
            seconds: Time that the tracker took.
            shown_at: Seconds from the first frame to this one; None follows the frame rate.

        Raises:
            OutputError: The disk is full, or the folder cannot be written any more.
            ShapeError: The frame or a mask has another size than before.
        """
        record = _describe(name, result, seconds, shown_at)
        try:
            self._journal.add(record)
            with self._removed_after_error(self._mask_path(name)) as path:
                write_label_map(path, result.label_map)
                self._draw(name, frame, result.masks, shown_at)
            self._lines.append(to_json(record))
            self.summary.add_record(record)
            if time.monotonic() - self._saved_at > _SECONDS_BETWEEN_SAVES:
                self._save("running")
        except OSError as error:
            raise _failure(self.folder, error) from error

    def redraw(
        self, index: int, name: str, frame: FrameArray, *, shown_at: float | None = None
    ) -> None:
        """Draw a frame that an earlier run tracked into the videos.

        Raises:
            InputError: It was a frame of another name.
            OutputError: As :meth:`write`.
        """
        known = self._frames[index]
        if known["name"] != name:
            raise InputError(
                f"frame {index} of the source is {name} now, and was {known['name']} in the run "
                f"in {self.folder}; begin again with --overwrite"
            )
        if self._overlay_fps is None and self._cutout is None:
            return
        label_map = read_written_map(self._mask_path(name))
        try:
            self._draw(name, frame, {i: label_map == i for i in _areas(known)}, shown_at)
        except OSError as error:
            raise _failure(self.folder, error) from error

    def _add_sound(self) -> None:
        """Give the overlay the source's sound; without it the overlay is silent, with a warning."""
        if self._sound is None or self._overlay is None:
            return
        try:
            copy_sound(self._sound, self._overlay.path, start=self._first_shown or 0.0)
        except (InputError, OSError) as error:
            _logger.warning("%s is without sound: %s", self._overlay.path, error)

    def checkpoint(self, saved: SavedState) -> None:
        """Write the state after the newest frame, from which a run that is cut can go on.

        If that fails, the run goes on without checkpoints.
        """
        if not self._has_checkpoints:
            return
        try:
            self._journal.sync()
            saved.write(self._checkpoint_path)
        except OSError as error:
            self._has_checkpoints = False
            _logger.warning(
                "no checkpoint could be written, so --resume may begin again: %s", error
            )

    @contextlib.contextmanager
    def _removed_after_error(self, path: Path) -> Iterator[Path]:
        """Remove a label map that will not be listed, so that no run takes it for the user's."""
        try:
            yield path
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise

    @property
    def _checkpoint_path(self) -> Path:
        return self.folder / CHECKPOINT_NAME

    def _mask_path(self, name: str) -> Path:
        return self.folder / MASKS_FOLDER / f"{name}.png"

    def _draw(
        self,
        name: str,
        frame: FrameArray,
        masks: Mapping[ObjectId, MaskArray],
        shown_at: float | None,
    ) -> None:
        """Draw a frame into the videos, which begin with the first frame that is drawn."""
        if self._first_shown is None:
            self._first_shown = shown_at
        seconds = None if shown_at is None else shown_at - (self._first_shown or 0.0)
        if self._overlay_fps is not None:
            if self._overlay is None:
                path = self.folder / OVERLAY_NAME
                self._overlay = OverlayWriter(path, self._overlay_fps, check_frame(frame))
            self._overlay.write(frame, masks, seconds=seconds)
        # Last, so that an image that is written belongs to a frame that counts.
        if self._cutout is not None:
            if self._cutouts is None:
                self._cutouts = CutoutWriter(self.folder, self._cutout, check_frame(frame))
            self._cutouts.write(name, frame, masks, seconds=seconds)

    def _save(self, status: str, *, reason: str | None = None) -> None:
        """Replace ``tracks.json``, one line per frame; it appears whole or not at all."""
        has_ended = status in ("complete", "partial")
        files = [] if has_ended and not self._checkpoint_path.exists() else [CHECKPOINT_NAME]
        files += [OVERLAY_NAME] if self._overlay_fps is not None else []
        files += [self._cutout.file_name] if self._cutout is not None else []
        losses = self.losses
        head = {
            "format": FORMAT_VERSION,
            "status": status,
            "reason": reason,
            "files": files,
            "summary": self.summary.to_dict(),
            "losses": losses.to_dict() if losses else None,
            **self._facts,
        }
        opening = to_json(head, indent=2).removesuffix("\n}")
        frames = ",\n    ".join(self._lines)
        text = f'{opening},\n  "frames": [\n    {frames}\n  ]\n}}\n'
        with atomic_path(self.folder / TRACKS_NAME) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self._saved_at = time.monotonic()


def count_whole_frames(folder: Path, earlier: EarlierRun, num_frames: int) -> int:
    """Return how many of an earlier run's first frames have the label maps that it recorded.

    Args:
        folder: Its folder.
        earlier: The run.
        num_frames: Number of frames to look at.
    """
    for index, frame in enumerate(earlier.frames[:num_frames]):
        try:
            label_map = read_written_map(folder / MASKS_FOLDER / f"{frame['name']}.png")
            areas = np.bincount(label_map.ravel(), minlength=MAX_OBJECTS + 1)
            if any(areas[number] != area for number, area in _areas(frame).items()):
                return index
        except (HQTrackError, KeyError, TypeError, AttributeError, IndexError, ValueError):
            return index
    return min(num_frames, len(earlier.frames))


def _areas(record: Mapping[str, object]) -> dict[ObjectId, int]:
    """Return the area of each object of a frame's record."""
    objects = record["objects"]
    if not isinstance(objects, dict):
        raise TypeError(f"wanted objects by their ids, got {objects!r}")
    return {ObjectId(int(number)): int(found["area"]) for number, found in objects.items()}


def _failure(folder: Path, error: Exception) -> Exception:
    """Return an error of ours for one of the disk."""
    if not isinstance(error, OSError):
        return error
    return OutputError(f"cannot write results into {folder}: {error.strerror or error}")


def _describe(
    name: str, result: FrameResult, seconds: float, shown_at: float | None
) -> dict[str, object]:
    objects = {
        str(object_id): {
            "box": mask_box(mask),
            "area": int(np.count_nonzero(mask)),
            "score": round(float(result.scores[object_id]), _SCORE_DIGITS),
            "source": result.sources[object_id],
        }
        for object_id, mask in sorted(result.masks.items())
    }
    pace = {} if result.pace is None else {"pace": dataclasses.asdict(result.pace)}
    return {
        "index": result.frame_index,
        "name": name,
        **({} if shown_at is None else {"time": round(shown_at, _TIME_DIGITS)}),
        "seconds": round(seconds, _SCORE_DIGITS),
        **pace,
        "objects": objects,
    }
