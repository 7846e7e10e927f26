# ruff: noqa: T201 - what is printed must not reach the protocol
"""A TraX server around trackers that take no time: each behaves, or misbehaves, in its own way.

Run by the tests under the real toolkit: ``python example_server.py NAME``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vots_hqtrack.errors import WeightsError
from vots_hqtrack.types import FrameArray, MaskArray, ObjectId
from vots_hqtrack.vot.server import run


@dataclass(frozen=True)
class Reported:
    """The part of a frame's result that the server reads; the real one waits for torch."""

    masks: Mapping[ObjectId, MaskArray]


class CopyTracker:
    """Reports every object's first mask for ever."""

    def initialize(
        self, frame: FrameArray, masks: Mapping[int, MaskArray]
    ) -> dict[ObjectId, MaskArray]:
        assert all(mask.shape == frame.shape[:2] for mask in masks.values())
        return {ObjectId(object_id): mask for object_id, mask in masks.items()}

    def track(self, frame: FrameArray, state: dict[ObjectId, MaskArray]) -> Reported:
        return Reported({object_id: self.answer(mask) for object_id, mask in state.items()})

    def add_objects(
        self, frame: FrameArray, masks: Mapping[int, MaskArray], state: dict[ObjectId, MaskArray]
    ) -> None:
        assert not set(masks) & set(state)
        state.update(self.initialize(frame, masks))

    def answer(self, mask: MaskArray) -> MaskArray:
        return mask


class NoisyTracker(CopyTracker):
    """Writes what would break the protocol, on every way there is."""

    def initialize(
        self, frame: FrameArray, masks: Mapping[int, MaskArray]
    ) -> dict[ObjectId, MaskArray]:
        # A child shares our streams; this one reads the toolkit's next message if it can.
        subprocess.run([sys.executable, "-c", "print('child'); input()"], check=False)
        return super().initialize(frame, masks)

    def answer(self, mask: MaskArray) -> MaskArray:
        print("größer, with no line end \u2588", end="", flush=True)
        print("\r 50 % \u2588\u2588", end="", file=sys.stderr, flush=True)
        os.write(1, b"\xff\xfe raw bytes @@TRAX:quit ")
        os.write(2, b'@@TRAX:state "0"\n')
        return mask


class FailingTracker(CopyTracker):
    """Raises on the first frame that it tracks."""

    def answer(self, mask: MaskArray) -> MaskArray:
        print("about to fail: schön")
        raise RuntimeError('the "größte" mask\nis lost at 100 % \\ done')


class SpeckledTracker(CopyTracker):
    """Reports every second pixel: more runs than the toolkit can store."""

    def answer(self, mask: MaskArray) -> MaskArray:
        rows, columns = np.indices(mask.shape)
        return mask | ((rows + columns) % 2 == 0)


class SliverTracker(CopyTracker):
    """Reports masks one pixel wide or tall, in the places where the toolkit overlooks them."""

    def answer(self, mask: MaskArray) -> MaskArray:
        sliver = np.zeros_like(mask)
        if np.flatnonzero(mask.any(axis=1))[0] < 20:
            sliver[5:9, 0] = True
        else:
            sliver[0, 3:9] = True
        return sliver


class EmptyTracker(CopyTracker):
    """Never sees anything."""

    def answer(self, mask: MaskArray) -> MaskArray:
        return np.zeros_like(mask)


def load_broken() -> CopyTracker:
    print("loading \u2026")
    raise WeightsError("the weights are damäged")


def load_exiting() -> CopyTracker:
    raise SystemExit("a library gave up")


def load_for_ever() -> CopyTracker:
    print("sleeping", flush=True)
    time.sleep(600)
    return CopyTracker()


LOADS = {
    "copy": CopyTracker,
    "noisy": NoisyTracker,
    "failing": FailingTracker,
    "speckled": SpeckledTracker,
    "sliver": SliverTracker,
    "empty": EmptyTracker,
    "broken": load_broken,
    "exiting": load_exiting,
    "hanging": load_for_ever,
}

if __name__ == "__main__":
    limit = 2.0 if sys.argv[1] == "hanging" else 60.0
    raise SystemExit(run(LOADS[sys.argv[1]], load_limit_s=limit))
