"""Packages that a machine lacks, from a folder of wheels, without touching its Python."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

from vots_hqtrack.errors import InputError


@dataclass(frozen=True, slots=True)
class InstallResult:
    """What became of the wheels whose packages were missing.

    Attributes:
        installed: Names of the files that are installed now.
        problems: Why others are not, one line each.
    """

    installed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def install_missing(wheels: Path, target: Path) -> InstallResult:
    """Install the wheels whose packages are not there, without their dependencies.

    One that cannot be installed costs only itself.

    Args:
        wheels: Folder of ``.whl`` files.
        target: Folder that they go to; it must be put on ``PYTHONPATH``.

    Raises:
        InputError: The folder is missing or has no wheel.
    """
    found = sorted(wheels.glob("*.whl"))
    if not found:
        raise InputError(f"wanted a folder of .whl files, found none in {wheels}")
    result = InstallResult()
    for path in found:
        if _is_here(path, target):
            continue
        problem = _install(path, target)
        if problem:
            result.problems.append(f"{path.name}: {problem}")
        else:
            result.installed.append(path.name)
    return result


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


def _install(wheel: Path, target: Path) -> str:
    """Install one wheel; returns what went wrong, or an empty string."""
    if importlib.util.find_spec("pip") is None:
        return _unpack(wheel, target)
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--quiet"]
    command += ["--disable-pip-version-check", "--target", str(target), str(wheel)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    lines = ended.stderr.strip().splitlines()
    return (
        (lines[-1] if lines else f"pip ended with {ended.returncode}") if ended.returncode else ""
    )


def _unpack(wheel: Path, target: Path) -> str:
    """Do without pip: a wheel is an archive of what goes to the target, as long as it is simple."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if any(".data/" in name for name in archive.namelist()):
                return "needs pip, which this Python has not"
            archive.extractall(target)
    except (OSError, zipfile.BadZipFile) as error:
        return str(error)
    return ""
