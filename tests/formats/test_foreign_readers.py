"""The readers of others find the masks and ids that were written."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from mask_videos import make_video

from vots_hqtrack.formats.coco import BOX_KEY
from vots_hqtrack.formats.convert import plan_export
from vots_hqtrack.formats.rle import encode_mask, mask_runs
from vots_hqtrack.types import Size
from vots_hqtrack.video.label_maps import mask_box

pytestmark = pytest.mark.filterwarnings("ignore")  # of the readers' own libraries

SIZE = Size(24, 40)


@pytest.fixture(scope="module")
def video():
    frames = {}
    rng = np.random.default_rng(0)
    for index in range(4):
        label_map = np.zeros(SIZE, np.int32)
        label_map[4:12, 2 + 3 * index : 14 + 3 * index] = 3
        label_map[10:20, 20:30][rng.random((10, 10)) < 0.6] = 7
        if index == 2:
            label_map[label_map == 7] = 0
        frames[index] = {number: label_map == number for number in (3, 7)}
    return make_video(frames, SIZE, scores=True)


def masks_of(video) -> dict[tuple[int, int], np.ndarray]:
    return {(f.index, n): mask for f, found in video for n, mask in found.masks.items()}


def export(video, to: str, out: Path) -> Path:
    assert plan_export([video], out, to=to).run() == ()
    return out


def test_pycocotools_reads_coco(video, tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools import mask as runs

    found = coco.COCO(str(export(video, "coco", tmp_path / "out.json")))
    frames = {entry["id"]: entry["frame_id"] for entry in found.dataset["images"]}
    read = {}
    for entry in found.anns.values():
        mask = found.annToMask(entry).astype(bool)
        read[frames[entry["image_id"]], entry["track_id"]] = mask
        packed = {**entry["segmentation"], "counts": entry["segmentation"]["counts"].encode()}
        assert runs.area(packed) == entry["area"]
        assert list(mask_box(mask)) == entry[BOX_KEY]
        assert runs.encode(np.asfortranarray(mask.astype(np.uint8))) == packed
    wanted = masks_of(video)
    assert read.keys() == wanted.keys()
    assert all(np.array_equal(read[key], wanted[key]) for key in wanted)


def compare(raw: dict, video, ids: dict[int, int]) -> None:
    """Compare what TrackEval read with a video; ``ids`` are its ids by ours."""
    from pycocotools import mask as runs

    wanted = masks_of(video)
    back = {theirs: ours for ours, theirs in ids.items()}
    read = {}
    for index, (numbers, packed) in enumerate(zip(raw["gt_ids"], raw["gt_dets"], strict=True)):
        for number, mask in zip(numbers, packed, strict=True):
            read[index, back[int(number)]] = runs.decode(mask).astype(bool)
    assert read.keys() == wanted.keys()
    assert all(np.array_equal(read[key], wanted[key]) for key in wanted)


def settings(folder: Path, **more) -> dict:
    (folder / "trackers").mkdir(exist_ok=True)
    named = {"TRACKERS_FOLDER": str(folder / "trackers"), "TRACKERS_TO_EVAL": []}
    return {"PRINT_CONFIG": False, **named, **more}


def test_trackeval_reads_mots(video, tmp_path, capsys):
    datasets = pytest.importorskip("trackeval.datasets")
    out = export(video, "mots", tmp_path / "mots")
    options = settings(tmp_path, GT_FOLDER=str(out), SKIP_SPLIT_FOL=True, SEQ_INFO={"clip": None})
    raw = datasets.MOTSChallenge(options)._load_raw_file("", "clip", True)
    compare(raw, video, {3: 2003, 7: 2007})
    assert {int(number) for part in raw["gt_classes"] for number in part} == {2}


def test_trackeval_reads_youtube_vis(video, tmp_path, capsys):
    datasets = pytest.importorskip("trackeval.datasets")
    (tmp_path / "youtube_vis_val").mkdir()
    export(video, "youtube-vis", tmp_path / "youtube_vis_val" / "gt.json")
    (tmp_path / "trackersyoutube_vis_val").mkdir()
    options = settings(
        tmp_path,
        GT_FOLDER=f"{tmp_path}/",
        TRACKERS_FOLDER=f"{tmp_path}/trackers",
        SPLIT_TO_EVAL="val",
    )
    dataset = datasets.YouTubeVIS(options)
    raw = dataset._load_raw_file("", "clip", True)
    compare(raw, video, {3: 1, 7: 2})


def test_trackeval_reads_davis(video, tmp_path, capsys):
    datasets = pytest.importorskip("trackeval.datasets")
    out = export(video, "davis", tmp_path / "davis")
    options = settings(tmp_path, GT_FOLDER=str(out / "Annotations" / "480p"), SEQ_INFO={"clip": 4})
    raw = datasets.DAVIS(options)._load_raw_file("", "clip", True)
    compare(raw, video, {3: 3, 7: 7})


def test_the_cvat_sdk_decodes_masks_of_tracks(video, tmp_path):
    masks = pytest.importorskip("cvat_sdk.masks")
    root = ET.parse(export(video, "cvat", tmp_path / "out.xml")).getroot()
    wanted = masks_of(video)
    for track in root.iter("track"):
        for shape in track:
            if shape.get("outside") == "1":
                continue
            number = int(shape.find("attribute").text)
            left, top, width, height = (
                int(shape.get(key)) for key in ("left", "top", "width", "height")
            )
            runs = [int(part) for part in shape.get("rle").split(", ")]
            points = [*runs, left, top, left + width - 1, top + height - 1]
            found = masks.decode_mask(points, image_width=SIZE.width, image_height=SIZE.height)
            mask = wanted.pop((int(shape.get("frame")), number))
            assert np.array_equal(found, mask)
            assert masks.encode_mask(mask) == points
    assert not wanted


def test_tracks_of_cvat_end_where_an_object_vanishes(video, tmp_path):
    root = ET.parse(export(video, "cvat", tmp_path / "out.xml")).getroot()
    states = {
        track.find("*/attribute").text: [(s.get("frame"), s.get("outside")) for s in track]
        for track in root.iter("track")
    }
    assert states["7"] == [("0", "0"), ("1", "0"), ("2", "1"), ("3", "0")]
    assert root.findtext("meta/task/size") == "4"


def test_youtube_vis_has_the_keys_of_its_data_set(video, tmp_path):
    table = json.loads(export(video, "youtube-vis", tmp_path / "out.json").read_text())
    assert {"videos", "annotations", "categories"} <= set(table)
    assert {"id", "file_names", "width", "height", "length"} <= set(table["videos"][0])
    (first, second) = table["annotations"]
    assert (first["track_id"], second["track_id"]) == (3, 7)
    assert second["segmentations"][2] is second["bboxes"][2] is second["areas"][2] is None
    mask = masks_of(video)[0, 3]
    assert first["segmentations"][0] == {"size": [24, 40], "counts": mask_runs(mask)}
    packed = json.loads(export(video, "sa-co", tmp_path / "sa-co.json").read_text())
    assert packed["annotations"][0]["segmentations"][0] == encode_mask(mask)
    assert packed["annotations"][0]["noun_phrase"] == "object"
    assert packed["video_np_pairs"][0]["num_masklets"] == 2
