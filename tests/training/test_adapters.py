from __future__ import annotations

import functools
import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.formats.files import take
from vots_hqtrack.training.adapters import KINDS, open_dataset
from vots_hqtrack.video.label_maps import LabelMaps

VIDEO_LAYOUTS = sorted(set(layouts.WRITERS) - {"coco", "folder"})
ANNOTATED = {"burst": [0, 3, 5], "youtube-vos": [0, 2, 4]}
NUMBERS = {
    "kitti-mots": {1: 1001, 2: 1002, 3: 1003},
    "mots-challenge": {1: 2001, 2: 2002, 3: 2003},
    "vipseg": layouts.VIPSEG_IDS,
    "youtube-vos": {1: 3, 2: 6, 3: 9},
}


Write = Callable[[str], Path]


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Folder of a layout, written once; only to be read."""

    @functools.cache
    def write_once(layout: str) -> Path:
        folder = tmp_path_factory.mktemp(layout) / "données"
        folder.mkdir()
        layouts.WRITERS[layout][1](folder)
        return folder

    return write_once


@pytest.fixture
def write(written: Write, tmp_path: Path) -> Write:
    """Copy of a layout's folder, to be changed."""
    return lambda layout: Path(shutil.copytree(written(layout), tmp_path / "données"))


def opened(layout: str, root: Path, **options: object):
    return open_dataset(layouts.WRITERS[layout][0], root, **options)


def wanted_ids(layout: str, video: int, place: int) -> np.ndarray:
    ids = layouts.paint(video, place)[1]
    numbers = NUMBERS.get(layout, {1: 1, 2: 2, 3: 3})
    return sum(np.where(ids == n, code, 0) for n, code in numbers.items())


def test_every_kind_has_a_layout():
    assert {kind for kind, _ in layouts.WRITERS.values()} == set(KINDS)


@pytest.mark.parametrize("layout", VIDEO_LAYOUTS)
def test_values(layout, written):
    dataset = opened(layout, written(layout))
    assert len(dataset) == 2
    places = ANNOTATED.get(layout, list(range(layouts.NUM_FRAMES)))
    for video in range(2):
        files = dataset.videos[video]
        assert len(files) == len(places)
        for count, place in enumerate(places):
            ids = files.read_ids(count)
            assert ids.dtype == np.int32
            assert np.array_equal(ids, wanted_ids(layout, video, place))
            frame = layouts.paint(video, place)[0]
            assert np.abs(files.frame(count, ids).astype(int) - frame).mean() < 6


@pytest.mark.parametrize("layout", ["coco", "folder"])
def test_values_of_images(layout, written):
    dataset = opened(layout, written(layout))
    assert [Path(name).stem for name in dataset.names] == ["ant", "bee"]
    for number in range(2):
        frame, ids = layouts.paint(number, 2)
        photo = dataset.load(number)
        assert photo.label_map.dtype == np.uint8
        # Of COCO's objects the smaller are on top, and they keep their numbers.
        assert np.array_equal(photo.label_map, ids)
        assert np.abs(photo.image.astype(int) - frame).mean() < 6
        clip = dataset.sample(number, 3, 1, np.random.default_rng(0))
        assert np.array_equal(clip.labels, np.stack([ids] * 3))


@pytest.mark.parametrize("layout", sorted(layouts.WRITERS))
def test_contract(layout, written):
    dataset = opened(layout, written(layout))
    assert dataset.name
    for seed in range(6):
        index = seed % len(dataset)
        clip = dataset.sample(index, 4, 2, np.random.default_rng(seed))
        assert clip.frames.shape == (4, layouts.HEIGHT, layouts.WIDTH, 3)
        first = np.unique(clip.labels[0])
        assert first.tolist() == list(range(clip.num_objects + 1))
        assert clip.num_objects >= 1
        assert dataset.name in clip.origin
        again = dataset.sample(index, 4, 2, np.random.default_rng(seed))
        assert np.array_equal(clip.frames, again.frames)
        assert np.array_equal(clip.labels, again.labels)


