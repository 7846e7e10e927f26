"""Logits of several groups to probabilities over all objects of a video, and to masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vots_hqtrack.errors import ShapeError
from vots_hqtrack.masks import slot_dtype, split_slot_map
from vots_hqtrack.types import Size

PROBABILITY_MARGIN = 1e-5
"""Distance from 0 and 1 that probabilities keep before groups are merged, as in the released
model."""


WHOLE_FRAME_NUMBERS = 1 << 26
"""Probabilities of a frame, 256 MB of them, up to which all its rows are merged at once."""
STRIP_NUMBERS = 1 << 22
"""Probabilities of a strip of rows of a frame with more."""


@dataclass(frozen=True, slots=True)
class InitialMasks:
    """VMOS's masks of N objects in one frame, before refinement.

    Attributes:
        slot_map: ``(H, W)`` uint8 or int16, number of the object from 1; 0 = background.
        masks: ``(N, H, W)`` bool, the same object by object.
        probability: ``(H, W)`` float, of the class in the slot map.
    """

    slot_map: Tensor
    masks: Tensor
    probability: Tensor


def merge_groups(logits: Sequence[Tensor]) -> Tensor:
    """Merge the logits of groups that were tracked together.

    A pixel is background if it is background to every group; the released model does the same for
    more than ten objects.

    Args:
        logits: For each group ``(1 + n, H, W)`` float, channel 0 the background.

    Returns:
        ``(1 + N, H, W)`` float probabilities of the background and then all objects in the order of
        the groups; they sum to 1.

    Raises:
        ShapeError: The sequence is empty.
    """
    if not logits:
        raise ShapeError("wanted the logits of at least one group, got none")
    groups = [group.softmax(0) for group in logits]
    if len(groups) == 1:
        return groups[0]
    background = torch.stack([group[0] for group in groups]).prod(0, keepdim=True)
    joined = torch.cat([background, *(group[1:] for group in groups)])
    return torch.logit(joined.clamp(PROBABILITY_MARGIN, 1 - PROBABILITY_MARGIN)).softmax(0)


def merge_separate(logits: Sequence[Tensor]) -> Tensor:
    """Merge the logits of objects that were tracked alone.

    Every object keeps its own tracker's probability, and the background gets the rest of the
    highest one. So a pixel goes to the object with the highest probability, if that is above one
    half.

    Args:
        logits: For each object ``(2, H, W)`` float, the background and the object.

    Returns:
        ``(1 + N, H, W)`` float probabilities; they sum to 1.

    Raises:
        ShapeError: The sequence is empty.

    Example:
        >>> sure, unsure = torch.tensor([[[0.0]], [[3.0]]]), torch.tensor([[[0.0]], [[1.0]]])
        >>> merge_separate([unsure, sure]).argmax(0)
        tensor([[2]])
    """
    if not logits:
        raise ShapeError("wanted the logits of at least one object, got none")
    foreground = torch.cat([group.softmax(0)[1:] for group in logits])
    joined = torch.cat([1 - foreground.amax(0, keepdim=True), foreground])
    return joined / joined.sum(0, keepdim=True)


def initial_masks(probabilities: Tensor) -> InitialMasks:
    """Give every pixel to its most probable class, the first of equal ones.

    Args:
        probabilities: ``(1 + N, H, W)`` float, the background first.
    """
    slot_map, best = _most_probable(probabilities)
    return InitialMasks(slot_map, split_slot_map(slot_map, len(probabilities) - 1), best)


def initial_masks_by_rows(
    probabilities: Callable[[slice], Tensor], size: Size, num_objects: int
) -> InitialMasks:
    """Do the same for many objects in large frames, whose probabilities do not fit the memory.

    Args:
        probabilities: Returns ``(1 + N, rows, W)`` float for some rows of the frame.
        size: Frame size.
        num_objects: Number of objects ``N``.
    """
    row_numbers = (1 + num_objects) * size.width
    if row_numbers * size.height <= WHOLE_FRAME_NUMBERS:
        return initial_masks(probabilities(slice(0, size.height)))
    step = max(STRIP_NUMBERS // row_numbers, 1)
    strips = [
        _most_probable(probabilities(slice(top, min(top + step, size.height))))
        for top in range(0, size.height, step)
    ]
    slot_map, best = (torch.cat(parts) for parts in zip(*strips, strict=True))
    return InitialMasks(slot_map, split_slot_map(slot_map, num_objects), best)


def _most_probable(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return the most probable class of each pixel, and its probability."""
    # PyTorch's argmax over the first dimension takes twenty times as long on the CPU.
    best = probabilities[0].clone()
    dtype = slot_dtype(len(probabilities) - 1)
    slot_map = torch.zeros_like(best, dtype=dtype)
    for number, probability in enumerate(probabilities[1:], start=1):
        # Numbers grow, so the maximum is the newest; masked writes in PyTorch are 50 times slower.
        newest = (probability > best).view(torch.uint8).to(dtype).mul_(number)
        torch.maximum(slot_map, newest, out=slot_map)
        torch.maximum(best, probability, out=best)
    return slot_map, best
