"""Augmentation of the paper's recipe: clips of still images, crops of videos, merged clips.

The transforms are torchvision's; this file chooses and orders them. They sample from PyTorch's
global generator, so callers seed it for every clip (``seeded``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as ops

from vots_hqtrack.training.datasets import Clip, keep_visible
from vots_hqtrack.training.recipe_data import AugmentOptions
from vots_hqtrack.types import FrameArray, LabelArray, Size

BLUR_SIDE = 9
"""Kernel of the blur in pixels: four widths of the largest default blur, and odd."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch's CPU generator for a while; afterwards it has its former state again."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def vary_photo(clip: Clip, options: AugmentOptions, size: Size) -> Clip:
    """Make a moving clip of copies of one image (the paper's first stage).

    Each later frame is mirrored, rotated, shifted, scaled and sheared by itself; each frame gets
    its own colours and crop.

    Args:
        clip: The image, once for each frame.
        options: Probabilities and ranges.
        size: Size of the result.

    Returns:
        The clip. Labels may have vanished; they are not renumbered.
    """
    flipped = _flip_clip(clip, options.flip)
    moves, looks = _photo_moves(options), _looks(options)
    crop = v2.RandomResizedCrop(
        list(size),
        scale=options.crop_scale,
        ratio=options.crop_ratio,
        interpolation=v2.InterpolationMode.BICUBIC,
    )
    frames, labels = [], []
    for index in range(len(clip.frames)):
        image, mask = _open(flipped, index)
        if index:
            image, mask = moves(image, mask)
        image, mask = crop(looks(image), mask)
        frames.append(np.asarray(image))
        labels.append(mask[0].numpy())
    return Clip(np.stack(frames), np.stack(labels), clip.origin)


def vary_video(clip: Clip, options: AugmentOptions, size: Size, min_pixels: int) -> Clip:
    """Scale and crop a clip of a video, all frames alike (the paper's second stage).

    Of a few crops the first is taken that shows an object in its first frame; each frame gets its
    own colours.

    Args:
        clip: Some frames of a video.
        options: Probabilities and ranges.
        size: Size of the result.
        min_pixels: Pixels from which an object counts as shown.

    Returns:
        The clip. Labels may have vanished; they are not renumbered.
    """
    low, high = options.resize
    short = options.short_edge * float(torch.empty(()).uniform_(low, high))
    flipped = _flip_clip(clip, options.flip)
    height, width = clip.labels.shape[1:]
    scale = short / min(height, width)
    scaled = [max(1, round(height * scale)), max(1, round(width * scale))]
    missing = [max(0, size[0] - scaled[0]), max(0, size[1] - scaled[1])]
    opened = [_open(flipped, index) for index in range(len(clip.frames))]
    masks = torch.stack(
        [ops.resize(mask, scaled, v2.InterpolationMode.NEAREST)[0] for _, mask in opened]
    )
    padding = [missing[1] // 2, missing[0] // 2, -(-missing[1] // 2), -(-missing[0] // 2)]
    masks = ops.pad(masks, padding, fill=0)
    top, left = _choose_crop(masks[0], size, options.crop_attempts, min_pixels)
    looks = _looks(options)
    frames = []
    for image, _ in opened:
        resized = ops.resize(image, scaled, v2.InterpolationMode.BICUBIC)
        padded = ops.pad(resized, padding, fill=list(options.fill))
        frames.append(np.asarray(looks(ops.crop(padded, top, left, *size))))
    cropped = masks[:, top : top + size[0], left : left + size[1]]
    return Clip(np.stack(frames), cropped.numpy().copy(), clip.origin)


def merge_clips(base: Clip, top: Clip, min_pixels: int, generator: np.random.Generator) -> Clip:
    """Paste all objects of one clip over another, frame by frame.

    Args:
        base: Clip below.
        top: Clip above, of the same shape.
        min_pixels: An object with fewer pixels in the first frame becomes background.
        generator: Chooses among more than ten objects.
    """
    above = top.labels > 0
    raised = top.labels + np.uint8(base.labels.max())
    labels: LabelArray = np.where(above, raised, base.labels)
    frames: FrameArray = np.where(above[..., None], top.frames, base.frames)
    kept = keep_visible(labels, min_pixels, generator)
    return Clip(frames, kept, f"{base.origin} + {top.origin}")


def _open(clip: Clip, index: int) -> tuple[Image.Image, tv_tensors.Mask]:
    """Convert one frame to the types that torchvision tells apart: an image and a mask."""
    mask = torch.from_numpy(np.ascontiguousarray(clip.labels[index]))
    return Image.fromarray(clip.frames[index]), tv_tensors.Mask(mask[None])


def _flip_clip(clip: Clip, probability: float) -> Clip:
    if float(torch.rand(())) >= probability:
        return clip
    return Clip(
        np.ascontiguousarray(clip.frames[:, :, ::-1]),
        np.ascontiguousarray(clip.labels[:, :, ::-1]),
        clip.origin,
    )


def _choose_crop(labels: torch.Tensor, size: Size, attempts: int, needed: int) -> tuple[int, int]:
    """Sample the corner of a crop, if possible one that shows an object."""
    height, width = labels.shape
    top = left = 0
    for _ in range(attempts):
        top = int(torch.randint(0, height - size[0] + 1, ()))
        left = int(torch.randint(0, width - size[1] + 1, ()))
        shown = labels[top : top + size[0], left : left + size[1]].flatten().long()
        areas = torch.bincount(shown, minlength=2)[1:]
        if bool((areas >= needed).any()):
            break
    return top, left


@lru_cache(maxsize=8)
def _photo_moves(options: AugmentOptions) -> Any:  # noqa: ANN401 - torchvision is not annotated
    affine = v2.RandomAffine(
        degrees=options.degrees,
        translate=(options.translate, options.translate),
        scale=options.scale,
        shear=options.shear,
        interpolation=v2.InterpolationMode.BICUBIC,
        fill={Image.Image: list(options.fill), "others": 0},
    )
    return v2.Compose([v2.RandomHorizontalFlip(options.frame_flip), affine])


@lru_cache(maxsize=8)
def _looks(options: AugmentOptions) -> Any:  # noqa: ANN401 - torchvision is not annotated
    jitter = v2.ColorJitter(options.brightness, options.contrast, options.saturation, options.hue)
    blur = v2.GaussianBlur(BLUR_SIDE, options.blur_sigma)
    return v2.Compose(
        [
            v2.RandomApply([jitter], options.jitter),
            v2.RandomGrayscale(options.grey),
            v2.RandomApply([blur], options.blur),
        ]
    )
