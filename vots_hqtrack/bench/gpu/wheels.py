"""Packages that a machine lacks, from a folder of wheels, without touching its Python."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

from vots_hqtrack.errors import InputError


def install_missing(wheels: Path, target: Path) -> list[str]:
    """Install the wheels whose packages are not there, without their dependencies.

    Args:
        wheels: Folder of ``.whl`` files.
        target: Folder that they go to; it must be put on ``PYTHONPATH``.

    Returns:
        Names of the wheels' files that were installed, sorted.

    Raises:
        InputError: The folder is missing or has no wheel, or pip cannot install one.
    """
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise InputError(f"wanted a folder of .whl files, found none in {wheels}")
    missing = [path for path in found if not _is_here(path, target)]
    if not missing:
        return []
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--target", str(target), *map(str, missing)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if ended.returncode:
        reason = ended.stderr.strip().splitlines()
        raise InputError(f"pip cannot install from {wheels}: {reason[-1] if reason else 'no word'}")
    return [path.name for path in missing]


def _is_here(wheel: Path, target: Path) -> bool:
    """Whether the package of a wheel is installed, or was unpacked to the target before."""
    name, version = wheel.name.split("-")[:2]
    if (target / f"{name}-{version}.dist-info").is_dir():
        return True
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
