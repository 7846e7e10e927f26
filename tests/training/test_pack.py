"""Packed data sets give what the folders give: every label, and nearly every pixel."""

from __future__ import annotations

import json
import multiprocessing
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import layouts
import numpy as np
import pytest
from packable import FAST, KINDS, LIMIT, ODD, WORST_PSNR, sum_of

from vots_hqtrack.errors import InputError
from vots_hqtrack.training.adapters import open_dataset
from vots_hqtrack.training.adapters.packs.codecs import CodecOptions
from vots_hqtrack.training.adapters.packs.writer import WORK_FOLDER, pack_data
from vots_hqtrack.training.adapters.videos import Video, VideoClips
from vots_hqtrack.training.dev import DevSplit
from vots_hqtrack.training.recipe import Recipe
from vots_hqtrack.training.recipe_data import DevOptions
from vots_hqtrack.training.recipe_files import build_recipe
from vots_hqtrack.training.vmos_task import draw_examples

pytest.importorskip("av", reason="packing needs PyAV")

LIMIT_MIB = LIMIT / (1 << 20)


def open_both(data: Path, packs: Path, name: str, **options: object) -> tuple[VideoClips, ...]:
    both = [open_dataset(KINDS[name], folder / name, **options) for folder in (data, packs)]
    assert all(isinstance(dataset, VideoClips) for dataset in both)
    return tuple(both)


def check_videos(wanted: Video, found: Video) -> None:
    assert len(found) == len(wanted) > 0
    frames, ids = found.read_all()
    true_frames, true_ids = wanted.read_all()
    assert (frames.dtype, ids.dtype) == (np.uint8, np.int32)
    assert frames.shape == true_frames.shape == (*ids.shape, 3)
    assert np.array_equal(ids, true_ids)
    for place in range(len(found)):
        assert cv2.PSNR(true_frames[place], frames[place]) > WORST_PSNR
        photo = found.load(place)
        assert np.array_equal(photo.image, frames[place])
        assert np.array_equal(photo.label_map, true_ids[place])
        assert photo.image.flags.writeable


def test_values_of_videos(packable_data, packed):
    for options in ({}, {"exclude": []}, {"year": 2016}, {"split": "val"}):
        folder, packs = open_both(packable_data, packed[0], "davis", **options)
        assert (packs.name, len(packs)) == (folder.name, len(folder))
        for wanted, found in zip(folder.videos, packs.videos, strict=True):
            assert found.name == wanted.name
            check_videos(wanted, found)
    with pytest.raises(InputError, match=r"needs the file .*2017/test\.txt"):
        open_dataset("davis", packed[0] / "davis", split="test")


def test_odd_sides_and_frames_without_labels(packable_data, packed):
    folder, packs = open_both(packable_data, packed[0], "odd")
    assert folder.videos[0].frame(0, folder.videos[0].read_ids(0)).shape == (*ODD, 3)
    assert len(folder.videos[0]) == 4
    check_videos(folder.videos[0], packs.videos[0])


def test_frames_of_another_data_set(packable_data, packed):
    folder = open_dataset("davis", packable_data / "split", frames="../davis")
    packs = open_dataset("davis", packed[0] / "split", frames="../davis")
    assert len(folder.videos[0]) == 3
    assert np.unique(folder.videos[0].read_ids(0)).tolist() == [0, 2, 3]
    check_videos(folder.videos[0], packs.videos[0])
    shown = packs.videos[0].frames.read(2)
    assert cv2.PSNR(layouts.paint(1, 4)[0], shown) > WORST_PSNR
    with pytest.raises(InputError, match=r"needs the folder .*JPEGImages"):
        open_dataset("davis", packable_data / "split")


def test_values_of_images(packable_data, packed):
    folder, packs = (open_dataset("folder", root / "photos") for root in (packable_data, packed[0]))
    assert packs.names == folder.names == ["set/bee", "set/ant"]
    assert packs.name == folder.name == "photos"
    for index in range(2):
        wanted, found = folder.load(index), packs.load(index)
        assert np.array_equal(found.label_map, wanted.label_map)
        assert cv2.PSNR(wanted.image, found.image) > WORST_PSNR
    clip = packs.sample(1, 2, 1, np.random.default_rng(0))
    assert np.array_equal(clip.labels[0], folder.load(1).label_map)


def test_parts_are_small_and_describe_the_pack(packed):
    out, report = packed
    assert [path.name for path in report.parts] == sorted(path.name for path in out.iterdir())
    assert len(report.parts) >= 2
    members: set[str] = set()
    indices = set()
    for path in report.parts:
        assert path.stat().st_size <= LIMIT
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            first, *others = archive.infolist()
            assert first.filename == "index.json"
            indices.add(archive.read(first))
        assert {info.compress_type for info in others} == {zipfile.ZIP_STORED}
        members |= {info.filename for info in others}
    (index,) = map(json.loads, indices)
    assert index["num_parts"] == len(report.parts)
    assert index["encoders"]["crf"] == FAST.crf
    assert index["notes"]["README.md"] == "Written by tests."
    assert index["notes"]["photos/LICENSE.txt"] == "Whatever you like."
    by_name = {row["name"]: row for row in index["quality"]}
    assert by_name["davis"]["min_psnr"] > WORST_PSNR
    assert by_name["split"]["image_bytes"] == by_name["split"]["mean_psnr"] == 0
    items = {(name, item) for name, table in index["sets"].items() for item in table["items"]}
    videos = {("davis", "ant"), ("davis", "bee"), ("davis", "train"), ("odd", "odd one")}
    photos = {("photos", "set/ant"), ("photos", "set/bee")}
    assert items == videos | photos | {("split", "bee")}
    assert members == (
        {f"{name}/images/{item}.mp4" for name, item in videos}
        | {f"{name}/labels/{item}.xz" for name, item in {*videos, ("split", "bee")}}
        | {f"{name}/{kind}/{item}.webp" for name, item in photos for kind in ("images", "labels")}
    )


