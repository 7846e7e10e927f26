"""PyTorch's fused attention against the reference, and the table that chooses between versions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vots_hqtrack.errors import OpsError, ShapeError
from vots_hqtrack.ops import TORCH_ATTENTIONS
from vots_hqtrack.ops.attention import fused_attention, global_attention_reference
from vots_hqtrack.ops.attention_table import (
    TABLE_PATH,
    VERSIONS,
    AttentionTiming,
    FastestVersion,
    choose_version,
    fastest_versions,
    read_timings,
    update_timings,
)

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 4e-2, torch.float16: 5e-3}
TIMING = AttentionTiming("card", "bfloat16", 4, 6, 100, "2.11", {"triton": 1.0, "fused": 2.0})


def draw(length: int, lengths: list[int], widths: tuple[int, int]) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(length)

    def normal(tokens: int, width: int) -> Tensor:
        return torch.randn(2, tokens, width, generator=generator, dtype=torch.float64)

    return [[normal(length, widths[0])], *([normal(n, width) for n in lengths] for width in widths)]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("widths", [(8, 64), (8, 20), (8, 8), (20, 7)])
@pytest.mark.parametrize(("length", "lengths"), [(1, [1]), (20, [13, 1, 25])])
def test_fused_attention_matches_the_reference(
    length: int,
    lengths: list[int],
    widths: tuple[int, int],
    dtype: torch.dtype,
) -> None:
    """Values wider and narrower than keys, and no multiple of them."""
    (query,), keys, values = draw(length, lengths, widths)
    exact = global_attention_reference(query, keys, values)
    found = fused_attention(
        query.to(dtype), [x.to(dtype) for x in keys], [x.to(dtype) for x in values]
    )
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert found.shape == exact.shape
    assert (found.double() - exact).abs().max() < TOLERANCE[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("widths", [(64, 512), (48, 384), (208, 80)])
def test_fused_attention_on_gpu_matches_the_reference(
    widths: tuple[int, int], dtype: torch.dtype
) -> None:
    (query,), keys, values = draw(300, [700, 200], widths)
    exact = global_attention_reference(query, keys, values)
    query, *others = (x.to("cuda", dtype) for x in (query, *keys, *values))
    found = fused_attention(query, others[:2], others[2:])
    assert (found.cpu().double() - exact).abs().max() < max(TOLERANCE[dtype], 1e-3)


def test_exception_shapes() -> None:
    with pytest.raises(ShapeError, match="wants a query"):
        fused_attention(torch.zeros(1, 6, 8), [], [])


# --- the table


def test_the_shipped_table_is_read_and_names_versions_that_exist() -> None:
    assert set(VERSIONS) == {"triton", *TORCH_ATTENTIONS}
    for row in read_timings(TABLE_PATH):
        assert row.card


def test_rows_of_one_size_replace_each_other(tmp_path: Path) -> None:
    path = tmp_path / "attention.json"
    other = AttentionTiming("card", "float16", 4, 6, 100, "2.11", {"blocks": 3.0})
    newer = AttentionTiming("card", "bfloat16", 4, 6, 100, "2.12", {"fused": 0.5})
    for timing in (TIMING, other, newer):
        update_timings(path, timing, base=tmp_path / "base.json" if path.exists() else TABLE_PATH)
    assert [row for row in read_timings(path) if row.card == "card"] == [other, newer]
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}x",
        "[1]",
        '[{"card": "a"}]',
        '[{"card": "a", "torch": "2", "dtype": "bfloat16", "key_width": 4, "value_width": 6, '
        '"num_scores": 100, "milliseconds": {"other": 1.0}}]',
        '[{"card": "a", "torch": "2", "dtype": "nn", "key_width": 4, "value_width": 6, '
        '"num_scores": 100, "milliseconds": {"fused": 1.0}}]',
    ],
)
def test_exception_other_tables(text: str, tmp_path: Path) -> None:
    path = tmp_path / "attention.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OpsError, match="wanted a list of attention timings"):
        read_timings(path)


def test_only_this_card_and_only_versions_at_hand() -> None:
    row = torch.bfloat16, 4, 6, 100
    found = fastest_versions([TIMING], "card", has_triton=True)
    assert found == (FastestVersion(*row, "triton"),)
    assert fastest_versions([TIMING], "card", has_triton=False) == (FastestVersion(*row, "fused"),)
    assert fastest_versions([TIMING], "another", has_triton=True) == ()


@given(st.lists(st.integers(1, 400), min_size=1, unique=True))
def test_the_nearest_size_is_chosen(sizes: list[int]) -> None:
    (query,), keys, values = ([x.float() for x in group] for group in draw(5, [5, 5], (4, 6)))
    rows = [FastestVersion(torch.float32, 4, 6, size, str(size)) for size in sizes]
    chosen = choose_version(rows, query, keys, values)
    assert chosen is not None
    assert abs(int(chosen) - 100) == min(abs(size - 100) for size in sizes)


@pytest.mark.parametrize(
    "row",
    [
        FastestVersion(torch.float32, 4, 5, 100, "fused"),
        FastestVersion(torch.float32, 6, 6, 100, "fused"),
        FastestVersion(torch.bfloat16, 4, 6, 100, "fused"),
    ],
)
def test_other_widths_and_dtypes_choose_nothing(row: FastestVersion) -> None:
    (query,), keys, values = ([x.float() for x in group] for group in draw(5, [5, 5], (4, 6)))
    assert choose_version([row], query, keys, values) is None
    mixed = FastestVersion(torch.float32, 4, 6, 100, "fused")
    assert choose_version([mixed], query, keys, [x.bfloat16() for x in values]) is None
