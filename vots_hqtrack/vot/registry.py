"""Registry files (``trackers.ini``), by which the toolkit starts trackers.

The checkout has one for users who call ``vot`` themselves; the files written here carry a run's own
options and this interpreter's path, and need no checkout.
"""

from __future__ import annotations

import configparser
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import vots_hqtrack
from vots_hqtrack.errors import ConfigError
from vots_hqtrack.io import atomic_path, hold_lock

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

    def __post_init__(self) -> None:
        """Check the identifier, before anything is written under it.

        Raises:
            ConfigError: It is not one of letters, digits and dashes.
        """
        if "_" in check_identifier(self.identifier):
            wanted = "letters, digits and dashes"
            raise ConfigError(f"a tracker's identifier must be {wanted}, got {self.identifier!r}")


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
        ConfigError: The identifier is none, or a setting holds a blank, which the environment
            variable cannot carry.
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


def check_identifier(identifier: str) -> str:
    """Return a tracker's identifier, which becomes the name of its folder of results.

    Raises:
        ConfigError: It is not one that the toolkit takes, so it could name another folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,150}", identifier) or identifier == "DEFAULT":
        wanted = "letters, digits, dashes and underscores, at most 150"
        raise ConfigError(f"a tracker's identifier must be {wanted}, got {identifier!r}")
    return identifier


def write_registry(
    path: Path,
    entries: Iterable[TrackerEntry],
    *,
    on_change: Callable[[str], object] = lambda identifier: None,
    on_wait: Callable[[str], object] = lambda message: None,
) -> list[str]:
    """Write trackers into a registry file, to be started by this interpreter.

    Only the lines of these trackers change: other trackers, comments and empty lines stay, also
    those that another process writes at the same time.

    Args:
        path: Registry file, usually ``trackers.ini``.
        entries: The trackers.
        on_change: Called before anything is written with each tracker that the file lists with
            other values; an error that it raises leaves the file as it was.
        on_wait: Called with a message before this process waits for another one.

    Returns:
        Identifiers of trackers that the file listed before with other values.

    Raises:
        ConfigError: The file cannot be read or changed.
    """
    lock_path = path.with_name(f".{path.name}.lock")
    with hold_lock(lock_path, busy=f"another run writes {path}: waiting for it", on_wait=on_wait):
        text = _read_text(path) if path.exists() else ""
        ini, new = _parse(text, path), text
        changed = []
        for entry in entries:
            values = _values(entry)
            if ini.has_section(entry.identifier) and dict(ini[entry.identifier]) != values:
                on_change(entry.identifier)
                changed.append(entry.identifier)
            ini[entry.identifier] = values
            new = _set_section(new, entry.identifier, values)
        if _to_dict(_parse(new, path)) != _to_dict(ini):
            raise ConfigError(f"cannot change {path} line by line: write it by hand")
        if new != text:
            with atomic_path(path.resolve()) as temporary:
                temporary.write_bytes(new.encode("utf-8"))
    return changed


def read_registry(path: Path) -> list[str]:
    """Return the identifiers of the trackers in a registry file.

    Raises:
        ConfigError: The file cannot be read.
    """
    return [name for name in _parse(_read_text(path), path).sections() if name != "DEFAULT"]


def localise_registry(text: str, python: str, package_root: str) -> str:
    """Let the trackers of another machine's registry run with this machine's interpreter.

    Args:
        text: The registry.
        python: That machine's interpreter; trackers with another one keep it.
        package_root: Folder in which the package is there.

    Returns:
        The text, the same one where the two machines have the same paths.
    """
    own_root = str(package_parent())
    if (python, package_root) == (sys.executable, own_root):
        return text
    ini = _parse(text, Path("trackers.ini"))
    for section in (ini[name] for name in ini.sections()):
        if section.get("python", "").replace("%%", "%") == python:
            section["python"] = sys.executable.replace("%", "%%")
        if "paths" in section:
            paths = section["paths"].replace("%%", "%").split(os.pathsep)
            moved = [own_root if path == package_root else path for path in paths]
            section["paths"] = os.pathsep.join(moved).replace("%", "%%")
    written = io.StringIO()
    ini.write(written)
    return written.getvalue()


def package_parent() -> Path:
    """Folder in which the package is."""
    return Path(vots_hqtrack.__file__).resolve().parent.parent


def _values(entry: TrackerEntry) -> dict[str, str]:
    """Return a tracker's section of the registry."""
    values = {
        "label": entry.label,
        "protocol": "traxpython",
        "command": entry.module,
        "python": sys.executable,
        # The toolkit replaces PYTHONPATH by this, so that an uninstalled package is found too.
        "paths": str(package_parent()),
        "timeout": str(REPLY_LIMIT_S),
    }
    values |= {f"env_{name.lower()}": value for name, value in entry.environment.items()}
    # The toolkit reads the file with interpolation: a bare percent sign would break all of it.
    return {key: value.replace("%", "%%") for key, value in values.items()}


def _set_section(text: str, identifier: str, values: Mapping[str, str]) -> str:
    """Set the options of one section in the text of a registry; comments in it stay."""
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    header = re.compile(rf"\[{re.escape(identifier)}\]")
    start = next((n for n, line in enumerate(lines) if header.match(line)), None)
    if start is None:
        before = _with_end(text, end_of_line) + (end_of_line if text.strip() else "")
        options = [f"{key} = {value}{end_of_line}" for key, value in values.items()]
        return "".join([before, f"[{identifier}]{end_of_line}", *options])
    after = (n for n in range(start + 1, len(lines)) if lines[n].startswith("["))
    end = next(after, len(lines))
    left = dict(values)
    section, last, is_dropped = [_with_end(lines[start], end_of_line)], 1, False
    for line in lines[start + 1 : end]:
        if not line.strip() or line.lstrip()[0] in "#;":
            section.append(line)
            continue
        if not line[0].isspace():  # else it goes on with the value of the line before
            key = re.split("[=:]", line, maxsplit=1)[0].strip().lower()
            value = left.pop(key, None)
            is_same = value is not None and line.split("=", 1)[-1].strip() == value
            is_dropped = not is_same
            if is_dropped and value is not None:
                section.append(f"{key} = {value}{end_of_line}")
        if not is_dropped:
            section.append(_with_end(line, end_of_line))
        last = len(section)
    section[last:last] = [f"{key} = {value}{end_of_line}" for key, value in left.items()]
    return "".join([*lines[:start], *section, *lines[end:]])


def _with_end(text: str, end_of_line: str) -> str:
    """Add the end of the last line where it is missing."""
    return text if not text or text.endswith(("\n", "\r")) else text + end_of_line


def _read_text(path: Path) -> str:
    """Read a registry with its line ends as they are."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot read the trackers in {path}: {reason}") from error


def _parse(text: str, path: Path) -> configparser.ConfigParser:
    """Read a registry without interpolation, after a check that the toolkit can read it too.

    Its section of defaults is a section like any other here.
    """
    ini = configparser.ConfigParser(interpolation=None, default_section="")
    checked = configparser.ConfigParser()
    try:
        ini.read_file(io.StringIO(text, newline=None))
        checked.read_file(io.StringIO(text, newline=None))
        for name in checked.sections():
            checked.items(name)
    except configparser.Error as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot read the trackers in {path}: {reason}") from error
    return ini


def _to_dict(ini: configparser.ConfigParser) -> dict[str, dict[str, str]]:
    return {name: dict(ini[name]) for name in ini.sections()}
