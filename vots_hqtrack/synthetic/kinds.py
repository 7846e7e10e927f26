"""Kinds of composed clips: probabilities of what happens in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class ClipKind:
    """Probabilities and ranges of one kind of clip.

    Attributes:
        video_base: The background is real video instead of a still image.
        layers: Probability of 0, 1, 2, ... foreground layers.
        video_layer: A layer is cut from a video, frame by frame.
        copy: A layer is a copy of an earlier one.
        same_footage: A layer comes from the first layer's image or video.
        meet: A layer's path crosses another object's.
        unlabelled: A layer has no label: a distractor or an occluder.
        split: A layer is cut by a line into two objects.
        join: A layer is attached to an earlier one under the same label.
        attach: A layer is attached to an earlier one under a label of its own.
        grow: A layer approaches until it fills much of the frame, or recedes likewise.
        hide: An unlabelled layer covers a layer for 1 to 5 frames, or it vanishes for as long.
        leave: A layer is gone at the clip's end.
        base_labels: Objects of the background keep their labels.
        base_join: Touching objects of the background share one label.
        camera: Factor on the speed of the camera.
        fill: The view is so near to an object of the background that it fills much of the frame.
        area: Smallest and largest area of a layer in the first frame, relative to the frame.
    """

    video_base: float = 0.6
    layers: tuple[float, ...] = (0.04, 0.16, 0.22, 0.2, 0.14, 0.1, 0.06, 0.04, 0.02, 0.02)
    video_layer: float = 0.5
    copy: float = 0.15
    same_footage: float = 0.15
    meet: float = 0.6
    unlabelled: float = 0.2
    split: float = 0.08
    join: float = 0.08
    attach: float = 0.1
    grow: float = 0.08
    hide: float = 0.2
    leave: float = 0.06
    base_labels: float = 0.88
    base_join: float = 0.15
    camera: float = 1.0
    fill: float = 0.06
    area: tuple[float, float] = (0.006, 0.25)


KINDS: Mapping[str, ClipKind] = MappingProxyType(
    {
        "plain": ClipKind(),
        "meetings": ClipKind(layers=(0, 0.05, 0.35, 0.3, 0.2, 0.1), meet=0.95, unlabelled=0.1),
        "copies": ClipKind(layers=(0, 0, 0.4, 0.3, 0.2, 0.1), copy=0.7, meet=0.75, unlabelled=0.15),
        "groups": ClipKind(
            layers=(0, 0, 0.2, 0.3, 0.25, 0.15, 0.1), same_footage=0.9, meet=0.7, unlabelled=0.1
        ),
        "crowds": ClipKind(
            layers=(0, 0, 0, 0, 0.1, 0.2, 0.25, 0.2, 0.1, 0.1, 0.05),
            area=(0.002, 0.04),
            same_footage=0.3,
            meet=0.5,
            unlabelled=0.1,
        ),
        "parts": ClipKind(
            layers=(0, 0.1, 0.4, 0.3, 0.2), split=0.4, attach=0.6, join=0.0, area=(0.01, 0.3)
        ),
        "joined": ClipKind(
            layers=(0, 0.05, 0.35, 0.35, 0.25), join=0.7, attach=0.0, base_join=0.7, split=0.0
        ),
        "growing": ClipKind(
            layers=(0, 0.4, 0.35, 0.25), grow=0.7, area=(0.01, 0.3), unlabelled=0.15, camera=1.5
        ),
        "hiding": ClipKind(layers=(0, 0.25, 0.35, 0.25, 0.15), hide=0.8, unlabelled=0.1),
        "large": ClipKind(
            layers=(0.45, 0.35, 0.2),
            fill=1.0,
            grow=0.5,
            unlabelled=0.4,
            base_labels=1.0,
            base_join=0.4,
            area=(0.1, 0.7),
            camera=1.5,
        ),
        "camera": ClipKind(layers=(0.1, 0.4, 0.3, 0.2), camera=4.0, grow=0.2, leave=0.15),
        "alone": ClipKind(
            layers=(0, 0.2, 0.3, 0.3, 0.2),
            unlabelled=1.0,
            copy=0.4,
            base_labels=1.0,
            base_join=0.9,
            meet=0.8,
        ),
        "real": ClipKind(video_base=1.0, layers=(1.0,), base_labels=1.0, base_join=0.05),
    }
)
"""Kinds by name. In ``alone`` a real object is tracked among unlabelled ones; ``real`` has no
layers."""

DEFAULT_WEIGHTS: Mapping[str, float] = MappingProxyType(
    dict(plain=0.13, meetings=0.09, copies=0.07, groups=0.08, crowds=0.05, parts=0.06, joined=0.08)
    | dict(growing=0.08, hiding=0.12, large=0.1, camera=0.04, alone=0.05, real=0.05)
)
"""Frequency of each kind."""
