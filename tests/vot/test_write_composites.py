from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import square_videos
from typer.testing import CliRunner

from vots_hqtrack.cli.main import app
from vots_hqtrack.errors import InputError
from vots_hqtrack.video.reader import read_frame
from vots_hqtrack.vot.composites import write_composites
from vots_hqtrack.vot.sequences import read_groundtruth, read_sequence_info, read_sequence_list


def test_eight_sequences_have_all_kinds(tmp_path: Path) -> None:
    root = square_videos.write_videos(tmp_path / "set", 7, 8)
    reported = []
    done = write_composites(root, tmp_path / "out", count=8, seed=1, on_sequence=reported.append)
    assert reported == done
    assert sorted((c.kind, len(c.videos)) for c in done) == [
        (kind, number) for kind in ("crossing", "mosaic") for number in (2, 3, 4, 5)
    ]
    folders = read_sequence_list(tmp_path / "out")
    assert [folder.name for folder in folders] == [composite.name for composite in done]
    for folder, composite in zip(folders, done, strict=True):
        info = read_sequence_info(folder)
        truth = read_groundtruth(folder, info.size)
        assert list(truth) == list(range(1, len(composite.videos) + 1))
        assert len(info.frame_paths) == composite.num_frames == 8
        frame = read_frame(info.frame_paths[0])
        for number, name in enumerate(composite.videos, start=1):
            mask = next(truth[number])
            assert mask is not None
            colour = np.median(frame[mask], axis=0)
            assert np.abs(colour - square_videos.colour_of(int(name[1:]))).max() < 40


def test_the_seed_decides(tmp_path: Path) -> None:
    root = square_videos.write_videos(tmp_path / "set", 4, 6)
    for out, seed, count in (("a", 3, 3), ("b", 3, 2), ("c", 4, 2)):
        write_composites(root, tmp_path / out, count=count, seed=seed)

    def texts(out: str) -> list[str]:
        paths = sorted((tmp_path / out).glob("*-0[01]/groundtruth*.txt"))
        return [path.read_text(encoding="ascii") for path in paths]

    assert texts("a") == texts("b") != texts("c")


def test_short_videos_make_short_sequences(tmp_path: Path) -> None:
    root = square_videos.write_videos(tmp_path / "set", 2, 5)
    (done,) = write_composites(root, tmp_path / "out", count=1, num_frames=40)
    assert done.num_frames == 5
    (done,) = write_composites(root, tmp_path / "cut", count=1, num_frames=3, names=["v1", "v0"])
    assert done.num_frames == 3


def test_exception(tmp_path: Path) -> None:
    root = square_videos.write_videos(tmp_path / "set", 2, 4)
    with pytest.raises(InputError, match=r"3 objects \(mosaic\) needs 4 videos, got 2"):
        write_composites(root, tmp_path / "out", count=3)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        write_composites(root, tmp_path / "out", count=1)
    with pytest.raises(InputError, match="1 sequence of 2 frames or more, got 0 of 40"):
        write_composites(root, tmp_path / "other", count=0)


def test_command(tmp_path: Path) -> None:
    root = square_videos.write_videos(tmp_path / "set", 4, 6)
    words = ["vot", "composites", str(root), "--out", str(tmp_path / "out"), "--count", "2"]
    words += ["--seed", "5", "--sequences", "v0,v1", "--frames", "4", "--part", "480p"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "2 sequences in" in result.output
    assert "crossing-2-01: 4 frames of v" in result.output
    assert [path.name for path in read_sequence_list(tmp_path / "out")] == [
        "mosaic-2-00",
        "crossing-2-01",
    ]
