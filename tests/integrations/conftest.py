"""A quick tracker for the interfaces of other tools."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def quick_tracker():
    from vots_hqtrack.tracker import HQTracker

    return HQTracker.from_preset("lite-vmos", device="cpu", settings=["frame.long_edge=256"])
