"""Rename tables: patterns, layouts, the way back, and what they refuse."""

import pytest
import torch

from vots_hqtrack.checkpoints.rename import Rule, invert, rename
from vots_hqtrack.errors import WeightsError

TABLE = (
    Rule("stem.conv.*", "start.*"),
    Rule("layers.*.fc.*", "blocks.*.linear.*"),
    Rule("layers.*.pointwise.weight", "blocks.*.matrix", layout="to_linear"),
    Rule("head.**", "dead.head.**"),
)
TENSORS = {
    "stem.conv.bias": torch.arange(3.0),
    "layers.0.fc.weight": torch.ones(2, 3),
    "layers.12.fc.weight": torch.zeros(2, 3),
    "layers.12.pointwise.weight": torch.arange(6.0).view(3, 2, 1, 1),
    "head.a": torch.zeros(1),
    "head.a.b.c": torch.zeros(2),
}


@pytest.mark.parametrize(
    ("rule", "key", "expected"),
    [
        (Rule("a.*.b", "x.*.y"), "a.7.b", "x.7.y"),
        (Rule("a.*.b", "x.*.y"), "a.7.8.b", None),
        (Rule("a.*.b", "x.*.y"), "a.7.b.c", None),
        (Rule("a.*", "x.*"), "axb", None),
        (Rule("a.**", "x.**"), "a.7.8", "x.7.8"),
        (Rule("*.a.*", "*.b.*"), "1.a.2", "1.b.2"),
        (Rule("a.**.z", "b.**"), "a.1.2.z", "b.1.2"),
    ],
)
def test_patterns(rule: Rule, key: str, expected: str | None) -> None:
    assert rule.apply(key) == expected


def test_values() -> None:
    renamed = rename(TENSORS, TABLE, source="a file")
    assert list(renamed) == [
        "start.bias",
        "blocks.0.linear.weight",
        "blocks.12.linear.weight",
        "blocks.12.matrix",
        "dead.head.a",
        "dead.head.a.b.c",
    ]
    assert torch.equal(renamed["blocks.12.matrix"], torch.arange(6.0).view(3, 2))


def test_there_and_back() -> None:
    back = rename(rename(TENSORS, TABLE, source="a file"), invert(TABLE), source="ours")
    assert list(back) == list(TENSORS)
    assert all(torch.equal(back[key], tensor) for key, tensor in TENSORS.items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {**TENSORS, "layers.0.gn.weight": torch.zeros(1)},
            r"a file: keys .*layers\.0\.gn\.weight",
        ),
        ({key: TENSORS[key] for key in TENSORS if key[0] != "h"}, r"wanted keys .*'head\.\*\*'"),
    ],
)
def test_exception(changed: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        rename(changed, TABLE, source="a file")


def test_exception_two_keys_become_one() -> None:
    table = (Rule("a.*", "x"),)
    with pytest.raises(WeightsError, match=r"two keys would become x, the second is a\.2"):
        rename({"a.1": torch.zeros(1), "a.2": torch.zeros(1)}, table, source="a file")
