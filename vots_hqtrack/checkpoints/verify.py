"""Recomputes the hashes of weights files, shipped, cached or anybody's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vots_hqtrack.checkpoints.manifest import (
    MANIFEST,
    WeightsEntry,
    cached_weights,
    locate,
    sha256_of,
    weights_folder,
)
from vots_hqtrack.environment import downloads_from_environment
from vots_hqtrack.errors import WeightsError

State = Literal["ok", "damaged", "missing", "unknown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a hash says of a file.

    Attributes:
        name: The weights' name, or the file's.
        path: The file.
        state: ``unknown`` is a file for which no hash is known.
        reason: Why, in words.
    """

    name: str
    path: Path
    state: State
    reason: str


def verify_all() -> list[Verdict]:
    """Recompute the hash of each shipped and cached file.

    Raises:
        WeightsError: A manifest is missing or not as it should be.
    """
    shipped, cached = weights_folder(), downloads_from_environment().cache_path
    return [
        *(_verify(entry, shipped) for entry in MANIFEST.values()),
        *(_verify(entry, cached) for entry in cached_weights().values()),
    ]


def verify(name_or_path: str) -> Verdict:
    """Recompute the hash of weights that have a name, or of any file.

    A file that ``hqtrack weights import`` wrote is checked by the hash in its own header.

    Args:
        name_or_path: A name in a manifest, or the path of a file; a file comes first.

    Raises:
        WeightsError: There is no such file and are no such weights.
    """
    path = Path(name_or_path)
    if path.is_file():
        return _verify_file(path)
    if path.suffix or len(path.parts) > 1:
        raise WeightsError(f"wanted a weights file, found nothing at {path.absolute()}")
    located = locate(name_or_path)
    return _verify(located.entry, located.path.parent)


def _verify(entry: WeightsEntry, folder: Path) -> Verdict:
    path = folder / entry.file_name
    if not path.is_file():
        return Verdict(entry.name, path, "missing", f"wanted {path}")
    found = sha256_of(path)
    if found != entry.sha256:
        reason = f"wanted the sha256 {entry.sha256}, got {found}"
        return Verdict(entry.name, path, "damaged", reason)
    return Verdict(entry.name, path, "ok", f"sha256 {found}")


def _verify_file(path: Path) -> Verdict:
    found = sha256_of(path)
    for entry in (*MANIFEST.values(), *cached_weights().values()):
        if found == entry.sha256:
            return Verdict(path.name, path, "ok", f"sha256 {found}, the weights {entry.name}")
    unknown = f"no hash is known for it; its sha256 is {found}"
    if path.suffix != ".safetensors":
        return Verdict(path.name, path, "unknown", unknown)
    from safetensors import safe_open

    from vots_hqtrack.checkpoints.importing import DIGEST_KEY, digest_of
    from vots_hqtrack.checkpoints.load import load_tensors

    try:
        tensors = load_tensors(path, expected_sha256=None)
    except WeightsError as error:
        return Verdict(path.name, path, "damaged", str(error))
    with safe_open(str(path), "pt") as file:
        wanted = (file.metadata() or {}).get(DIGEST_KEY)
    if wanted is None:
        return Verdict(path.name, path, "unknown", unknown)
    if digest_of(tensors) != wanted:
        return Verdict(path.name, path, "damaged", "its tensors are not those that were written")
    return Verdict(path.name, path, "ok", f"sha256 {found}, tensors as its header says")
