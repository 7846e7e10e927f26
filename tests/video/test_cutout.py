"""Objects without their background: transparent images and videos keep size, rate and times."""

import av
import numpy as np
import pytest

from vots_hqtrack.errors import InputError, OutputError, ShapeError
from vots_hqtrack.types import Size
from vots_hqtrack.video.cutout import Cutout, CutoutWriter, cut_out
from vots_hqtrack.video.reader import open_source

SIZE = Size(33, 51)


@pytest.fixture
def masks():
    found = {number: np.zeros(SIZE, np.bool_) for number in (1, 9)}
    found[1][4:20, 6:20] = True
    found[9][10:30, 30:45] = True
    return found


def _frame(index):
    return np.random.default_rng(index).integers(0, 255, (*SIZE, 3), dtype=np.uint8)


def test_values(masks):
    frame = _frame(0)
    kept = frame.copy()
    image = cut_out(frame, masks)
    inside = masks[1] | masks[9]
    np.testing.assert_array_equal(frame, kept)
    np.testing.assert_array_equal(image[inside, :3], frame[inside])
    np.testing.assert_array_equal(image[..., 3], inside * 255)
    assert not image[~inside].any()
    assert not cut_out(frame, {}).any()


def test_exception_mask_of_another_size_or_kind(masks):
    for mask in (masks[1][1:], masks[1].astype(np.uint8)):
        with pytest.raises(ShapeError, match="the mask of object 1 must be bool 51x33"):
            cut_out(_frame(0), {1: mask})


@pytest.mark.parametrize("fps", [30000 / 1001, 5.0, 120.0])
def test_transparent_video_keeps_size_rate_and_alpha(tmp_path, masks, fps):
    with CutoutWriter(tmp_path, Cutout("webm", fps), SIZE) as writer:
        for index in range(4):
            writer.write("unused", _frame(0), masks if index else {}, seconds=index / fps)
    source = open_source(tmp_path / "cutout.webm")
    assert source.length == 4
    assert source.fps == pytest.approx(fps, rel=0.02)
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(tmp_path / "cutout.webm")) as container:
        assert container.streams.video[0].metadata["alpha_mode"] == "1"
        decoded = [frame for packet in container.demux(video=0) for frame in decoder.decode(packet)]
    alphas = [frame.to_ndarray(format="rgba")[..., 3] for frame in decoded]
    assert len(alphas) == 4
    assert alphas[0].max() < 30
    inside = masks[1] | masks[9]
    for alpha in alphas[1:]:
        assert alpha.shape == SIZE
        assert ((alpha > 127) == inside).mean() > 0.97


def test_exception_rate_or_folder(tmp_path):
    with pytest.raises(InputError, match="frame rate must be above 0"):
        CutoutWriter(tmp_path, Cutout("webm", 0.0), SIZE)
    with pytest.raises(OutputError, match=r"cutout\.mp4"):
        CutoutWriter(tmp_path / "none", Cutout("mp4", 5.0), SIZE)
