"""Order in which the sequences of an evaluation are run by several workers, and how long it takes.

Longest first: the run ends when its last sequence does, so a long one must not be begun last.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable


def makespan(costs: Iterable[float], num_workers: int) -> float:
    """Time until all tasks are done, each begun in this order by the worker that is idle first.

    Args:
        costs: Cost of each task, in any unit of time.
        num_workers: Workers of equal speed, at least 1.

    Returns:
        Time at which the last task ends, in the same unit.

    Example:
        >>> makespan([1, 1, 2], 2), makespan([2, 1, 1], 2)
        (3.0, 2.0)
    """
    ends = [0.0] * num_workers
    for cost in costs:
        heapq.heapreplace(ends, ends[0] + cost)
    return max(ends)
