"""Registries of trackers: the user's own lines stay, and names stay names."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vots_hqtrack.errors import ConfigError
from vots_hqtrack.vot.registry import (
    baseline_entry,
    check_identifier,
    hqtrack_entry,
    read_registry,
    write_registry,
)
from vots_hqtrack.vot.workspace import Workspace

USERS = """# my trackers
[DEFAULT]
timeout = 4

[Other]
; keep this
label: two
  lines

[HQTrack]
# a note
label = old
paths = a
  b
unknown = 1
# the end

[Last]
label = z"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_the_user_stay(tmp_path: Path, end: str) -> None:
    path = tmp_path / "trackers.ini"
    path.write_bytes(USERS.replace("\n", end).encode())
    assert write_registry(path, [hqtrack_entry()]) == ["HQTrack"]
    written = path.read_bytes().decode()
    assert "\n" not in written.replace(end, "")
    lines = written.split(end)
    kept = [
        line
        for line in USERS.split("\n")
        if line not in ("label = old", "paths = a", "  b", "unknown = 1")
    ]
    assert [line for line in lines if line in kept] == kept
    assert lines[lines.index("# a note") + 1] == "label = HQTrack (lite)"
    before = path.stat().st_mtime_ns
    assert write_registry(path, [hqtrack_entry()]) == []
    assert path.stat().st_mtime_ns == before


def test_trackers_written_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "trackers.ini"
    names = [f"T{number}" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: write_registry(path, [hqtrack_entry(name)]), names))
    assert sorted(read_registry(path)) == sorted(names)


def test_a_change_that_is_refused_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "trackers.ini"
    write_registry(path, [hqtrack_entry(), baseline_entry()])
    before = path.read_bytes()

    def refuse(identifier: str) -> None:
        raise ConfigError(f"no change of {identifier}")

    with pytest.raises(ConfigError, match="no change of HQTrack"):
        write_registry(path, [hqtrack_entry(device="cpu"), hqtrack_entry("B")], on_change=refuse)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "trackers.ini"
    path.write_text(USERS)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from vots_hqtrack.vot.registry import hqtrack_entry, write_registry\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))\n"
        f"write_registry(Path({str(path)!r}), [hqtrack_entry()])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert b"OSError" in done.stderr
    assert path.read_text() == USERS
    assert not list(tmp_path.glob("*.part"))


def test_a_link_to_a_registry_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.ini").write_text(USERS)
    (tmp_path / "trackers.ini").symlink_to("real.ini")
    write_registry(tmp_path / "trackers.ini", [hqtrack_entry()])
    assert (tmp_path / "trackers.ini").is_symlink()
    assert "HQTrack (lite)" in (tmp_path / "real.ini").read_text()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/data", "a/b", "a\n", "DEFAULT", "é", "a b", "A" * 151]
)
def test_names_that_are_no_identifiers(tmp_path: Path, name: str) -> None:
    space = Workspace(tmp_path, tmp_path, tmp_path / "trackers.ini")
    with pytest.raises(ConfigError, match="identifier must be letters"):
        space.results_of(name)


@given(st.text())
def test_results_stay_in_the_workspace(name: str) -> None:
    try:
        check_identifier(name)
    except ConfigError:
        return
    space = Workspace(Path("/space"), Path("/s"), Path("/t"))
    assert space.results_of(name).parent == Path("/space/results")
