"""Write a report into a folder: the page, and each table and plot as files for a paper."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vots_hqtrack.errors import InputError, OutputError
from vots_hqtrack.io import atomic_path, hold_lock, is_temporary, to_json
from vots_hqtrack.vot.report.collect import ReportData
from vots_hqtrack.vot.report.contents import make_tables
from vots_hqtrack.vot.report.frames import worst_frames
from vots_hqtrack.vot.report.page import SequencePart, render_page
from vots_hqtrack.vot.report.plots import overview_plots, sequence_plot
from vots_hqtrack.vot.report.tables import Table
from vots_hqtrack.vot.run import Step, StepCallback

PAGE_NAME = "report.html"
LIST_NAME = "report.json"
FOLDERS = ("tables", "plots", "frames")
_FORMAT = 1


def write_report(
    data: ReportData,
    folder: Path,
    *,
    more_tables: Sequence[Table] = (),
    on_step: StepCallback = lambda step: None,
) -> Path:
    """Write a report, and return the path of its page.

    The files of an earlier report in the folder are replaced; ``report.json`` lists them.

    Args:
        data: Numbers of the report.
        folder: Output folder, made where it is missing.
        more_tables: Tables beside those of the numbers.
        on_step: Called whenever the progress changes.

    Raises:
        InputError: The folder holds files that no report lists, or a frame cannot be read.
        OutputError: A file cannot be written.
    """
    with _claim(folder) as earlier:
        files = _render(data, more_tables, on_step)
        try:
            # A report that is cut still lists all files that it may have written.
            names = sorted({*files, *earlier})
            _write(folder / LIST_NAME, _list(names).encode())
            for name, content in files.items():
                _write(folder / name, content)
            for name in set(earlier) - set(files):
                (folder / name).unlink(missing_ok=True)
            _write(folder / LIST_NAME, _list(sorted(files)).encode())
        except OSError as error:
            raise OutputError(f"cannot write the report into {folder}: {error}") from error
    return folder / PAGE_NAME


def check_report_folder(folder: Path) -> None:
    """Refuse a folder with files in the way of a report, before any work is done.

    Raises:
        InputError: It is not a folder, cannot be written, or holds such files that no earlier
            report lists.
    """
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(p))
    if not place.is_dir():
        raise InputError(f"the output folder must be a folder, got the file {place}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"the folder {place} cannot be written: Permission denied")
    _read_earlier(folder)


@contextlib.contextmanager
def _claim(folder: Path) -> Iterator[list[str]]:
    """Make and lock the folder; yield the files of an earlier report there."""
    check_report_folder(folder)
    try:
        for path in (folder, *(folder / name for name in FOLDERS)):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path}: {error.strerror}") from error
    busy = f"another run writes the report {folder} now"
    with hold_lock(folder / ".hqtrack.lock", busy=busy, remove=True):
        yield _read_earlier(folder)


def _render(
    data: ReportData, more_tables: Sequence[Table], on_step: StepCallback
) -> Mapping[str, bytes]:
    """Make the content of all files by name."""
    tables = [*more_tables, *make_tables(data)]
    plots = overview_plots(data)
    files: dict[str, bytes] = {}
    for table in tables:
        files[f"tables/{table.name}.csv"] = table.to_csv().encode()
        files[f"tables/{table.name}.md"] = table.to_markdown().encode()
        files[f"tables/{table.name}.tex"] = table.to_latex().encode()
    parts = []
    for index, sequence in enumerate(data.measured, start=1):
        on_step(Step("draw", index - 1, len(data.measured), sequence.name))
        drawn = sequence_plot(data, sequence.name, index)
        frames = worst_frames(data, sequence)
        for frame in frames:
            files[f"frames/{drawn.name}-{frame.tracker}.webp"] = frame.image
        parts.append(SequencePart(sequence.name, drawn, frames))
    for plot in [*plots, *(part.plot for part in parts)]:
        files |= {f"plots/{plot.name}.{kind}": content for kind, content in plot.files.items()}
    files[PAGE_NAME] = render_page(data, tables, plots, parts).encode()
    if data.measured:
        on_step(Step("draw", len(data.measured), len(data.measured)))
    return files


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _list(names: Sequence[str]) -> str:
    return to_json({"format": _FORMAT, "files": list(names)}, indent=2) + "\n"


def _read_earlier(folder: Path) -> list[str]:
    """Return the files of an earlier report; refuse others where a report has its own."""
    names = _read_list(folder / LIST_NAME) if os.path.lexists(folder / LIST_NAME) else []
    found = [folder / PAGE_NAME] if os.path.lexists(folder / PAGE_NAME) else []
    for name in FOLDERS:
        place = folder / name
        if os.path.islink(place) or (place.exists() and not place.is_dir()):
            raise InputError(f"{place} is not a folder that this program made; give another --out")
        found += sorted(place.iterdir()) if place.is_dir() else []
    foreign = [path for path in found if path.relative_to(folder).as_posix() not in names]
    foreign = [path for path in foreign if not is_temporary(path.name)]
    if foreign:
        raise InputError(
            f"{foreign[0]} in the output folder would be mixed with a report, but no earlier "
            f"one lists it in {LIST_NAME}; move it, or give another --out"
        )
    return names


def _read_list(path: Path) -> list[str]:
    """Read the files that a report lists: only such as a report can have."""
    try:
        content = json.loads(path.read_bytes())
        names = content["files"]
        if path.is_symlink() or content["format"] != _FORMAT:
            raise ValueError("it is another format")
        if not all(_is_report_file(name) for name in names):
            raise ValueError("it lists other files")
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise InputError(f"{path} was not written by this program: {error}") from error
    return [str(name) for name in names]


def _is_report_file(name: object) -> bool:
    if not isinstance(name, str):
        return False
    parts = name.split("/")
    return name == PAGE_NAME or (
        len(parts) == 2 and parts[0] in FOLDERS and parts[1] not in ("", ".", "..")
    )
