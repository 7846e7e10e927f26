"""Masks from clicks and boxes on one frame, by the refiner: how an object may be given."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.encoder.frames import EncodedFrame, FrameEncoder
from vots_hqtrack.entry import public
from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.frame import FrameGeometry
from vots_hqtrack.refiner import (
    Box,
    EncodesPreviews,
    ObjectPrompt,
    PrecomputesForClicks,
    Refiner,
)
from vots_hqtrack.types import FrameArray, MaskArray, Size, check_boxes, check_frame

PREVIEW_SCALE = 0.5
"""Resolution of a preview's encoding, as a fraction of the usual one."""
MIN_PREVIEW_EDGE = 384
"""Shortest long side of a preview's encoding: smaller ones show too little."""


class PromptSegmenter:
    """Segments what clicks and boxes name; no video is needed.

    Args:
        config: Options of tracking.
        encoder: Image encoder, with the layout of its input.
        refiner: Mask refiner on its device, which also segments boxes; None without a refiner.
    """

    def __init__(
        self, config: TrackerConfig, encoder: FrameEncoder, refiner: Refiner | None
    ) -> None:
        self.config = config
        self._encoder = encoder
        self._refiner = refiner

    @public
    def encode(self, frame: FrameArray) -> EncodedFrame:
        """Encode a uint8 ``(H, W, 3)`` RGB frame, for :meth:`segment` and ``write_given``."""
        size = check_frame(frame)
        with torch.inference_mode():
            return self._encoder.encode(frame, self._encoder.plan(size))

    def plan_preview(self, size: Size) -> FrameGeometry | None:
        """Lay frames out for :meth:`encode_preview`.

        Args:
            size: Size of the frames.

        Returns:
            None where a preview would save no time: on a GPU, with small network images, or with a
            refiner that has an image encoder of its own.
        """
        refiner = self._refiner
        if not isinstance(refiner, EncodesPreviews) or not refiner.saves_time_by_previews:
            return None
        geometry = self._encoder.plan(size, PREVIEW_SCALE)
        return geometry if max(geometry.input_size) >= MIN_PREVIEW_EDGE else None

    @public
    def encode_preview(self, frame: FrameArray) -> EncodedFrame | None:
        """Encode a frame at half the resolution, in a quarter of the time.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB.

        Returns:
            For :meth:`segment` alone: its masks may be shown until those of :meth:`encode`'s frame
            are there. None where that would save no time.
        """
        geometry = self.plan_preview(check_frame(frame))
        if geometry is None or not isinstance(self._refiner, EncodesPreviews):
            return None
        with torch.inference_mode():
            features = self._refiner.encode_preview(frame, geometry)
        encoded = EncodedFrame(frame, geometry, features)
        self.precompute(encoded)
        return encoded

    @public
    def segment(self, encoded: EncodedFrame, prompt: ObjectPrompt) -> MaskArray:
        """Segment the object that clicks or a box name, by the refiner.

        Args:
            encoded: The frame, of :meth:`encode`; what the refiner computes of it for all objects
                is kept with it.
            prompt: Clicks, box and the mask so far.

        Returns:
            Bool ``(H, W)``; it may be empty.

        Raises:
            ConfigError: The preset has no refiner.
            InputError: There is neither a click nor a box, or one is outside of the frame.
        """
        if self._refiner is None:
            raise ConfigError(f"the preset {self.config.preset!r} has no refiner to read clicks")
        self.precompute(encoded)
        with torch.inference_mode():
            mask: MaskArray = self._refiner.segment(encoded.prompted, prompt).cpu().numpy()
        return mask

    @public
    def precompute(self, encoded: EncodedFrame) -> None:
        """Compute what all clicks on a frame share, which the first of them would wait for."""
        if self._refiner is None or encoded.prompted is not None:
            return
        with torch.inference_mode():
            if encoded.embedding is None:
                encoded.embedding = self._refiner.embed(encoded)
            encoded.prompted = encoded.embedding
            if isinstance(self._refiner, PrecomputesForClicks):
                encoded.prompted = self._refiner.precompute(encoded.embedding)

    @public
    def mask_from_box(self, frame: FrameArray, box: Box) -> MaskArray:
        """Segment the content of a box: bool ``(H, W)``; see :meth:`masks_from_boxes`."""
        return self.masks_from_boxes(frame, [box])[0]

    @public
    def masks_from_boxes(self, frame: FrameArray, boxes: Sequence[Box]) -> list[MaskArray]:
        """Segment the contents of boxes by the refiner, which encodes the frame once.

        Args:
            frame: uint8 ``(H, W, 3)`` RGB.
            boxes: ``(x, y, width, height)`` in frame pixels.

        Returns:
            Bool ``(H, W)`` of each box.

        Raises:
            ConfigError: The preset has no refiner.
            InputError: A box encloses no pixel of the frame, or nothing was found in it.
            ShapeError: The frame is not such an array.
        """
        size = check_frame(frame)
        boxes = check_boxes(boxes)
        if self._refiner is None:
            raise ConfigError(f"the preset {self.config.preset!r} has no refiner to read boxes")
        with torch.inference_mode():
            encoded = self._encoder.encode(frame, self._encoder.plan(size))
            found = self._refiner.segment_boxes(self._refiner.embed(encoded), boxes)
        masks: list[MaskArray] = list(found.cpu().numpy())
        for box, mask in zip(boxes, masks, strict=True):
            if not mask.any():
                raise InputError(f"the refiner found no object in the box {box}")
        return masks
