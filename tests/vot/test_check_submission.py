"""Faults planted in a good submission, each found; none found in the good one."""

from __future__ import annotations

import json
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.errors import InputError
from vots_hqtrack.vot.check import check_submission
from vots_hqtrack.vot.registry import BASELINE_TRACKER, baseline_entry, write_registry
from vots_hqtrack.vot.sequences import write_sequence, write_sequence_list

HEIGHT, WIDTH, NUM_FRAMES = 30, 40, 12
HOME = "/" + "home/ann"
MANIFEST = "identifier: HQ\nstack: vots2023\nconfiguration: {command: vots_hqtrack.vot}\n"


def box(left: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[5:15, left : left + 10] = True
    return mask


def write_result(path: Path, regions: list[bytes]) -> None:
    path.write_bytes(struct.pack("<hI", 1, len(regions)) + b"".join(regions))
    lines = "0.1\n" * len(regions)
    path.with_name(f"{path.stem}_time.value").write_text(lines)


CODE = struct.pack("<BI", 0, 1)


def region(left: int, top: int = 5, width: int = 10, height: int = 10, *runs: int) -> bytes:
    runs = runs or (0, width * height)
    return struct.pack(f"<BhhHHH{len(runs)}H", 3, left, top, width, height, len(runs), *runs)


GOOD = [CODE, *(region(left) for left in range(4, 4 + NUM_FRAMES - 1))]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A workspace with whole results of the tracker HQ on a sequence of two objects."""
    frames = [np.full((HEIGHT, WIDTH, 3), 9 * n, dtype=np.uint8) for n in range(NUM_FRAMES)]
    tracks = {n: [box(3 + k) for k in range(NUM_FRAMES)] for n in (1, 2)}
    write_sequence(tmp_path / "sequences" / "s", frames, tracks)
    write_sequence_list(tmp_path / "sequences", ["s"])
    folder = tmp_path / "space" / "results" / "HQ" / "baseline" / "s"
    folder.mkdir(parents=True)
    for number in (1, 2):
        write_result(folder / f"s_object{number}_001.bin", GOOD)
    return tmp_path / "space"


def texts(space: Path, **options: str) -> list[str]:
    found = check_submission(space, space.parent / "sequences", tracker="HQ", **options)
    return [f"{each.level}: {each.text}" for each in found]


def plant(regions: list[bytes]) -> Callable[[Path], object]:
    return lambda folder: write_result(folder / "s_object1_001.bin", regions)


def cut(folder: Path) -> None:
    path = folder / "s_object1_001.bin"
    path.write_bytes(path.read_bytes()[:-3])


def lose(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def write_times(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "s_object1_001_time.value").write_text(text)


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        (lose("s_object2_001.bin"), "error: cannot read the result"),
        (cut, "error: the result .* is cut short"),
        (plant(GOOD[:-1]), "error: .* has 11 frames, but the sequence has 12"),
        (plant([*GOOD[:4], CODE, *GOOD[5:]]), "error: object1: frame 4: wanted a region"),
        (plant([region(3), *GOOD[1:]]), "error: object1: frame 0: wanted a code, got mask"),
        (plant([CODE, region(35), *GOOD[2:]]), "error: object1: 1 regions reach out of the"),
        (
            plant([CODE, region(0, 0, 40, 30, 0, 203, 10, 987), *GOOD[2:]]),
            "error: object1: the first mask fits the background",
        ),
        (
            plant([CODE] + [struct.pack("<B4f", 1, 0, 0, 0, 0)] * 11),
            "warning: .*11 masks are empty",
        ),
        (plant([CODE] + [region(0, 0, 40, 30)] * 11), "warning: .*11 masks are as large as"),
        (plant([CODE] + [region(4)] * 11), "warning: .* masks are equal to the one before"),
        (lose("s_object1_001_time.value"), "error: cannot read .*time.value"),
        (write_times("-1\n" * 12), "error: .* must hold seconds of 0 or more"),
        (write_times("garbage\n"), "error: .* must hold seconds"),
        (write_times("0\n" * 12), "error: object1: all times are 0"),
    ],
)
def test_faults_of_files_and_masks(
    space: Path, fault: Callable[[Path], object], finding: str
) -> None:
    fault(space / "results" / "HQ" / "baseline" / "s")
    assert any(re.match(finding, text) for text in texts(space)), texts(space)


def test_a_good_workspace(space: Path) -> None:
    assert texts(space, short_name="HQ") == []


def test_names_and_trackers_of_the_same_masks(space: Path) -> None:
    shutil.copytree(space / "results" / "HQ", space / "results" / "HQ-fast")
    assert texts(space, short_name="Other") == [
        "error: the identifier HQ is not the name Other",
        "warning: HQ-fast has the same masks, byte for byte",
    ]


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("identifier: HQ", "identifier: H_Q", "error: an identifier of letters, digits, dashes"),
        ("vots2023", "./stack.yaml", "error: the stack must be one of vots2023"),
        ("command: v", f"home: {HOME}, command: v", f"warning: .* a home folder: {HOME}"),
        ("command: v", "env_api_key: 5, command: v", "warning: .* looks like a secret: api_key"),
        ("", "", ""),
    ],
)
def test_a_packed_archive(space: Path, before: str, after: str, finding: str) -> None:
    path = space / "HQ.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((space / "results" / "HQ").rglob("*.*")):
            archive.write(file, file.relative_to(space / "results" / "HQ"))
        archive.writestr("manifest.yml", MANIFEST.replace(before, after, 1))
    found = check_submission(path, space.parent / "sequences")
    assert len(found) == bool(finding)
    for each in found:
        assert re.match(finding, f"{each.level}: {each.text}")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="cannot read the archive"):
        check_submission(path, space.parent / "sequences")


def test_a_sequence_that_is_not_one_and_one_that_is_missing(space: Path) -> None:
    folder = space / "results" / "HQ" / "baseline"
    (folder / "s").rename(folder / "t")
    found = check_submission(space, space.parent / "sequences", tracker="HQ")
    assert [(each.level, each.sequence) for each in found] == [("error", "s"), ("warning", "t")]
    assert str(found[1]) == "warning: t: is not one of the sequences"


def test_the_manifest_of_what_was_packed_is_checked_with_a_workspace(space: Path) -> None:
    path = space / "HQ.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.yml", MANIFEST.replace("vots2023", "vots2099"))
    found = check_submission(space, space.parent / "sequences", tracker="HQ", archive=path)
    assert [str(each)[:22] for each in found] == ["error: the stack must "]


@pytest.mark.vot
def test_repair_runs_broken_sequences_again_and_no_others(space: Path) -> None:
    """A whole file with a wrong mask is replaced, a good sequence and the user's file are not."""
    sequences = space.parent / "sequences"
    shutil.copytree(sequences / "s", sequences / "good")
    write_sequence_list(sequences, ["s", "good"])
    write_registry(space / "trackers.ini", [baseline_entry()])
    results = space / "results" / "HQ"
    results = results.rename(results.with_name(BASELINE_TRACKER)) / "baseline"
    (results / "good").mkdir()
    for number in (1, 2):
        write_result(results / "good" / f"good_object{number}_001.bin", GOOD)
    plant([CODE, region(35), *GOOD[2:]])(results / "s")
    (results / "s" / "notes.txt").write_text("of the user")
    before = {path: path.read_bytes() for path in results.rglob("*.*")}
    words = ["vot", "check", str(space), "--tracker", BASELINE_TRACKER, "--sequences"]
    words.append(str(sequences))
    assert CliRunner().invoke(app, words).exit_code == 4
    repaired = CliRunner().invoke(app, [*words, "--repair"])
    assert repaired.exit_code == 0, repaired.output
    assert "s is run again: object1: 1 regions reach out of the frame" in repaired.stderr
    assert "are equal to the one before" in repaired.stdout
    after = {path: path.read_bytes() for path in results.rglob("*.*")}
    assert after.keys() == before.keys()
    changed = {path.name for path in after if after[path] != before[path]}
    assert {"s_object1_001.bin", "s_object2_001.bin"} <= changed
    assert all(name.startswith("s_object") for name in changed)
    again = CliRunner().invoke(app, [*words, "--repair"])
    assert (again.exit_code, again.stderr) == (0, "")


def test_repair_wants_a_workspace_and_a_tracker(space: Path) -> None:
    words = ["vot", "check", "--sequences", str(space.parent / "sequences"), "--tracker", "HQ"]
    (space / "HQ.zip").touch()
    for more, message in (
        ([str(space / "HQ.zip"), "--repair"], "--repair wants a workspace"),
        ([str(space), "--repair"], "cannot read the trackers"),
        ([str(space), "--registry", "mine.ini"], "give both"),
    ):
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 2
        assert message in result.stderr


def test_the_command(space: Path) -> None:
    words = ["vot", "check", str(space), "--tracker", "HQ", "--sequences"]
    words += [str(space.parent / "sequences"), "--json"]
    good = CliRunner().invoke(app, words)
    assert (good.exit_code, json.loads(good.stdout)) == (0, [])
    cut(space / "results" / "HQ" / "baseline" / "s")
    bad = CliRunner().invoke(app, words)
    assert bad.exit_code == 4
    (found,) = json.loads(bad.stdout)
    assert (found["level"], found["sequence"]) == ("error", "s")
