"""Reliability diagrams of scores (extra ``report``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vots_hqtrack.errors import OutputError
from vots_hqtrack.extras import missing_extra
from vots_hqtrack.io import atomic_path
from vots_hqtrack.training.calibrate import BINS, Reliability


def draw_reliability(path: Path, panels: Sequence[tuple[str, Reliability]]) -> None:
    """Draw one diagram for each set of scores, side by side.

    A bar is the fraction of good masks in a bin of scores; its dot is their mean score, so that a
    bar of a calibrated score ends at its dot on the diagonal. The number of masks is above.

    Args:
        path: Image to write, in a format that its ending names; PNG without an ending.
        panels: Titles and measurements.

    Raises:
        ConfigError: Matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("--picture", "report", error) from error
    figure = Figure(figsize=(4.2 * len(panels), 4.2), layout="constrained")
    middles = (np.arange(BINS) + 0.5) / BINS
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, found) in zip(columns, panels, strict=True):
        some = found.counts > 0
        bars = axes.bar(middles[some], found.fraction_good[some], 0.9 / BINS)
        axes.bar_label(bars, [str(count) for count in found.counts[some]], fontsize=7)
        axes.plot([0, 1], [0, 1], color="black", linewidth=1)
        means = found.mean_score[some]
        axes.plot(means, means, "o", color="tab:red", clip_on=False)
        axes.set(xlim=(0, 1), ylim=(0, 1.05), title=title)
        axes.set(xlabel="Score", ylabel="Fraction of good masks")
    try:
        with atomic_path(path, suffix=path.suffix) as temporary:
            figure.savefig(temporary, dpi=100, format=path.suffix[1:] or "png")
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write the diagram {path}: {error}") from error
