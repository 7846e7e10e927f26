"""Manifests of weights folders: the hash, origin and licence of each file; finding and verifying.

``manifest.json`` is stored beside the weights, so that new weights need no change of code. A wheel
has that folder as ``vots_hqtrack/weights``, a checkout at the top level. Weights that the user
fetched or imported are in a cache folder with a manifest of the same form. Nothing here imports
torch before a file is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import vots_hqtrack
from vots_hqtrack.checkpoints.registry import KNOWN
from vots_hqtrack.environment import downloads_from_environment
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.io import atomic_path, hold_lock

MANIFEST_NAME = "manifest.json"
MODEL_CONFIG = "config.json"
"""Configuration of a published tracker, with the entries of the weights beside it."""
MODEL_FORMAT = 1
"""Number of its layout."""
_FILE_NAME = re.compile(r"\w[\w.+-]{0,199}", re.ASCII)
"""File names that every file system takes, and that mean no other file in a pattern."""
_CHUNK_BYTES = 1 << 20
_LOCK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One weights file that the project ships, or that the user added.

    Attributes:
        name: Name in presets and options.
        file_name: File name in the weights folder: ASCII letters, digits and ``._+-``.
        sha256: Hash of the file, 64 lower-case hexadecimal digits.
        origin: The files or the training run that the numbers come from.
        licence: Terms of use.
        description: The network, in a sentence.
    """

    name: str
    file_name: str
    sha256: str
    origin: str
    licence: str
    description: str

    def __post_init__(self) -> None:
        """Check the values."""
        start = f"weights entry {self.name!r}:"
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) or not value.strip():
                raise WeightsError(f"{start} {field.name} must be a string, got {value!r}")
        if not _FILE_NAME.fullmatch(self.file_name):
            raise WeightsError(
                f"{start} wanted a bare file name of letters, digits and ._+-, "
                f"got {reprlib.repr(self.file_name)}"
            )
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise WeightsError(
                f"{start} wanted 64 lower-case hexadecimal digits as sha256, got {self.sha256!r}"
            )


def weights_folder() -> Path:
    """Return the folder of the shipped weights, as an absolute path.

    Raises:
        WeightsError: Neither the installed package nor a checkout around it has that folder.
    """
    package = Path(vots_hqtrack.__file__).resolve().parent
    candidates = (package / "weights", package.parent / "weights")
    for folder in candidates:
        if (folder / MANIFEST_NAME).is_file():
            return folder
    looked = " nor ".join(str(folder / MANIFEST_NAME) for folder in candidates)
    raise WeightsError(
        f"the shipped weights are missing: found neither {looked}; "
        "install the package again, or restore the folder with: git checkout -- weights"
    )


def shipped_weights() -> dict[str, WeightsEntry]:
    """Return the weights that come with the package, by name."""
    return read_manifest(weights_folder())


def read_manifest(folder: Path) -> dict[str, WeightsEntry]:
    """Read the manifest of a weights folder.

    Args:
        folder: Folder with ``manifest.json``.

    Returns:
        Its entries by name, in the file's order.

    Raises:
        WeightsError: The file is missing or has another form.
    """
    path = folder / MANIFEST_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"cannot read the weights manifest {path}: {error}") from error
    return _read_entries(content, path)


def _read_entries(content: Any, path: Path) -> dict[str, WeightsEntry]:  # noqa: ANN401 - of JSON
    try:
        return {name: WeightsEntry(name=name, **facts) for name, facts in content.items()}
    except (AttributeError, TypeError) as error:
        wanted = ", ".join(field.name for field in dataclasses.fields(WeightsEntry)[1:])
        raise WeightsError(
            f"{path}: wanted an object of objects by name, each with {wanted}: {error}"
        ) from error


def published_config(folder: Path, name: str = "") -> dict[str, Any]:
    """Read ``config.json`` of a published tracker.

    Args:
        folder: Folder with the file.
        name: Name of the tracker in errors; empty takes the folder.

    Returns:
        Its content, with the tables ``tracker`` and ``weights``.

    Raises:
        WeightsError: The file is missing, damaged, or of another program.
    """
    path = folder / MODEL_CONFIG
    start = f"{name or folder} is not a tracker that save_pretrained wrote:"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{start} wanted {MODEL_CONFIG}, found none") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{start} cannot read its {MODEL_CONFIG}: {error}") from error
    found = content.get("library_name") if isinstance(content, dict) else None
    if found != "vots-hqtrack":
        raise WeightsError(
            f"{start} wanted library_name 'vots-hqtrack' in its {MODEL_CONFIG}, got {found!r}"
        )
    if content.get("format") != MODEL_FORMAT:
        raise WeightsError(
            f"{start} wanted format {MODEL_FORMAT} in its {MODEL_CONFIG}, got "
            f"{content.get('format')!r} of version {content.get('version')!r}"
        )
    for key in ("tracker", "weights"):
        if not isinstance(content.get(key), dict):
            raise WeightsError(f"{start} wanted an object {key!r} in its {MODEL_CONFIG}")
    return dict(content)


def published_weights(folder: Path, name: str = "") -> dict[str, WeightsEntry]:
    """Return the weights of a published tracker by name; arguments as `published_config`.

    Raises:
        WeightsError: Its ``config.json`` is missing, damaged, or of another program.
    """
    return _read_entries(published_config(folder, name)["weights"], folder / MODEL_CONFIG)


