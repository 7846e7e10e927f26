"""Registry files (``trackers.ini``), by which the toolkit starts trackers.

The checkout has one for users who call ``vot`` themselves; the files written here carry a run's own
options and this interpreter's path, and need no checkout.
"""

from __future__ import annotations

import configparser
import io
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import vots_hqtrack
from vots_hqtrack.errors import ConfigError

BASELINE_TRACKER = "CopyFirst"
REPLY_LIMIT_S = 600


@dataclass(frozen=True, slots=True)
class TrackerEntry:
    """Command of one tracker.

    Attributes:
        identifier: The toolkit's name of it; letters, digits and dashes.
        label: Its name in reports.
        module: Python module with the TraX loop.
        environment: Variables that the tracker finds.
    """

    identifier: str
    label: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)


def hqtrack_entry(
    identifier: str = "HQTrack",
    *,
    preset: str = "lite",
    device: str = "auto",
    weights: Path | None = None,
    settings: Iterable[str] = (),
) -> TrackerEntry:
    """Entry of our tracker; the options are those of ``HQTracker.from_preset``.

    Raises:
        ConfigError: A setting holds a blank, which the environment variable cannot carry.
    """
    settings = list(settings)
    for setting in settings:
        if re.search(r"\s", setting):
            raise ConfigError(f"a setting for the toolkit must not hold blanks, got {setting!r}")
    environment = {"VOTS_HQTRACK_PRESET": preset, "VOTS_HQTRACK_DEVICE": device}
    if weights is not None:
        environment["VOTS_HQTRACK_WEIGHTS"] = str(weights.resolve())
    if settings:
        environment["VOTS_HQTRACK_SETTINGS"] = " ".join(settings)
    return TrackerEntry(identifier, f"HQTrack ({preset})", "vots_hqtrack.vot", environment)


def baseline_entry() -> TrackerEntry:
    """Entry of the baseline that repeats the first mask."""
    return TrackerEntry(BASELINE_TRACKER, "Copy of the first mask", "vots_hqtrack.vot.copy_first")


def write_registry(path: Path, entries: Iterable[TrackerEntry]) -> list[str]:
    """Write trackers into a registry file, to be started by this interpreter.

    Args:
        path: Registry file, usually ``trackers.ini``; other trackers that it lists are kept.
        entries: The trackers.

    Returns:
        Identifiers of trackers that the file listed before with other values.

    Raises:
        ConfigError: An identifier is not one the toolkit takes, or the file cannot be read.
    """
    ini = _read_ini(path) if path.exists() else configparser.ConfigParser(interpolation=None)
    changed = []
    for entry in entries:
        if not re.fullmatch(r"[A-Za-z0-9-]+", entry.identifier):
            wanted = "letters, digits and dashes"
            raise ConfigError(f"a tracker's identifier must be {wanted}, got {entry.identifier!r}")
        values = _values(entry)
        if ini.has_section(entry.identifier) and dict(ini[entry.identifier]) != values:
            changed.append(entry.identifier)
        ini[entry.identifier] = values
    buffer = io.StringIO()
    ini.write(buffer)
    path.write_text(buffer.getvalue(), encoding="utf-8")
    return changed


def read_registry(path: Path) -> list[str]:
    """Return the identifiers of the trackers in a registry file.

    Raises:
        ConfigError: The file cannot be read.
    """
    return _read_ini(path).sections()


def _values(entry: TrackerEntry) -> dict[str, str]:
    """Return a tracker's section of the registry."""
    values = {
        "label": entry.label,
        "protocol": "traxpython",
        "command": entry.module,
        "python": sys.executable,
        # The toolkit replaces PYTHONPATH by this, so that an uninstalled package is found too.
        "paths": str(Path(vots_hqtrack.__file__).resolve().parent.parent),
        "timeout": str(REPLY_LIMIT_S),
    }
    values |= {f"env_{name.lower()}": value for name, value in entry.environment.items()}
    # The toolkit reads the file with interpolation: a bare percent sign would break all of it.
    return {key: value.replace("%", "%%") for key, value in values.items()}


def _read_ini(path: Path) -> configparser.ConfigParser:
    """Read a registry without interpolation, after a check that the toolkit can read it too."""
    ini, checked = configparser.ConfigParser(interpolation=None), configparser.ConfigParser()
    try:
        text = path.read_text(encoding="utf-8")
        ini.read_string(text)
        checked.read_string(text)
        for name in checked.sections():
            checked.items(name)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot read the trackers in {path}: {reason}") from error
    return ini
