from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from vots_hqtrack.errors import InputError
from vots_hqtrack.types import ObjectId, Size
from vots_hqtrack.vot.results import read_result, result_path

SIZE = Size(4, 5)
HEADER = struct.pack("<hI", 1, 3)
REGIONS = (
    struct.pack("<BI", 0, 1)
    + struct.pack("<BhhHHH4H", 3, 1, 1, 2, 2, 4, 0, 1, 2, 1)
    + struct.pack("<B4f", 1, -1, 0, 3, 2)
)


def test_read_values(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(HEADER + REGIONS)
    given, mask, rectangle = read_result(path, SIZE)
    assert given is None
    assert np.argwhere(mask).tolist() == [[1, 1], [2, 2]]
    assert np.argwhere(rectangle).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_runs_longer_than_the_format_are_joined(tmp_path: Path) -> None:
    size = Size(300, 300)
    path = tmp_path / "a.bin"
    runs = (0, 65025, 0, 90000 - 65025)
    path.write_bytes(
        struct.pack("<hI", 1, 1) + struct.pack("<BhhHHH4H", 3, 0, 0, 300, 300, 4, *runs)
    )
    (mask,) = read_result(path, size)
    assert mask is not None
    assert mask.all()


@pytest.mark.parametrize("cut", [3, len(HEADER), len(HEADER) + 2, len(HEADER + REGIONS) - 1])
def test_cut_files_are_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes((HEADER + REGIONS)[:cut])
    with pytest.raises(InputError, match=r"a\.bin is cut short"):
        list(read_result(path, SIZE))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(InputError, match="No such file"):
        list(read_result(path, SIZE))
    path.write_bytes(struct.pack("<hI", 2, 0))
    with pytest.raises(InputError, match="version 1"):
        list(read_result(path, SIZE))
    path.write_bytes(struct.pack("<hIBff", 1, 1, 4, 1, 1))
    with pytest.raises(InputError, match="region of type 4"):
        list(read_result(path, SIZE))


def test_result_path_of_a_lone_object(tmp_path: Path) -> None:
    lone = result_path(tmp_path, "cat", ObjectId(7), num_objects=1)
    assert lone == tmp_path / "cat_001.bin"
    other = result_path(tmp_path, "cat", ObjectId(7), num_objects=2)
    assert other == tmp_path / "cat_object7_001.bin"
