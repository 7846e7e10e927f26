from __future__ import annotations

import os
from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.training.adapters import open_dataset
from vots_hqtrack.training.adapters.photos import StaticInstances
from vots_hqtrack.training.adapters.vos import Davis
from vots_hqtrack.training.datasets import DEV_SPLIT, Clip
from vots_hqtrack.training.sources import CompositeClips, SyntheticClips

DATA = Path(
    os.environ.get("VOTS_HQTRACK_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)


def write_labels(path: Path, label_map: np.ndarray, mode: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "1":
        Image.fromarray(label_map > 0).save(path)
        return
    picture = Image.fromarray(label_map, mode="L")
    if mode == "P":
        picture = Image.frombytes("P", picture.size, label_map.tobytes())
        picture.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    picture.save(path)


@pytest.fixture
def static_root(paint_photo, tmp_path: Path) -> Path:
    root = tmp_path / "fotos-é"
    for seed in range(2):
        photo = paint_photo(seed)
        layouts.write_picture(root / "JPEGImages" / f"p{seed}.jpg", photo.image)
        write_labels(root / "Annotations" / f"p{seed}.png", photo.label_map, "P")
    (root / "index.csv").write_text("name,source\np0,test\np1,test\n", encoding="utf-8")
    return root


@pytest.fixture
def davis_root(paint_photo, tmp_path: Path) -> Path:
    for number, name in enumerate(("ant", "bee", "train")):
        for index in range(3):
            photo = paint_photo(10 * number + index)
            folder = tmp_path / "JPEGImages" / "480p" / name
            layouts.write_picture(folder / f"{index:05d}.jpg", photo.image)
            labels_path = tmp_path / "Annotations" / "480p" / name / f"{index:05d}.png"
            grey = 255 * (photo.label_map > 0).astype(np.uint8)
            write_labels(labels_path, grey, "1" if name == "ant" else "L")
    return tmp_path


def test_static_instances_values(paint_photo, static_root):
    photos = StaticInstances(static_root)
    assert len(photos) == 2
    photo = photos.load(1)
    wanted = paint_photo(1)
    assert np.array_equal(photo.label_map, wanted.label_map)
    assert photo.image.flags.c_contiguous
    assert np.abs(photo.image.astype(int) - wanted.image).mean() < 8


def test_convention_pictures_are_rgb(static_root):
    red = np.zeros((240, 320, 3), np.uint8)
    red[..., 0] = 255
    layouts.write_picture(static_root / "JPEGImages" / "p0.jpg", red)
    assert StaticInstances(static_root).load(0).image[0, 0].tolist() == pytest.approx(
        [255, 0, 0], abs=3
    )


def test_static_index_without_names(static_root):
    (static_root / "index.csv").write_text("picture,source\na,b\n", encoding="utf-8")
    with pytest.raises(InputError, match="wanted a column called 'name' or 'file'"):
        StaticInstances(static_root)


def test_broken_files(static_root):
    (static_root / "JPEGImages" / "p0.jpg").write_bytes(b"no picture")
    (static_root / "Annotations" / "p1.png").write_bytes(b"no picture")
    photos = StaticInstances(static_root)
    with pytest.raises(InputError, match=r"cannot read the frame .*p0\.jpg"):
        photos.load(0)
    with pytest.raises(InputError, match=r"cannot read the mask .*p1\.png"):
        photos.load(1)


def test_image_without_objects(static_root):
    write_labels(static_root / "Annotations" / "p0.png", np.zeros((240, 320), np.uint8), "P")
    with pytest.raises(InputError, match="the image p0 of fotos-é shows no object"):
        StaticInstances(static_root).sample(0, 2, 1, np.random.default_rng(0))


def test_davis_without_lists_leaves_the_dev_split_out(davis_root):
    videos = Davis(davis_root)
    assert [video.name for video in videos.videos] == ["ant", "bee"]
    assert len(Davis(davis_root, exclude=())) == 3
    assert len(videos.videos[0]) == 3
    with pytest.raises(InputError, match="no video"):
        Davis(davis_root, exclude=("ant", "bee", "train"))


def test_davis_binary_masks(paint_photo, davis_root):
    videos = Davis(davis_root)
    for number in range(2):
        clip = videos.load(number, [2, 0], np.random.default_rng(0))
        wanted = [paint_photo(10 * number + index).label_map > 0 for index in (2, 0)]
        assert np.array_equal(clip.labels, np.stack(wanted).astype(np.uint8))


def test_clip_exception():
    frames, labels = np.zeros((2, 4, 5, 3), np.uint8), np.zeros((2, 4, 5), np.uint8)
    assert Clip(frames, labels).num_objects == 0
    with pytest.raises(ShapeError, match="frames must be uint8"):
        Clip(frames.astype(np.float32), labels)
    with pytest.raises(ShapeError, match="labels must be uint8"):
        Clip(frames, labels[:, :3])
    with pytest.raises(ShapeError, match=r"labels must be 0\.\.10, got 11"):
        Clip(frames, labels + np.uint8(11))
    with pytest.raises(ShapeError, match="must not be empty"):
        Clip(frames[:0], labels[:0])


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no training data at {DATA}")
def test_real_data():
    photos = StaticInstances(DATA / "static-instances")
    videos = Davis(DATA / "davis2016-train")
    assert not {video.name for video in videos.videos} & set(DEV_SPLIT)
    assert len(videos) == 22
    rng = np.random.default_rng(0)
    clip = SyntheticClips(photos, (224, 336)).sample(5, 3, 1, rng)
    assert clip.num_objects >= 1
    pasted = CompositeClips(videos).sample(0, 2, 4, rng)
    assert pasted.num_objects >= 1


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no training data at {DATA}")
@pytest.mark.parametrize(
    ("kind", "name"), [("folder", "static-instances"), ("davis", "davis2016-train")]
)
def test_real_data_is_sampled(kind, name):
    dataset = open_dataset(kind, DATA / name)
    for index in np.random.default_rng(1).integers(len(dataset), size=3):
        clip = dataset.sample(int(index), 3, 12, np.random.default_rng(int(index)))
        assert 1 <= clip.num_objects == len(np.unique(clip.labels[0])) - 1
