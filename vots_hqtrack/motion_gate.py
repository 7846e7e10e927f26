"""Motion gate: an object is searched near its last position.

Between the decoder and the merge of all objects. Look-alikes far away get no pixel of the object,
however similar they are. The paper has no such rule; see decision 0027.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.masks import has_pixels, mask_boxes

MIN_OBJECT_SIDE = 0.02
"""Shorter sides count as this one, a fraction of the frame's diagonal."""
CLOSED_LOGIT = -30.0
"""Logit of an object outside its search window: no other class can have less."""


@dataclass(frozen=True, slots=True)
class LastSeen:
    """Last positions of the N objects of a video.

    Attributes:
        boxes: ``(N, 4)`` float32, ``xyxy`` in frame pixels; zeros for an object that was never
            seen.
        frames_unseen: ``(N,)`` float32, frames since then.
    """

    boxes: Tensor
    frames_unseen: Tensor

    @classmethod
    def nothing(cls, device: torch.device) -> LastSeen:
        """Return the start of a video without objects."""
        return cls(torch.zeros(0, 4, device=device), torch.zeros(0, device=device))

    def add(self, masks: Tensor) -> LastSeen:
        """Return this and new objects.

        Args:
            masks: ``(M, H, W)`` bool, frame pixels, of the new objects.
        """
        unseen = self.frames_unseen.new_zeros(len(masks))
        return LastSeen(
            torch.cat([self.boxes, mask_boxes(masks)]), torch.cat([self.frames_unseen, unseen])
        )

    def update(self, masks: Tensor) -> LastSeen:
        """Return what is known after a frame.

        Args:
            masks: ``(N, H, W)`` bool, frame pixels, of the same objects.
        """
        is_seen = has_pixels(masks)
        return LastSeen(
            torch.where(is_seen[:, None], mask_boxes(masks), self.boxes),
            torch.where(is_seen, 0.0, self.frames_unseen + 1),
        )

    def found(self, index: int, mask: Tensor) -> LastSeen:
        """Return this with one object found elsewhere.

        Args:
            index: Number of the object, from 0.
            mask: ``(H, W)`` bool with pixels, frame pixels.
        """
        boxes, unseen = self.boxes.clone(), self.frames_unseen.clone()
        boxes[index], unseen[index] = mask_boxes(mask[None])[0], 0
        return LastSeen(boxes, unseen)


def search_windows(last_seen: LastSeen, reach: float, geometry: FrameGeometry) -> Tensor:
    """Return the search window of each object.

    The window is the last box, extended to all sides by ``reach`` times the box's longer side, and
    by as much again for each frame in which the object was not seen.

    Args:
        last_seen: Last positions of N objects.
        reach: Sides of its own by which an object moves at most from a frame to the next.
        geometry: Layout of the video's frames.

    Returns:
        ``(N, 4)`` float32, ``xyxy`` in pixels of the logits; all of the frame for an object that
        was never seen.
    """
    height, width = geometry.frame_size
    boxes = last_seen.boxes
    sides = boxes[:, 2:] - boxes[:, :2]
    least = MIN_OBJECT_SIDE * (height**2 + width**2) ** 0.5
    size = sides.amax(1).clamp(min=least)
    margin = (reach * size * (1 + last_seen.frames_unseen))[:, None]
    was_seen = (sides > 0).all(1, keepdim=True)
    everywhere = boxes.new_zeros(4)
    everywhere[2], everywhere[3] = width, height
    windows = torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], dim=1)
    windows = torch.where(was_seen, windows, everywhere)
    rows, columns = geometry.content_size
    x, y = windows.unflatten(1, (2, 2)).unbind(2)
    return torch.stack([x * (columns / width), y * (rows / height)], dim=2).flatten(1)


def close_outside(logits: Tensor, windows: Tensor) -> tuple[Tensor, Tensor]:
    """Close each object's logits outside its window.

    Args:
        logits: ``(1 + N, H', W')`` float, the background first.
        windows: ``(N, 4)`` float, ``xyxy`` in pixels of the logits; a pixel that a window touches
            belongs to it.

    Returns:
        Logits of the same shape, and ``(H', W')`` bool: where the likeliest class was an object
        outside its window. What is there is not known, and must not be remembered as background.
    """
    height, width = logits.shape[1:]
    rows = torch.arange(height, device=logits.device)
    columns = torch.arange(width, device=logits.device)
    left, top, right, bottom = windows[:, :, None].unbind(1)
    in_rows = (rows + 1 > top) & (rows < bottom)
    in_columns = (columns + 1 > left) & (columns < right)
    is_closed = ~(in_rows[:, :, None] & in_columns[:, None, :])
    objects = logits[1:]
    is_refused = ((objects == logits.amax(0)) & is_closed).any(0)
    return torch.cat([logits[:1], objects.masked_fill(is_closed, CLOSED_LOGIT)]), is_refused
