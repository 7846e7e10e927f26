"""The demo's images: free images of the scikit-image wheel, objects cut out of them, backgrounds.

Nothing is downloaded, and scikit-image itself is not imported: only its image files are read, and
compared with their checksums, so that the demo shows the same frames everywhere.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vots_hqtrack.demo.scenes import read_tables
from vots_hqtrack.errors import InputError
from vots_hqtrack.extras import missing_extra
from vots_hqtrack.types import FrameArray
from vots_hqtrack.video.reader import read_frame

FloatImage = npt.NDArray[np.float32]

SUPERSAMPLING = 4
"""Subpixels of an outline's edge, each way."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A closed polygon on an image.

    Attributes:
        image: Name of the image.
        points: ``(N, 2)`` float64 ``x, y`` of its corners, in pixels of the image.
    """

    image: str
    points: npt.NDArray[np.float64]


def load_image(name: str) -> FrameArray:
    """Read an image.

    Args:
        name: Its name in ``scenes.toml``.

    Returns:
        uint8 ``(H, W, 3)`` RGB.

    Raises:
        ConfigError: scikit-image is not installed.
        InputError: The file is missing, or is not that of scikit-image 0.24 to 0.26.
    """
    table = read_tables()["images"][name]
    path = image_folder() / table["file_name"]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the demo's image {path}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != table["sha256"]:
        raise InputError(
            f"the demo's image {path} has another checksum than wanted: install scikit-image "
            "again, 0.24 to 0.26"
        )
    return read_frame(path)


def image_folder() -> Path:
    """Return the folder of scikit-image's images.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise missing_extra("the demo, with images of scikit-image,", "demo")
    return Path(spec.submodule_search_locations[0]) / "data"


@cache
def load_outlines() -> dict[str, Outline]:
    """Read the outlines that come with the package, by the object's name."""
    file = resources.files("vots_hqtrack.demo").joinpath("outlines.json")
    return {
        name: Outline(value["image"], np.array(value["points"], np.float64))
        for name, value in json.loads(file.read_text("utf-8")).items()
    }


def cut_out(name: str, size: float) -> FloatImage:
    """Cut an object out of its image, with soft edges.

    Args:
        name: Name of its outline.
        size: Length of its longer side in pixels, at least its maximum in the frames.

    Returns:
        ``(h, w, 4)`` float32: RGB in 0..255 multiplied by alpha, and alpha in ``[0, 1]``.
    """
    outline = load_outlines()[name]
    left, top = np.floor(outline.points.min(axis=0)).astype(int)
    right, bottom = np.ceil(outline.points.max(axis=0)).astype(int) + 1
    if texture := read_tables()["textures"].get(name):
        x0, y0, x1, y1 = texture["box"]
        colours = _resize(load_image(texture["image"])[y0:y1, x0:x1], (right - left, bottom - top))
    else:
        colours = load_image(outline.image)[top:bottom, left:right]
    scale = size / max(colours.shape[:2])
    target = (max(2, round(colours.shape[1] * scale)), max(2, round(colours.shape[0] * scale)))
    colours = _resize(colours, target)
    grid = np.array(target) * SUPERSAMPLING
    corners = (outline.points - (left, top) + 0.5) * (grid / (right - left, bottom - top)) - 0.5
    fine = np.zeros((grid[1], grid[0]), dtype=np.uint8)
    cv2.fillPoly(fine, [np.round(corners).astype(np.int32)], 255)
    alpha = cv2.resize(fine, target, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return np.dstack([colours * alpha[..., None], alpha])


def make_background(
    name: str, *, scale: float, tint: tuple[tuple[int, int, int], tuple[int, int, int]] | None
) -> FrameArray:
    """Make a large background of an image and its mirror images.

    Args:
        name: Name of the image.
        scale: Its magnification.
        tint: RGB of its darkest and brightest tones, for a grey image; None keeps the colours.

    Returns:
        uint8 ``(H, W, 3)`` RGB, twice as wide and high as the magnified image.
    """
    image = load_image(name)
    if tint is not None:
        dark, bright = (np.array(colour, dtype=np.float32) for colour in tint)
        image = np.round(dark + (bright - dark) * (image.astype(np.float32) / 255)).astype(np.uint8)
    image = _resize(image, (round(image.shape[1] * scale), round(image.shape[0] * scale)))
    return np.pad(image, ((0, image.shape[0]), (0, image.shape[1]), (0, 0)), mode="symmetric")


def _resize(image: FrameArray, width_height: tuple[int, int]) -> FrameArray:
    method = cv2.INTER_AREA if width_height[0] < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, width_height, interpolation=method), np.uint8)
