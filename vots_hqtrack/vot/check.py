"""Check of a tracker's results before they are submitted, in a workspace or a packed archive.

The toolkit takes a result file that exists for a good one, and the challenge's server answers a bad
one hours later. The files are read by `vots_hqtrack.vot.results`, as after an evaluation.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.types import MaskArray, Size
from vots_hqtrack.vot.region_text import Region
from vots_hqtrack.vot.results import (
    read_regions,
    read_times,
    result_fault,
    result_path,
    time_path,
)
from vots_hqtrack.vot.run import StepCallback, evaluate
from vots_hqtrack.vot.sequences import (
    SequenceCheck,
    check_sequence,
    find_truth,
    read_sequence_list,
    read_truth,
)
from vots_hqtrack.vot.workspace import EXPERIMENT, STACKS, Workspace

SUSPECT_SHARE = 0.9
"""Share of empty, of full or of equal masks from which on an object is told."""

MIN_FRAMES = 5
"""Frames from which on such shares say something."""

_logger = logging.getLogger(__name__)

_MANIFEST = "manifest.yml"
_SECRET = re.compile(r"token|secret|passw|api_?key|credential", re.IGNORECASE)
_HOME = re.compile(r"/home/[^/\s:]+|/Users/[^/\s:]+|/root\b")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or looks wrong.

    Attributes:
        level: ``error`` for what a server refuses or measures as wrong, else ``warning``.
        sequence: Name of the sequence; empty for the submission as a whole.
        text: The finding, in a sentence.
    """

    level: Literal["error", "warning"]
    sequence: str
    text: str

    def __str__(self) -> str:
        """Return it in a line."""
        where = f"{self.sequence}: " if self.sequence else ""
        return f"{self.level}: {where}{self.text}"


def check_submission(
    source: Path,
    sequences: Path,
    *,
    tracker: str | None = None,
    short_name: str | None = None,
    archive: Path | None = None,
) -> list[Finding]:
    """Check the results of a tracker.

    Args:
        source: Workspace, or archive that ``vot pack`` wrote.
        sequences: Folder of the sequences, with ``list.txt``.
        tracker: The tracker's identifier in a workspace; the archive has its own.
        short_name: Name under which the tracker is registered at the challenge.
        archive: Submission packed of a workspace's results; its manifest is checked too.

    Returns:
        What was found, errors first.

    Raises:
        InputError: The sequences or the archive cannot be read.
        ConfigError: The workspace has no results of the tracker.
    """
    checks = [check_sequence(path) for path in read_sequence_list(sequences)]
    found: list[Finding] = []
    with contextlib.ExitStack() as stack:
        if source.is_dir():
            folder = Workspace(source, sequences, source / "trackers.ini").results_of(tracker or "")
            if not folder.is_dir():
                raise ConfigError(f"{source} has no results of {tracker}: wanted {folder}")
            identifier = folder.name
            found += _twins(folder, checks)
            if archive is not None:
                found += _check_manifest(_read_manifest(archive))
        else:
            folder = stack.enter_context(_unpacked(source))
            manifest = _read_manifest(source)
            identifier = str(manifest.get("identifier", ""))
            found += _check_manifest(manifest)
        found += _check_identifier(identifier, short_name)
        extra = {path.name for path in (folder / EXPERIMENT).glob("*/")} - {c.name for c in checks}
        found += [Finding("warning", name, "is not one of the sequences") for name in sorted(extra)]
        for check in checks:
            found += _check_sequence_results(folder / EXPERIMENT / check.name, check)
    return sorted(found, key=lambda finding: finding.level)


def repair_results(
    workspace: Workspace,
    tracker: str,
    *,
    on_step: StepCallback = lambda step: None,
    on_word: Callable[[str], object] = _logger.warning,
) -> list[str]:
    """Run a tracker again on the sequences the results of which have errors.

    Args:
        workspace: Workspace with the results and the registry.
        tracker: The tracker's identifier.
        on_step: Called whenever the progress changes.
        on_word: Called with each thing that the user should know, in a sentence.

    Returns:
        Names of the sequences that have new results.

    Raises:
        ProtocolError: The tracker left no whole results; the former ones are still there.
        ConfigError: The workspace has no results of the tracker, or another run evaluates it now.
    """
    found = check_submission(workspace.folder, workspace.sequences, tracker=tracker)
    errors = [each for each in found if each.level == "error" and each.sequence]
    for error in errors:
        on_word(f"{error.sequence} is run again: {error.text}")
    names = list(dict.fromkeys(error.sequence for error in errors))
    if names:
        evaluate(workspace, tracker, again=names, on_step=on_step, on_word=on_word)
    return names


