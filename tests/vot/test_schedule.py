"""Order of the sequences that several workers run, and the table of it in the docs."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vots_hqtrack.vot.cluster import time_left


def lower_bound(costs: list[float], num_workers: int) -> float:
    """Time that no order of the tasks can beat: the longest one, or the mean of all workers."""
    return max(*costs, sum(costs) / num_workers)


costs = st.lists(st.floats(0.1, 1000), min_size=1, max_size=7)


@given(costs, st.integers(1, 4))
def test_longest_first_is_close_to_the_best(tasks: list[float], num_workers: int) -> None:
    """Graham's bound: at most 4/3 of the best schedule, which is found by trying all of them."""
    tasks = sorted(tasks, reverse=True)
    found = time_left(tasks, num_workers)
    assert lower_bound(tasks, num_workers) <= found * (1 + 1e-9)
    if len(tasks) <= 5:
        best = min(
            max(sum(t for t, w in zip(tasks, workers, strict=True) if w == n) for n in range(4))
            for workers in itertools.product(range(num_workers), repeat=len(tasks))
        )
        assert found <= best * (4 / 3) * (1 + 1e-9)


def test_the_table_in_the_docs(repository: Path) -> None:
    """A challenge of 144 sequences: seconds by measured times, order by frames times objects."""
    rng = np.random.default_rng(0)
    frames = np.exp(rng.normal(0, 1, 144))
    frames = np.clip(frames / frames.max() * 10_000, 60, None).round()
    objects = rng.choice([1, 2, 3, 4, 5, 8], 144, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    seconds = 10 + frames * (0.39 + 0.02 * objects)
    longest_first = seconds[np.argsort(-frames * objects)]
    text = (repository / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    section = text.partition("## Many workers")[2].partition("\n## ")[0]
    rows = re.findall(
        r"^\| (\d+)[^|]*\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", section, re.MULTILINE
    )
    assert len(rows) == 5
    for num_workers, *hours in rows:
        number = int(num_workers)
        found = [
            time_left(seconds, number),
            time_left(longest_first, number),
            lower_bound(list(seconds), number),
        ]
        assert [f"{value / 3600:.2f}" for value in found] == hours
