"""Where weights live, and what is known of each file: hash, origin and licence.

The facts stand in ``manifest.json`` beside the weights, so that new weights need no change of
code. A wheel carries that folder as ``vots_hqtrack/weights``; a checkout has it at the top level.
Weights that the user fetched or imported lie in a cache folder with a manifest of the same form.
Nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import vots_hqtrack
from vots_hqtrack.checkpoints.catalogue import KNOWN
from vots_hqtrack.environment import downloads_from_environment
from vots_hqtrack.errors import WeightsError
from vots_hqtrack.io import atomic_path

MANIFEST_NAME = "manifest.json"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WeightsEntry:
    """One weights file that the project ships, or that the user added.

    Attributes:
        name: What presets and options call it.
        file_name: Its file in the weights folder, without a folder.
        sha256: Hash of the file, 64 lower-case hexadecimal digits.
        origin: Where the numbers come from: the files or the training that made them.
        licence: Under which terms they may be used.
        description: What they are, in a sentence.
    """

    name: str
    file_name: str
    sha256: str
    origin: str
    licence: str
    description: str

    def __post_init__(self) -> None:
        """Check the values."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, str) or not value.strip():
                raise WeightsError(
                    f"weights entry {self.name!r}: {field.name} must be a text, got {value!r}"
                )
        if Path(self.file_name).name != self.file_name:
            raise WeightsError(
                f"weights entry {self.name!r}: wanted a bare file name, got {self.file_name!r}"
            )
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise WeightsError(
                f"weights entry {self.name!r}: wanted 64 lower-case hexadecimal digits as sha256, "
                f"got {self.sha256!r}"
            )


class _ShippedManifest(Mapping[str, WeightsEntry]):
    """The shipped manifest, read when it is asked and not at import."""

    def __getitem__(self, name: str) -> WeightsEntry:
        return read_manifest(weights_folder())[name]

    def __iter__(self) -> Iterator[str]:
        return iter(read_manifest(weights_folder()))

    def __len__(self) -> int:
        return len(read_manifest(weights_folder()))


MANIFEST: Mapping[str, WeightsEntry] = _ShippedManifest()
"""The shipped weights by name."""


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


def read_manifest(folder: Path) -> dict[str, WeightsEntry]:
    """Read the manifest of a weights folder.

    Args:
        folder: Folder that holds ``manifest.json``.

    Returns:
        Its entries by name, in the file's order.

    Raises:
        WeightsError: The file is missing or not as it should be.
    """
    path = folder / MANIFEST_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = [WeightsEntry(name=name, **facts) for name, facts in content.items()]
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read the weights manifest {path}: {error}") from error
    except (AttributeError, TypeError) as error:
        wanted = ", ".join(field.name for field in dataclasses.fields(WeightsEntry)[1:])
        raise WeightsError(
            f"{path}: wanted an object of objects by name, each with {wanted}: {error}"
        ) from error
    return {entry.name: entry for entry in entries}


def record(folder: Path, entry: WeightsEntry) -> None:
    """Write an entry into a folder's manifest, in place of the one of the same name.

    Args:
        folder: Weights folder; the manifest is made if there is none.
        entry: Its file must lie in the folder and have the entry's hash.

    Raises:
        WeightsError: The file is missing or has another hash, or the manifest cannot be used.
    """
    found = sha256_of(folder / entry.file_name)
    if found != entry.sha256:
        raise WeightsError(f"{entry.file_name}: wanted sha256 {entry.sha256}, the file has {found}")
    path = folder / MANIFEST_NAME
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
        WeightsError: The cache folder's manifest is not as it should be.
    """
    folder = downloads_from_environment().cache_path
    return read_manifest(folder) if (folder / MANIFEST_NAME).exists() else {}


def resolve(name: str, path: Path | None = None) -> Path:
    """Find a weights file: the user's own, a shipped one, or one in the user's cache folder.

    Args:
        name: Name in a manifest; not looked at when ``path`` is given.
        path: File that the user wants instead, or None.

    Returns:
        Absolute path of a file that exists.

    Raises:
        WeightsError: There is no such file, or no weights of that name.
    """
    if path is not None:
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "nothing"
            raise WeightsError(f"wanted a weights file, found {kind} at {path.absolute()}")
        return path.resolve()
    return locate(name).path


@dataclass(frozen=True, slots=True)
class LocatedWeights:
    """Weights that have a name, and their file.

    Attributes:
        entry: What a manifest says of them.
        path: Absolute path of a file that exists.
        is_shipped: True for the package's own, False for those in the cache folder.
    """

    entry: WeightsEntry
    path: Path
    is_shipped: bool


def locate(name: str) -> LocatedWeights:
    """Find weights by name; shipped ones come before those in the cache folder.

    Raises:
        WeightsError: There are no weights of that name, or their file is missing; the error says
            how to come by them.
    """
    folder = weights_folder()
    shipped = read_manifest(folder)
    if name in shipped:
        found = folder / shipped[name].file_name
        if not found.is_file():
            raise WeightsError(
                f"the weights {name!r} are missing: wanted {found}; install the package again, "
                f"restore the file with: git checkout -- weights/{found.name}, "
                "or give a file of your own with --weights FILE"
            )
        return LocatedWeights(shipped[name], found, is_shipped=True)
    cached = cached_weights()
    if name in cached:
        found = downloads_from_environment().cache_path / cached[name].file_name
        if found.is_file():
            return LocatedWeights(cached[name], found, is_shipped=False)
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
