"""Fetches weights by name: download, check, import into the user's cache folder."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vots_hqtrack.checkpoints.catalogue import KNOWN
from vots_hqtrack.checkpoints.manifest import cached_weights, locate, sha256_of
from vots_hqtrack.checkpoints.transfer import Expected, Progress, download
from vots_hqtrack.environment import DownloadOptions, downloads_from_environment
from vots_hqtrack.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from vots_hqtrack.checkpoints.importing import Imported


@dataclass(frozen=True, slots=True)
class Fetched:
    """Weights that are in the cache folder now.

    Attributes:
        imported: The file.
        check: How the file that it was made of was checked, in words.
    """

    imported: Imported
    check: str


def fetch_weights(
    name: str,
    *,
    source: str = "",
    sha256: str = "",
    half: bool = False,
    force: bool = False,
    on_progress: Progress = lambda done, total: None,
    wait: Callable[[float], None] = time.sleep,
) -> Fetched:
    """Fetch weights that the package knows but does not carry, for presets to find by name.

    Args:
        name: A name of the catalogue.
        source: Address or path to take the authors' file from; empty takes the catalogue's address.
        sha256: Hash that the file must have, or empty.
        half: True stores float16, False float32.
        force: True fetches anew what is there already.
        on_progress: Is called after each piece of the download.
        wait: Sleeps for a number of seconds between two tries.

    Returns:
        The file in the cache folder.

    Raises:
        ConfigError: There are no such weights in the catalogue, or ``sha256`` is none.
        WeightsError: They are there already, no program can fetch them, the download fails or does
            not pass its check, or the file is of another kind.
    """
    if name not in KNOWN:
        raise ConfigError(f"nothing to fetch by the name {name!r}; known are: {', '.join(KNOWN)}")
    sha256 = sha256.lower()
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ConfigError(f"--sha256 wants 64 hexadecimal digits, got {sha256!r}")
    if not force and name in cached_weights():
        raise WeightsError(f"{name} is there already: {locate(name).path}; --force fetches it anew")
    options = downloads_from_environment()
    address = source or KNOWN[name].address(options.hub)
    if not address:
        raise WeightsError(f"{name} cannot be fetched by a program. {KNOWN[name].manual}")
    given = (Expected(sha256, "that you gave"),) if sha256 else ()
    if "://" not in address:
        check = _check_file(Path(address), given)
        return Fetched(_import(Path(address), name, half=half, origin=Path(address).name), check)
    known = KNOWN[name].sha256
    if known and not source:
        given = (*given, Expected(known, "that its authors name"))
    done = download(
        address,
        _place(options, name, address),
        expected=given,
        is_offline=options.is_offline,
        on_progress=on_progress,
        wait=wait,
    )
    try:
        imported = _import(done.path, name, half=half, origin=address)
    finally:
        done.path.unlink(missing_ok=True)
    return Fetched(imported, done.check)


def _import(path: Path, name: str, *, half: bool, origin: str) -> Imported:
    # PyTorch takes seconds to load, which a refusal or a download has no need of.
    from vots_hqtrack.checkpoints.importing import import_weights

    return import_weights(path, name, half=half, force=True, origin=origin)


def _place(options: DownloadOptions, name: str, address: str) -> Path:
    """Return where the download lies until it is imported; each address has a place of its own."""
    mark = hashlib.sha256(address.encode()).hexdigest()[:8]
    ending = ".safetensors" if address.endswith(".safetensors") else ".pth"
    return options.cache_path / "downloads" / f"{name}-{mark}{ending}"


def _check_file(path: Path, given: tuple[Expected, ...]) -> str:
    if not path.is_file():
        raise WeightsError(f"wanted a file or an address with http://, found nothing at {path}")
    for wanted in given:
        found = sha256_of(path)
        if found != wanted.sha256:
            raise WeightsError(
                f"{path} is another file: wanted the sha256 {wanted.sha256} {wanted.whose}, "
                f"got {found}"
            )
        return f"its sha256 is the one {wanted.whose}"
    return "it was not checked: nobody names a sha256 for it"
