"""Videos of a session: any frame of a folder or a video file, at random access."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from vots_hqtrack.session.video import open_video
from vots_hqtrack.video.reader import open_source


def write_video(path: Path, num_frames: int) -> Path:
    """A lossless video, each frame of a grey level of its own, at uneven times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * index, np.uint8), "rgb24")
            frame.pts = index * (index + 1)
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return path


def test_a_video_file_gives_any_frame_in_any_order(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", 9)
    video = open_video(path)
    in_order = [named.frame for named in open_source(path)]
    assert len(video) == len(in_order) == 9
    for index in (7, 0, 8, 3, 2, 3):
        assert (video[index] == 20 * index).all()
        assert np.array_equal(video[index], in_order[index])
