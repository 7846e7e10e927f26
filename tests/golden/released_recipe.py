"""Weights of the released model's shapes, drawn by the recipe of the recorded clips.

Trained weights are not needed to show that two programs compute the same function. Every tensor is
drawn from its own name, so that no file is needed either: a generator is seeded by the name, and
the kind of parameter says which distribution keeps the network lively (attention that is neither
flat nor a spike, offsets of about a token, and so on).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

KEYS = Path(__file__).parent / "released" / "keys.tsv"

Array = npt.NDArray[np.float64]


def released_shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the 957 entries of the released checkpoint by key."""
    shapes = {}
    for line in KEYS.read_text(encoding="utf-8").splitlines():
        key, shape = line.split("\t")
        shapes[key] = tuple(int(side) for side in shape.strip("(),").split(","))
    return shapes


def released_weights(salt: str, output_bias: Sequence[float]) -> dict[str, Tensor]:
    """All 957 tensors, float32; the last bias is given, so that the classes are in balance."""
    weights = {key: draw(key, shape, salt) for key, shape in released_shapes().items()}
    weights["conv_output2.bias"] = torch.tensor(output_bias, dtype=torch.float32)
    return weights


def draw(key: str, shape: tuple[int, ...], salt: str) -> Tensor:
    """Draw one tensor; the same on every machine."""
    digest = hashlib.sha256(f"{salt}/{key}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "little")))
    if key.endswith((".gamma1", ".gamma2")):
        values = 0.25 + 0.5 * generator.random(shape)
    else:
        mean, deviation = _mean_and_deviation(key, shape)
        values = generator.standard_normal(shape) * deviation + mean
    return torch.from_numpy(values.astype(np.float32))


def _mean_and_deviation(key: str, shape: tuple[int, ...]) -> tuple[float, float]:
    is_weight = key.endswith(".weight")
    for part, of_weight, of_bias in (
        (".dcn.offset.", 0.8 / shape[-1] ** 0.5, 0.3),
        (".dcn.mask.", 1.5 / shape[-1] ** 0.5, 0.3),
        ("relative_emb_k", 0.08, 0.3),
    ):
        if part in key:
            return 0.0, of_weight if is_weight else of_bias
    if key == "conv_output2.weight":
        return 0.0, 0.35
    if len(shape) == 1:
        return (1.0, 0.2) if is_weight else (0.0, 0.1)
    if "patch_wise_id_bank" in key:
        return 0.0, 0.03
    # A depth-wise kernel counts its own values only, which the fan-in says anyway.
    return 0.0, 1.0 / math.prod(shape[1:]) ** 0.5
