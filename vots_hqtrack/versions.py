"""Versions of what results depend on."""

from __future__ import annotations

import importlib.metadata
import platform

import vots_hqtrack

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "av",
    "opencv-python-headless",
    "opencv-python",
    "pillow",
    "safetensors",
    "segment-anything-hq",
    "simplejpeg",
    "timm",
    "transformers",
    "triton",
    "vot-trax",
    "vot-toolkit",
)


def installed_versions() -> dict[str, str | None]:
    """Return the versions of this package and what it needs; None if not installed."""
    found: dict[str, str | None] = {
        "vots-hqtrack": vots_hqtrack.__version__,
        "python": platform.python_version(),
    }
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
