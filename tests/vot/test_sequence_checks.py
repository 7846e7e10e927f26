"""Sequences as users and other benchmarks write them, checked before a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import Size
from vots_hqtrack.vot.region_text import parse_region
from vots_hqtrack.vot.sequences import (
    check_sequence,
    find_truth,
    read_groundtruth,
    read_sequence_info,
    read_sequence_list,
    write_sequence,
    write_sequence_list,
)

SIZE = Size(20, 30)
NUM_FRAMES = 3
POLYGON = "2,3,9,3,9,9,2,9"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sequence of one object, `groundtruth_object1.txt`, known on all three frames."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[3:9, 2:9] = True
    frames = [np.full((*SIZE, 3), 9 * number, dtype=np.uint8) for number in range(NUM_FRAMES)]
    write_sequence(tmp_path / "s", frames, {1: [mask] * NUM_FRAMES})
    return tmp_path / "s"


def write_truth(folder: Path, text: str, name: str = "groundtruth_object1.txt") -> Path:
    (folder / name).write_bytes(text.encode("utf-8"))
    return folder


def change(folder: Path, before: str, after: str) -> Path:
    path = folder / "sequence"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    return folder


def test_a_sequence_as_we_write_it(folder: Path) -> None:
    check = check_sequence(folder)
    assert (check.name, check.num_frames, check.size) == ("s", NUM_FRAMES, SIZE)
    assert (check.objects, check.is_measurable) == (("object1",), True)


@pytest.mark.parametrize("name", ["groundtruth.txt", "truth of mine.txt"])
def test_one_file_of_polygons(folder: Path, name: str) -> None:
    (folder / "groundtruth_object1.txt").unlink()
    write_truth(folder, f"{POLYGON}\r\nnan,nan,nan,nan\r\n1,2,3,4", name)
    with (folder / "sequence").open("a") as file:
        file.write(f"groundtruth={name}\n")
    assert check_sequence(folder).objects == ("object",)
    first, unknown, last = read_groundtruth(folder, SIZE)[1]
    assert unknown is None
    assert np.argwhere(first)[[0, -1]].tolist() == [[3, 2], [8, 8]]
    assert np.argwhere(last)[[0, -1]].tolist() == [[2, 1], [5, 3]]


def test_the_layout_without_a_description(folder: Path) -> None:
    for path in (folder / "color").iterdir():
        path.rename(folder / path.name)
    (folder / "sequence").unlink()
    (folder / "groundtruth_object1.txt").unlink()
    write_truth(folder, f"{POLYGON}\n" * NUM_FRAMES, "groundtruth.txt")
    assert check_sequence(folder).num_frames == NUM_FRAMES
    write_sequence_list(folder.parent, ["s"])
    assert read_sequence_list(folder.parent) == [folder]


def test_objects_of_any_name(folder: Path) -> None:
    for name in ("cat", "object7", "_ignore", "object07"):
        shutil.copy(folder / "groundtruth_object1.txt", folder / f"groundtruth_{name}.txt")
    found = {object_id: file.name for object_id, file in find_truth(folder).items()}
    assert found == {1: "object1", 2: "_ignore", 3: "cat", 4: "object07", 7: "object7"}
    assert check_sequence(folder).objects == tuple(found.values())


@pytest.mark.parametrize("text", [f"{POLYGON}\n", f"{POLYGON}\n0\n0\n", "m2,3,7,6,0,42"])
def test_a_truth_of_the_first_frame_is_not_measured(folder: Path, text: str) -> None:
    assert not check_sequence(write_truth(folder, text)).is_measurable


def test_a_far_rectangle_covers_the_frame(folder: Path) -> None:
    write_truth(folder, "-5e8,-5e8,1e9,1e9\n0,0,1000000000,1000000000\n")
    first, second = read_groundtruth(check_sequence(folder).folder, SIZE)[1]
    assert first.all()
    assert second.all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{POLYGON}\n\n{POLYGON}\n", "object1.txt, line 2: wanted a region"),
        (f"{POLYGON}\n\n", "line 2: wanted a region"),
        ("", "never starts"),
        ("0\n0\n0\n", "never starts"),
        ("1\n1\n", "never starts"),
        ("nan,nan,nan,nan\n", "never starts"),
        (f"0\n{POLYGON}\n", "no object .* starts on the first frame"),
        (f"{POLYGON}\n" * 4, "has 4 lines for 3 frames"),
        ("m0,0,0,0,0\n", "line 1: the object starts with an empty region"),
        ("m3,3,1,5,0,5\n", "line 1: the object starts with an empty region"),
        ("40,3,5,5\n", "line 1: the object starts with an empty region"),
        ("0,0,0,0\n", "line 1: the object starts with an empty region"),
        (f"\ufeff{POLYGON}\n", "must be ASCII text"),
        (f"{POLYGON}\n# größe\n", "must be ASCII text"),
        (f"{POLYGON}\n1,2\n", "line 2: wanted a region"),
        (f"{POLYGON}\n7\n", "line 2: wanted a region"),
        (f"{POLYGON}\n1,2,nan,3\n", "line 2: a region must have numbers"),
        (f"{POLYGON}\nm0,0,2,2,9\n", "line 2: the runs of a mask cover 9 pixels"),
        (f"{POLYGON}\nm0,0,99999,99999,1,1\n", "line 2: a mask may have"),
        (f"{POLYGON}\n1e30,0,1,1\n", "line 2: a region must stay within"),
        (f"{POLYGON}\ninf,0,1,1\n", "line 2: a region must stay within"),
        (f"{POLYGON}\n1 2 3 4\n", "line 2: wanted a region"),
    ],
)
def test_truth_that_is_refused(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_sequence(write_truth(folder, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("fps=30", "fps=fast", "positive frame rate, got fps=fast"),
        ("fps=30", "fps=0", "positive frame rate"),
        ("fps=30", "fps=nan", "positive frame rate"),
        ("fps=30", "fps=1e999", "positive frame rate"),
        ("length=3", "length=5", "has no frame color/00000004.jpg"),
        ("length=3", "length=many", "a length that is not a number"),
        ("width=30", "width=31", "says width=31, but its frames have 30"),
        ("channels.color", "channels.ir", "no channel color, only channels.ir"),
        ("color/%08d.jpg", "color/%08d.bmp", "reads frames as .jpg or .png"),
        ("color/%08d.jpg", "color/1.jpg", "wanted a pattern"),
        ("color/%08d.jpg", "color/%.0s.jpg", "wanted a pattern"),
        ("color/%08d.jpg", "color/%q.jpg", "wanted a pattern"),
        ("color/%08d.jpg", "color/%d.jpg", "has no frames: wanted color/1.jpg"),
        ("name=s", "name=\x00", "a NUL character"),
        ("name=s", "channels.depth=color/%07d.jpg", "has no frames"),
    ],
)
def test_descriptions_that_are_refused(folder: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_sequence(change(folder, before, after))


def test_a_lost_frame_is_named(folder: Path) -> None:
    (folder / "color" / "00000002.jpg").unlink()
    with pytest.raises(InputError, match=r"has no frame color/00000002\.jpg"):
        check_sequence(folder)
    with pytest.raises(InputError, match=r"has no frame color/00000002\.jpg"):
        check_sequence(change(folder, "length=3\n", ""))


def test_a_channel_without_a_pattern(folder: Path) -> None:
    change(folder, "channels.color=color/%08d.jpg", "channels.color=color")
    assert len(read_sequence_info(folder).frame_paths) == NUM_FRAMES


@pytest.mark.parametrize("name", ["", ".", "..", " a", "a ", "a\nb", "a\tb", "a\\b", "a\u2028b"])
def test_names_that_a_list_cannot_hold(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="must be one line"):
        write_sequence_list(tmp_path, [f"{tmp_path}/x/{name}" if name == ".." else name])
    assert not (tmp_path / "list.txt").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("s\ns\n", "names s twice"),
        ("s\n\n", "empty lines"),
        ("..\n", "must be one line"),
        (".\n", "must be one line"),
        ("s/..\n", "must be one line"),
        ("\ufeffs\n", "byte order mark"),
        ("gone\n", "names gone"),
    ],
)
def test_lists_that_are_refused(folder: Path, text: str, message: str) -> None:
    (folder.parent / "list.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_sequence_list(folder.parent)


@given(st.text(alphabet="m0123456789,.-+ naife\n_", max_size=40) | st.text(max_size=20))
def test_any_line_is_a_region_or_an_input_error(line: str) -> None:
    try:
        region = parse_region(line)
    except InputError:
        return
    mask = region.to_mask(SIZE)
    assert (mask is None) == (region.kind == "unknown")
    assert mask is None or mask.shape == SIZE
