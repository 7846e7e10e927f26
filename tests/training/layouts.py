"""Writes one small data set in each layout that the adapters read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

HEIGHT, WIDTH, NUM_FRAMES = 24, 40, 6
VIDEOS = ("ant", "bee")


def paint(video: int, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a frame and its objects: 1 is always there, 2 only early, 3 only late."""
    ids = np.zeros((HEIGHT, WIDTH), np.int32)
    ids[4:12, 2 + 2 * place : 12 + 2 * place] = 1
    if place < 4:
        ids[14:22, 20 - video : 30] = 2
    if place >= 2:
        ids[0:3, 30:38] = 3
    frame = np.full((HEIGHT, WIDTH, 3), 40 + 10 * place, np.uint8)
    for number, colour in ((1, (200, 30, 30)), (2, (30, 200, 30)), (3, (30, 30, 200))):
        frame[ids == number] = colour
    return frame, ids


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write RGB (any suffix), 8-bit or 16-bit grey (PNG)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture.dtype == np.uint16 or picture.ndim == 3:
        stored = picture[:, :, ::-1] if picture.ndim == 3 else picture
        assert cv2.imwrite(str(path), stored, [cv2.IMWRITE_JPEG_QUALITY, 95])
    else:
        Image.fromarray(picture).save(path)


def runs_of(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, beginning with off."""
    flat = np.concatenate([[False], mask.T.ravel()])
    ends = np.flatnonzero(flat[1:] != flat[:-1]).tolist()
    return np.diff([0, *ends, mask.size]).tolist()


def text_of(mask: np.ndarray) -> str:
    """Run lengths in COCO's text form."""
    letters: list[str] = []
    runs = runs_of(mask)
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            bits = value & 31
            value >>= 5
            is_last = value == (-1 if bits & 16 else 0)
            letters.append(chr(48 + bits + (0 if is_last else 32)))
            if is_last:
                break
    return "".join(letters)


def write_frames(folder: Path, video: int, pattern: str, *, first: int = 0) -> None:
    for place in range(NUM_FRAMES):
        write_picture(folder / (pattern % (first + place)), paint(video, place)[0])


def write_folder(root: Path) -> None:
    for video, name in enumerate(VIDEOS):
        frame, ids = paint(video, 2)
        write_picture(root / "JPEGImages" / "set" / f"{name}.jpg", frame)
        write_picture(root / "Annotations" / "set" / f"{name}.png", ids.astype(np.uint8))


def write_coco(root: Path) -> None:
    images, annotations = [], []
    for video, name in enumerate(VIDEOS):
        frame, ids = paint(video, 2)
        write_picture(root / "train2017" / f"{name}.jpg", frame)
        shape = {"height": HEIGHT, "width": WIDTH}
        images.append({"id": video + 7, "file_name": f"{name}.jpg", **shape})
        for number in (1, 2, 3):
            ys, xs = np.nonzero(ids == number)
            left, top, right, bottom = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
            corners = [left, top, right, top, right, bottom, left, bottom]
            polygon = [[float(value) for value in corners]]
            packed = {"counts": runs_of(ids == number), "size": [HEIGHT, WIDTH]}
            segmentation = packed if number == 3 else polygon
            annotations.append({"image_id": video + 7, "segmentation": segmentation, "iscrowd": 0})
        crowd = {"counts": [0, HEIGHT * WIDTH], "size": [HEIGHT, WIDTH]}
        annotations.append({"image_id": video + 7, "segmentation": crowd, "iscrowd": 1})
    images.append({"id": 99, "file_name": "nothing.jpg", "height": HEIGHT, "width": WIDTH})
    write_json(
        root / "annotations" / "instances_train2017.json",
        {"images": images, "annotations": annotations},
    )


def write_davis(root: Path) -> None:
    for video, name in enumerate((*VIDEOS, "train")):
        write_frames(root / "JPEGImages" / "480p" / name, video, "%05d.jpg")
        for place in range(NUM_FRAMES):
            path = root / "Annotations" / "480p" / name / f"{place:05d}.png"
            write_picture(path, paint(video, place)[1].astype(np.uint8))
    for year in ("2016", "2017"):
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / "train.txt").write_text("ant\nbee\ntrain\n", encoding="utf-8")
        (root / "ImageSets" / year / "val.txt").write_text("bee\n", encoding="utf-8")


def write_youtube_vos(root: Path) -> None:
    meta: dict[str, object] = {}
    for video, name in enumerate(VIDEOS):
        write_frames(root / "train" / "JPEGImages" / name, video, "%05d.jpg")
        seen: dict[int, list[str]] = {}
        for place in range(0, NUM_FRAMES, 2):
            ids = paint(video, place)[1]
            path = root / "train" / "Annotations" / name / f"{place:05d}.png"
            write_picture(path, (3 * ids).astype(np.uint8))
            for number in np.unique(ids[ids > 0]):
                seen.setdefault(3 * int(number), []).append(f"{place:05d}")
        objects = {str(n): {"category": "ant", "frames": frames} for n, frames in seen.items()}
        meta[name] = {"objects": objects}
    write_json(root / "train" / "meta.json", {"videos": meta})


