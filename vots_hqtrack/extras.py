"""Optional parts of the package: how to install an extra that is missing."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vots_hqtrack.errors import ConfigError

_NAME = "vots-hqtrack"


def missing_extra(what: str, extra: str, error: ImportError | None = None) -> ConfigError:
    """Make the error for an extra that is not installed.

    Args:
        what: The part that needs it.
        extra: Name of the extra.
        error: Failure of the import.
    """
    reason = f" ({error})" if error is not None else ""
    return ConfigError(f"{what} needs the extra {extra}: {install_command(extra)}{reason}")


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this installation of the package.

    The name is not on PyPI, so that the command names where the package came from: a checkout, a
    wheel, or a repository.
    """
    try:
        text = importlib.metadata.distribution(_NAME).read_text("direct_url.json")
        origin = json.loads(text or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        origin = {}
    url, is_editable = str(origin.get("url", "")), origin.get("dir_info", {}).get("editable")
    if vcs := origin.get("vcs_info", {}).get("vcs"):
        return f"pip install {shlex.quote(f'{_NAME}[{extra}] @ {vcs}+{url}')}"
    path = Path(unquote(urlsplit(url).path)) if url.startswith("file:") else None
    if path is None or not path.exists():
        return f"pip install '.[{extra}]' in a checkout of the package"
    option = "-e " if is_editable else ""
    return f"pip install {option}{_quote(f'{path}[{extra}]')}"


def _quote(text: str) -> str:
    """Quote a word for the shell, brackets always."""
    return shlex.quote(text) if "'" in text else f"'{text}'"
