"""The demo's photographs: pictures that are free for any use, carried by the scikit-image wheel.

Nothing is downloaded, and scikit-image itself is not imported: only its picture files are read.
Each is checked against the sum below, so the demo shows the same frames everywhere.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vots_hqtrack.errors import ConfigError, InputError
from vots_hqtrack.types import FrameArray
from vots_hqtrack.video.reader import read_frame


@dataclass(frozen=True, slots=True)
class Picture:
    """A photograph and why we may use it.

    Attributes:
        file_name: Its name in scikit-image's data folder.
        sha256: Sum of the file.
        credit: Who made it.
        licence: Its terms, as scikit-image tells them.
    """

    file_name: str
    sha256: str
    credit: str
    licence: str


PICTURES: Mapping[str, Picture] = {
    "astronaut": Picture(
        "astronaut.png",
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        "NASA (Eileen Collins)",
        "public domain",
    ),
    "brick": Picture(
        "brick.png",
        "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
        "CC0Textures",
        "CC0",
    ),
    "camera": Picture(
        "camera.png",
        "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
        "Lav Varshney",
        "CC0",
    ),
    "chelsea": Picture(
        "chelsea.png",
        "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
        "Stefan van der Walt",
        "CC0",
    ),
    "coffee": Picture(
        "coffee.png",
        "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
        "Rachel Michetti",
        "CC0",
    ),
    "grass": Picture(
        "grass.png",
        "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
        "linolafett",
        "CC0",
    ),
    "horse": Picture(
        "horse.png",
        "c7fb60789fe394c485f842291ea3b21e50d140f39d6dcb5fb9917cc178225455",
        "Andreas Preuss",
        "CC0",
    ),
    "hubble": Picture(
        "hubble_deep_field.jpg",
        "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
        "NASA (Hubble eXtreme Deep Field)",
        "public domain",
    ),
    "retina": Picture(
        "retina.jpg",
        "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        "Mikael Häggström",
        "CC0",
    ),
}


def load_picture(name: str) -> FrameArray:
    """Read one of the photographs.

    Args:
        name: Its name in `PICTURES`.

    Returns:
        uint8 ``(H, W, 3)`` RGB.

    Raises:
        ConfigError: scikit-image is not installed.
        InputError: The file is missing, or is another one than that of scikit-image 0.24 to 0.26.
    """
    picture = PICTURES[name]
    path = picture_folder() / picture.file_name
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the demo's picture {path}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        raise InputError(
            f"the demo's picture {path} is another one than wanted: install scikit-image again, "
            "0.24 to 0.26"
        )
    return read_frame(path)


def picture_folder() -> Path:
    """Return the folder of scikit-image's pictures.

    Raises:
        ConfigError: scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            "the demo needs the pictures of scikit-image, which is not installed; "
            "install them with: pip install 'vots-hqtrack[demo]'"
        )
    return Path(spec.submodule_search_locations[0]) / "data"