SKY, ANT = 117, 60
VIPSEG_IDS = {1: 6001, 2: 6002, 3: 118 + 256 * 300}


def write_vipseg(root: Path) -> None:
    videos = []
    for video, name in enumerate(VIDEOS):
        write_frames(root / "images" / name, video, "%08d.jpg")
        frames = []
        for place in range(NUM_FRAMES):
            ids = paint(video, place)[1]
            codes = np.zeros_like(ids)
            for number, code in VIPSEG_IDS.items():
                codes[ids == number] = code
            codes[-1, -1] = 5  # a region that the table does not list
            colours = np.stack([codes % 256, codes // 256 % 256, codes // 65536], axis=2)
            path = root / "panomasksRGB" / name / f"{place:08d}.png"
            write_picture(path, colours.astype(np.uint8))
            segments = [
                {"id": VIPSEG_IDS[int(number)], "category_id": SKY if number == 3 else ANT}
                for number in np.unique(ids[ids > 0])
            ]
            frames.append({"file_name": path.name, "segments_info": segments})
        videos.append({"video_id": name, "annotations": frames})
    categories = [{"id": SKY, "isthing": 0}, {"id": ANT, "isthing": 1}]
    write_json(
        root / "panoptic_gt_VIPSeg_train.json", {"annotations": videos, "categories": categories}
    )


def write_burst(root: Path) -> None:
    sequences = []
    for video, name in enumerate(VIDEOS):
        write_frames(root / "frames" / "train" / "LaSOT" / name, video, "%08d.jpg", first=1)
        annotated = [0, 3, 5]
        segmentations = []
        for place in annotated:
            ids = paint(video, place)[1]
            tracks = {
                str(n): {"rle": text_of(ids == n), "is_gt": True} for n in np.unique(ids) if n
            }
            segmentations.append(tracks)
        entry = {
            "dataset": "LaSOT",
            "seq_name": name,
            "height": HEIGHT,
            "width": WIDTH,
            "annotated_image_paths": [f"{place + 1:08d}.jpg" for place in annotated],
            "all_image_paths": [f"{place + 1:08d}.jpg" for place in range(NUM_FRAMES)],
            "segmentations": segmentations,
            "track_category_ids": {"1": 805},
        }
        sequences.append(entry)
    write_json(root / "annotations" / "train" / "train.json", {"sequences": sequences})


def write_kitti_mots(root: Path) -> None:
    for video in range(2):
        name = f"{video:04d}"
        write_frames(root / "training" / "image_02" / name, video, "%06d.png")
        for place in range(NUM_FRAMES):
            ids = paint(video, place)[1]
            values = np.where(ids > 0, 1000 + ids, 0)
            values[-1, :3] = 10000
            write_picture(root / "instances" / name / f"{place:06d}.png", values.astype(np.uint16))


def write_mots_challenge(root: Path) -> None:
    for video, name in enumerate(("MOTS20-02", "MOTS20-05")):
        write_frames(root / "train" / name / "img1", video, "%06d.jpg", first=1)
        lines = []
        for place in range(NUM_FRAMES):
            ids = paint(video, place)[1]
            lines += [
                f"{place + 1} {2000 + n} 2 {HEIGHT} {WIDTH} {text_of(ids == n)}"
                for n in np.unique(ids)
                if n
            ]
            lines.append(f"{place + 1} 10000 10 {HEIGHT} {WIDTH} {text_of(ids == 0)}")
        (root / "train" / name / "gt").mkdir()
        (root / "train" / name / "gt" / "gt.txt").write_text("\n".join(lines), encoding="ascii")


def write_ovis(root: Path) -> None:
    videos, annotations = [], []
    for video, name in enumerate(VIDEOS):
        write_frames(root / "train" / name, video, "img_%07d.jpg", first=1)
        names = [f"{name}/img_{place + 1:07d}.jpg" for place in range(NUM_FRAMES)]
        videos.append({"id": video, "height": HEIGHT, "width": WIDTH, "file_names": names})
        for number in (1, 2, 3):
            masks = [paint(video, place)[1] == number for place in range(NUM_FRAMES)]
            size = [HEIGHT, WIDTH]
            packed = [{"size": size, "counts": text_of(m)} if m.any() else None for m in masks]
            annotations.append({"video_id": video, "segmentations": packed, "category_id": 1})
    write_json(root / "annotations_train.json", {"videos": videos, "annotations": annotations})


def write_json(path: Path, table: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table), encoding="utf-8")


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "burst": ("burst", write_burst),
    "coco": ("coco", write_coco),
    "davis": ("davis", write_davis),
    "folder": ("folder", write_folder),
    "kitti-mots": ("mots", write_kitti_mots),
    "mots-challenge": ("mots", write_mots_challenge),
    "ovis": ("ovis", write_ovis),
    "vipseg": ("vipseg", write_vipseg),
    "youtube-vos": ("youtube-vos", write_youtube_vos),
}
"""For each layout, the kind by which it is opened and what writes it."""
