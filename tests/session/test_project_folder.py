"""Project folders: what is written is read again, and what is not a project stays untouched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vots_hqtrack.errors import InputError
from vots_hqtrack.refiner import Click
from vots_hqtrack.session.project import (
    SIGNATURE_LENGTH,
    FrameRecord,
    GivenPrompt,
    ObjectInfo,
    ObjectRecord,
    Project,
    VideoFacts,
    delete_project,
)
from vots_hqtrack.session.references import choose_references, signature_of
from vots_hqtrack.types import ObjectId, Size
from vots_hqtrack.video.label_maps import write_label_map

VIDEO = VideoFacts("clip", 12, Size(4, 6))
ONE = ObjectId(1)


def given_record(edit: int, shade: int = 0, *numbers: int) -> FrameRecord:
    objects = {
        ObjectId(number): ObjectRecord(1.0, "given", 0, prompt=GivenPrompt(is_drawn=True))
        for number in numbers or (1,)
    }
    return FrameRecord(objects, edit, (shade,) * SIGNATURE_LENGTH)


def test_a_mask_that_changes_on_disk_is_read_again(tmp_path: Path) -> None:
    """The newest one is kept in memory."""
    project = Project(tmp_path / "p", VIDEO)
    label_map = np.ones(VIDEO.size, np.uint8)
    project.write_frame(3, label_map, given_record(1))
    label_map[:] = 7  # the caller's own
    assert (project.read_label_map(3) == 1).all()
    write_label_map(project.mask_path(3), np.full(VIDEO.size, 2, np.uint8))
    assert (project.read_label_map(3) == 2).all()
    assert project.read_label_map(3) is project.read_label_map(3)
    assert not project.read_label_map(3).flags.writeable
    project.mask_path(3).write_bytes(b"damaged")
    with pytest.raises(InputError, match="cannot read the label map"):
        project.read_label_map(3)
    project.delete_frame(3)
    assert not project.read_label_map(3).any()
    project.close()


def test_a_project_goes_on_where_it_was(tmp_path: Path) -> None:
    prompt = GivenPrompt((Click(1, 2), Click(3.5, 1, False)), (0, 0, 3, 2))
    record = FrameRecord(
        {
            ONE: ObjectRecord(1.0, "given", 7, prompt=prompt),
            ObjectId(254): ObjectRecord(0.25, "refined", 3, 4),
        },
        2,
        tuple(range(SIGNATURE_LENGTH)),
    )
    label_map = np.array([[1, 1, 0, 254, 0, 0]] * 4, np.uint8)
    project = Project(tmp_path / "p", VIDEO)
    project.objects = {ONE: ObjectInfo("a cät"), ObjectId(254): ObjectInfo("b", is_visible=False)}
    project.save()
    project.write_frame(7, label_map, record)
    project.close()
    again = Project(tmp_path / "p", VIDEO)
    assert (again.objects, again.records) == (project.objects, {7: record})
    assert np.array_equal(again.read_label_map(7), label_map)
    assert not again.read_label_map(8).any()
    again.close()


@pytest.mark.parametrize("number", [1, 254])
def test_an_object_alone_keeps_its_number(tmp_path: Path, number: int) -> None:
    project = Project(tmp_path, VIDEO)
    label_map = np.zeros(VIDEO.size, np.uint8)
    label_map[1, 2] = number
    project.write_frame(0, label_map, given_record(1, 0, number))
    assert np.array_equal(project.read_label_map(0), label_map)
    project.close()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("all my work")
    with pytest.raises(InputError, match=r"not empty and holds no project\.json"):
        Project(tmp_path, VIDEO)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="got the file"):
        Project(tmp_path / "thesis.txt", VIDEO)


def test_a_project_is_open_once(tmp_path: Path) -> None:
    project = Project(tmp_path, VIDEO)
    with pytest.raises(InputError, match="open in another process"):
        Project(tmp_path, VIDEO)
    project.close()
    Project(tmp_path, VIDEO).close()


@pytest.mark.parametrize(
    "other", [VideoFacts("x", 13, Size(4, 6)), VideoFacts("x", 12, Size(4, 7))]
)
def test_a_project_of_another_video_is_refused(tmp_path: Path, other: VideoFacts) -> None:
    Project(tmp_path, VIDEO).close()
    with pytest.raises(InputError, match="belongs to a video of 12 frames of 6x4"):
        Project(tmp_path, other)


def test_a_project_that_was_killed_while_it_was_made_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".hqtrack-0123456789abcdef.part").write_text("{")
    Project(tmp_path, VIDEO).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames", "masks", "project.json"]


def test_deleting_a_project_leaves_what_it_did_not_write(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    delete_project(folder)
    project = Project(folder, VIDEO)
    project.write_frame(3, np.ones(VIDEO.size, np.uint8), given_record(1))
    with pytest.raises(InputError, match="open in another process"):
        delete_project(folder)
    project.close()
    mine = [folder / "masks" / "notes.png", folder / "frames" / "3.json", folder / "mine.txt"]
    for path in mine:
        path.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(folder)
    delete_project(link)
    assert (folder / "project.json").exists()
    delete_project(folder)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(mine)
    for path in mine:
        path.unlink()
    delete_project(folder)
    assert not folder.exists()


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    project = Project(tmp_path, VIDEO)
    project.write_frame(0, np.ones((4, 5), np.uint8), given_record(1))
    with pytest.raises(InputError, match="must have the size 6x4, got 5x4"):
        project.read_label_map(0)
    project.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["objects", "1", "score", "source", "prompt", "edit", "signature", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(
    content=JSON.map(json.dumps) | st.text(max_size=20), name=st.sampled_from(["record", "head"])
)
def test_damaged_files_are_named_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: str, name: str
) -> None:
    folder = tmp_path_factory.mktemp("project")
    project = Project(folder, VIDEO)
    project.write_frame(3, np.ones(VIDEO.size, np.uint8), given_record(1))
    project.close()
    path = folder / ("frames/00003.json" if name == "record" else "project.json")
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    message = str(path)  # some are valid
    try:
        Project(folder, VIDEO).close()
    except InputError as error:
        message = str(error)
    assert str(path) in message
    Project(folder.with_name(folder.name + "-new"), VIDEO).close()


def test_references_are_bounded_newest_nearest_and_most_different() -> None:
    records = {index: given_record(1 + index, shade=10) for index in range(0, 100, 5)}
    records[40] = given_record(9, shade=250)
    records[70] = FrameRecord({ONE: ObjectRecord(0.9, "refined", 0, 70)})
    chosen = choose_references(records, [ONE], start=22, limit=3)
    assert chosen == [95, 40, 20]  # the newest, the most different, the nearest
    assert choose_references(records, [ONE], start=22, limit=100)[-1] == 20
    assert len(choose_references(records, [ONE], start=0, limit=100)) == 19


@given(
    numbers=st.lists(st.sets(st.integers(1, 4), min_size=1), min_size=1, max_size=12),
    limit=st.integers(1, 5),
    start=st.integers(0, 20),
)
def test_each_object_has_a_reference(numbers: list[set[int]], limit: int, start: int) -> None:
    records = {i: given_record(i + 1, i, *found) for i, found in enumerate(numbers)}
    wanted = {ObjectId(number) for found in numbers for number in found}
    chosen = choose_references(records, wanted, start, limit)
    assert wanted == set().union(*(records[i].given for i in chosen))
    assert len(chosen) == len(set(chosen)) <= max(limit, len(wanted))
    assert chosen == sorted(chosen, key=lambda i: -abs(i - start))


def test_signatures_tell_objects_apart() -> None:
    frame = np.zeros((40, 60, 3), np.uint8)
    frame[10:20, 10:20] = (200, 0, 0)
    mask = frame[..., 0] > 0
    assert signature_of(frame, mask) == (200, 0, 0) * 64
    assert len(signature_of(frame, np.zeros_like(mask))) == SIGNATURE_LENGTH