def test_same_input_same_bytes(packable_data, packed, tmp_path):
    again = pack_data(packable_data, tmp_path / "again", options=FAST, max_mib=LIMIT_MIB)
    assert [path.read_bytes() for path in again.parts] == [
        path.read_bytes() for path in packed[1].parts
    ]


def test_some_sets_and_large_images(packable_data, tmp_path):
    small = CodecOptions(image_quality=80, long_side=20)
    report = pack_data(packable_data, tmp_path / "out", ["photos"], options=small)
    assert [path.name for path in report.parts] == ["part-00.zip"]
    photo = open_dataset("folder", tmp_path / "out" / "photos").load(0)
    assert photo.image.shape == (12, 20, 3)
    assert np.array_equal(photo.label_map, layouts.paint(1, 2)[1][1::2, 1::2])
    with pytest.raises(InputError, match="hold no data set davis; only photos"):
        open_dataset("davis", tmp_path / "out" / "davis")


def test_avif(packable_data, tmp_path):
    pytest.importorskip("PIL.AvifImagePlugin")
    options = CodecOptions(image_format="avif", image_quality=80)
    report = pack_data(packable_data, tmp_path / "out", ["photos"], options=options)
    assert report.sets[0].min_psnr > WORST_PSNR
    photo = open_dataset("folder", tmp_path / "out" / "photos").load(0)
    assert cv2.PSNR(layouts.paint(1, 2)[0], photo.image) > WORST_PSNR - 2  # the JPEG lost some too


class StoppedError(Exception):
    """Raised in the middle of packing."""


def test_a_run_cut_short_leaves_no_part_and_goes_on(packable_data, packed, tmp_path):
    out = tmp_path / "out"
    encoded: list[str] = []

    def stop(name: str, done: int, total: int) -> None:
        encoded.append(name)
        if len(encoded) == 4:
            raise StoppedError

    with pytest.raises(StoppedError):
        pack_data(packable_data, out, options=FAST, max_mib=LIMIT_MIB, progress=stop)
    assert not list(out.glob("*part-*"))
    kept = {path: path.stat().st_mtime_ns for path in (out / WORK_FOLDER).iterdir()}
    assert len(kept) == 4
    written: list[bool] = []

    def watch(name: str, done: int, total: int) -> None:
        written.append(all(path.stat().st_mtime_ns == time for path, time in kept.items()))

    report = pack_data(packable_data, out, options=FAST, max_mib=LIMIT_MIB, progress=watch)
    assert written == [True] * 7
    assert not (out / WORK_FOLDER).exists()
    assert report.parts[0].read_bytes() == packed[1].parts[0].read_bytes()


RECIPE = {
    "train": {"steps": 1},
    "model": {"preset": "lite", "train_encoder": False, "features": "cached"},
    "regularisation": {"encoder_drop_path": 0.0},
    "cache": {"num_frames": 3, "clip_size": [48, 64]},
    "phases": [{"batch_size": 1, "num_frames": 2, "crop": [96, 96]}],
    "data": [
        {"kind": kind, "root": root, "options": ["exclude=[]"] if root == "six" else []}
        for kind, root in (
            ("synthetic", "photos"),
            ("davis", "six"),
            ("composites", "six"),
            ("crossings", "six"),
        )
    ],
}


def test_a_recipe_reads_packs_as_it_reads_folders(paint_photo, tmp_path):
    data, packs = tmp_path / "data", tmp_path / "packs"
    for seed in range(6):
        photo = paint_photo(seed)
        layouts.write_picture(data / "photos" / "JPEGImages" / f"{seed}.jpg", photo.image)
        layouts.write_picture(data / "photos" / "Annotations" / f"{seed}.png", photo.label_map)
        for place in range(4):
            name = f"v{seed}/{place:05d}"
            image = np.roll(photo.image[:120, :160], 3 * place, axis=1)
            labels = np.roll(photo.label_map[:120, :160], 3 * place, axis=1)
            layouts.write_picture(data / "six" / "JPEGImages" / "480p" / f"{name}.jpg", image)
            layouts.write_picture(data / "six" / "Annotations" / "480p" / f"{name}.png", labels)
    pack_data(data, packs, options=FAST)
    recipe = build_recipe(RECIPE)
    assert isinstance(recipe, Recipe)
    both = [list(draw_examples(recipe, folder, 12)) for folder in (data, packs)]
    origins = {clip.origin.split(":")[0].split(" v")[0] for clip in both[0]}
    assert len(origins) >= 3, origins
    for wanted, found in zip(*both, strict=True):
        assert found.origin == wanted.origin
        assert np.array_equal(found.labels, wanted.labels)
        assert cv2.PSNR(wanted.frames, found.frames) > 24
    split = DevSplit(DevOptions(root="six", sequences=("v3", "v1")), packs)
    assert [video.name for video in split.videos] == ["v3", "v1"]
    assert len(split.videos[0].video.load(3).image) == 120


def test_other_processes_read_the_same(packed):
    video = open_dataset("davis", packed[0] / "davis").videos[1]
    here = sum_of(video)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(sum_of, video).result(timeout=120) == here
