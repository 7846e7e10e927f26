"""Files of others that are damaged or hostile give one line, and never a mask of something else."""

from __future__ import annotations

import contextlib
import json
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_videos import make_video
from PIL import Image

from vots_hqtrack.errors import InputError
from vots_hqtrack.formats.convert import plan_export
from vots_hqtrack.formats.registry import FORMATS, read_masks
from vots_hqtrack.types import Size

VIDEO = {"id": 1, "file_names": ["a/0.jpg", "a/1.jpg"], "height": 2, "width": 3}
TRACK = {"id": 1, "video_id": 1, "segmentations": [None, {"size": [2, 3], "counts": [1, 2, 3]}]}
HUGE = "9" * 5000
"""A number of more digits than Python reads."""
IMAGE = {"id": 1, "file_name": "a.jpg", "height": 2, "width": 3}
MASK = {"id": 1, "image_id": 1, "track_id": 2, "segmentation": {"counts": [1, 2, 3]}}


def read_all(path: Path, kind: str) -> None:
    """Read every frame of every video."""
    for video in read_masks(path, kind):
        for _ in video:
            pass


def track(segmentation: object = None, **more: object) -> dict[str, object]:
    found = {} if segmentation is None else {"segmentations": [None, segmentation]}
    return {"videos": [VIDEO], "annotations": [{**TRACK, **found, **more}]}


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (track(segmentations=None), "wanted segmentations of the object 1"),
        (track(segmentations=[None]), "for the 2 frames of a, got 1"),
        (track({"size": [3, 2], "counts": [6]}), r"wanted a mask of 3x2, got one of \[3, 2\]"),
        (track({"counts": [1, -2, 7]}), "must fill its 6 pixels"),
        (track({"counts": "€"}), "run lengths as COCO writes them"),
        (track([[0, 0, float("inf"), 0, 3, 2]]), "polygons of finite numbers"),
        (track([1, 2, 3]), "polygons of finite numbers"),
        (track(True), "wanted a table with 'counts'"),
        (track(scores=[None, 7]), "a score from 0 to 1"),
        (track(scores=[1]), "wanted scores"),
        (track(video_id=9), "wanted a video of id 9"),
        (track(id="1"), "wanted 'id' as int"),
        (track(track_id=0), "wanted track ids from 1"),
        ({"videos": [{**VIDEO, "width": 10**9}], "annotations": []}, "wanted frames of 1 to"),
        ({"videos": [{**VIDEO, "height": 0}], "annotations": []}, "wanted frames of 1 to"),
        ({"videos": [{**VIDEO, "frame_indices": [5, 4]}], "annotations": []}, "ascending"),
        ({"videos": [1], "annotations": []}, "wanted a table with 'id'"),
        ({"videos": [VIDEO], "annotations": [TRACK, TRACK]}, "there twice"),
    ],
)
def test_youtube_vis_that_does_not_fit_is_refused(tmp_path, content, wanted):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=wanted):
        read_all(path, "youtube-vis")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"images": [IMAGE], "annotations": [{**MASK, "track_id": None}]}, "'track_id' as int"),
        ({"images": [IMAGE, {**IMAGE, "id": 2, "width": 4}], "annotations": []}, "of one size"),
        ({"images": [1], "annotations": []}, "wanted a table with 'id'"),
        ({"images": [IMAGE], "annotations": [{**MASK, "image_id": 9}]}, "an image of id 9"),
        ({"images": [IMAGE], "annotations": [], "videos": 3}, "wanted 'videos' as list"),
    ],
)
def test_coco_that_does_not_fit_is_refused(tmp_path, content, wanted):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=wanted):
        read_all(path, "coco")


@pytest.mark.parametrize("key", ["frame_id", "frame_index"])
def test_frames_of_coco_are_in_the_order_of_their_numbers(tmp_path, key):
    path = tmp_path / "x.json"
    images = [{**IMAGE, key: 7}, {**IMAGE, "id": 2, key: 3}]
    path.write_text(json.dumps({"images": images, "annotations": [MASK]}))
    (video,) = read_masks(path, "coco")
    assert [(frame.index, set(found.masks)) for frame, found in video] == [(3, set()), (7, {2})]


