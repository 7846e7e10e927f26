"""Object numbers of frames whose masks are stored packed: in BURST, OVIS and MOTSChallenge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vots_hqtrack.training.adapters.coco import decode_segmentation
from vots_hqtrack.training.adapters.files import IdArray
from vots_hqtrack.types import Size


@dataclass(frozen=True, slots=True)
class PackedMaps:
    """The masks of a video, frame by frame.

    Attributes:
        name: Video, for messages.
        size: Size of its frames.
        segmentations: By object number, for each frame; objects not seen are not listed.
    """

    name: str
    size: Size
    segmentations: Sequence[Mapping[int, object]]

    def read(self, place: int) -> IdArray:
        """Unpack one frame; where masks overlap, the smaller object lies above.

        Raises:
            InputError: A mask is damaged or of another size.
        """
        masks = {
            number: decode_segmentation(packed, self.size, f"video {self.name}, frame {place}")
            for number, packed in self.segmentations[place].items()
        }
        ids = np.zeros(self.size, dtype=np.int32)
        for number in sorted(masks, key=lambda number: -int(masks[number].sum())):
            ids[masks[number]] = number
        return ids