def _check_sequence_results(folder: Path, check: SequenceCheck) -> Iterator[Finding]:
    """Check the files of one sequence, and each object's masks where the files are whole."""
    if (fault := result_fault(folder, check)) is not None:
        yield Finding("error", check.name, fault)
        return
    for path, truth in zip(_paths(folder, check), find_truth(check.folder).values(), strict=True):
        if not any(read_times(time_path(path))):
            yield Finding("error", check.name, f"{truth.name}: all times are 0")
        regions = list(read_truth(truth.path))
        start = next(index for index, region in enumerate(regions) if region.is_known)
        for level, text in _check_regions(path, start, regions[start], check.size):
            yield Finding(level, check.name, f"{truth.name}: {text}")


def _check_regions(
    path: Path, start: int, given: Region, size: Size
) -> Iterator[tuple[Literal["error", "warning"], str]]:
    """Say what is wrong with an object's regions, of which one is looked at at a time."""
    counts = dict.fromkeys(("empty", "as large as the frame", "equal to the one before"), 0)
    num_later, num_outside, before = 0, 0, _fill(given, size)
    for index, region in enumerate(read_regions(path)):
        if region.is_known == (index < max(start, 1)):
            wanted = "a region" if region.kind in ("unknown", "absent") else "a code"
            yield "error", f"frame {index}: wanted {wanted}, got {region.kind}"
            return
        if not region.is_known:
            continue
        mask = _fill(region, size)
        num_outside += _leaves(region, mask, size)
        if num_later == 0 and _iou(mask, ~before) > _iou(mask, before):
            yield "error", "the first mask fits the background better than the given object"
        counts["empty"] += not mask.any()
        counts["as large as the frame"] += bool(mask.all())
        counts["equal to the one before"] += bool(mask.any() and (mask == before).all())
        num_later, before = num_later + 1, mask
    if num_outside:
        yield "error", f"{num_outside} regions reach out of the frame of {size}"
    for what, count in counts.items():
        if num_later >= MIN_FRAMES and count >= SUSPECT_SHARE * num_later:
            yield "warning", f"{count} of {num_later} masks are {what}"


def _leaves(region: Region, mask: MaskArray, size: Size) -> bool:
    """Whether a mask's box is not inside the frame, or another region does not touch it."""
    if region.kind == "mask":
        left, top, width, height = region.numbers[:4]
        is_inside = (
            min(left, top) >= 0 and left + width <= size.width and top + height <= size.height
        )
        return not is_inside and width * height > 0
    return not mask.any() and any(region.numbers)


def _fill(region: Region, size: Size) -> MaskArray:
    mask = region.to_mask(size)
    return np.zeros(size, dtype=np.bool_) if mask is None else mask


def _iou(left: MaskArray, right: MaskArray) -> float:
    union = int((left | right).sum())
    return int((left & right).sum()) / union if union else 0.0


def _paths(folder: Path, check: SequenceCheck) -> list[Path]:
    num = len(check.objects)
    return [result_path(folder, check.name, name, num_objects=num) for name in check.objects]


def _twins(folder: Path, checks: Sequence[SequenceCheck]) -> Iterator[Finding]:
    """Tell of other trackers with the very same masks: an option that changed nothing."""
    files = [path for check in checks for path in _paths(folder / EXPERIMENT / check.name, check)]
    for other in sorted(path for path in folder.parent.glob("*/") if path != folder):
        pairs = [(path, other / path.relative_to(folder)) for path in files]
        if all(a.is_file() and b.is_file() and a.read_bytes() == b.read_bytes() for a, b in pairs):
            yield Finding("warning", "", f"{other.name} has the same masks, byte for byte")


def _check_identifier(identifier: str, short_name: str | None) -> Iterator[Finding]:
    if not re.fullmatch(r"[A-Za-z0-9-]+", identifier):
        yield Finding("error", "", f"an identifier of letters, digits, dashes: got {identifier!r}")
    if short_name is not None and short_name != identifier:
        yield Finding("error", "", f"the identifier {identifier} is not the name {short_name}")


def _check_manifest(manifest: dict[str, object]) -> Iterator[Finding]:
    """Check the stack, and look for what should not be public."""
    if manifest.get("stack") not in STACKS:
        wanted = ", ".join(STACKS)
        yield Finding(
            "error", "", f"the stack must be one of {wanted}, got {manifest.get('stack')}"
        )
    text = yaml.safe_dump(manifest)
    for pattern, what in ((_SECRET, "what looks like a secret"), (_HOME, "a home folder")):
        if (match := pattern.search(text)) is not None:
            yield Finding("warning", "", f"{_MANIFEST} holds {what}: {match[0]}")


def _read_manifest(archive: Path) -> dict[str, object]:
    try:
        with zipfile.ZipFile(archive) as packed:
            manifest = yaml.safe_load(packed.read(_MANIFEST).decode("utf-8"))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read {_MANIFEST} in {archive}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{_MANIFEST} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(manifest, dict):
        raise InputError(f"{_MANIFEST} must hold keys and values")
    return manifest


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Unpack an archive into a temporary folder; names that lead out of it stay inside."""
    with tempfile.TemporaryDirectory(prefix="vots-hqtrack-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise InputError(f"cannot read the archive {path}: {error}") from error
        yield Path(folder)
