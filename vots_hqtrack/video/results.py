"""Results of a tracked video: a label map for every frame, an overlay video, ``tracks.json``.

The last stage of ``hqtrack track``. Everything is on disk at once or within seconds, so that an
error or an interruption midway loses nothing of what was done.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import InputError
from vots_hqtrack.io import atomic_path
from vots_hqtrack.result import FrameResult
from vots_hqtrack.summary import TrackSummary
from vots_hqtrack.types import FrameArray, check_frame
from vots_hqtrack.video.label_maps import mask_box, write_label_map
from vots_hqtrack.video.overlay import OverlayWriter

MASKS_FOLDER = "masks"
OVERLAY_NAME = "overlay.mp4"
TRACKS_NAME = "tracks.json"
FORMAT_VERSION = 1

_SECONDS_BETWEEN_SAVES = 5.0
_SCORE_DIGITS = 4


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Check that results may be written into a folder, before any work is done.

    Args:
        folder: Output folder; it need not exist.
        overwrite: Whether earlier results there may be replaced.

    Raises:
        InputError: It is not a folder, or it holds something and ``overwrite`` is off.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"the output folder must be a folder, got the file {folder}")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise InputError(
            f"the output folder {folder} is not empty; give --overwrite to replace results"
        )


class ResultWriter:
    """Writes the results of one video into a folder.

    It is a context manager. At the end ``tracks.json`` gets its status: ``complete``, ``stopped``
    by the user, or ``failed`` with the reason; until then the status is ``running``. Its summary
    lists the objects that were lost, absent or doubtful so far.

    Args:
        folder: Output folder; earlier results there are removed, other files stay.
        facts: Description of the run as a whole, ready for JSON.
        overlay_fps: Frames per second of the overlay video; None writes no video.
    """

    def __init__(
        self, folder: Path, facts: Mapping[str, object], *, overlay_fps: float | None
    ) -> None:
        """Make the folder ready."""
        self.folder = folder
        self.num_frames = 0
        self.summary = TrackSummary()
        self._facts = dict(facts)
        self._overlay_fps = overlay_fps
        self._overlay: OverlayWriter | None = None
        self._lines: list[str] = []
        self._saved_at = time.monotonic()
        (folder / MASKS_FOLDER).mkdir(parents=True, exist_ok=True)
        for path in (folder / MASKS_FOLDER).glob("*.png"):
            path.unlink()
        for name in (OVERLAY_NAME, TRACKS_NAME):
            (folder / name).unlink(missing_ok=True)

    def __enter__(self) -> ResultWriter:
        """Return the writer."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Finish the overlay video and ``tracks.json``."""
        if self._overlay is not None:
            self._overlay.__exit__(kind, error, traceback)
        if error is None:
            self._save("complete")
        elif isinstance(error, KeyboardInterrupt):
            self._save("stopped")
        else:
            self._save("failed", reason=str(error) or type(error).__name__)

    def write(self, name: str, frame: FrameArray, result: FrameResult, *, seconds: float) -> None:
        """Add a frame.

        Args:
            name: Name of the frame and its label map.
            frame: ``(H, W, 3)`` uint8 RGB.
            result: The tracker's result.
            seconds: Time that the tracker took.

        Raises:
            ShapeError: The frame or a mask has another size than before.
        """
        write_label_map(self.folder / MASKS_FOLDER / f"{name}.png", result.label_map)
        if self._overlay_fps is not None:
            if self._overlay is None:
                path = self.folder / OVERLAY_NAME
                self._overlay = OverlayWriter(path, self._overlay_fps, check_frame(frame))
            self._overlay.write(frame, result.masks)
        self._lines.append(json.dumps(_describe(name, result, seconds)))
        self.summary.add(result)
        self.num_frames += 1
        if time.monotonic() - self._saved_at > _SECONDS_BETWEEN_SAVES:
            self._save("running")

    def _save(self, status: str, *, reason: str | None = None) -> None:
        """Replace ``tracks.json``, one line per frame; it appears whole or not at all."""
        head = {
            "format": FORMAT_VERSION,
            "status": status,
            "reason": reason,
            "summary": self.summary.to_dict(),
            **self._facts,
        }
        opening = json.dumps(head, indent=2, ensure_ascii=False).removesuffix("\n}")
        frames = ",\n    ".join(self._lines)
        text = f'{opening},\n  "frames": [\n    {frames}\n  ]\n}}\n'
        with atomic_path(self.folder / TRACKS_NAME) as temporary:
            temporary.write_text(text, encoding="utf-8")
        self._saved_at = time.monotonic()


def _describe(name: str, result: FrameResult, seconds: float) -> dict[str, object]:
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
        "seconds": round(seconds, _SCORE_DIGITS),
        **pace,
        "objects": objects,
    }
