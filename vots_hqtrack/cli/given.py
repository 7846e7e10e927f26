"""Prompts of a frame against the frame: checked before the model is loaded, then made masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vots_hqtrack.cli.boxes import clip_box
from vots_hqtrack.cli.prompts import FramePrompt, Prompt
from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.masks import combine_masks, split_label_map
from vots_hqtrack.refiner import Click, ObjectPrompt
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray, ObjectId, Size, check_masks
from vots_hqtrack.video.label_maps import read_label_map


@dataclass(frozen=True, slots=True)
class CheckedPrompt:
    """Prompts of a frame that fit it.

    Attributes:
        masks: Given masks, bool ``(H, W)``, by object id.
        prompts: Points and boxes of the other objects, the boxes cut to the frame.
    """

    masks: Mapping[ObjectId, MaskArray]
    prompts: Mapping[ObjectId, Prompt]


def check_prompt(given: FramePrompt, size: Size) -> CheckedPrompt:
    """Read the masks of a frame's prompts, and compare all prompts with its size.

    Raises:
        InputError: A mask cannot be read or is empty, or a point or a box is outside of the frame.
        ShapeError: A mask has another size.
    """
    if given.mask_path is not None:
        return CheckedPrompt(read_masks(given.mask_path, size), {})
    masks, prompts = {}, {}
    for number, prompt in given.objects.items():
        if prompt.mask_path is not None:
            masks[ObjectId(number)] = _read_mask(prompt.mask_path, number, size)
            continue
        for point in prompt.points:
            if not (0 <= point.x <= size.width and 0 <= point.y <= size.height):
                raise InputError(
                    f"the point {point} lies outside the frame, which has the size {size}"
                )
        box = prompt.box and clip_box(prompt.box, size)
        prompts[ObjectId(number)] = dataclasses.replace(prompt, box=box)
    if masks:
        combine_masks(masks)  # none may cover another wholly
    return CheckedPrompt(masks, prompts)


def make_masks(
    tracker: HQTracker, frame: FrameArray, given: CheckedPrompt
) -> dict[ObjectId, MaskArray]:
    """Turn the prompts of a frame into masks by the refiner; of two on a pixel the smaller has it.

    Raises:
        ConfigError: The preset has no refiner to read points and boxes.
        InputError: No object was found for a prompt, or others cover it wholly.
    """
    masks = dict(given.masks.items())
    if any(prompt.points for prompt in given.prompts.values()):
        encoded = tracker.encode(frame)
        for number, prompt in given.prompts.items():
            clicks = tuple(Click(*point) for point in prompt.points)
            masks[number] = tracker.segment(encoded, ObjectPrompt(clicks, prompt.box))
            if not masks[number].any():
                raise InputError(f"the refiner found no object {number} by its points")
    elif given.prompts:
        boxes = [prompt.box for prompt in given.prompts.values() if prompt.box is not None]
        masks.update(zip(given.prompts, tracker.masks_from_boxes(frame, boxes), strict=True))
    return split_label_map(combine_masks(masks), masks)


def read_masks(path: Path, size: Size) -> dict[ObjectId, MaskArray]:
    """Read the masks of all objects of a mask image: bool ``(H, W)``, none of them empty."""
    label_map = _read_label_map(path, size)
    if not label_map.any():
        raise InputError(f"the mask {path} is empty: wanted at least one object, got none")
    return check_masks(dict(split_label_map(label_map).items()), size)


def _read_mask(path: Path, number: int, size: Size) -> MaskArray:
    """Read the mask of one object: the pixels with its id, or the only object of the image."""
    label_map = _read_label_map(path, size)
    found = [int(value) for value in np.unique(label_map) if value]
    if number not in found and len(found) != 1:
        got = f"objects {', '.join(map(str, found))}" if found else "none"
        raise InputError(f"the mask {path} must hold object {number}, or one object; got {got}")
    mask: MaskArray = label_map == (number if number in found else found[0])
    return mask


def _read_label_map(path: Path, size: Size) -> LabelArray:
    label_map = read_label_map(path)
    if label_map.shape != tuple(size):
        height, width = label_map.shape
        hint = "; were the frames turned by --exif?" if (width, height) == tuple(size) else ""
        got = f"{width}x{height}{hint}"
        raise ShapeError(f"the mask {path} must have the frame's size {size}, got {got}")
    return label_map
