"""Download options from environment variables."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HUB = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class DownloadOptions:
    """Cache of weights, and permission to download them.

    Attributes:
        cache_path: Their folder (``VOTS_HQTRACK_CACHE``); by default in the user's cache folder.
        is_offline: True forbids every connection (``VOTS_HQTRACK_OFFLINE`` or ``HF_HUB_OFFLINE``).
        hub: Address of the Hugging Face hub or a mirror of it (``HF_ENDPOINT``).
    """

    cache_path: Path
    is_offline: bool = False
    hub: str = HUB


def downloads_from_environment(environment: Mapping[str, str] | None = None) -> DownloadOptions:
    """Read how to download weights from environment variables; an empty one is not set.

    Args:
        environment: The variables; None takes those of this process.

    Example:
        >>> downloads_from_environment({"HF_HUB_OFFLINE": "1"}).is_offline
        True
    """
    variables = os.environ if environment is None else environment
    own = variables.get("VOTS_HQTRACK_CACHE", "")
    caches = variables.get("XDG_CACHE_HOME", "")
    if sys.platform == "win32":
        caches = caches or variables.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        caches = caches or "~/Library/Caches"
    cache = Path(own) if own else Path(caches or "~/.cache") / "vots_hqtrack"
    flags = [variables.get(name, "") for name in ("VOTS_HQTRACK_OFFLINE", "HF_HUB_OFFLINE")]
    return DownloadOptions(
        cache_path=cache.expanduser().absolute(),
        is_offline=any(flag.strip().lower() in ("1", "true", "yes", "on") for flag in flags),
        hub=(variables.get("HF_ENDPOINT") or HUB).rstrip("/"),
    )
