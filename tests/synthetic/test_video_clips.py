from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import square_videos
from PIL import Image

from vots_hqtrack.errors import InputError
from vots_hqtrack.synthetic.video_clips import VideoClip, cut_out, sample_clip
from vots_hqtrack.types import Size
from vots_hqtrack.vot.composites import open_videos

SIZE = Size(square_videos.HEIGHT, square_videos.WIDTH)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return square_videos.write_videos(tmp_path / "set", 2, 6, empty=(0, 1))


def test_open_videos(root):
    assert [video.name for video in open_videos(root, [])] == ["v0", "v1"]
    assert [video.name for video in open_videos(root, ["v1"])] == ["v1"]
    with pytest.raises(InputError, match="no video v9; it has v0, v1"):
        open_videos(root, ["v9"])


def test_only_annotated_frames_count(root):
    (root / "Annotations" / "480p" / "v0" / "00003.png").unlink()
    video = open_videos(root, ["v0"])[0]
    frames = video.video.frames
    stems = [Path(frames.label(index)).stem for index in range(len(video))]
    assert stems == ["00000", "00001", "00002", "00004", "00005"]


def test_clips_begin_with_the_object(root):
    video = open_videos(root, [])[0]
    starts = {sample_clip(video, 3, np.random.default_rng(seed)).start for seed in range(20)}
    assert starts == {2, 3}
    with pytest.raises(InputError, match="wanted 7 frames, got 6"):
        sample_clip(video, 7, np.random.default_rng(0))
    with pytest.raises(InputError, match="none of the first 2 frames"):
        sample_clip(video, 5, np.random.default_rng(0))


def test_clip_is_read_at_a_size(root):
    clip = VideoClip(open_videos(root, [])[0], 2, 3)
    frame, mask = clip.read(1, SIZE)
    assert np.array_equal(mask, frame[..., 0] > 128)
    small, small_mask = clip.read(1, Size(30, 50))
    assert small.shape == (30, 50, 3)
    assert small_mask.sum() == pytest.approx(mask.sum() / 4, rel=0.1)
    assert np.abs(small[small_mask].astype(int) - square_videos.colour_of(0)).mean() < 20


def test_cut_out(root):
    clip = VideoClip(open_videos(root, [])[0], 1, 5)
    cutouts = cut_out(clip, area=80.0, max_area=1000.0, size=SIZE)
    assert cutouts[0].alpha.size == 0  # absent
    assert [int((cutout.alpha > 127).sum()) for cutout in cutouts[1:]] == [80] * 4
    assert cutouts[1].anchor == pytest.approx((3.5, 4.5))
    assert cutouts[1].image.shape == (10, 8, 3)
    enlarged = cut_out(clip, area=20 * 16 * 4, max_area=20 * 16 * 1.5**2, size=SIZE)
    assert enlarged[1].alpha.shape == (30, 24)


def test_exception_mask_of_another_size(root):
    path = root / "Annotations" / "480p" / "v0" / "00002.png"
    Image.fromarray(np.ones((5, 5), bool)).save(path)
    with pytest.raises(InputError, match=r"video v0, frame 2: wanted a mask .*\(60, 100\), got"):
        VideoClip(open_videos(root, [])[0], 2, 1).read(0, SIZE)
