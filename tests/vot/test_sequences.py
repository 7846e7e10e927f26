from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.types import Size
from vots_hqtrack.vot.sequences import (
    read_groundtruth,
    read_sequence_info,
    read_sequence_list,
    write_sequence,
    write_sequence_list,
)

SIZE = Size(20, 30)


def square(top: int, left: int, side: int = 5, size: Size = SIZE) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def frames(count: int, size: Size = SIZE) -> list[np.ndarray]:
    return [np.full((*size, 3), 10 * place, dtype=np.uint8) for place in range(count)]


def test_write_and_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "räder"
    truth = {2: [None, square(0, 0), np.zeros(SIZE, dtype=bool)], 1: [square(3, 4), square(5, 6)]}
    assert write_sequence(folder, frames(3), truth, fps=12.5) == SIZE
    write_sequence_list(tmp_path, ["räder"])
    (path,) = read_sequence_list(tmp_path)
    info = read_sequence_info(path)
    assert (info.size, info.fps) == (SIZE, 12.5)
    assert [frame.name for frame in info.frame_paths] == [
        "00000001.jpg",
        "00000002.jpg",
        "00000003.jpg",
    ]
    image = cv2.imdecode(np.fromfile(info.frame_paths[2], dtype=np.uint8), cv2.IMREAD_COLOR)
    assert abs(int(image.mean()) - 20) <= 1
    back = {number: list(masks) for number, masks in read_groundtruth(path, info.size).items()}
    assert list(back) == [1, 2]
    assert back[2][0] is None
    np.testing.assert_array_equal(back[2][1], truth[2][1])
    assert back[2][2] is not None
    assert not back[2][2].any()
    assert len(back[1]) == 2


def test_jpeg_is_rgb(tmp_path: Path) -> None:
    red = np.zeros((*SIZE, 3), dtype=np.uint8)
    red[..., 0] = 200
    write_sequence(tmp_path / "s", [red], {1: [square(0, 0)]})
    bgr = cv2.imread(str(tmp_path / "s" / "color" / "00000001.jpg"))
    assert bgr[10, 10, 2] > 190
    assert bgr[10, 10, 0] < 10


@pytest.mark.parametrize("link", [False, True])
def test_files_are_taken_over_unchanged(tmp_path: Path, link: bool) -> None:
    write_sequence(tmp_path / "first", frames(2), {1: [square(0, 0)]})
    paths = list(read_sequence_info(tmp_path / "first").frame_paths)
    write_sequence(tmp_path / "second", paths, {1: [square(0, 0)]}, link=link)
    copies = read_sequence_info(tmp_path / "second").frame_paths
    assert [copy.read_bytes() for copy in copies] == [path.read_bytes() for path in paths]
    assert all(copy.is_symlink() == link for copy in copies)


def test_png_frames_stay_png(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), frames(1)[0])
    write_sequence(tmp_path / "s", [tmp_path / "a.png"], {1: [square(0, 0)]})
    assert read_sequence_info(tmp_path / "s").frame_paths[0].name == "00000001.png"


def test_write_refuses(tmp_path: Path) -> None:
    mask = [square(0, 0)]
    with pytest.raises(InputError, match="at least one object"):
        write_sequence(tmp_path / "a", frames(1), {})
    with pytest.raises(InputError, match="at least one frame"):
        write_sequence(tmp_path / "b", [], {1: mask})
    with pytest.raises(InputError, match="2 masks, but there are 1 frames"):
        write_sequence(tmp_path / "c", frames(1), {1: mask * 2})
    with pytest.raises(ShapeError, match=r"object 7 on frame 0 .* 30x20, got 4x4"):
        write_sequence(tmp_path / "d", frames(1), {7: [square(0, 0, size=Size(4, 4))]})
    with pytest.raises(ShapeError, match="began with 30x20, got 5x5"):
        write_sequence(tmp_path / "e", [*frames(1), *frames(1, Size(5, 5))], {1: mask})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="not an empty folder"):
        write_sequence(tmp_path / "full", frames(1), {1: mask})


def test_write_refuses_files(tmp_path: Path) -> None:
    mask = [square(0, 0)]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.jpg: not an image"):
        write_sequence(tmp_path / "a", [broken], {1: mask})
    with pytest.raises(InputError, match=r"missing\.jpg"):
        write_sequence(tmp_path / "b", [tmp_path / "missing.jpg"], {1: mask})
    with pytest.raises(InputError, match=r"reads frames as \.jpg or \.png"):
        write_sequence(tmp_path / "c", [tmp_path / "a.tif"], {1: mask})
    write_sequence(tmp_path / "ok", frames(1), {1: mask})
    good = tmp_path / "ok" / "color" / "00000001.jpg"
    with pytest.raises(InputError, match=r"must all be \.jpg"):
        write_sequence(tmp_path / "d", [good, tmp_path / "x.png"], {1: mask})
    with pytest.raises(InputError, match=r"gone\.jpg: the file is missing"):
        write_sequence(tmp_path / "e", [good, tmp_path / "gone.jpg"], {1: mask})


def test_read_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"wanted a file list\.txt"):
        read_sequence_list(tmp_path)
    write_sequence_list(tmp_path, [])
    with pytest.raises(InputError, match="is empty"):
        read_sequence_list(tmp_path)
    write_sequence_list(tmp_path, ["gone"])
    with pytest.raises(InputError, match="names gone"):
        read_sequence_list(tmp_path)
    with pytest.raises(InputError, match="wanted a file named sequence"):
        read_sequence_info(tmp_path)
    (tmp_path / "sequence").touch()
    with pytest.raises(InputError, match=r"wanted color/00000001\.jpg"):
        read_sequence_info(tmp_path)
    with pytest.raises(InputError, match="no ground truth"):
        read_groundtruth(tmp_path, SIZE)
    (tmp_path / "groundtruth_object1.txt").write_text("0\n\n1\n")
    with pytest.raises(InputError, match=r"object1\.txt, line 2: wanted a region"):
        list(read_groundtruth(tmp_path, SIZE)[1])
