"""Cache of all that frozen networks compute of the HQ head's training images.

An image's file holds ``embedding`` ``(256, 64, 64)`` and ``early`` ``(64, 64, 160)`` in bfloat16,
``labels`` uint8 ``(H, W)`` and ``initial`` uint8 ``(H, W)``: VMOS's mask where the image is a frame
that it tracked, and empty ``(0, 0)`` elsewhere. Files depend only on the seed and their own number,
so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from vots_hqtrack.build import build_networks
from vots_hqtrack.checkpoints.load import load_into, load_weights
from vots_hqtrack.config import FrameConfig
from vots_hqtrack.devices import lower_precision, pick_dtype
from vots_hqtrack.encoder import Triple, find_encoder
from vots_hqtrack.encoder.frames import EncodedFrame, NetworkEncoder
from vots_hqtrack.frame import FrameGeometry, plan_frame
from vots_hqtrack.io import write_tensors
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
from vots_hqtrack.training.hq.recipe import HQCacheOptions
from vots_hqtrack.types import FrameArray, ImageEmbedding, LabelArray, Size, check_frame

Report = Callable[[str, int, int], None]
"""Called with a folder's name, the items that are cached, and the number of all."""

MIN_PIXELS = 64
"""Smallest object in a crop."""
CROP_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class HQImage:
    """A cached image.

    Attributes:
        embedding: SAM's embedding of it, bfloat16.
        labels: uint8 ``(H, W)``; 0 is the background, other values are instance numbers.
        initial: uint8 ``(H, W)``, VMOS's mask, or None where it did not track.
    """

    embedding: ImageEmbedding
    labels: LabelArray
    initial: LabelArray | None


def read_image(path: Path) -> HQImage:
    """Read a file of the cache."""
    stored = load_file(path)
    labels: LabelArray = stored["labels"].numpy()
    initial: LabelArray = stored["initial"].numpy()
    size = Size(*labels.shape)
    embedding = ImageEmbedding(
        stored["embedding"][None], stored["early"][None], plan_frame(size).input_size, size
    )
    return HQImage(embedding, labels, initial if initial.size else None)


def write_image(path: Path, image: HQImage) -> None:
    """Write an image's file, whole or not at all."""
    initial = np.zeros((0, 0), np.uint8) if image.initial is None else image.initial
    tensors = {
        "embedding": _to_disk(image.embedding.embedding),
        "early": _to_disk(image.embedding.early),
        "labels": torch.from_numpy(np.ascontiguousarray(image.labels)),
        "initial": torch.from_numpy(np.ascontiguousarray(initial)),
    }
    write_tensors(path, tensors)


def fill_cache(options: HQCacheOptions, data: Path, folder: Path, report: Report) -> None:
    """Encode all that is not in the cache yet.

    Args:
        options: Content of the cache.
        data: Folder that holds the folders of images and videos.
        folder: The cache, with folders ``photos`` and ``videos``.
        report: Called with each new video and image.

    Raises:
        ConfigError: The preset does not exist.
        InputError: A data folder has another layout.
        WeightsError: The weights of SAM or VMOS are missing or damaged.
    """
    writer = _Writer(options)
    if options.videos:
        writer.write_videos(data / options.videos, folder / "videos", report)
    if options.photos:
        writer.write_photos(data / options.photos, folder / "photos", report)


class _RecordingEncoder(NetworkEncoder):
    """The encoder of both stages, which keeps SAM's embedding of the last frame."""

    def __init__(self, network: TinyViT, strides: Triple) -> None:
        super().__init__(network, FrameConfig(), strides=strides)
        self._embed = SharedEmbedder(network)
        self.last: list[ImageEmbedding] = []

    def encode(self, frame: FrameArray, geometry: FrameGeometry) -> EncodedFrame:
        """Encode a frame and keep SAM's embedding of it."""
        with lower_precision(torch.device("cpu")):
            encoded = super().encode(frame, geometry)
        self.last[:] = [self._embed(encoded)]
        return encoded


