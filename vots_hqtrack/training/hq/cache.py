"""What the frozen parts see of the training pictures, computed once for the HQ head's training.

A picture's file holds ``embedding`` ``(256, 64, 64)`` and ``early`` ``(64, 64, 160)`` in bfloat16,
``labels`` uint8 ``(H, W)`` and ``coarse`` uint8 ``(H, W)``: VMOS's own label map where the picture
is a frame that it tracked, and empty ``(0, 0)`` elsewhere. Files depend only on the seed and their
own number, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vots_hqtrack.build import build_networks
from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.config import FrameConfig
from vots_hqtrack.devices import lower_precision, pick_dtype
from vots_hqtrack.encoder import find_encoder
from vots_hqtrack.encoder.frames import EncodedFrame, NetworkEncoder
from vots_hqtrack.frame import FrameGeometry, plan_frame
from vots_hqtrack.io import atomic_path
from vots_hqtrack.precision import cast_to_low_precision
from vots_hqtrack.presets import load_preset
from vots_hqtrack.sam.embed import SharedEmbedder
from vots_hqtrack.sam.layers import SamWeights
from vots_hqtrack.sam.tiny_vit import TinyViT
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.training.adapters.photos import StaticInstances
from vots_hqtrack.training.adapters.videos import Video
from vots_hqtrack.training.adapters.vos import Davis
from vots_hqtrack.training.datasets import DEV_SPLIT, Photo
from vots_hqtrack.types import FrameArray, ImageEmbedding, LabelArray, Size, check_frame

Progress = Callable[[str], None]

SMALLEST_OBJECT = 64
"""Pixels that an object must keep in a crop."""
CROP_TRIALS = 20


@dataclass(frozen=True, slots=True)
class HQCacheConfig:
    """What goes into the cache.

    Attributes:
        seed: Of all chance.
        folder: Where it is; empty for a folder of the run.
        photos: Folder of photographs with instances below the data folder; empty for none.
        videos: DAVIS folder below the data folder; empty for none.
        sam_weights: Weights of the frozen SAM.
        preset: Preset whose VMOS tracks the videos; it shares SAM's encoder, its refiner is not
            used.
        frame_step: Every how many frames a video is tracked and kept.
        video_crops: Enlarged crops of each video.
        max_photos: Photographs that are taken, drawn at random.
        crop_share: Share of the photographs that are cropped.
        smallest_crop: Side of the smallest crop, as a share of the picture's.
    """

    seed: int = 1
    folder: str = ""
    photos: str = "static-instances"
    videos: str = "davis2016-train"
    sam_weights: str = "sam-vit-tiny"
    preset: str = "lite-vmos"
    frame_step: int = 3
    video_crops: int = 5
    max_photos: int = 800
    crop_share: float = 0.4
    smallest_crop: float = 0.4


@dataclass(frozen=True, slots=True)
class HQPicture:
    """One cached picture.

    Attributes:
        embedding: SAM's view of it, bfloat16.
        labels: uint8 ``(H, W)``; 0 is the background, other values are instance numbers.
        coarse: uint8 ``(H, W)``, VMOS's label map, or None where it did not track.
    """

    embedding: ImageEmbedding
    labels: LabelArray
    coarse: LabelArray | None


def read_picture(path: Path) -> HQPicture:
    """Read a file that this module wrote."""
    stored = load_file(path)
    labels: LabelArray = stored["labels"].numpy()
    coarse: LabelArray = stored["coarse"].numpy()
    size = Size(*labels.shape)
    embedding = ImageEmbedding(
        stored["embedding"][None], stored["early"][None], plan_frame(size).input_size, size
    )
    return HQPicture(embedding, labels, coarse if coarse.size else None)


def write_picture(path: Path, picture: HQPicture) -> None:
    """Write a picture's file; it gets its name only when it is complete."""
    coarse = np.zeros((0, 0), np.uint8) if picture.coarse is None else picture.coarse
    tensors = {
        "embedding": _bare(picture.embedding.embedding),
        "early": _bare(picture.embedding.early),
        "labels": torch.from_numpy(np.ascontiguousarray(picture.labels)),
        "coarse": torch.from_numpy(np.ascontiguousarray(coarse)),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


class RecordingEncoder:
    """Passes frames to an encoder and keeps SAM's image embedding of the last one.

    Args:
        encoder: Encodes for both stages.
        embed: Gives SAM's embedding of what it encoded.
    """

    def __init__(self, encoder: NetworkEncoder, embed: SharedEmbedder) -> None:
        self._encoder = encoder
        self._embed = embed
        self.last: list[ImageEmbedding] = []

    def plan(self, frame_size: Size, scale: float = 1.0) -> FrameGeometry:
        """Lay out a frame size as the encoder does."""
        return self._encoder.plan(frame_size, scale)

    def encode(self, frame: FrameArray, geometry: FrameGeometry) -> EncodedFrame:
        """Encode a frame and keep SAM's image embedding of it."""
        with lower_precision(torch.device("cpu")):
            encoded = self._encoder.encode(frame, geometry)
        self.last[:] = [self._embed(encoded)]
        return encoded


def fill_cache(config: HQCacheConfig, data: Path, folder: Path, progress: Progress) -> None:
    """Encode what is not in the cache yet.

    Args:
        config: What goes into it.
        data: Folder that holds the photographs' and the videos' folders.
        folder: The cache; ``photos`` and ``videos`` are made below it.
        progress: Called with the name of each finished video and photograph.

    Raises:
        ConfigError: There is no such preset.
        InputError: A data folder is not as it should be.
        WeightsError: The weights of SAM or VMOS are missing or damaged.
    """
    writer = HQCacheWriter(config)
    if config.videos:
        writer.write_videos(data / config.videos, folder / "videos", progress)
    if config.photos:
        writer.write_photos(data / config.photos, folder / "photos", progress)


class HQCacheWriter:
    """Fills a cache folder.

    Args:
        config: What goes into it.

    Raises:
        WeightsError: The weights of SAM or VMOS are missing or damaged.
    """

    def __init__(self, config: HQCacheConfig) -> None:
        self.config = config
        tensors = load_weights(config.sam_weights)
        sam = SamWeights(
            {key: value for key, value in tensors.items() if key.startswith("image_encoder.")},
            source=config.sam_weights,
        )
        tracker = load_preset(config.preset)
        _, vmos = build_networks(tracker)
        load_into(vmos, load_weights(tracker.weights), source=tracker.weights)
        cpu = torch.device("cpu")
        cast_to_low_precision(
            vmos, pick_dtype(tracker.runtime.dtype, cpu), tracker.runtime.low_precision
        )
        encoder = TinyViT(sam.part("image_encoder"), pick_dtype("auto", cpu)).eval()
        sam.require_all("SAM's TinyViT")
        strides = find_encoder(tracker.encoder.kind).strides
        shared = NetworkEncoder(encoder, FrameConfig(), strides=strides)
        self._encoder = RecordingEncoder(shared, SharedEmbedder(encoder))
        self._tracker = HQTracker(tracker, self._encoder, vmos, None, device=cpu)

    def write_videos(
        self, root: Path, folder: Path, progress: Progress, *, dev: bool = False
    ) -> None:
        """Track videos with VMOS and keep what both stages see.

        Args:
            root: DAVIS folder.
            folder: Where the files go; those of finished videos are kept.
            progress: Called with the name of each finished video.
            dev: False takes all but the dev split, True the dev split alone, without crops.
        """
        folder.mkdir(parents=True, exist_ok=True)
        videos = Davis(root, exclude=()).videos
        chosen = [video for video in videos if (video.name in DEV_SPLIT) == dev]
        for number, sequence in enumerate(chosen):
            done = folder / f"{sequence.name}.done"
            if not done.exists():
                self._write_video(sequence, folder)
                if not dev:
                    self._write_crops(sequence, number, folder)
                done.touch()
                progress(sequence.name)

    def write_photos(self, root: Path, folder: Path, progress: Progress) -> None:
        """Encode the photographs under ``root``, some of them cropped, half of them mirrored."""
        folder.mkdir(parents=True, exist_ok=True)
        photos, config = StaticInstances(root), self.config
        order = np.random.default_rng(config.seed).permutation(len(photos))
        for number in order[: config.max_photos]:
            path = folder / f"{photos.names[number]}.safetensors"
            if path.exists():
                continue
            rng = np.random.default_rng((config.seed, int(number)))
            photo = photos.load(int(number))
            if rng.random() < config.crop_share:
                photo = crop_photo(photo, rng, config.smallest_crop)
            self._write(path, mirror_photo(photo, rng))
            progress(path.stem)

    def _write_video(self, sequence: Video, folder: Path) -> None:
        frames = range(0, len(sequence), self.config.frame_step)
        first = sequence.load(0)
        state = self._tracker.initialize(first.image, {1: first.label_map == 1})
        for index in frames[1:]:
            frame = sequence.load(index)
            mask = self._tracker.track(frame.image, state).initial_masks[1]  # type: ignore[index]
            picture = HQPicture(self._encoder.last[0], frame.label_map, mask.astype(np.uint8))
            write_picture(folder / f"{sequence.name}-{index:05d}.safetensors", picture)

    def _write_crops(self, sequence: Video, number: int, folder: Path) -> None:
        rng = np.random.default_rng((self.config.seed, 1_000_000, number))
        for index in rng.permutation(len(sequence))[: self.config.video_crops]:
            photo = crop_photo(sequence.load(int(index)), rng, self.config.smallest_crop)
            path = folder / f"{sequence.name}-{index:05d}-crop.safetensors"
            self._write(path, mirror_photo(photo, rng))

    def _write(self, path: Path, photo: Photo) -> None:
        geometry = self._encoder.plan(check_frame(photo.image))
        with torch.inference_mode():
            self._encoder.encode(photo.image, geometry)
        write_picture(path, HQPicture(self._encoder.last[0], photo.label_map, None))


def crop_photo(photo: Photo, rng: np.random.Generator, smallest: float) -> Photo:
    """Cut out a random part of a picture that still shows a piece of an object.

    Args:
        photo: Picture with its label map.
        rng: Source of chance.
        smallest: Side of the smallest crop, as a share of the picture's.

    Returns:
        The part, or the whole picture if no part that was tried shows an object.
    """
    height, width = photo.label_map.shape
    for _ in range(CROP_TRIALS):
        share = rng.uniform(smallest, 0.9)
        rows, columns = int(height * share), int(width * share)
        top = int(rng.integers(0, height - rows + 1))
        left = int(rng.integers(0, width - columns + 1))
        labels = photo.label_map[top : top + rows, left : left + columns]
        if np.count_nonzero(labels) >= SMALLEST_OBJECT:
            return Photo(photo.image[top : top + rows, left : left + columns], labels)
    return photo


def mirror_photo(photo: Photo, rng: np.random.Generator) -> Photo:
    """Exchange left and right in half of the cases."""
    if rng.random() < 0.5:
        return photo
    return Photo(
        np.ascontiguousarray(cv2.flip(np.ascontiguousarray(photo.image), 1)).astype(np.uint8),
        np.ascontiguousarray(photo.label_map[:, ::-1]),
    )


def _bare(batch: Tensor) -> Tensor:
    return batch[0].to(torch.bfloat16).cpu().contiguous()