def test_json_that_is_nested_too_deeply_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match="cannot read"):
        read_all(path, "coco")


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ('<mask frame="0" left="1" top="1" width="2" height="2"/>', "cannot read the mask"),
        ('<mask frame="0" rle="9, 9" left="1" top="1" width="2" height="2"/>', "cover 18 pixels"),
        ('<mask frame="0" rle="1" left="0" top="0" width="99999" height="99999"/>', "may have"),
        ('<polygon frame="0" points="0,0;3"/>', "wanted points"),
        ('<polygon frame="0" points="0,0;inf,0;3,3"/>', "finite numbers"),
        ('<polygon frame="-1" points="0,0;3,0;3,3"/>', "whole number as frame"),
        ('<polygon frame="99999999999" points="0,0;3,0;3,3"/>', "at most 1000000 frames"),
        ('<polygon frame="0" points="0,0;3,0;3,3"/>' * 2, "two shapes"),
        ('<box rotation="10" frame="0" xtl="0" ytl="0" xbr="3" ybr="2"/>', "a rotated box"),
        ('<skeleton frame="0"/>', "got a skeleton"),
        (f'<polygon frame="{HUGE}" points="0,0;3,0;3,3"/>', "whole number as frame"),
        ('<mask frame="0" rle="1" left="1e400" top="0" width="1" height="1"/>', "the mask"),
        (f'<mask frame="0" rle="{HUGE}" left="1" top="0" width="1" height="1"/>', "the mask"),
    ],
)
def test_cvat_that_does_not_fit_is_refused(tmp_path, shape, wanted):
    path = tmp_path / "x.xml"
    size = "<size>2</size><original_size><width>6</width><height>5</height></original_size>"
    body = f'<track id="0" label="a">{shape}</track>'
    path.write_text(f"<annotations><meta><task>{size}</task></meta>{body}</annotations>")
    with pytest.raises(InputError, match=wanted):
        read_all(path, "cvat")


@pytest.mark.parametrize(
    ("size", "width", "wanted"),
    [(HUGE, "6", "number of frames"), ("2", HUGE, "size of the frames")],
)
def test_numbers_of_a_cvat_task_that_no_video_has_are_refused(tmp_path, size, width, wanted):
    path = tmp_path / "x.xml"
    facts = f"<original_size><width>{width}</width><height>5</height></original_size>"
    path.write_text(
        f"<annotations><meta><task><size>{size}</size>{facts}</task></meta></annotations>"
    )
    with pytest.raises(InputError, match=wanted):
        read_all(path, "cvat")


def test_entities_of_xml_are_refused(tmp_path):
    path = tmp_path / "x.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "bbb">]><annotations>&b;</annotations>')
    with pytest.raises(InputError, match="DOCTYPE"):
        read_all(path, "cvat")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "masks of one size"),
        ("0 2001 2 2 3 123\n", "count from 1"),
        ("1 1 2 2 3 123\n1 1 2 2 3 123\n", "there twice on frame 1"),
        ("1 1 2 2 3 123\n2 1 2 3 3 123\n", "masks of one size"),
        ("1 1 2 2 3 zzz\n", "run lengths"),
        ("999999999999 1 2 2 3 123\n", "at most 1000000 frames"),
        (f"{HUGE} 1 2 2 3 123\n", "wanted 'frame object"),
        ("1 1 2 99999 99999 123\n", "wanted frames of 1 to"),
    ],
)
def test_mots_that_does_not_fit_is_refused(tmp_path, text, wanted):
    path = tmp_path / "clip" / "gt" / "gt.txt"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match=wanted):
        read_all(tmp_path, "mots")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [0, 10**5])
def test_a_label_image_of_absurd_size_is_refused(tmp_path, side):
    folder = tmp_path / "instances" / "clip"
    folder.mkdir(parents=True)
    Image.new("I;16", (3, 2)).save(folder / "000000.png")
    content = bytearray((folder / "000000.png").read_bytes())
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (folder / "000000.png").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read the label map .*000000\.png"):
        read_all(tmp_path, "mots-png")


@pytest.mark.parametrize("rate", ["nan", "-3", "0", "1e400"])
def test_a_frame_rate_that_no_video_has_is_unknown(tmp_path, rate):
    path = tmp_path / "clip" / "gt" / "gt.txt"
    path.parent.mkdir(parents=True)
    path.write_text("1 2001 2 2 3 123\n")
    info = f"[Sequence]\nseqLength=1\nframeRate={rate}\n"
    (tmp_path / "clip" / "seqinfo.ini").write_text(info)
    assert read_masks(tmp_path, "mots")[0].fps is None


@pytest.mark.parametrize("to", ["youtube-vis", "coco", "cvat", "mots"])
@settings(max_examples=40)
@given(data=st.data())
def test_any_change_of_bytes_is_read_or_refused(to, data):
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    video = make_video({0: {1: mask}, 1: {1: ~mask, 3: mask}}, Size(4, 6), scores=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, f"out{FORMATS[to].suffix}")
        plan_export([video], out, to=to).run()
        path = out / "clip" / "gt" / "gt.txt" if to == "mots" else out
        content = bytearray(path.read_bytes())
        start = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.integers(0, 8))
        content[start : start + length] = data.draw(st.binary(max_size=4))
        path.write_bytes(bytes(content))
        with contextlib.suppress(InputError):
            read_all(out, to)