def record(folder: Path, entry: WeightsEntry) -> None:
    """Write an entry into a folder's manifest, in place of the one of the same name.

    Args:
        folder: Weights folder; the manifest is made if there is none.
        entry: Its file must be in the folder and have the entry's hash.

    Raises:
        WeightsError: The file is missing or has another hash, or the manifest cannot be used.
    """
    found = sha256_of(folder / entry.file_name)
    if found != entry.sha256:
        raise WeightsError(f"{entry.file_name}: wanted sha256 {entry.sha256}, the file has {found}")
    path = folder / MANIFEST_NAME
    lock = folder / ".manifest.lock"
    busy = f"another process holds {lock}; try again later"
    wait: dict[str, Any] = {"on_wait": lambda _: None, "max_wait": _LOCK_SECONDS}
    with hold_lock(lock, busy=busy, remove=True, error=WeightsError, **wait):
        entries = read_manifest(folder) if path.exists() else {}
        entries[entry.name] = entry
        content = {name: dataclasses.asdict(entries[name]) for name in sorted(entries)}
        for facts in content.values():
            del facts["name"]
        try:
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise WeightsError(f"cannot write the weights manifest {path}: {error}") from error


def cached_weights() -> dict[str, WeightsEntry]:
    """Return the weights that the user fetched or imported, by name; their folder need not exist.

    Raises:
        WeightsError: The cache folder's manifest has another form.
    """
    folder = downloads_from_environment().cache_path
    return read_manifest(folder) if (folder / MANIFEST_NAME).exists() else {}


def resolve(name: str, path: Path | None = None) -> Path:
    """Find a weights file: the user's own, a shipped one, or one in the user's cache folder.

    Args:
        name: Name in a manifest; ignored if ``path`` is given.
        path: The user's own file, the folder of a published tracker, or None.

    Returns:
        Absolute path of a file that exists.

    Raises:
        WeightsError: The file or the name does not exist.
    """
    # These, unlike the methods of Path, find nothing where a name is too long.
    if path is None or os.path.exists(path / MODEL_CONFIG):
        return locate(name, path).path
    if not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "nothing"
        raise WeightsError(
            f"wanted a weights file, or a published tracker, found {kind} at {path.absolute()}"
        )
    return path.resolve()


def published_folder(path: Path | None) -> Path | None:
    """Return a path that is the folder of a published tracker; None for a weights file.

    The folder has all weights of a tracker, a file only those of VMOS.
    """
    return path if path is not None and os.path.isdir(path) else None


class LocatedWeights(NamedTuple):
    """Weights that have a name, and their file.

    Attributes:
        entry: Their entry in a manifest.
        path: Absolute path of a file that exists.
    """

    entry: WeightsEntry
    path: Path


def locate(name: str, published: Path | None = None) -> LocatedWeights:
    """Find weights by name; shipped ones come before those in the cache folder.

    Args:
        name: Name in a manifest.
        published: Folder of a published tracker, read before both; or None.

    Raises:
        WeightsError: There are no weights of that name, or their file is missing; the error says
            how to get them.
    """
    own = published_weights(published) if published is not None else {}
    if published is not None and name in own:
        found = (published / own[name].file_name).absolute()
        if not found.is_file():
            raise WeightsError(f"the weights {name!r} are missing: wanted {found}")
        return LocatedWeights(own[name], found)
    folder, shipped = weights_folder(), shipped_weights()
    if name in shipped:
        found = folder / shipped[name].file_name
        if not found.is_file():
            raise WeightsError(
                f"the weights {name!r} are missing: wanted {found}; install the package again, "
                f"restore the file with: git checkout -- weights/{found.name}, "
                "or give a file of your own with --weights FILE"
            )
        return LocatedWeights(shipped[name], found)
    cached = cached_weights()
    if name in cached:
        found = downloads_from_environment().cache_path / cached[name].file_name
        if found.is_file():
            return LocatedWeights(cached[name], found)
    if name in KNOWN:
        gone = f": {found} is gone" if name in cached else ""
        raise WeightsError(f"the weights {name!r} are not here{gone}; {KNOWN[name].how_to_get()}")
    known = ", ".join(dict.fromkeys([*shipped, *cached, *KNOWN])) or "none"
    raise WeightsError(
        f"no weights named {name!r} in {folder / MANIFEST_NAME} or the cache (known: {known}); "
        "give a file of your own with --weights FILE"
    )


def sha256_of(path: Path) -> str:
    """Return a file's sha256 as 64 lower-case hexadecimal digits.

    Raises:
        WeightsError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of verifying a file by its hash.

    Attributes:
        name: The weights' name, or the file's.
        path: The file.
        state: ``unknown`` is a file for which no hash is known.
        reason: The hash or the fault, in words.
    """

    name: str
    path: Path
    state: Literal["ok", "damaged", "missing", "unknown"]
    reason: str


def verify_all() -> list[Verdict]:
    """Recompute the hash of each shipped and cached file.

    Raises:
        WeightsError: A manifest is missing or has another form.
    """
    shipped, cached = weights_folder(), downloads_from_environment().cache_path
    return [
        *(_verify(entry, shipped) for entry in shipped_weights().values()),
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
    for entry in (*shipped_weights().values(), *cached_weights().values()):
        if found == entry.sha256:
            return Verdict(path.name, path, "ok", f"sha256 {found}, the weights {entry.name}")
    if path.suffix == ".safetensors":
        from vots_hqtrack.checkpoints.load import load_tensors, read_digest

        try:
            load_tensors(path, expected_sha256=None)  # also checks the hash in the header
            if read_digest(path):
                reason = f"sha256 {found}, tensors as its header says"
                return Verdict(path.name, path, "ok", reason)
        except WeightsError as error:
            return Verdict(path.name, path, "damaged", str(error))
    return Verdict(path.name, path, "unknown", f"no hash is known for it; its sha256 is {found}")
