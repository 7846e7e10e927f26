"""The tracker in the form of Cutie's ``InferenceCore``: a processor with one method, ``step``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vots_hqtrack.errors import InputError, ShapeError
from vots_hqtrack.memory import TrackState
from vots_hqtrack.tracker import HQTracker
from vots_hqtrack.types import FrameArray, LabelArray, MaskArray, ObjectId, check_object_id


class StepProcessor:
    """Tracks one video by calls of :meth:`step`, as code for Cutie does.

    Args:
        tracker: The tracker.

    Attributes:
        object_ids: Objects that are tracked, ascending; channel ``n + 1`` of a result belongs to
            the ``n``-th one.

    Example:
        >>> processor = StepProcessor(tracker)  # doctest: +SKIP
        >>> prob = processor.step(image, mask, objects=[1, 2])  # doctest: +SKIP
        >>> prob = processor.step(next_image)  # doctest: +SKIP
        >>> label_map = processor.output_prob_to_mask(prob)  # doctest: +SKIP
    """

    def __init__(self, tracker: HQTracker) -> None:
        self._tracker = tracker
        self._state: TrackState | None = None

    @property
    def object_ids(self) -> list[ObjectId]:
        """Objects that are tracked, ascending."""
        return [] if self._state is None else sorted(self._state.slots.object_ids)

    def clear_memory(self) -> None:
        """Forget the video; the next frame begins a new one."""
        self._state = None

    def step(
        self,
        image: Tensor,
        mask: Tensor | None = None,
        objects: Sequence[int] | None = None,
        *,
        idx_mask: bool = True,
    ) -> Tensor:
        """Track the objects in the next frame, or give their masks on it.

        Masks that are given stay as they are: those of new objects, which join, and those of known
        ones, which are corrected. The other objects are tracked.

        Args:
            image: ``(3, H, W)`` float RGB in ``[0, 1]``.
            mask: ``(H, W)`` integer object ids, 0 = background; or ``(N, H, W)`` bool or float,
                where ``idx_mask`` is False. None tracks all objects.
            objects: Objects of the mask; None takes all ids in it. Needed where ``idx_mask`` is
                False, in the order of the channels.
            idx_mask: Whether the mask holds ids.

        Returns:
            ``(1 + N, H, W)`` float32 of 0 and 1 on the image's device, the background first.

        Raises:
            InputError: No mask was given yet, or an object of the mask has no pixel.
            ShapeError: The image or the mask has another shape.
        """
        frame = _to_frame(image)
        given = {} if mask is None else _to_masks(mask, objects, is_map=idx_mask)
        if self._state is None and not given:
            raise InputError("the first frame needs a mask: step(image, mask)")
        if self._state is None:
            self._state = self._tracker.initialize(frame, given)
            label_map = self._state.slots.to_object_ids(self._state.slot_map.cpu().numpy())
        else:
            label_map = self._track(frame, given, self._state)
        found = torch.from_numpy(label_map.astype(np.int64))
        channels = [found == number for number in (0, *self.object_ids)]
        return torch.stack(channels).to(image.device, torch.float32)

    def output_prob_to_mask(self, output_prob: Tensor) -> Tensor:
        """Turn the result of :meth:`step` into ``(H, W)`` int64 object ids, 0 = background."""
        numbers = torch.tensor([0, *self.object_ids], device=output_prob.device)
        return numbers[output_prob.argmax(0)]

    def _track(
        self, frame: FrameArray, given: dict[int, MaskArray], state: TrackState
    ) -> LabelArray:
        known = set(state.slots.object_ids)
        label_map = self._tracker.track(frame, state).label_map
        new = {number: mask for number, mask in given.items() if number not in known}
        if new:
            self._tracker.add_objects(frame, new, state)
            label_map = state.slots.to_object_ids(state.slot_map.cpu().numpy())
        corrected = {number: mask for number, mask in given.items() if number in known}
        if corrected:
            label_map[np.isin(label_map, list(corrected))] = 0
            for number, mask in corrected.items():
                label_map[mask] = number
            encoded = self._tracker.encode(frame)
            index = state.frame_index
            self._tracker.write_given(encoded, label_map, state, frame_index=index)
        return label_map


def _to_frame(image: Tensor) -> FrameArray:
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ShapeError(f"an image must be a float tensor (3, H, W) in [0, 1], got {got}")
    if not image.is_floating_point():
        raise ShapeError(f"an image must be float in [0, 1], got {image.dtype}")
    scaled = (image.detach().float() * 255).round().clamp(0, 255).to(torch.uint8)
    frame: FrameArray = scaled.permute(1, 2, 0).contiguous().cpu().numpy()
    return frame


def _to_masks(mask: Tensor, objects: Sequence[int] | None, *, is_map: bool) -> dict[int, MaskArray]:
    values = mask.detach().cpu().numpy()
    if values.ndim != (2 if is_map else 3):
        wanted = "(H, W) of object ids" if is_map else "(N, H, W), one mask an object"
        raise ShapeError(f"a mask must be {wanted}, got {values.shape}")
    if not is_map:
        if objects is None or len(objects) != len(values):
            raise InputError(f"wanted the ids of {len(values)} masks as objects, got {objects}")
        pairs = zip(objects, values, strict=True)
        return {check_object_id(number): np.asarray(part > 0.5) for number, part in pairs}
    ids = np.unique(values[values != 0]).tolist() if objects is None else objects
    return {check_object_id(number): np.asarray(values == number) for number in ids}
