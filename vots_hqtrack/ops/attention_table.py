"""Choice between the versions of global attention on a CUDA device, by measured times.

``make gpu`` measures the presets' sizes on the card at hand and writes a row for each to
``attention.json`` beside this module (docs/gpu.md). A card without rows gets Triton's kernel, or
PyTorch's blocks where Triton is not installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vots_hqtrack.errors import OpsError
from vots_hqtrack.io import atomic_path

TABLE_PATH = Path(__file__).with_name("attention.json")
VERSIONS = ("triton", "blocks", "fused")
"""Names of the versions: `ops.triton_attention`, and both of `ops.attention` without gradients."""


class AttentionTiming(NamedTuple):
    """A row of the table: one size on one card.

    Attributes:
        card: Name of the device.
        dtype: Dtype of queries, keys and values, without ``torch.``.
        key_width: Channels of queries and keys.
        value_width: Channels of the values.
        num_scores: Samples times queries times keys.
        torch: Version of PyTorch.
        milliseconds: Median time of a call, by version.
    """

    card: str
    dtype: str
    key_width: int
    value_width: int
    num_scores: int
    torch: str
    milliseconds: Mapping[str, float]


class FastestVersion(NamedTuple):
    """The fastest version at one size, among those that a process can use."""

    dtype: torch.dtype
    key_width: int
    value_width: int
    num_scores: int
    version: str


def read_timings(path: Path = TABLE_PATH) -> list[AttentionTiming]:
    """Read a table.

    Raises:
        OpsError: The file is not a table of timings.
    """
    try:
        rows = [AttentionTiming(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
        for row in rows:
            is_known = isinstance(getattr(torch, row.dtype), torch.dtype) and row.milliseconds
            if not is_known or not set(row.milliseconds) <= set(VERSIONS):
                raise ValueError
    except (ValueError, TypeError, AttributeError) as error:
        raise OpsError(
            f"wanted a list of attention timings as make gpu writes them in {path}, "
            "got something else"
        ) from error
    return rows


def update_timings(path: Path, timing: AttentionTiming, *, base: Path = TABLE_PATH) -> None:
    """Put a row into a table, in place of one of the same card, dtype and size.

    Args:
        path: The table; made from ``base`` if it is not there.
        timing: The row.
        base: A table.
    """
    earlier = read_timings(path if path.exists() else base)
    rows = [*(row for row in earlier if row[:5] != timing[:5]), timing]
    lines = ",\n".join(json.dumps(row._asdict()) for row in rows)
    with atomic_path(path) as temporary:
        temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def fastest_versions(
    timings: Sequence[AttentionTiming], card: str, *, has_triton: bool
) -> tuple[FastestVersion, ...]:
    """Return the fastest version at each size that was measured on a card."""
    found = []
    for row in timings:
        times = {x: ms for x, ms in row.milliseconds.items() if has_triton or x != "triton"}
        if row.card == card and times:
            fastest = min(times, key=times.__getitem__)
            dtype: torch.dtype = getattr(torch, row.dtype)
            sizes = row.key_width, row.value_width, row.num_scores
            found.append(FastestVersion(dtype, *sizes, fastest))
    return tuple(found)


def choose_version(
    rows: Sequence[FastestVersion], query: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]
) -> str | None:
    """Return the version of the row with these widths and dtype that is nearest in scores.

    None where there is no such row, or where the dtypes differ from each other.
    """
    num_scores = query.shape[0] * query.shape[1] * sum(key.shape[1] for key in keys)
    widths = query.shape[-1], values[0].shape[-1]
    version, nearest = None, 0
    for row in rows:
        has_dtype = all(x.dtype == row.dtype for x in (query, *keys, *values))
        distance = abs(num_scores - row.num_scores)
        is_nearer = version is None or distance < nearest
        if has_dtype and widths == (row.key_width, row.value_width) and is_nearer:
            version, nearest = row.version, distance
    return version
