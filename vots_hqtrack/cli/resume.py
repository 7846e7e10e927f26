"""Going on with a run that was cut: whether it is the same run, and from which frame on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vots_hqtrack.cli.console import say
from vots_hqtrack.errors import InputError, printable

if TYPE_CHECKING:
    from vots_hqtrack.cli.prompts import FramePrompt
    from vots_hqtrack.config import TrackerConfig
    from vots_hqtrack.saved_state import SavedState
    from vots_hqtrack.types import FrameArray
    from vots_hqtrack.video.result_folder import EarlierRun

Fingerprint = Mapping[str, str]
"""SHA-256 of each thing that the masks depend on, by its name in messages."""


def fingerprint(
    frames: Iterable[FrameArray],
    prompts: Mapping[int, FramePrompt],
    config: TrackerConfig,
    weights: Path | None,
) -> Fingerprint:
    """Return the digests of what the masks of a run depend on.

    Args:
        frames: Frames with prompts, uint8 ``(H, W, 3)`` RGB.
        prompts: Their prompts by the frames' index in the source, in the same order.
        config: Options of the tracker.
        weights: VMOS weights in place of those that the options name, or the folder of a
            published tracker.
    """
    from vots_hqtrack.checkpoints.manifest import locate, published_folder, sha256_of

    published = published_folder(weights)
    own: dict[str, str] = {}
    if weights is not None and published is None:
        own[config.weights] = sha256_of(weights)
    named = [
        own.get(name) or locate(name, published).entry.sha256 for name in config.weights_needed()
    ]
    shown, given = hashlib.sha256(), hashlib.sha256()
    for frame, (index, prompt) in zip(frames, prompts.items(), strict=True):
        shown.update(repr((index, frame.shape)).encode() + frame.tobytes())
        objects = [(number, found.points, found.box) for number, found in prompt.objects.items()]
        given.update(repr((objects, *map(sha256_of, prompt.files))).encode())
    options = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return {
        "first frame" if len(prompts) == 1 else "frame": shown.hexdigest(),
        "prompt": given.hexdigest(),
        "options": _digest(options.encode()),
        "weights": _digest(" ".join(named).encode()),
    }


def require_same_run(earlier: EarlierRun, wanted: Fingerprint, folder: Path) -> None:
    """Check that the run that was cut had the same inputs and options.

    Raises:
        InputError: It had others.
    """
    found = earlier.head.get("fingerprint")
    if not isinstance(found, dict):
        raise InputError(f"the run in {folder} cannot go on: its tracks.json has no fingerprint")
    names = dict.fromkeys([*wanted, *found])
    differing = [name for name in names if found.get(name) != wanted.get(name)]
    if differing:
        raise InputError(
            f"the run in {folder} had another {' and '.join(differing)}; give those of then, or "
            "--overwrite to begin again"
        )


def find_checkpoint(folder: Path, earlier: EarlierRun) -> SavedState | None:
    """Return the state from which a run can go on; None, with a word, if it must begin again."""
    from vots_hqtrack.saved_state import read_state
    from vots_hqtrack.video.result_folder import CHECKPOINT_NAME
    from vots_hqtrack.video.results import count_whole_frames

    reason, path = "it was cut before its first checkpoint", folder / CHECKPOINT_NAME
    if path.exists():
        try:
            saved = read_state(path)
        except InputError as error:
            reason = str(error)
        else:
            num_whole = count_whole_frames(folder, earlier, saved.num_frames)
            if num_whole == saved.num_frames:
                say_of(folder, f"going on from frame {saved.num_frames}")
                return saved
            reason = f"the label map of frame {num_whole} is not the one that was written"
    say_of(folder, f"the run begins again: {reason}")
    return None


def say_of(folder: Path, message: str) -> None:
    """Print a line about the run in an output folder; there may be several at once."""
    say(printable(f"{folder}: {message}"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
