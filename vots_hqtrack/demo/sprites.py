"""Objects cut out of photographs along stored outlines, and backgrounds made of photographs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.demo.pictures import load_picture
from vots_hqtrack.types import FrameArray

FloatImage = npt.NDArray[np.float32]

_SUPERSAMPLING = 4


@dataclass(frozen=True, slots=True)
class Sprite:
    """A cut-out object.

    Attributes:
        pixels: ``(h, w, 4)`` float32: RGB in 0..255 multiplied by alpha, and alpha in ``[0, 1]``.
    """

    pixels: FloatImage

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True)
class Texture:
    """Another picture's part that fills an outline, where the outline's own picture has no texture.

    Attributes:
        picture: Name of the picture.
        box: ``(left, top, right, bottom)`` of the part in pixels.
    """

    picture: str
    box: tuple[int, int, int, int]


TEXTURES: Mapping[str, Texture] = {"horse": Texture("coffee", (440, 0, 600, 130))}


def cut_sprite(name: str, size: float) -> Sprite:
    """Cut an object out of its photograph.

    Args:
        name: Name of its outline.
        size: Length of its longer side in pixels, at most as large as it will be shown.

    Returns:
        The object with soft edges.
    """
    outline = load_outlines()[name]
    points = np.asarray(outline.points, dtype=np.float64)
    left, top = np.floor(points.min(axis=0)).astype(int)
    right, bottom = np.ceil(points.max(axis=0)).astype(int) + 1
    if name in TEXTURES:
        colours = _fill(TEXTURES[name], height=bottom - top, width=right - left)
    else:
        colours = load_picture(outline.picture)[top:bottom, left:right]
    scale = size / max(colours.shape[:2])
    target = (max(2, round(colours.shape[1] * scale)), max(2, round(colours.shape[0] * scale)))
    colours = _resize(colours, target)
    grid = np.array(target) * _SUPERSAMPLING
    corners = (points - (left, top) + 0.5) * (grid / (right - left, bottom - top)) - 0.5
    fine = np.zeros((grid[1], grid[0]), dtype=np.uint8)
    cv2.fillPoly(fine, [np.round(corners).astype(np.int32)], 255)
    alpha = cv2.resize(fine, target, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return Sprite(np.dstack([colours * alpha[..., None], alpha]))


@dataclass(frozen=True, slots=True)
class Outline:
    """A closed polygon on a photograph.

    Attributes:
        picture: Name of the picture.
        points: ``(x, y)`` of its corners, in pixels of the picture.
    """

    picture: str
    points: tuple[tuple[float, float], ...]


def load_outlines() -> dict[str, Outline]:
    """Read the outlines that come with the package, by the object's name."""
    text = resources.files("vots_hqtrack.demo").joinpath("outlines.json").read_text("utf-8")
    return {
        name: Outline(value["picture"], tuple((x, y) for x, y in value["points"]))
        for name, value in json.loads(text).items()
    }


def make_backdrop(
    picture: str, *, scale: float, tint: tuple[tuple[int, int, int], tuple[int, int, int]] | None
) -> FrameArray:
    """Make a large background of a photograph and its mirror images.

    Args:
        picture: Name of the picture.
        scale: Its magnification.
        tint: RGB of its darkest and brightest tones, for a grey picture; None keeps the colours.

    Returns:
        uint8 ``(H, W, 3)`` RGB, twice as wide and high as the magnified picture.
    """
    plate = load_picture(picture)
    if tint is not None:
        dark, bright = (np.array(colour, dtype=np.float32) for colour in tint)
        tone = plate.astype(np.float32) / 255
        plate = np.round(dark + (bright - dark) * tone).astype(np.uint8)
    target = (round(plate.shape[1] * scale), round(plate.shape[0] * scale))
    plate = _resize(plate, target)
    wide = np.concatenate([plate, plate[:, ::-1]], axis=1)
    return np.concatenate([wide, wide[::-1]], axis=0)


def _fill(texture: Texture, *, height: int, width: int) -> FrameArray:
    left, top, right, bottom = texture.box
    part = load_picture(texture.picture)[top:bottom, left:right]
    return _resize(part, (width, height))


def _resize(picture: FrameArray, width_height: tuple[int, int]) -> FrameArray:
    shrinks = width_height[0] < picture.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(picture, width_height, interpolation=method).astype(np.uint8)