def test_davis_2016_makes_one_object_of_all(write):
    root = write("davis")
    dataset = open_dataset("davis", root, year=2016)
    assert np.array_equal(dataset.videos[0].read_ids(3), layouts.paint(0, 3)[1] > 0)
    with pytest.raises(ConfigError, match=r"one of \(2016, 2017\), got 2018"):
        open_dataset("davis", root, year=2018)


def test_colours_keep_their_objects_over_a_video(write):
    root = write("davis")
    wanted = list(open_dataset("davis", root).videos[0].read_all()[1])
    colours = np.array([(0, 0, 0), (250, 0, 9), (0, 250, 9), (9, 0, 250)], np.uint8)
    for place, ids in enumerate(wanted):
        path = root / "Annotations" / "480p" / "ant" / f"{place:05d}.png"
        layouts.write_picture(path, colours[ids])
    video = open_dataset("davis", root).videos[0]
    numbers = np.array([0, 3, 1, 2])  # in the ascending order of their colours
    for place in (5, 0, 3):  # frames 0 and 5 lack one colour each
        assert np.array_equal(video.read_ids(place), numbers[wanted[place]])


def test_davis_splits(write):
    root = write("davis")
    assert [video.name for video in open_dataset("davis", root, split="val").videos] == ["bee"]
    # The video called train is one that this project measures itself by.
    assert [video.name for video in open_dataset("davis", root).videos] == ["ant", "bee"]
    assert len(open_dataset("davis", root, exclude=[])) == 3
    with pytest.raises(InputError, match=r"needs the file .*test\.txt"):
        open_dataset("davis", root, split="test")
    (root / "ImageSets" / "2017" / "val.txt").write_text("cow\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"list val names cow, but .*cow is not there"):
        open_dataset("davis", root, split="val")


def test_davis_list_of_2016_names_files(write):
    root = write("davis")
    (root / "ImageSets" / "2016").rename(root / "ImageSets" / "480p")
    lines = [f"/JPEGImages/480p/bee/{i:05d}.jpg /Annotations/480p/bee/{i:05d}.png" for i in (0, 1)]
    (root / "ImageSets" / "480p" / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    assert [video.name for video in open_dataset("davis", root, year=2016).videos] == ["bee"]


def test_vipseg_without_stuff(write):
    root = write("vipseg")
    ids = open_dataset("vipseg", root, stuff=False).videos[0].read_ids(3)
    assert np.unique(ids).tolist() == [0, layouts.VIPSEG_IDS[1], layouts.VIPSEG_IDS[2]]


def test_mots_takes_named_videos(write):
    root = write("mots-challenge")
    dataset = open_dataset("mots", root, videos=["MOTS20-05"])
    assert [video.name for video in dataset.videos] == ["MOTS20-05"]
    with pytest.raises(InputError, match="no video MOTS20-09; it has MOTS20-02, MOTS20-05"):
        open_dataset("mots", root, videos=["MOTS20-09"])


def test_folder_takes_an_index_and_void_pixels(write):
    root = write("folder")
    (root / "index.csv").write_text("name\nset/bee\n", encoding="utf-8")
    ids = layouts.paint(1, 2)[1].astype(np.uint8)
    ids[0] = 255
    layouts.write_picture(root / "Annotations" / "set" / "bee.png", ids)
    dataset = open_dataset("folder", root)
    assert dataset.names == ["set/bee"]
    assert np.unique(dataset.load(0).label_map).tolist() == [0, 1, 2, 3]
    layouts.write_picture(root / "Annotations" / "set" / "bee.png", (ids > 0) * np.uint8(255))
    assert np.array_equal(dataset.load(0).label_map, ids > 0)


# layout, what is broken, what the message says
BREAKS = [
    ("burst", "annotations/train/train.json", r"needs the file .*train\.json"),
    ("burst", "frames/train/LaSOT/bee", r"LaSOT/bee needs the folder .*bee"),
    ("coco", "annotations/instances_train2017.json", r"needs the file .*instances_train2017\.json"),
    ("coco", "train2017", r"needs the folder .*train2017"),
    ("davis", "Annotations/480p", r"needs the folder .*480p"),
    ("davis", "Annotations/480p/ant/00003.png", None),
    ("folder", "Annotations", r"needs the folder .*Annotations"),
    ("folder", "JPEGImages/set/ant.jpg", r"wanted the image .*ant\.jpg"),
    ("kitti-mots", "training/image_02", r"needs the folder .*image_02 or .*train/images"),
    ("kitti-mots", "training/image_02/0001/000003.png", r"needs the frame .*000003"),
    ("kitti-mots", "instances", r"needs the folder .*instances or the files .*gt\.txt"),
    ("mots-challenge", "train/MOTS20-02/img1/000002.jpg", r"gt\.txt, line 4: no frame 2 in"),
    ("ovis", "annotations_train.json", r"needs the file .*annotations_train\.json"),
    ("ovis", "train", r"needs the folder .*train"),
    ("vipseg", "panomasksRGB", r"needs the folder .*panomasksRGB"),
    ("vipseg", "panomasksRGB/ant/00000002.png", r"needs the file .*00000002\.png"),
    ("vipseg", "images/ant/00000002.jpg", r"needs the frame .*00000002"),
    ("vipseg", "panoptic_gt_VIPSeg_train.json", r"needs the file .*VIPSeg_train\.json"),
    ("youtube-vos", "train/meta.json", r"needs the file .*meta\.json"),
    ("youtube-vos", "train/Annotations/bee/00002.png", r"object 3 of bee needs .*00002\.png"),
    ("youtube-vos", "train/JPEGImages/bee/00002.jpg", r"annotations 00002\.png of bee have no fr"),
]


@pytest.mark.parametrize(("layout", "broken", "message"), BREAKS)
def test_exception_missing_file(layout, broken, message, write, tmp_path):
    root = write(layout)
    (root / broken).rename(tmp_path / "elsewhere")
    if message is None:  # a frame may have no annotation
        assert len(opened(layout, root).videos[0]) == layouts.NUM_FRAMES - 1
        return
    with pytest.raises(InputError, match=message):
        opened(layout, root)


@pytest.mark.parametrize(
    ("layout", "path", "table", "message"),
    [
        ("burst", "annotations/train/train.json", {}, "wanted an entry 'sequences', got nothing"),
        (
            "burst",
            "annotations/train/train.json",
            {"sequences": [{"dataset": "LaSOT", "seq_name": 5}]},
            "wanted 'seq_name' as str, got int",
        ),
        (
            "coco",
            "annotations/instances_train2017.json",
            {"images": [], "annotations": [{"image_id": 4, "segmentation": []}]},
            "wanted an image of id 4",
        ),
        ("coco", "annotations/instances_train2017.json", [], "wanted a JSON table, got list"),
        (
            "ovis",
            "annotations_train.json",
            {"videos": [], "annotations": [{"video_id": 0, "segmentations": [None]}]},
            "wanted a video of id 0",
        ),
        ("ovis", "annotations_train.json", {"videos": [], "annotations": [3]}, "wanted a table"),
        ("vipseg", "panoptic_gt_VIPSeg_train.json", {"categories": []}, "an entry 'annotations'"),
        ("youtube-vos", "train/meta.json", {"videos": [1]}, "wanted 'videos' as dict, got list"),
    ],
)
def test_exception_json(layout, path, table, message, write):
    root = write(layout)
    layouts.write_json(root / path, table)
    with pytest.raises(InputError, match=message):
        opened(layout, root)


def test_exception_damaged_json(write):
    root = write("coco")
    (root / "annotations" / "instances_train2017.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="as JSON"):
        opened("coco", root)


def test_exception_counts_that_do_not_match(write):
    root = write("burst")
    path = root / "annotations" / "train" / "train.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    table["sequences"][1]["segmentations"].pop()
    layouts.write_json(path, table)
    with pytest.raises(InputError, match=r"segmentations for the 3 frames of LaSOT/bee, got 2"):
        opened("burst", root)
    table["sequences"][1]["segmentations"].append({"one": {}})
    layouts.write_json(path, table)
    with pytest.raises(InputError, match="masks by the tracks' numbers"):
        opened("burst", root)


def test_exception_masks_of_another_size(write):
    root = write("ovis")
    path = root / "annotations_train.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    table["annotations"][0]["segmentations"][0]["size"] = [2, 2]
    layouts.write_json(path, table)
    with pytest.raises(InputError, match=r"frame 0: wanted a mask of 40x24, got one of \[2, 2\]"):
        opened("ovis", root).videos[0].read_ids(0)
    table["annotations"][0]["segmentations"].pop()
    layouts.write_json(path, table)
    with pytest.raises(InputError, match="null for the 6 frames of ant, got 5"):
        opened("ovis", root)


def test_exception_line_of_mots_challenge(write):
    root = write("mots-challenge")
    path = root / "train" / "MOTS20-05" / "gt" / "gt.txt"
    path.write_text("1 2001 2 24 40\n", encoding="ascii")
    with pytest.raises(InputError, match=r"line 1: wanted 'frame object class height width runs'"):
        opened("mots-challenge", root)
    path.write_text("", encoding="ascii")
    with pytest.raises(InputError, match="masks of one size"):
        opened("mots-challenge", root)


@pytest.mark.parametrize("layout", ["davis", "folder", "kitti-mots"])
def test_exception_sizes_that_differ(layout, write):
    root = write(layout)
    for path in (root / ("instances" if layout == "kitti-mots" else "Annotations")).rglob("*.png"):
        with Image.open(path) as picture:
            picture.crop((0, 0, 30, 20)).save(path)
    with pytest.raises(InputError, match=r"size \(24, 40\), got \(20, 30\)"):
        opened(layout, root).sample(0, 2, 1, np.random.default_rng(0))


def test_exception_damaged_label_maps(write, tmp_path):
    root = write("vipseg")
    (root / "panomasksRGB" / "ant" / "00000000.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot read the label map"):
        opened("vipseg", root).videos[0].read_ids(0)
    broken = tmp_path / "float.tiff"
    Image.fromarray(np.zeros((3, 3), np.float32)).save(broken)
    with pytest.raises(InputError, match="whole numbers"):
        LabelMaps([broken]).read(broken)


def test_exception_open_dataset(tmp_path):
    with pytest.raises(ConfigError, match=r"must be one of burst, coco, .*got 'davis2017'"):
        open_dataset("davis2017", tmp_path)
    with pytest.raises(ConfigError, match=r"has the options split, got 'part'"):
        open_dataset("youtube-vos", tmp_path, part="valid")
    with pytest.raises(ConfigError, match="has no options, got 'split'"):
        open_dataset("folder", tmp_path, split="train")
    for kind, option, value, wanted in (
        ("davis", "exclude", "lucia", "a list of strings"),
        ("davis", "year", "2016", "a whole number"),
        ("vipseg", "stuff", 1, "true or false"),
        ("coco", "images", 5, "a string"),
    ):
        with pytest.raises(ConfigError, match=f"option {option} of a {kind} .* must be {wanted}"):
            open_dataset(kind, tmp_path, **{option: value})
    with pytest.raises(InputError, match=r"needs the folder .*nowhere, found none"):
        open_dataset("mots", tmp_path / "nowhere")


def test_exception_take():
    with pytest.raises(InputError, match="here: wanted a table with 'id', got list"):
        take([], "id", int, "here")
    with pytest.raises(InputError, match="wanted 'id' as int, got bool"):
        take({"id": True}, "id", int, "here")


def test_every_kind_and_option_is_documented():
    path = Path(__file__).resolve().parents[2] / "docs" / "training-data.md"
    rows = [line for line in path.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"][1:]
    by_kind = {row.split("`")[1]: row for row in rows}
    assert set(by_kind) == set(KINDS)
    for kind, make in KINDS.items():
        for option in list(inspect.signature(make).parameters)[1:]:
            assert f"`{option}`" in by_kind[kind]
