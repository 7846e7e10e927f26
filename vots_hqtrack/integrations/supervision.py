"""Results as ``Detections`` of Roboflow's ``supervision`` (extra ``supervision``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vots_hqtrack.extras import missing_extra
from vots_hqtrack.video.label_maps import mask_box

if TYPE_CHECKING:
    from supervision import Detections

    from vots_hqtrack.result import FrameResult


def to_detections(result: FrameResult) -> Detections:
    """Return the objects that are seen on a frame; see ``FrameResult.to_supervision``.

    Raises:
        ConfigError: ``supervision`` is not installed.
    """
    try:
        from supervision import Detections
    except ImportError as error:
        raise missing_extra("to_supervision", "supervision", error) from error
    masks = {number: mask for number, mask in sorted(result.masks.items()) if mask.any()}
    if not masks:
        return Detections.empty()
    boxes = [mask_box(mask) or (0, 0, 0, 0) for mask in masks.values()]
    return Detections(
        xyxy=np.array([(x, y, x + w, y + h) for x, y, w, h in boxes], np.float32),
        mask=np.stack(list(masks.values())),
        confidence=np.array([result.scores[number] for number in masks], np.float32),
        tracker_id=np.array(list(masks), np.int64),
    )
