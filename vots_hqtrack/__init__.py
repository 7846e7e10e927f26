"""HQTrack: tracks several objects through a video, in high quality (arXiv 2307.13974)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vots_hqtrack.config import TrackerConfig
    from vots_hqtrack.errors import HQTrackError
    from vots_hqtrack.memory import TrackState
    from vots_hqtrack.presets import PRESETS, load_preset
    from vots_hqtrack.result import FrameResult
    from vots_hqtrack.tracker import HQTracker
    from vots_hqtrack.types import ObjectId

__version__ = "0.1.0"

_HOMES = {
    "PRESETS": "vots_hqtrack.presets",
    "TrackerConfig": "vots_hqtrack.config",
    "load_preset": "vots_hqtrack.presets",
    "HQTrackError": "vots_hqtrack.errors",
    "TrackState": "vots_hqtrack.memory",
    "HQTracker": "vots_hqtrack.tracker",
    "FrameResult": "vots_hqtrack.result",
    "ObjectId": "vots_hqtrack.types",
}

__all__ = [
    "PRESETS",
    "FrameResult",
    "HQTrackError",
    "HQTracker",
    "ObjectId",
    "TrackState",
    "TrackerConfig",
    "__version__",
    "load_preset",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public object
    """Load a public name on first use, so that importing the package does not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vots_hqtrack' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
