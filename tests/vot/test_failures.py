from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from result_files import write_result
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.errors import InputError
from vots_hqtrack.video.overlay import object_colour
from vots_hqtrack.vot.failures import worst_frames, write_failures
from vots_hqtrack.vot.region_text import Region
from vots_hqtrack.vot.results import read_tracked
from vots_hqtrack.vot.sequences import write_sequence, write_sequence_list
from vots_hqtrack.vot.workspace import Workspace

HEIGHT, WIDTH, NUM_FRAMES = 20, 30, 5


def square(left: int, width: int = 8) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:15, left : left + width] = True
    return mask


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two sequences: in ``one`` frame 3 is half wrong, in ``two`` object 2 is lost in frame 2."""
    frames = [np.full((HEIGHT, WIDTH, 3), 90, np.uint8)] * NUM_FRAMES
    folder, results = tmp_path / "sequences", tmp_path / "workspace" / "results"
    still, empty = [square(2)] * NUM_FRAMES, np.zeros((HEIGHT, WIDTH), bool)
    write_sequence(folder / "one", frames, {1: still})
    write_sequence(folder / "two", frames, {1: still, 2: [None, *[square(15)] * 3, empty]})
    write_sequence_list(folder, ["one", "two"])
    base = results / "T" / "baseline"
    half = square(2, 4)
    write_result(base / "one" / "one_001.bin", [None, square(2), square(2), half, square(2)])
    write_result(base / "two" / "two_object1_001.bin", [None, *still[1:]])
    write_result(base / "two" / "two_object2_001.bin", [None, None, empty, square(15), empty])
    return Workspace(tmp_path / "workspace", folder, tmp_path / "trackers.ini")


def test_tracked_frames(workspace: Workspace) -> None:
    frames = list(read_tracked(workspace, "T", workspace.sequences / "two"))
    assert [frame.index for frame in frames] == list(range(NUM_FRAMES))
    assert frames[0].path.name == "00000001.jpg"
    assert frames[0].truth[2] is None
    assert not frames[0].masks[2].any()
    assert np.array_equal(frames[1].masks[2], square(15))  # where it was given
    assert not frames[2].masks[2].any()
    later = next(read_tracked(workspace, "T", workspace.sequences / "two", start=3))
    assert later.index == 3
    for found, wanted in ((later.masks, frames[3].masks), (later.truth, frames[3].truth)):
        assert {n: mask.tolist() for n, mask in found.items()} == {
            n: mask.tolist() for n, mask in wanted.items()
        }


def test_only_a_frame_that_is_asked_for_is_drawn(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All masks of a long video would not fit into memory."""
    drawn = []
    to_mask = Region.to_mask
    monkeypatch.setattr(
        Region, "to_mask", lambda region, size: drawn.append(size) or to_mask(region, size)
    )
    frames = read_tracked(workspace, "T", workspace.sequences / "two", start=3)
    next(frames)
    assert len(drawn) == 4  # true and reported masks of two objects


def test_worst_frames(workspace: Workspace) -> None:
    first, second = worst_frames(workspace, "T", 5)
    # Object 2 starts in frame 1 and counts from frame 2; it is absent in frame 4, rightly.
    assert (first.sequence, first.frame.index, first.score) == ("one", 3, 0.5)
    assert first.mean == pytest.approx(3.5 / 4)
    assert (second.sequence, second.frame.index, second.score) == ("two", 2, 0.5)
    assert second.mean == pytest.approx(3.5 / 4)
    assert len(worst_frames(workspace, "T", 1)) == 1
    with pytest.raises(InputError, match="1 frame or more, got 0"):
        worst_frames(workspace, "T", 0)


def test_picture(workspace: Workspace, tmp_path: Path) -> None:
    write_failures(tmp_path / "worst.png", worst_frames(workspace, "T", 1))
    picture = cv2.imread(str(tmp_path / "worst.png"))[:, :, ::-1].astype(int)
    width = (picture.shape[1] - 18) // 2
    left, right = picture[26:226, 6 : 6 + width], picture[26:226, 12 + width : 12 + 2 * width]
    inside = round(8 / WIDTH * width)  # in the truth, not in the tracker's half
    assert np.argsort(left[100, inside]).tolist() == np.argsort(object_colour(1)).tolist()
    assert np.ptp(left[100, inside]) > 5
    assert np.ptp(right[100, inside]) < 5


def test_command(workspace: Workspace, tmp_path: Path) -> None:
    words = ["vot", "worst", "T", "--sequences", str(workspace.sequences)]
    words += ["--workspace", str(workspace.folder), "--out", str(tmp_path / "worst.webp")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "frame    3  J 0.500  sequence 0.875" in result.output
    assert (tmp_path / "worst.webp").is_file()


def test_exception_results(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="No such file"):
        worst_frames(workspace, "Other", 1)
    path = workspace.results / "T" / "baseline" / "one" / "one_001.bin"
    write_result(path, [None, square(2)])
    with pytest.raises(InputError, match="of T on one end at frame 2, before the sequence does"):
        worst_frames(workspace, "T", 1)