class _Writer:
    """Fills a cache folder; loads the frozen networks when there is something to do."""

    def __init__(self, options: HQCacheOptions) -> None:
        self._options = options

    @cached_property
    def _networks(self) -> tuple[_RecordingEncoder, HQTracker]:
        options = self._options
        tensors = load_weights(options.sam_weights)
        sam = SamWeights(
            {key: value for key, value in tensors.items() if key.startswith("image_encoder.")},
            source=options.sam_weights,
        )
        config, cpu = load_preset(options.preset), torch.device("cpu")
        _, vmos = build_networks(config)
        load_into(vmos, load_weights(config.weights), source=config.weights)
        dtype = pick_dtype(config.runtime.dtype, cpu)
        cast_to_low_precision(vmos, dtype, config.runtime.low_precision)
        encoder = TinyViT(sam.part("image_encoder"), pick_dtype("auto", cpu)).eval()
        sam.require_all("SAM's TinyViT")
        recording = _RecordingEncoder(encoder, find_encoder(config.encoder.kind).strides)
        return recording, HQTracker(config, recording, vmos, None, device=cpu)

    def write_videos(self, root: Path, folder: Path, report: Report) -> None:
        """Track the videos of a DAVIS folder, but for the dev split, and cut crops out of them."""
        folder.mkdir(parents=True, exist_ok=True)
        videos = [video for video in Davis(root, exclude=()).videos if video.name not in DEV_SPLIT]
        for number, video in enumerate(videos):
            done = folder / f"{video.name}.done"
            if not done.exists():
                self._write_tracked(video, folder)
                generator = np.random.default_rng((self._options.seed, 1_000_000, number))
                chosen = generator.permutation(len(video))[: self._options.video_crops]
                for index in chosen:
                    photo = crop_photo(video.load(int(index)), generator, self._options.min_crop)
                    path = folder / f"{video.name}-{index:05d}-crop.safetensors"
                    self._write(path, mirror_photo(photo, generator))
                done.touch()
                report("videos", number + 1, len(videos))

    def write_photos(self, root: Path, folder: Path, report: Report) -> None:
        """Encode the images under ``root``, some of them cropped, half of them mirrored."""
        folder.mkdir(parents=True, exist_ok=True)
        photos, options = StaticInstances(root), self._options
        order = np.random.default_rng(options.seed).permutation(len(photos))[: options.max_photos]
        for done, number in enumerate(order, start=1):
            path = folder / f"{photos.names[number]}.safetensors"
            if path.exists():
                continue
            generator = np.random.default_rng((options.seed, int(number)))
            photo = photos.load(int(number))
            if generator.random() < options.crop_probability:
                photo = crop_photo(photo, generator, options.min_crop)
            self._write(path, mirror_photo(photo, generator))
            report("photos", done, len(order))

    def _write_tracked(self, video: Video, folder: Path) -> None:
        encoder, tracker = self._networks
        first = video.load(0)
        state = tracker.initialize(first.image, {1: first.label_map == 1})
        for index in range(self._options.frame_step, len(video), self._options.frame_step):
            frame = video.load(index)
            mask = tracker.track(frame.image, state).initial_masks[1]  # type: ignore[index]
            image = HQImage(encoder.last[0], frame.label_map, mask.astype(np.uint8))
            write_image(folder / f"{video.name}-{index:05d}.safetensors", image)

    def _write(self, path: Path, photo: Photo) -> None:
        encoder, _ = self._networks
        geometry = encoder.plan(check_frame(photo.image))
        with torch.inference_mode():
            encoder.encode(photo.image, geometry)
        write_image(path, HQImage(encoder.last[0], photo.label_map, None))


def crop_photo(photo: Photo, generator: np.random.Generator, min_side: float) -> Photo:
    """Cut out a random part of an image that still shows a piece of an object.

    Args:
        photo: Image with its label map.
        generator: Random generator.
        min_side: Side of the smallest crop, as a fraction of the image's.

    Returns:
        The part, or the whole image if no part that was tried shows an object.
    """
    height, width = photo.label_map.shape
    for _ in range(CROP_ATTEMPTS):
        fraction = generator.uniform(min_side, 0.9)
        rows, columns = int(height * fraction), int(width * fraction)
        top = int(generator.integers(0, height - rows + 1))
        left = int(generator.integers(0, width - columns + 1))
        labels = photo.label_map[top : top + rows, left : left + columns]
        if np.count_nonzero(labels) >= MIN_PIXELS:
            return Photo(photo.image[top : top + rows, left : left + columns], labels)
    return photo


def mirror_photo(photo: Photo, generator: np.random.Generator) -> Photo:
    """Exchange left and right in half of the cases."""
    if generator.random() < 0.5:
        return photo
    return Photo(*(np.ascontiguousarray(part[:, ::-1]) for part in photo))


def _to_disk(batch: Tensor) -> Tensor:
    return batch[0].to(torch.bfloat16).cpu().contiguous()
