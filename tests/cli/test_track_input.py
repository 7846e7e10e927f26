"""``hqtrack track`` refuses bad input by name, in one line, before it loads a model."""

import os

import cv2
import numpy as np
import pytest
from square_video import SIZE, make_frame, save

from vots_hqtrack.cli.main import app
from vots_hqtrack.video.label_maps import write_label_map


@pytest.fixture
def refuse(runner, tmp_path, monkeypatch):
    """Run ``hqtrack track`` with options; return the error line and check that nothing was done."""

    def run(*options, code=2):
        out_folder = tmp_path / "results"
        arguments = ["track", *map(str, options)]
        if "--out" not in options:
            arguments += ["--out", str(out_folder)]
        result = runner.invoke(app, arguments)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, result.stderr
        assert not out_folder.exists()
        return lines[0].removeprefix("error: ")

    def forbid(*_args, **_kwargs):
        raise AssertionError("a model was loaded before the input was checked")

    from vots_hqtrack.tracker import HQTracker

    monkeypatch.setattr(HQTracker, "from_config", forbid)
    return run


@pytest.fixture
def given(frames, first_mask, untrained):
    """Arguments of a run that would work."""
    return [frames, "--mask", first_mask, "--weights", untrained]


def test_neither_mask_nor_box(refuse, frames):
    assert refuse(frames) == "wanted either --mask or --box for the first frame, got neither"


def test_both_mask_and_box(refuse, given):
    assert refuse(*given, "--box", "1,2,3,4").endswith("got both")


@pytest.mark.parametrize("box", ["", "1,2,3", "1,2,3,4,5", "1;2;3;4", "a,b,c,d", "1,2,nan,4"])
def test_malformed_box(refuse, frames, untrained, box):
    assert "a box" in refuse(frames, "--box", box, "--weights", untrained)


@pytest.mark.parametrize("box", ["5,5,0,10", "5,5,10,-1"])
def test_box_without_area(refuse, frames, box):
    assert "a width and a height above 0" in refuse(frames, "--box", "1,2,3,4", "--box", box)


@pytest.mark.parametrize("box", ["128,0,5,5", "0,72,5,5", "-20,10,20,10", "900,900,50,50"])
def test_box_outside_the_frame(refuse, frames, untrained, box):
    line = refuse(frames, "--box", box, "--weights", untrained)
    assert line == f"the box {box} lies outside the frame, which has the size 128x72"


def test_missing_source(refuse, tmp_path, first_mask):
    line = refuse(tmp_path / "nothing", "--mask", first_mask)
    assert "no such source" in line
    assert "nothing" in line


def test_empty_source_folder(refuse, tmp_path, first_mask):
    (tmp_path / "empty").mkdir()
    assert "no frame in the folder" in refuse(tmp_path / "empty", "--mask", first_mask)


def test_unreadable_first_frame(refuse, given, frames):
    (frames / "00000.png").write_bytes(b"no image")
    assert "00000.png: not an image, or a damaged one" in refuse(*given)


def test_missing_mask(refuse, frames, untrained):
    line = refuse(frames, "--mask", "no-mask.png", "--weights", untrained)
    assert line == "cannot read the mask no-mask.png: No such file or directory"


def test_mask_of_the_wrong_size(refuse, given, first_mask):
    write_label_map(first_mask, np.ones((SIZE[0], SIZE[1] - 1), dtype=np.uint8))
    assert refuse(*given).endswith("must have the frame's size 128x72, got 127x72")


def test_mask_without_an_object(refuse, given, first_mask):
    write_label_map(first_mask, np.zeros(SIZE, dtype=np.uint8))
    assert refuse(*given).endswith("is empty: wanted at least one object, got none")


def test_more_than_a_thousand_objects(refuse, frames, untrained, tmp_path):
    labels = np.zeros(SIZE, dtype=np.uint16)
    labels.flat[:1001] = np.arange(1, 1002)
    path = save(tmp_path / "many.png", labels)
    line = refuse(frames, "--mask", path, "--weights", untrained)
    assert line.endswith("must hold object ids from 1 to 1000, got 1001 ids from 1 to 1001")


def test_more_than_a_thousand_boxes(refuse, frames):
    boxes = [part for _ in range(1001) for part in ("--box", "1,1,9,9")]
    assert refuse(frames, *boxes) == "at most 1000 objects fit one video, got 1001 boxes"


def test_photo_as_mask(refuse, frames, untrained, tmp_path):
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), make_frame(0))
    line = refuse(frames, "--mask", path, "--weights", untrained)
    assert "must be lossless (PNG, BMP, TIFF, GIF), got JPEG" in line


def test_missing_weights(refuse, frames, first_mask):
    line = refuse(frames, "--mask", first_mask, "--weights", "none.safetensors", code=3)
    assert "none.safetensors" in line


def test_unknown_preset(refuse, given):
    assert "unknown preset 'huge'; wanted one of: lite" in refuse(*given, "--preset", "huge")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("memory.gap", "a setting reads section.option=value, got 'memory.gap'"),
        ("memory.gaps=3", "unknown option 'memory.gaps'; wanted one of: "),
        ("memory.gap=often", "memory.gap must be of type int, got 'often'"),
        ("memory.gap=0", "memory.gap must be a number from 1 to 1000000000, got 0"),
        ("refiner.prompt=star", "refiner.prompt must be one of box"),
    ],
)
def test_bad_setting(refuse, given, setting, message):
    assert message in refuse(*given, "--set", setting)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the configuration file"),
        ("[memory", "cannot read the configuration file"),
        ("[memory]\ngaps = 3", "unknown option 'memory.gaps'"),
    ],
)
def test_bad_configuration_file(refuse, given, tmp_path, text, message):
    path = tmp_path / "options.toml"
    if text is not None:
        path.write_text(text)
    assert message in refuse(*given, "--config", path)


def test_output_folder_with_files(refuse, given, tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    line = refuse(*given, "--out", str(folder))
    assert "is not empty; give --overwrite to replace results, or --resume to" in line


def test_results_never_replace_their_source(refuse, first_mask, tmp_path):
    folder = tmp_path / "old"
    save(folder / "masks" / "00000.png", make_frame(0))
    given = [folder / "masks", "--mask", first_mask, "--out", str(folder), "--overwrite"]
    assert "old holds the input" in refuse(*given)
    assert (folder / "masks" / "00000.png").exists()


def test_limit_below_one_is_a_usage_error(runner, given):
    result = runner.invoke(app, ["track", *map(str, given), "--out", "x", "--limit", "0"])
    assert result.exit_code == 2
    assert "--limit" in result.stderr


@pytest.mark.parametrize("kind", ["dangling", "loop", "pipe", "folder"])
def test_lost_frames_are_named_before_the_work(refuse, given, frames, kind):
    path = frames / "00001.png"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere.png" if kind == "dangling" else path.name)
    message = refuse(*given)
    assert "00001.png" in message
    assert "--skip-missing" in message
