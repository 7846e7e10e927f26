"""Fetches weights by name: download, verify, import into the user's cache folder."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vots_hqtrack.checkpoints.download import MAX_BYTES, ExpectedHash, Progress, download
from vots_hqtrack.checkpoints.manifest import cached_weights, locate, sha256_of
from vots_hqtrack.checkpoints.registry import KNOWN
from vots_hqtrack.environment import downloads_from_environment
from vots_hqtrack.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from vots_hqtrack.checkpoints.importing import Imported


def fetch_weights(
    name: str,
    *,
    source: str = "",
    sha256: str = "",
    half: bool = False,
    force: bool = False,
    on_progress: Progress = lambda done, total: None,
    wait: Callable[[float], None] = time.sleep,
) -> tuple[Imported, str]:
    """Fetch weights of the registry, for presets to find by name.

    Args:
        name: Name in the registry.
        source: Address or path of the authors' file; empty takes the registry's address.
        sha256: Hash that the file must have, or empty.
        half: True stores float16, False float32.
        force: True fetches again what is there already.
        on_progress: Callback after each block of the download.
        wait: Sleeps for a number of seconds between two attempts.

    Returns:
        The file in the cache folder, and the check that the download passed, in words.

    Raises:
        ConfigError: The registry has no such weights, or ``sha256`` is not a hash.
        WeightsError: They are there already, no program can fetch them, the download fails or does
            not pass its check, or the file is of another kind.
    """
    if name not in KNOWN:
        raise ConfigError(f"nothing to fetch by the name {name!r}; known are: {', '.join(KNOWN)}")
    known, sha256, options = KNOWN[name], sha256.lower(), downloads_from_environment()
    if sha256 and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ConfigError(f"--sha256 wants 64 hexadecimal digits, got {sha256!r}")
    if not force and name in cached_weights():
        raise WeightsError(f"{name} is there already: {locate(name).path}; --force replaces it")
    address = source or known.address(options.hub)
    if not address:
        raise WeightsError(f"{name} cannot be fetched by a program. {known.manual}")
    file, is_file = Path(address), "://" not in address
    check = _check_file(file, sha256) if is_file else ""
    if options.is_offline and not is_file:
        raise _offline_error(address)

    # PyTorch takes seconds to load, which a refusal has no need of.
    from vots_hqtrack.checkpoints.importing import exclusive_import, write_imported

    with exclusive_import(name):
        if is_file:
            return write_imported(file, name, half=half, origin=file.name), check
        path = _download_path(name, address, options.cache_path)
        published = "" if source else known.sha256
        hashes = ((sha256, "that you gave"), (published, "that its authors name"))
        expected = tuple(ExpectedHash(*each) for each in hashes if each[0])
        limit = 2 * known.num_bytes or MAX_BYTES
        check = download(address, path, expected, limit, on_progress=on_progress, wait=wait)
        try:
            return write_imported(path, name, half=half, origin=address), check
        finally:
            path.unlink(missing_ok=True)


def _offline_error(address: str) -> WeightsError:
    return WeightsError(
        f"offline mode is on (VOTS_HQTRACK_OFFLINE or HF_HUB_OFFLINE), so {address} is not "
        "fetched; give a file that you have: hqtrack weights import FILE --as KIND"
    )


def _download_path(name: str, address: str, cache: Path) -> Path:
    """Return a file for the download, another one for each address."""
    digest = hashlib.sha256(address.encode()).hexdigest()[:8]
    ending = ".safetensors" if address.endswith(".safetensors") else ".pth"
    return cache / "downloads" / f"{name}-{digest}{ending}"


def _check_file(path: Path, sha256: str) -> str:
    if not path.is_file():
        raise WeightsError(f"wanted a file or an address with http://, found nothing at {path}")
    if not sha256:
        return "it was not checked: nobody names a sha256 for it"
    found = sha256_of(path)
    if found != sha256:
        raise WeightsError(
            f"{path} is another file: wanted the sha256 {sha256} that you gave, got {found}"
        )
    return "its sha256 is the one that you gave"
