"""Trackers with the shipped weights, which share their networks: those hold nothing of a video."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import cache

import torch

from vots_hqtrack.build import TrackerParts, build_parts, make_tracker
from vots_hqtrack.config import TrackerConfig
from vots_hqtrack.presets import load_preset
from vots_hqtrack.settings import apply_settings
from vots_hqtrack.tracker import HQTracker

CPU = torch.device("cpu")
SMALL = ("frame.long_edge=384",)
"""Frames of 96 x 256 pixels at one and a half their size: a fifth of the work of the default."""


@cache
def _parts(networks: TrackerConfig) -> TrackerParts:
    return build_parts(networks, CPU, None)


def shipped_tracker(preset: str, settings: Iterable[str] = SMALL) -> HQTracker:
    """Make a tracker; those that differ in rules alone share their networks."""
    config = apply_settings(load_preset(preset), settings)
    rules = {
        name: getattr(TrackerConfig(), name)
        for name in ("preset", "memory", "tracking", "selector", "confidence")
    }
    return make_tracker(config, _parts(dataclasses.replace(config, **rules)), CPU)
