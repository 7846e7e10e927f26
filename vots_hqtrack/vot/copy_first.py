"""Baseline tracker for the toolkit: every object keeps its first mask for ever.

Started by the toolkit like any tracker (``python -m vots_hqtrack.vot.copy_first``). Its scores
show how hard a set of sequences is.
"""

from __future__ import annotations

import trax

NAME = "CopyFirst"


def main() -> None:
    """Answer the toolkit's requests until it quits; writes nothing but the protocol."""
    channels, formats = ["color"], [trax.Image.PATH]
    kinds = [trax.Region.MASK, trax.Region.POLYGON, trax.Region.RECTANGLE]
    with trax.Server(kinds, formats, channels, tracker_name=NAME, multiobject=True) as server:
        regions: list[trax.Region] = []
        while True:
            request = server.wait()
            if request.type == trax.TraxStatus.QUIT:
                return
            if request.type == trax.TraxStatus.INITIALIZE:
                regions = []
            regions.extend(region for region, _ in request.objects or [])
            server.status([(region, {}) for region in regions])


if __name__ == "__main__":
    main()
