"""The demo's scenes, as ``scenes.toml`` describes them: images, layers, and their paths.

Positions are pixels of the background; times are 0 (first frame) to 1 (last frame).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from vots_hqtrack.types import ObjectId


class Pose(NamedTuple):
    """Position of a layer or of the camera at a time.

    Attributes:
        time: 0..1.
        x: Centre on the background in pixels.
        y: Centre on the background in pixels.
        size: Longer side of a layer in pixels; for the camera, the magnification.
        angle: Rotation in degrees, clockwise.
    """

    time: float
    x: float
    y: float
    size: float
    angle: float = 0.0


@dataclass(frozen=True, slots=True)
class SceneLayer:
    """An object and its path through the scene; later layers cover earlier ones.

    Attributes:
        outline: Name of its outline.
        poses: Its path.
        object_id: Id of the tracked object, or None for a distractor.
        shear: Amplitude of its shear, relative to its height.
        shadow: Opacity of its shadow, 0..1.
    """

    outline: str
    poses: tuple[Pose, ...]
    object_id: ObjectId | None = None
    shear: float = 0.0
    shadow: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """A sequence.

    Attributes:
        name: Name of the sequence.
        image: Image of the background.
        scale: Magnification of the image.
        camera: Path of the camera.
        layers: Objects, from back to front.
        tint: RGB of the darkest and brightest tones of a grey background, or None.
        light: Amplitude of the change of brightness, 0..1.
    """

    name: str
    image: str
    scale: float
    camera: tuple[Pose, ...]
    layers: tuple[SceneLayer, ...]
    tint: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None
    light: float = 0.0


@cache
def read_tables() -> dict[str, Any]:
    """Read ``scenes.toml``."""
    file = resources.files("vots_hqtrack.demo").joinpath("scenes.toml")
    return tomllib.loads(file.read_text(encoding="utf-8"))


def load_scenes() -> tuple[Scene, ...]:
    """Return the demo's scenes."""
    return tuple(
        Scene(
            **{
                **table,
                "camera": _poses(table["camera"]),
                "layers": tuple(
                    SceneLayer(**{**layer, "poses": _poses(layer["poses"])})
                    for layer in table["layers"]
                ),
            }
        )
        for table in read_tables()["scenes"]
    )


def _poses(rows: list[list[float]]) -> tuple[Pose, ...]:
    return tuple(Pose(*row) for row in rows)
