"""The toolkit's result files, written by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def write_result(path: Path, masks: list[np.ndarray | None]) -> None:
    """Write the toolkit's format: a code where an object is given, else a mask over the frame."""
    data = struct.pack("<hI", 1, len(masks))
    for mask in masks:
        if mask is None:
            data += struct.pack("<BI", 0, 1)
            continue
        flat = np.concatenate([[False], mask.ravel()])
        ends = np.flatnonzero(flat[1:] != flat[:-1]).tolist()
        runs = np.diff([0, *ends, mask.size]).tolist()
        data += struct.pack("<BhhHHH", 3, 0, 0, mask.shape[1], mask.shape[0], len(runs))
        data += struct.pack(f"<{len(runs)}H", *runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
