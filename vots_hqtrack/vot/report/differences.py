"""Paired differences of trackers, with an interval from resampled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

_NUM_RESAMPLES = 9999
_SEED = 0
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference between two trackers over the same sequences, second minus first.

    Attributes:
        mean: Mean difference.
        low: Lower end of the bootstrap interval of 95 %; None for less than two sequences.
        high: Upper end.
        num_higher: Sequences on which the second tracker has the higher value.
        num_lower: Sequences on which it has the lower one.
        num_equal: Sequences on which both are equal.
    """

    mean: float
    low: float | None
    high: float | None
    num_higher: int
    num_lower: int
    num_equal: int


def paired_difference(
    first: Sequence[float | None], second: Sequence[float | None]
) -> Difference | None:
    """Compare two trackers over sequences; those where a value is unknown do not count.

    The interval is the percentile bootstrap over sequences, from a fixed seed: sequences are what
    another benchmark would have others of, and frames of one sequence are not independent.

    Args:
        first: Measure of the first tracker by sequence.
        second: The same of the second tracker, in the same order.

    Returns:
        The difference; None where no sequence counts.

    Example:
        >>> paired_difference([0.5, 0.25], [0.75, 0.5]).mean
        0.25
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    values = np.array([b - a for a, b in pairs])
    low = high = None
    if len(values) > 1:
        interval = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=_NUM_RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(_SEED),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    return Difference(
        float(values.mean()),
        low,
        high,
        int(np.count_nonzero(values > 0)),
        int(np.count_nonzero(values < 0)),
        int(np.count_nonzero(values == 0)),
    )
